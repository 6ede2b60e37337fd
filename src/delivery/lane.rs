//! The processing of one delivery lane: its events in order, until none is left or one has to wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::attempt::{ATTEMPT_TIMEOUT, Outcome};
use super::schedule::{delay, jitter, probe_delay};
use super::shared::Shared;
use crate::store::{self, DeliveryAttempt, DeliveryOutcome, DueEvent, LEASE, Lane, LaneUpdate};
use crate::telemetry::metrics::{DELIVERY_ATTEMPTS, DELIVERY_LAG, EXPIRED};
use crate::types::delivery::PROBE_AFTER_FAILURES;
use crate::types::event::EventType;

/// 8: the events that are read at once. Most users have few.
const PREFETCH: u32 = 8;

/// The error of an event that the channel refused.
const REFUSED: &str = "refused by the channel (422)";

/// The purpose of a claimed lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Deliver its events.
    Deliver,
    /// Probe a callback that is unavailable.
    Probe,
}

/// The processing of a lane under a lease.
#[derive(Debug)]
pub(super) struct LaneRun<'a> {
    shared: &'a Shared,
    lane: Lane,
    purpose: Purpose,
    leased_until: DateTime<Utc>,
    /// The first pending events of the lane, if they are known already.
    known: Option<Vec<DueEvent>>,
    /// True if the lane is empty once the current event is settled.
    is_last: bool,
}

/// The next step after an event: continue with the lane, or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Next,
    Ended,
}

impl<'a> LaneRun<'a> {
    /// Starts the processing of a lane that was just claimed.
    pub(super) fn new(
        shared: &'a Shared,
        lane: Lane,
        purpose: Purpose,
        leased_until: DateTime<Utc>,
    ) -> Self {
        Self {
            shared,
            lane,
            purpose,
            leased_until,
            known: None,
            is_last: false,
        }
    }

    /// Starts the processing of a lane that was claimed when its events were stored.
    pub(super) fn with_events(
        shared: &'a Shared,
        lane: Lane,
        leased_until: DateTime<Utc>,
        mut events: Vec<DueEvent>,
    ) -> Self {
        // As many as would be read, so that a user with many events takes turns with others.
        events.truncate(PREFETCH as usize);
        Self {
            known: Some(events),
            ..Self::new(shared, lane, Purpose::Deliver, leased_until)
        }
    }

    /// Delivers until no event is left, one has to wait, or the service stops.
    pub(super) async fn run_to_end(mut self) {
        let mut outcome = self.deliver_events().await;
        if outcome.is_ok() && self.purpose == Purpose::Probe {
            // Nothing was sent, so the state of the callback is still unknown.
            outcome = self.schedule_probe(self.now()).await;
        }
        if let Err(error) = outcome {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                error = &error as &dyn std::error::Error,
                "the outcome of a user's deliveries could not be stored; they continue when the lease expires"
            );
        }
    }

    async fn deliver_events(&mut self) -> Result<(), store::Error> {
        let store = &self.shared.parts.store;
        loop {
            let events = match self.known.take() {
                Some(events) => events,
                None => store.due_events(&self.lane, PREFETCH).await?,
            };
            if events.is_empty() {
                return store.release_emptied_lane(&self.lane, self.now()).await;
            }
            let is_last_batch = events.len() < PREFETCH as usize;
            let mut remaining = events.len();
            if events.first().is_some_and(|first| first.attempts == 0) {
                // The events that failed before this one were dropped or given up.
                self.lane.failures = 0;
            }
            for event in events {
                if self.must_stop() {
                    return store.release_lane_due_now(&self.lane, self.now()).await;
                }
                remaining -= 1;
                self.is_last = is_last_batch && remaining == 0;
                if self.deliver(&event).await? == Progress::Ended {
                    return Ok(());
                }
            }
            if self.shared.is_full() {
                // Users with many events take turns with lanes that wait for a slot.
                return store.release_lane_due_now(&self.lane, self.now()).await;
            }
        }
    }

    /// True if no further delivery may begin: the service is stopping, the callback is paused, or
    /// the lease might expire before the event is settled.
    fn must_stop(&self) -> bool {
        let limit = TimeDelta::from_std(ATTEMPT_TIMEOUT).unwrap_or(LEASE);
        self.shared.parts.stopping.is_cancelled()
            || self.shared.is_paused.load(Ordering::Relaxed)
            || self.now() + limit > self.leased_until
    }

    async fn deliver(&mut self, event: &DueEvent) -> Result<Progress, store::Error> {
        if event.deliver_until <= self.now() {
            let too_old = DeliveryOutcome::too_old(&event.kind);
            self.log_failure(event, too_old);
            self.shared.parts.metrics.count(&EXPIRED, [], 1);
            return self.settle_and_continue(event, None, too_old).await;
        }
        let channel_id = &self.shared.channel_id;
        let (attempt, outcome) = self.shared.callback.attempt(channel_id, event).await;
        tracing::debug!(
            channel.id = %self.shared.channel_id,
            event.id = event.id,
            attempt = event.attempts + 1,
            status = attempt.status,
            cause = attempt.error,
            duration_ms = attempt.duration_ms,
            "delivery attempted"
        );
        self.count(event, &attempt, outcome);
        match outcome {
            Outcome::Delivered => {
                let progress = self
                    .settle_and_continue(event, Some(&attempt), DeliveryOutcome::Delivered)
                    .await?;
                self.record_success().await?;
                Ok(progress)
            }
            Outcome::Refused => {
                let refused = if is_typing(event) {
                    DeliveryOutcome::Dropped
                } else {
                    DeliveryOutcome::Failed(REFUSED)
                };
                self.log_failure(event, refused);
                let progress = self
                    .settle_and_continue(event, Some(&attempt), refused)
                    .await?;
                self.record_success().await?;
                Ok(progress)
            }
            Outcome::Gone => self.pause(event, &attempt).await,
            Outcome::Failed(retry_after) => {
                self.lane.failures = self.lane.failures.saturating_add(1);
                let wait = delay(self.lane.failures, jitter(), retry_after);
                let wait = TimeDelta::from_std(wait).unwrap_or(LEASE);
                let settlement = if is_typing(event) {
                    DeliveryOutcome::Dropped
                } else {
                    DeliveryOutcome::Pending
                };
                let update = LaneUpdate::Waiting(self.now() + wait, self.lane.failures);
                self.settle(event, Some(&attempt), settlement, update)
                    .await?;
                self.record_failure(&attempt, retry_after).await?;
                Ok(Progress::Ended)
            }
        }
    }

    fn count(&self, event: &DueEvent, attempt: &DeliveryAttempt, outcome: Outcome) {
        let (metrics, channel) = (&self.shared.parts.metrics, self.shared.channel_id.as_str());
        let seconds = Duration::from_millis(attempt.duration_ms).as_secs_f64();
        metrics.observe(&DELIVERY_ATTEMPTS, [channel, outcome.as_str()], seconds);
        if outcome == Outcome::Delivered {
            let lag = (self.now() - event.created_at).to_std();
            let lag = lag.unwrap_or_default().as_secs_f64();
            metrics.observe(&DELIVERY_LAG, [channel], lag);
        }
    }

    /// Settles an event after which the lane continues with the next one.
    async fn settle_and_continue(
        &mut self,
        event: &DueEvent,
        attempt: Option<&DeliveryAttempt>,
        settlement: DeliveryOutcome<'_>,
    ) -> Result<Progress, store::Error> {
        self.lane.failures = 0;
        let until = self.now() + LEASE;
        let update = if self.is_last {
            LaneUpdate::Emptied
        } else {
            LaneUpdate::Renewed(until)
        };
        let is_held = self.settle(event, attempt, settlement, update).await?;
        self.leased_until = until;
        Ok(if is_held && !self.is_last {
            Progress::Next
        } else {
            Progress::Ended
        })
    }

    async fn settle(
        &self,
        event: &DueEvent,
        attempt: Option<&DeliveryAttempt>,
        settlement: DeliveryOutcome<'_>,
        update: LaneUpdate,
    ) -> Result<bool, store::Error> {
        let store = &self.shared.parts.store;
        let is_held = store
            .settle_delivery(&self.lane, event, attempt, settlement, update, self.now())
            .await?;
        if !is_held {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                event.id = event.id,
                "the outcome of a delivery is discarded: the user was erased meanwhile, or another replica took over the lane"
            );
        }
        Ok(is_held)
    }

    /// Pauses the callback. The event stays pending like all others.
    async fn pause(
        &mut self,
        event: &DueEvent,
        attempt: &DeliveryAttempt,
    ) -> Result<Progress, store::Error> {
        let now = self.now();
        tracing::warn!(
            channel.id = %self.shared.channel_id,
            "the callback answered 410; nothing is sent to it until it is resumed"
        );
        // Pause before the lane is released, so that no replica claims it.
        self.shared
            .parts
            .store
            .pause_callback(&self.shared.channel_id, now)
            .await?;
        self.shared.is_paused.store(true, Ordering::Relaxed);
        let update = LaneUpdate::Waiting(now, self.lane.failures);
        self.settle(event, Some(attempt), DeliveryOutcome::Pending, update)
            .await?;
        Ok(Progress::Ended)
    }

    /// Resets the count of consecutive failures, if there are any.
    async fn record_success(&mut self) -> Result<(), store::Error> {
        self.purpose = Purpose::Deliver;
        self.shared.is_failing.store(false, Ordering::Relaxed);
        if !self.shared.has_failures.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        if self.shared.is_unavailable.swap(false, Ordering::Relaxed) {
            tracing::info!(channel.id = %self.shared.channel_id, "the callback is available again; all pending events are sent");
        }
        let store = &self.shared.parts.store;
        store
            .callback_succeeded(&self.shared.channel_id, self.now())
            .await
    }

    /// Counts a failure, and logs the first one in a row.
    async fn record_failure(
        &mut self,
        attempt: &DeliveryAttempt,
        retry_after: Option<Duration>,
    ) -> Result<(), store::Error> {
        let probing = self.purpose == Purpose::Probe;
        self.purpose = Purpose::Deliver;
        self.shared.has_failures.store(true, Ordering::Relaxed);
        if !self.shared.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                status = attempt.status,
                error = attempt.error,
                "a delivery to the callback failed; the next line about it comes after {PROBE_AFTER_FAILURES} failures in a row"
            );
        }
        let probe_at = |probes| {
            let wait = probe_delay(probes, jitter(), retry_after);
            self.now() + TimeDelta::from_std(wait).unwrap_or(LEASE)
        };
        let store = &self.shared.parts.store;
        let failures = store
            .callback_failed(&self.shared.channel_id, probing, probe_at(0))
            .await?;
        if failures >= PROBE_AFTER_FAILURES
            && !self.shared.is_unavailable.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                "the callback failed {PROBE_AFTER_FAILURES} times in a row; only single probes are sent until one succeeds"
            );
        }
        if probing {
            let probes = failures.saturating_sub(PROBE_AFTER_FAILURES);
            self.schedule_probe(probe_at(probes)).await?;
        }
        Ok(())
    }

    async fn schedule_probe(&self, at: DateTime<Utc>) -> Result<(), store::Error> {
        let store = &self.shared.parts.store;
        store.schedule_probe(&self.shared.channel_id, at).await
    }

    /// Logs that an event is given up; a dropped event is not logged.
    fn log_failure(&self, event: &DueEvent, settlement: DeliveryOutcome<'_>) {
        if let DeliveryOutcome::Failed(reason) = settlement {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                event.id = event.id,
                reason,
                "an event was given up"
            );
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.shared.parts.clock.now()
    }
}

/// True for a typing event, which has one attempt and is dropped if that fails.
fn is_typing(event: &DueEvent) -> bool {
    event.kind == EventType::TypingChanged.as_str()
}
