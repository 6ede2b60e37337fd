//! The output of `doctor`: each check prints one line, within the time limit. Text from the other
//! side cannot start another line. Facts are also stored for the report.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::facts::{Fact, Verdict};
use crate::telemetry::log::is_escaped;
use crate::types::ids::AccountId;

/// 20 s: the time limit of one check. A call to the Cloud is attempted three times, and each
/// attempt has its own limit.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// The output of the doctor: prints a line per check, and remembers if one failed.
#[derive(Default)]
pub(super) struct Report {
    failed: bool,
    /// The facts about the installation.
    general: Vec<Fact>,
    /// The facts about each account, in the order in which the accounts were checked.
    accounts: Vec<(AccountId, Vec<Fact>)>,
}

/// Runs a check within the time limit.
pub(super) async fn within<T, E: Into<anyhow::Error>>(
    check: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match timeout(LIMIT, check).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(anyhow!("no outcome within 20 s")),
    }
}

impl Report {
    /// Prints the line of a check; `hint` is the advice after a failure.
    pub(super) fn check<T: Display>(
        &mut self,
        name: &str,
        outcome: anyhow::Result<T>,
        hint: &str,
    ) -> anyhow::Result<()> {
        self.line(name, outcome.map_err(|error| format!("{error:#}")), hint)
    }

    pub(super) fn line(
        &mut self,
        name: &str,
        outcome: Result<impl Display, impl Display>,
        hint: &str,
    ) -> anyhow::Result<()> {
        match outcome {
            Ok(found) => self.state(Verdict::Ok, name, found),
            Err(error) if hint.is_empty() => self.state(Verdict::Failed, name, error),
            Err(error) => self.state(Verdict::Failed, name, format_args!("{error}; {hint}")),
        }
    }

    /// Prints a line with this verdict. It is not stored for the report.
    pub(super) fn state(
        &mut self,
        verdict: Verdict,
        name: &str,
        found: impl Display,
    ) -> anyhow::Result<()> {
        self.failed |= verdict == Verdict::Failed;
        print(&format!("{} {name}: {found}", verdict.label()))
    }

    /// Prints a line that an operator may want to know. It does not count as a failure.
    pub(super) fn note(&mut self, name: &str, found: impl Display) -> anyhow::Result<()> {
        self.general(Fact::note("rejected", found).titled(name.to_owned()))
    }

    /// Prints and stores a fact about an account.
    pub(super) fn of_account(&mut self, id: &AccountId, fact: Fact) -> anyhow::Result<()> {
        let line = fact.line(&format!("account {id}: "));
        self.failed |= fact.verdict() == Verdict::Failed;
        match self.accounts.iter_mut().find(|(known, _)| known == id) {
            Some((_, facts)) => facts.push(fact),
            None => self.accounts.push((id.clone(), vec![fact])),
        }
        print(&line)
    }

    /// Prints and stores a fact about the installation.
    pub(super) fn general(&mut self, fact: Fact) -> anyhow::Result<()> {
        let line = fact.line("");
        self.failed |= fact.verdict() == Verdict::Failed;
        self.general.push(fact);
        print(&line)
    }

    /// Returns the facts as JSON, with numbers in place of the accounts' ids.
    pub(super) fn facts(&self) -> Value {
        let accounts = (1..).zip(&self.accounts);
        let accounts: Vec<_> = accounts
            .map(|(number, (_, facts))| json!({"account": number, "facts": facts}))
            .collect();
        json!({"facts": self.general, "accounts": accounts})
    }

    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    let line: String = line.chars().flat_map(escape).collect();
    crate::cli::print(&format!("{line}\n"))
}

/// Escapes a character if needed: text of the Cloud must not start lines or move the cursor.
fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = is_escaped(c).then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
