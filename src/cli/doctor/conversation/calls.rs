//! Requests to the Cloud as the bridge makes them, and the facts about their outcomes.

use std::error::Error as _;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Walk;
use crate::cli::doctor::Interrupted;
use crate::cli::doctor::facts::Fact;
use crate::cli::doctor::report::LIMIT;
use crate::cli::doctor::wording::millis;
use crate::cloud;
use crate::cloud::probe::{RawAnswer, capture_answers};

/// The advice for an answer that the bridge does not understand.
const UNKNOWN_WORDS: &str = "the bridge does not know this answer; run doctor again with --report FILE and send the file to the project";

/// The advice for an answer that explains itself.
pub(super) const HINT_SEE_ANSWER: &str = "see the Cloud's answer";

/// The outcome of a call, with the Cloud's answers.
pub(super) struct CallResult<T> {
    pub(super) outcome: Result<T, Failure>,
    pub(super) answers: Vec<RawAnswer>,
    pub(super) took: Duration,
}

/// The reason for which a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Cloud(cloud::Error),
    #[error("no outcome within 20 s")]
    Late,
}

impl Walk<'_> {
    /// Makes a call as the bridge does, within the time limit of a check.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, cloud::Error>>,
    ) -> anyhow::Result<CallResult<T>> {
        let begun = Instant::now();
        // No further call is made after a signal. A call in flight is completed.
        if self.run.stopping.is_cancelled() {
            return Err(Interrupted.into());
        }
        let (outcome, answers) = match timeout(LIMIT, capture_answers(call)).await {
            Ok((outcome, answers)) => (outcome.map_err(Failure::Cloud), answers),
            Err(_) => (Err(Failure::Late), Vec::new()),
        };
        Ok(CallResult {
            outcome,
            answers,
            took: begun.elapsed(),
        })
    }

    /// Prints a fact and stores it for the report.
    pub(super) fn tell(&mut self, fact: Fact) -> anyhow::Result<()> {
        self.report.of_account(&self.account.account_id, fact)
    }

    /// Adds the Cloud's answer to a fact.
    pub(super) fn described<T>(&self, fact: Fact, asked: &CallResult<T>) -> Fact {
        let error = match &asked.outcome {
            Ok(_) => None,
            Err(Failure::Cloud(error)) => Some(error.word()),
            Err(Failure::Late) => Some("late"),
        };
        let answer = asked.answers.last();
        fact.with("duration_ms", millis(asked.took))
            .with("error", error)
            .with("tries", asked.answers.len())
            .with("answer", answer.map(|answer| self.masks.answer(answer)))
    }

    /// Returns the Cloud's answer as text.
    pub(super) fn told<T>(&self, asked: &CallResult<T>) -> String {
        let answer = asked.answers.last();
        answer.map_or_else(|| "no answer".to_owned(), |answer| self.masks.told(answer))
    }

    /// Reports a call that the Cloud should refuse with a certain error. If the Cloud accepts the
    /// call, `accepted` makes the fact.
    pub(super) fn report_expected_refusal<T>(
        &mut self,
        key: &'static str,
        asked: &CallResult<T>,
        is_expected: impl Fn(&cloud::Error) -> bool,
        accepted: impl FnOnce(&T, String) -> Fact,
    ) -> anyhow::Result<()> {
        let is_known = matches!(&asked.outcome, Err(Failure::Cloud(error)) if is_expected(error));
        let told = self.told(asked);
        let fact = match &asked.outcome {
            Err(_) if is_known => Fact::ok(key, format!("refused, as expected ({told})")),
            Ok(outcome) => accepted(outcome, told),
            Err(failure @ Failure::Cloud(cloud::Error::Refused { .. })) => {
                Fact::failed(key, self.failure(failure, asked), UNKNOWN_WORDS)
            }
            Err(failure) => Fact::failed(key, self.failure(failure, asked), HINT_SEE_ANSWER),
        };
        let fact = self.described(fact, asked).with("recognised", is_known);
        self.tell(fact)
    }

    /// Reports a call that should succeed. Returns its value.
    pub(super) fn report_call<T>(
        &mut self,
        key: &'static str,
        asked: CallResult<T>,
        hint: &'static str,
        found: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<Option<T>> {
        let fact = match &asked.outcome {
            Ok(value) => Fact::ok(key, format!("{} ({})", found(value), self.told(&asked))),
            Err(failure) => Fact::failed(key, self.failure(failure, &asked), hint),
        };
        let fact = self.described(fact, &asked);
        self.tell(fact)?;
        Ok(asked.outcome.ok())
    }

    /// Returns a failure as text, with its causes and the Cloud's answer.
    pub(super) fn failure<T>(&self, failure: &Failure, asked: &CallResult<T>) -> String {
        let mut words = failure.to_string();
        let mut cause = failure.source();
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        match asked.answers.last() {
            Some(answer) => format!("{words} ({})", self.masks.told(answer)),
            None => words,
        }
    }

    pub(super) fn wait(&self) -> Duration {
        self.run.options.wait()
    }
}
