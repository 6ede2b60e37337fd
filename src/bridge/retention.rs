//! Retention: about once a minute, old data is removed in small batches. Its space on disk is freed
//! soon after.

use std::convert::Infallible;

use chrono::{DateTime, TimeDelta, Utc};

use super::POLL_INTERVAL;
use crate::bridge::{Bridge, Error};
use crate::telemetry::metrics::DROPPED;
use crate::types::ids::ChannelId;
use crate::types::rejection::OLDEST_NOTIFICATION;
use crate::worker::{Claimed, Pace, Source};

/// 1 minute, plus or minus a quarter: the interval at which a replica removes old data.
const INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// 5 s: the latest time of the first round after the start.
const MAX_FIRST_DELAY: TimeDelta = TimeDelta::seconds(5);

/// 500: the rows that one statement removes, which takes some milliseconds.
const BATCH: u32 = 500;

/// 1 day: the time that a pending event is stored after its delivery should have ended. Its channel
/// has no callback URL any more, so no task marks the delivery as failed.
const ABANDONED: TimeDelta = TimeDelta::days(1);

/// 4 days and an hour. The Cloud repeats a notification for 3 days, and the bridge accepts one that
/// is up to 4 days old. The hour allows for clocks that differ.
const REPEATED: TimeDelta = TimeDelta::hours(OLDEST_NOTIFICATION.num_hours() + 1);

/// 7 days: the time for which operators see rejected notifications, after the last one.
const REJECTIONS: TimeDelta = TimeDelta::days(7);

/// 10 minutes: the time for which an unmatched change waits for its conversation to become known.
const UNMATCHED: TimeDelta = TimeDelta::minutes(10);

/// 1 h: far longer than an echo is awaited.
const ECHOES: TimeDelta = TimeDelta::hours(1);

/// 400 days: the age at which audit entries are removed. Operators can look back over a whole year.
const AUDIT: TimeDelta = TimeDelta::days(400);

/// 1 day: the age at which a write check is removed. A running replica makes one every few seconds,
/// or at each readiness check.
const WRITE_CHECKS: TimeDelta = TimeDelta::days(1);

/// The kinds of data that become old.
#[derive(Debug, Clone, Copy)]
enum Old<'a> {
    /// A channel's events.
    Events {
        channel_id: &'a ChannelId,
        retention: TimeDelta,
    },
    /// Changes that were received and that the Cloud may repeat.
    SeenChanges,
    /// Unmatched changes.
    UnmatchedChanges,
    /// The ids of erased users' conversations, once the Cloud no longer sends notifications about
    /// them.
    ErasedConversations,
    /// The pending closes of erased users.
    Closes,
    /// The answers that are stored for idempotency keys.
    IdempotencyKeys,
    /// Requests that were sent or have failed.
    SettledRequests { retention: TimeDelta },
    /// The echoes of users' messages.
    Echoes,
    /// The audit log.
    Audit,
    /// The rejected notifications.
    Rejections,
    /// The write checks of replicas that no longer make any.
    WriteChecks,
}

/// The background work of retention.
#[derive(Debug)]
pub struct Retention {
    bridge: Bridge,
    /// The age at which events are removed.
    events: TimeDelta,
    /// The time of the next round.
    due: DateTime<Utc>,
}

impl Retention {
    /// Creates the work that removes old data, and events once they are older than `events`.
    #[must_use]
    pub fn new(bridge: Bridge, events: TimeDelta) -> Self {
        let due = bridge.parts.clock.now() + portion(MAX_FIRST_DELAY, rand::random());
        Self {
            bridge,
            events,
            due,
        }
    }
}

impl Source for Retention {
    type Item = Infallible;
    type Error = Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, 1);
    const FAILED: &'static str = "old data could not be removed; retried in a minute";

    async fn claim(&mut self, _: u32) -> Result<Claimed<Infallible>, Error> {
        let parts = &self.bridge.parts;
        let now = parts.clock.now();
        if let Err(error) = parts.store.maintain(now).await
            && !error.is_outage()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "removed data could not be wiped from the disk; retried later"
            );
        }
        if now >= self.due && !self.bridge.is_ahead() {
            self.due = now + portion(INTERVAL, rand::random_range(0.75..1.25));
            self.bridge.remove_older(self.events, now).await?;
        }
        Ok(Claimed::none())
    }

    fn handle(&self, _: Infallible) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

impl Bridge {
    async fn remove_older(&self, retention: TimeDelta, now: DateTime<Utc>) -> Result<(), Error> {
        for channel_id in self.parts.store.logs().await? {
            let events = Old::Events {
                channel_id: &channel_id,
                retention,
            };
            let removed = self.remove_all(events, now).await?;
            if removed > 0 {
                tracing::info!(channel.id = %channel_id, count = removed, "old events were removed");
            }
        }
        self.remove_all(Old::SeenChanges, now).await?;
        let dropped = self.remove_all(Old::UnmatchedChanges, now).await?;
        self.parts.metrics.count(&DROPPED, [], dropped);
        if dropped > 0 {
            tracing::info!(
                count = dropped,
                "changes of conversations that are not the bridge's were dropped"
            );
        }
        self.remove_all(Old::ErasedConversations, now).await?;
        self.remove_all(Old::Closes, now).await?;
        self.remove_all(Old::IdempotencyKeys, now).await?;
        // Stored as long as the events that report their outcomes.
        self.remove_all(Old::SettledRequests { retention }, now)
            .await?;
        self.remove_all(Old::Echoes, now).await?;
        self.remove_all(Old::Audit, now).await?;
        self.remove_all(Old::Rejections, now).await?;
        self.remove_all(Old::WriteChecks, now).await?;
        Ok(())
    }

    /// Removes batches until one is not full or the service stops. Returns the number of removed
    /// rows.
    async fn remove_all(&self, old: Old<'_>, now: DateTime<Utc>) -> Result<u64, Error> {
        let mut count = 0;
        while !self.parts.stopping.is_cancelled() {
            let removed = self.remove_batch(old, now).await?;
            count += removed;
            if removed < u64::from(BATCH) {
                break;
            }
            // Other tasks run between two batches.
            tokio::task::yield_now().await;
        }
        Ok(count)
    }

    async fn remove_batch(&self, old: Old<'_>, now: DateTime<Utc>) -> Result<u64, Error> {
        let store = &self.parts.store;
        let repeated = now - REPEATED;
        let removed = match old {
            Old::Events {
                channel_id,
                retention,
            } => {
                let (before, abandoned) = (now - retention, now - ABANDONED);
                store
                    .remove_events(channel_id, before, abandoned, BATCH)
                    .await
            }
            Old::SeenChanges => store.remove_seen_changes(repeated, BATCH).await,
            Old::UnmatchedChanges => {
                let unmatched_before = now - UNMATCHED;
                store
                    .remove_unmatched_changes(unmatched_before, repeated, BATCH)
                    .await
            }
            Old::ErasedConversations => store.remove_erased_conversations(repeated, BATCH).await,
            Old::Closes => return self.give_up_closes(now, BATCH).await,
            Old::IdempotencyKeys => store.remove_expired_keys(now, BATCH).await,
            Old::SettledRequests { retention } => {
                store.remove_settled_requests(now - retention, BATCH).await
            }
            Old::Echoes => store.remove_echoes(now - ECHOES, BATCH).await,
            Old::Audit => store.remove_recorded_actions(now - AUDIT, BATCH).await,
            Old::Rejections => store.remove_rejections(now - REJECTIONS, BATCH).await,
            Old::WriteChecks => store.remove_write_checks(now - WRITE_CHECKS, BATCH).await,
        };
        Ok(removed?)
    }
}

/// Returns a fraction of a duration, to the millisecond.
fn portion(whole: TimeDelta, part: f64) -> TimeDelta {
    let whole = whole.to_std().unwrap_or_default();
    TimeDelta::from_std(whole.mul_f64(part)).unwrap_or_default()
}
