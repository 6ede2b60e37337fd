//! Waiting for the echo of a message that may have reached the Cloud.

mod recognise;
mod timing;

use super::Outbox;
use super::job::{Job, Work};
use super::step::{Awaited, Lane, Next};
use crate::bridge::Error;
use crate::bridge::retry::OUTCOME_UNKNOWN;
use crate::store::{Conclusion, DueLane, Flight};
use crate::types::message::Digest;
use crate::types::problem::SEQUENCE_UNKNOWN;
use recognise::{Sighting, recognise};

impl Outbox {
    /// True if the echo of a try has come that proves its arrival.
    pub(super) async fn has_come(&self, due: &DueLane, awaited: &Awaited) -> Result<bool, Error> {
        let found = self.find_echo(due, awaited).await?;
        Ok(found.is_some_and(|echo| self.counts(echo, awaited)))
    }

    /// The echo of what may have been sent, if the Cloud has told it back.
    async fn find_echo(&self, due: &DueLane, awaited: &Awaited) -> Result<Option<Sighting>, Error> {
        let Awaited { in_flight, text } = awaited;
        let store = &self.bridge.parts.store;
        let found = store.find_echoes(due.user, in_flight).await?;
        // What was sent at the same time, and was not known to be when this was queued.
        let others = self.recent.of(due.user, &in_flight.dialog_id);
        Ok(recognise(in_flight, text.as_deref(), &found, &others))
    }

    /// True once an echo proves that a message has arrived.
    fn counts(&self, sighting: Sighting, awaited: &Awaited) -> bool {
        let counts_at = timing::likely_counts_at(awaited.in_flight.begun_at);
        sighting.is_certain || self.bridge.parts.clock.now() >= counts_at
    }

    /// The echo of an earlier try of unknown outcome, if it has come after all.
    pub(super) async fn find_late_echo(
        &self,
        lane: &Lane<'_>,
        job: &Job,
        in_flight: &Flight,
    ) -> Result<Option<Sighting>, Error> {
        let text = job.next_text();
        // Of the parts of a split text, an earlier one may have been tried last.
        if text.is_some_and(|text| in_flight.digest != String::from(Digest::of_text(text))) {
            return Ok(None);
        }
        let store = &self.bridge.parts.store;
        let unknown = store.count_reason(job.progress.id, OUTCOME_UNKNOWN);
        if unknown.await? == 0 {
            return Ok(None);
        }
        let awaited = Awaited::new(job, in_flight);
        self.find_echo(lane.due, &awaited).await
    }

    /// Looks for the echo of what may have been sent, and says when to look again.
    pub(super) async fn await_echo(
        &self,
        lane: &Lane<'_>,
        job: Job,
        in_flight: &Flight,
    ) -> Result<Next, Error> {
        let parts = &self.bridge.parts;
        let awaited = Awaited::new(&job, in_flight);
        let found = self.find_echo(lane.due, &awaited).await?;
        if let Some(echo) = found.filter(|echo| self.counts(*echo, &awaited)) {
            if !echo.is_certain {
                tracing::info!(
                    account.id = %lane.due.key.account_id,
                    channel.id = %lane.request.channel_id,
                    conversation.id = %in_flight.conversation_id,
                    sequence = echo.sequence,
                    "a message of unknown outcome counts as sent: its echo came altered, or by another clock"
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
        let hearing = parts.store.last_hearing(account_id).await?;
        if let Some(look) = timing::next_look(in_flight.begun_at, hearing, now) {
            return Ok(Next::AwaitEcho(look, awaited));
        }
        let last = parts.store.last_reason(job.progress.id).await?;
        if last.as_deref() == Some(SEQUENCE_UNKNOWN) {
            return self.settle_unnumbered(lane, job, in_flight).await;
        }
        let postponed = Conclusion::Postponed {
            why: OUTCOME_UNKNOWN,
        };
        self.settle(lane, &job.progress, postponed, Some(in_flight))
            .await
    }

    /// Goes on from a message whose echo shows that it has arrived.
    pub(super) async fn settle_arrived(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        in_flight: &Flight,
        echo: Sighting,
    ) -> Result<Next, Error> {
        job.progress.sent.push(echo.sequence);
        let is_last = job.progress.sent.len() >= job.work.parts();
        self.settle_part(lane, job, is_last, in_flight, Some(in_flight))
            .await
    }

    /// Ends the wait for the echo of a message that the Cloud took without saying its sequence: it has arrived, and is
    /// not sent again.
    async fn settle_unnumbered(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        in_flight: &Flight,
    ) -> Result<Next, Error> {
        let sent = &mut job.progress.sent;
        let is_last = sent.len() + 1 >= job.work.parts();
        if !is_last {
            // Its place among the parts has to be filled, and a dialog counts on by one at least.
            let guess = sent.last().map_or(0, |last| last.saturating_add(1));
            sent.push(guess);
        }
        self.settle_part(lane, job, is_last, in_flight, None).await
    }

    async fn settle_part(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        is_last: bool,
        in_flight: &Flight,
        echoed: Option<&Flight>,
    ) -> Result<Next, Error> {
        job.progress.conversation_id = Some(in_flight.conversation_id.clone());
        if let Work::File(file) = &job.work {
            job.progress.file = file.sent();
        }
        let conclusion = if is_last {
            Conclusion::Sent
        } else {
            Conclusion::Advanced
        };
        self.settle(lane, &job.progress, conclusion, echoed).await
    }
}
