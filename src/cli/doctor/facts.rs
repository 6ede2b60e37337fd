//! The facts that the doctor finds. Each has a verdict, a line for the terminal, and data for the
//! report that may be sent to others.

use std::borrow::Cow;
use std::fmt::Display;

use serde::Serialize;
use serde_json::{Map, Value};

/// The verdict on a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// All is well.
    Ok,
    /// Something has to be fixed.
    Failed,
    /// Probably wrong; something may have to be fixed.
    Warning,
    /// Worth knowing: the bridge works either way, or this was not checked.
    Note,
}

/// A fact about one account, or about the installation.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fact {
    /// The name in the report.
    #[serde(rename = "fact")]
    key: &'static str,
    verdict: Verdict,
    /// The members in the report, without secrets, texts, ids and host names.
    #[serde(flatten)]
    data: Map<String, Value>,
    /// The name on the terminal.
    #[serde(skip)]
    title: Cow<'static, str>,
    /// The rest of the line on the terminal.
    #[serde(skip)]
    found: String,
    /// The advice after a failure.
    #[serde(skip)]
    hint: Cow<'static, str>,
}

impl Verdict {
    /// Returns the word that begins a line.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok    ",
            Self::Failed => "FAILED",
            Self::Warning => "warn  ",
            Self::Note => "note  ",
        }
    }
}

impl Fact {
    pub(super) fn ok(key: &'static str, found: impl Display) -> Self {
        Self::new(key, Verdict::Ok, found)
    }

    pub(super) fn note(key: &'static str, found: impl Display) -> Self {
        Self::new(key, Verdict::Note, found)
    }

    /// Creates the fact that these checks were skipped, since others failed.
    pub(super) fn not_checked(skipped: &[&'static str], failed: &str) -> Self {
        let found = format!("{}, since {failed} failed", skipped.join(", "));
        Self::note("not_checked", found).with("skipped", skipped)
    }

    /// Creates a failed fact, with the advice.
    pub(super) fn failed(
        key: &'static str,
        found: impl Display,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            hint: hint.into(),
            ..Self::new(key, Verdict::Failed, found)
        }
    }

    /// Creates a fact from the outcome of a check; `hint` is the advice after a failure.
    pub(super) fn checked<T: Display>(
        key: &'static str,
        outcome: anyhow::Result<T>,
        hint: &'static str,
    ) -> Self {
        match outcome {
            Ok(found) => Self::ok(key, found),
            Err(error) => Self::failed(key, format!("{error:#}"), hint),
        }
    }

    fn new(key: &'static str, verdict: Verdict, found: impl Display) -> Self {
        Self {
            key,
            verdict,
            data: Map::new(),
            title: key.replace('_', " ").into(),
            found: found.to_string(),
            hint: Cow::Borrowed(""),
        }
    }

    /// Adds a member to the report.
    #[must_use]
    pub(super) fn with(mut self, member: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.data.insert(member.to_owned(), value);
        self
    }

    /// Sets another name for the terminal.
    #[must_use]
    pub(super) fn titled(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.title = title.into();
        self
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the line for the terminal; `prefix` names the account, if there is one.
    pub(super) fn line(&self, prefix: &str) -> String {
        let hint = if self.hint.is_empty() { "" } else { "; " };
        let label = self.verdict.label();
        let Self {
            title,
            found,
            hint: advice,
            ..
        } = self;
        format!("{label} {prefix}{title}: {found}{hint}{advice}")
    }
}
