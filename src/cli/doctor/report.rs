//! The lines that `doctor` prints, each in time and each one line, whatever the other side said.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::timeout;

use crate::telemetry::log::is_escaped;

/// 20 s: what one check may take; a call to the Cloud is tried three times, with a limit of its own for each.
const LIMIT: Duration = Duration::from_secs(20);

/// Prints a line per check, and remembers whether one failed.
#[derive(Default)]
pub(super) struct Report {
    failed: bool,
}

/// The outcome of a check, within the limit.
pub(super) async fn within<T, E: Into<anyhow::Error>>(
    check: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match timeout(LIMIT, check).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(anyhow!("no outcome within 20 s")),
    }
}

impl Report {
    /// A line of a check; `hint` says what to do where it failed.
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
        let line = match outcome {
            Ok(found) => format!("ok     {name}: {found}"),
            Err(error) => {
                self.failed = true;
                let hint = if hint.is_empty() {
                    ""
                } else {
                    &format!("; {hint}")
                };
                format!("FAILED {name}: {error}{hint}")
            }
        };
        print(&line)
    }

    /// A line that says what an operator may want to know, and that no check failed by.
    pub(super) fn note(&self, name: &str, found: impl Display) -> anyhow::Result<()> {
        print(&format!("note   {name}: {found}"))
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
    let line: String = line.chars().flat_map(shown).collect();
    crate::cli::print(&format!("{line}\n"))
}

/// A character as it may be shown: the Cloud's words must not make lines or move the cursor.
fn shown(c: char) -> impl Iterator<Item = char> {
    let escaped = is_escaped(c).then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
