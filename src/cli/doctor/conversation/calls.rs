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
use crate::cloud::capture::{RawAnswer, capture_answers};

/// The advice for an answer that the bridge does not understand.
const HINT_UNKNOWN_ANSWER: &str = "the bridge does not know this answer; run doctor again with --report FILE and send the file to the project";

/// The advice for an answer that explains itself.
pub(super) const HINT_SEE_ANSWER: &str = "see the Cloud's answer";

/// The outcome of a call, with the Cloud's answers.
pub(super) struct CallResult<T> {
    pub(super) outcome: Result<T, Failure>,
    pub(super) answers: Vec<RawAnswer>,
    pub(super) duration: Duration,
}

/// The reason for which a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Cloud(cloud::Error),
    #[error("no outcome within 20 s")]
    TimedOut,
}

impl Walk<'_> {
    /// Makes a call as the bridge does, within the time limit of a check.
    pub(super) async fn call<T>(
        &self,
        request: impl Future<Output = Result<T, cloud::Error>>,
    ) -> anyhow::Result<CallResult<T>> {
        let begun = Instant::now();
        // No further call is made after a signal. A call in flight is completed.
        if self.run.stopping.is_cancelled() {
            return Err(Interrupted.into());
        }
        let (outcome, answers) = match timeout(LIMIT, capture_answers(request)).await {
            Ok((outcome, answers)) => (outcome.map_err(Failure::Cloud), answers),
            Err(_) => (Err(Failure::TimedOut), Vec::new()),
        };
        Ok(CallResult {
            outcome,
            answers,
            duration: begun.elapsed(),
        })
    }

    /// Prints a fact and stores it for the report.
    pub(super) fn report_fact(&mut self, fact: Fact) -> anyhow::Result<()> {
        self.report.of_account(&self.account.account_id, fact)
    }

    /// Adds the Cloud's answer to a fact.
    pub(super) fn described<T>(&self, fact: Fact, call: &CallResult<T>) -> Fact {
        let error = match &call.outcome {
            Ok(_) => None,
            Err(Failure::Cloud(error)) => Some(error.name()),
            Err(Failure::TimedOut) => Some("late"),
        };
        let answer = call.answers.last();
        fact.with("duration_ms", millis(call.duration))
            .with("error", error)
            .with("tries", call.answers.len())
            .with("answer", answer.map(|it| self.masks.answer_json(it)))
    }

    /// Returns the Cloud's answer as text.
    pub(super) fn answer_text<T>(&self, call: &CallResult<T>) -> String {
        let answer = call.answers.last();
        answer.map_or_else(
            || "no answer".to_owned(),
            |answer| self.masks.answer_text(answer),
        )
    }

    /// Reports a call that the Cloud should refuse with a certain error. If the Cloud accepts the
    /// call, `accepted` makes the fact.
    pub(super) fn report_expected_refusal<T>(
        &mut self,
        key: &'static str,
        call: &CallResult<T>,
        is_expected: impl Fn(&cloud::Error) -> bool,
        accepted: impl FnOnce(&T, String) -> Fact,
    ) -> anyhow::Result<()> {
        let is_known = matches!(&call.outcome, Err(Failure::Cloud(error)) if is_expected(error));
        let answer_text = self.answer_text(call);
        let fact = match &call.outcome {
            Err(_) if is_known => Fact::ok(key, format!("refused, as expected ({answer_text})")),
            Ok(outcome) => accepted(outcome, answer_text),
            Err(failure @ Failure::Cloud(cloud::Error::Refused { .. })) => {
                Fact::failed(key, self.failure(failure, call), HINT_UNKNOWN_ANSWER)
            }
            Err(failure) => Fact::failed(key, self.failure(failure, call), HINT_SEE_ANSWER),
        };
        let fact = self.described(fact, call).with("recognised", is_known);
        self.report_fact(fact)
    }

    /// Reports a call that should succeed. Returns its value.
    pub(super) fn report_call<T>(
        &mut self,
        key: &'static str,
        call: CallResult<T>,
        hint: &'static str,
        found: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<Option<T>> {
        let fact = match &call.outcome {
            Ok(value) => {
                let found = found(value);
                Fact::ok(key, format!("{found} ({})", self.answer_text(&call)))
            }
            Err(failure) => Fact::failed(key, self.failure(failure, &call), hint),
        };
        let fact = self.described(fact, &call);
        self.report_fact(fact)?;
        Ok(call.outcome.ok())
    }

    /// Returns a failure as text, with its causes and the Cloud's answer.
    pub(super) fn failure<T>(&self, failure: &Failure, call: &CallResult<T>) -> String {
        let mut text = failure.to_string();
        let mut cause = failure.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        match call.answers.last() {
            Some(answer) => format!("{text} ({})", self.masks.answer_text(answer)),
            None => text,
        }
    }

    pub(super) fn wait(&self) -> Duration {
        self.run.options.wait()
    }
}
