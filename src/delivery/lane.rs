//! The processing of one delivery lane: its events in order, until none is left or one has to wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::attempt::{LIMIT, Outcome};
use super::schedule::{between_probes, delay, jitter};
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
    Usual,
    /// Probe a callback that is unavailable.
    Probe,
}

/// The processing of a lane under a lease.
#[derive(Debug)]
pub(super) struct LaneRun<'a> {
    shared: &'a Shared,
    lane: Lane,
    turn: Purpose,
    held_until: DateTime<Utc>,
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
    pub(super) fn new(shared: &'a Shared, lane: Lane, turn: Purpose) -> Self {
        Self {
            shared,
            lane,
            turn,
            held_until: shared.parts.clock.now() + LEASE,
            is_last: false,
        }
    }

    /// Delivers until no event is left, one has to wait, or the service stops.
    pub(super) async fn run_to_end(mut self) {
        let mut outcome = self.work().await;
        if outcome.is_ok() && self.turn == Purpose::Probe {
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

    async fn work(&mut self) -> Result<(), store::Error> {
        let store = &self.shared.parts.store;
        loop {
            let events = store.due_events(&self.lane, PREFETCH).await?;
            if events.is_empty() {
                return store.release_emptied_lane(&self.lane, self.now()).await;
            }
            let are_all = events.len() < PREFETCH as usize;
            let mut left = events.len();
            if events.first().is_some_and(|first| first.attempts == 0) {
                // The events that failed before this one were dropped or given up.
                self.lane.failures = 0;
            }
            for event in events {
                if self.must_stop() {
                    return store.release_lane_due_now(&self.lane, self.now()).await;
                }
                left -= 1;
                self.is_last = are_all && left == 0;
                if self.deliver(&event).await? == Progress::Ended {
                    return Ok(());
                }
            }
            if self.shared.is_full() {
                // Users with many events take turns with lanes that wait for a permit.
                return store.release_lane_due_now(&self.lane, self.now()).await;
            }
        }
    }

    /// True if the next event must not begin, since it might not be settled before the lease
    /// expires.
    fn must_stop(&self) -> bool {
        let limit = TimeDelta::from_std(LIMIT).unwrap_or(LEASE);
        self.shared.parts.stopping.is_cancelled()
            || self.shared.paused.load(Ordering::Relaxed)
            || self.now() + limit > self.held_until
    }

    async fn deliver(&mut self, event: &DueEvent) -> Result<Progress, store::Error> {
        if event.deliver_until <= self.now() {
            let too_old = DeliveryOutcome::too_old(&event.kind);
            self.tell_failure(event, too_old);
            self.shared.parts.metrics.count(&EXPIRED, [], 1);
            return self.go_on(event, None, too_old).await;
        }
        let channel_id = &self.shared.channel_id;
        let (tried, outcome) = self.shared.callback.attempt(channel_id, event).await;
        tracing::debug!(
            channel.id = %self.shared.channel_id,
            event.id = event.id,
            attempt = event.attempts + 1,
            status = tried.status,
            cause = tried.error,
            duration_ms = tried.duration_ms,
            "delivery attempted"
        );
        self.count(event, &tried, outcome);
        match outcome {
            Outcome::Delivered => {
                let progress = self
                    .go_on(event, Some(&tried), DeliveryOutcome::Delivered)
                    .await?;
                self.record_success().await?;
                Ok(progress)
            }
            Outcome::Refused => {
                let refused = DeliveryOutcome::Failed(REFUSED);
                self.tell_failure(event, refused);
                let progress = self.go_on(event, Some(&tried), refused).await?;
                self.record_success().await?;
                Ok(progress)
            }
            Outcome::Gone => self.pause(event, &tried).await,
            Outcome::Failed(wish) => {
                self.lane.failures = self.lane.failures.saturating_add(1);
                let wait = delay(self.lane.failures, jitter(), wish);
                let wait = TimeDelta::from_std(wait).unwrap_or(LEASE);
                let settlement = if event.kind == EventType::TypingChanged.as_str() {
                    DeliveryOutcome::Dropped
                } else {
                    DeliveryOutcome::Pending
                };
                let fate = LaneUpdate::Waiting(self.now() + wait, self.lane.failures);
                self.settle(event, Some(&tried), settlement, fate).await?;
                self.note_failure(wish).await?;
                Ok(Progress::Ended)
            }
        }
    }

    fn count(&self, event: &DueEvent, tried: &DeliveryAttempt, outcome: Outcome) {
        let (metrics, channel) = (&self.shared.parts.metrics, self.shared.channel_id.as_str());
        let took = Duration::from_millis(tried.duration_ms).as_secs_f64();
        metrics.observe(&DELIVERY_ATTEMPTS, [channel, outcome.word()], took);
        if outcome == Outcome::Delivered {
            let lag = (self.now() - event.created_at).to_std();
            let lag = lag.unwrap_or_default().as_secs_f64();
            metrics.observe(&DELIVERY_LAG, [channel], lag);
        }
    }

    /// Settles an event after which the lane continues with the next one.
    async fn go_on(
        &mut self,
        event: &DueEvent,
        tried: Option<&DeliveryAttempt>,
        settlement: DeliveryOutcome<'_>,
    ) -> Result<Progress, store::Error> {
        self.lane.failures = 0;
        let until = self.now() + LEASE;
        let fate = if self.is_last {
            LaneUpdate::Emptied
        } else {
            LaneUpdate::Held(until)
        };
        let held = self.settle(event, tried, settlement, fate).await?;
        self.held_until = until;
        Ok(if held && !self.is_last {
            Progress::Next
        } else {
            Progress::Ended
        })
    }

    async fn settle(
        &self,
        event: &DueEvent,
        tried: Option<&DeliveryAttempt>,
        settlement: DeliveryOutcome<'_>,
        fate: LaneUpdate,
    ) -> Result<bool, store::Error> {
        let store = &self.shared.parts.store;
        let held = store
            .settle_delivery(&self.lane, event, tried, settlement, fate, self.now())
            .await?;
        if !held {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                event.id = event.id,
                "the outcome of a delivery is discarded: the user was erased meanwhile, or another replica took over the lane"
            );
        }
        Ok(held)
    }

    /// Pauses the callback. The event stays pending like all others.
    async fn pause(
        &mut self,
        event: &DueEvent,
        tried: &DeliveryAttempt,
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
        self.shared.paused.store(true, Ordering::Relaxed);
        let fate = LaneUpdate::Waiting(now, self.lane.failures);
        self.settle(event, Some(tried), DeliveryOutcome::Pending, fate)
            .await?;
        Ok(Progress::Ended)
    }

    /// Ends a row of failures, if there is one.
    async fn record_success(&mut self) -> Result<(), store::Error> {
        self.turn = Purpose::Usual;
        if !self.shared.troubled.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        if self.shared.away.swap(false, Ordering::Relaxed) {
            tracing::info!(channel.id = %self.shared.channel_id, "the callback is available again; all pending events are sent");
        }
        let store = &self.shared.parts.store;
        store
            .callback_succeeded(&self.shared.channel_id, self.now())
            .await
    }

    async fn note_failure(&mut self, wish: Option<Duration>) -> Result<(), store::Error> {
        let probing = self.turn == Purpose::Probe;
        self.turn = Purpose::Usual;
        self.shared.troubled.store(true, Ordering::Relaxed);
        let probe_in = |probes| {
            let wait = between_probes(probes, jitter(), wish);
            self.now() + TimeDelta::from_std(wait).unwrap_or(LEASE)
        };
        let store = &self.shared.parts.store;
        let failures = store
            .callback_failed(&self.shared.channel_id, probing, probe_in(0))
            .await?;
        if failures >= PROBE_AFTER_FAILURES && !self.shared.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                channel.id = %self.shared.channel_id,
                "the callback failed {PROBE_AFTER_FAILURES} times in a row; only single probes are sent until one succeeds"
            );
        }
        if probing {
            let probes = failures.saturating_sub(PROBE_AFTER_FAILURES);
            self.schedule_probe(probe_in(probes)).await?;
        }
        Ok(())
    }

    async fn schedule_probe(&self, at: DateTime<Utc>) -> Result<(), store::Error> {
        let store = &self.shared.parts.store;
        store.schedule_probe(&self.shared.channel_id, at).await
    }

    /// Logs that an event is given up.
    fn tell_failure(&self, event: &DueEvent, settlement: DeliveryOutcome<'_>) {
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
