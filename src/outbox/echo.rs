//! The wait for the echo of a message that may have reached the Cloud.

mod recognise;
mod timing;

use super::Outbox;
use super::job::{Job, Work};
use super::step::{Awaited, Lane, Next};
use crate::bridge::Error;
use crate::bridge::retry::OUTCOME_UNKNOWN;
use crate::store::{AttemptOutcome, DueLane, InFlight};
use crate::types::message::Digest;
use crate::types::problem::SEQUENCE_UNKNOWN;
use recognise::{FoundEcho, recognise};

impl Outbox {
    /// True if the echo of an attempt has come and proves that the message arrived.
    pub(super) async fn is_confirmed(
        &self,
        due: &DueLane,
        awaited: &Awaited,
    ) -> Result<bool, Error> {
        let found = self.find_echo(due, awaited).await?;
        Ok(found.is_some_and(|echo| self.proves_arrival(echo, awaited)))
    }

    /// Finds the echo of a message that may have been sent.
    async fn find_echo(
        &self,
        due: &DueLane,
        awaited: &Awaited,
    ) -> Result<Option<FoundEcho>, Error> {
        let Awaited { in_flight, text } = awaited;
        let store = &self.bridge.parts.store;
        let found = store.find_echoes(due.user, in_flight).await?;
        // These messages were in flight when this one was queued, so they could not be excluded
        // then.
        let other_sequences = self.recent.sequences(due.user, &in_flight.dialog_id);
        Ok(recognise(
            in_flight,
            text.as_deref(),
            &found,
            &other_sequences,
        ))
    }

    /// True if an echo proves by now that a message has arrived.
    fn proves_arrival(&self, echo: FoundEcho, awaited: &Awaited) -> bool {
        let counts_at = timing::likely_counts_at(awaited.in_flight.begun_at);
        echo.is_certain || self.bridge.parts.clock.now() >= counts_at
    }

    /// Finds the echo of an earlier attempt of unknown outcome, if it has come after all.
    pub(super) async fn find_late_echo(
        &self,
        lane: &Lane<'_>,
        job: &Job,
        in_flight: &InFlight,
    ) -> Result<Option<FoundEcho>, Error> {
        let text = job.next_text();
        // In a split text, the last attempt may have been of an earlier part.
        if text.is_some_and(|text| in_flight.digest != String::from(Digest::of_text(text))) {
            return Ok(None);
        }
        let store = &self.bridge.parts.store;
        let unknown_count = store.count_reason(job.progress.id, OUTCOME_UNKNOWN);
        if unknown_count.await? == 0 {
            return Ok(None);
        }
        let awaited = Awaited::new(job, in_flight);
        self.find_echo(lane.due, &awaited).await
    }

    /// Checks for the echo of a message that may have been sent. Settles the request, or returns
    /// the time of the next check.
    pub(super) async fn await_echo(
        &self,
        lane: &Lane<'_>,
        job: Job,
        in_flight: &InFlight,
    ) -> Result<Next, Error> {
        let parts = &self.bridge.parts;
        let awaited = Awaited::new(&job, in_flight);
        let found = self.find_echo(lane.due, &awaited).await?;
        if let Some(echo) = found.filter(|echo| self.proves_arrival(*echo, &awaited)) {
            if !echo.is_certain {
                tracing::info!(
                    account.id = %lane.due.key.account_id,
                    channel.id = %lane.request.channel_id,
                    conversation.id = %in_flight.conversation_id,
                    sequence = echo.sequence,
                    "a message of unknown outcome counts as sent: its echo is altered, or was timed by another clock"
                );
            }
            return self.settle_arrived(lane, job, in_flight, echo).await;
        }
        if found.is_some() {
            let counts_at = timing::likely_counts_at(in_flight.begun_at);
            return Ok(Next::AwaitEcho(counts_at, awaited));
        }
        let now = parts.clock.now();
        let account_id = &lane.due.key.account_id;
        let lag = parts.store.notification_lag(account_id).await?;
        if let Some(check_at) = timing::next_check(in_flight.begun_at, lag, now) {
            return Ok(Next::AwaitEcho(check_at, awaited));
        }
        let last_reason = parts.store.last_reason(job.progress.id).await?;
        if last_reason.as_deref() == Some(SEQUENCE_UNKNOWN) {
            return self.settle_unnumbered(lane, job, in_flight).await;
        }
        let postponed = AttemptOutcome::Postponed {
            why: OUTCOME_UNKNOWN,
        };
        self.settle(lane, &job.progress, postponed, Some(in_flight))
            .await
    }

    /// Continues after a message whose echo proves that it has arrived.
    pub(super) async fn settle_arrived(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        in_flight: &InFlight,
        echo: FoundEcho,
    ) -> Result<Next, Error> {
        job.progress.sent.push(echo.sequence);
        let is_last = job.progress.sent.len() >= job.work.parts();
        self.settle_part(lane, job, is_last, in_flight, Some(in_flight))
            .await
    }

    /// Ends the wait for the echo of a message that the Cloud accepted without returning its
    /// sequence. It has arrived and is not sent again.
    async fn settle_unnumbered(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        in_flight: &InFlight,
    ) -> Result<Next, Error> {
        let sent = &mut job.progress.sent;
        let is_last = sent.len() + 1 >= job.work.parts();
        if !is_last {
            // Each part needs a sequence. The sequences of a dialog grow by at least one, so this
            // is the lowest possible.
            let lowest_possible = sent.last().map_or(0, |last| last.saturating_add(1));
            sent.push(lowest_possible);
        }
        self.settle_part(lane, job, is_last, in_flight, None).await
    }

    async fn settle_part(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        is_last: bool,
        in_flight: &InFlight,
        echoed: Option<&InFlight>,
    ) -> Result<Next, Error> {
        job.progress.conversation_id = Some(in_flight.conversation_id.clone());
        if let Work::File(file) = &job.work {
            job.progress.file = file.sent();
        }
        let outcome = if is_last {
            AttemptOutcome::Sent
        } else {
            AttemptOutcome::Advanced
        };
        self.settle(lane, &job.progress, outcome, echoed).await
    }
}
