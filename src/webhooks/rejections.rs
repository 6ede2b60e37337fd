//! Rejected notifications: counted, logged at intervals, and recorded in the database for
//! operators.
//!
//! Anyone on the internet can send a notification that is rejected, so a rejection must be cheap.
//! It costs a counter in memory. For each account and reason, at most one line is logged every 10 s
//! and one row is written every 2 s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::store::Store;
use crate::telemetry::metrics::{Metrics, WEBHOOK_REJECTED};
use crate::types::ids::AccountId;
use crate::types::rejection::Rejected;
use crate::types::rejection::Rejection;

/// 10 s: the minimum time between two log lines for the same account and reason.
const LOG_INTERVAL: TimeDelta = TimeDelta::seconds(10);

/// 2 s: the minimum time between two writes.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);

/// The one label for all accounts that are not configured. A caller can choose any name, so such
/// names must not become labels.
const UNKNOWN_ACCOUNT: &str = "unknown";

/// The recorder of rejected notifications. Clones share one state.
#[derive(Debug, Clone)]
pub struct Rejections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    clock: SharedClock,
    /// Keyed by configured account and reason, so it stays small.
    tallies: Mutex<HashMap<Key, Tally>>,
    /// Notified when there are counts to save.
    changed: Notify,
}

type Key = (Option<AccountId>, Rejection);

/// The counts of one account and reason.
#[derive(Debug, Default)]
struct Tally {
    logged_at: Option<DateTime<Utc>>,
    /// The count since the latest log line.
    unlogged: u64,
    unsaved: Option<Unsaved>,
}

#[derive(Debug, Clone, Copy)]
struct Unsaved {
    count: u64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

impl Rejections {
    /// Creates a recorder without any counts.
    #[must_use]
    pub fn new(metrics: Metrics, clock: SharedClock) -> Self {
        Self(Arc::new(Shared {
            metrics,
            clock,
            tallies: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Records that a notification was refused. `configured` is the account, if it is configured.
    /// `named` is the account in the path. It is safe to log, since its characters and its length
    /// are limited.
    pub(super) fn record_refusal(
        &self,
        configured: Option<&AccountId>,
        named: Option<&AccountId>,
        reason: Rejection,
    ) {
        let Some(count) = self.count(configured, reason) else {
            return;
        };
        tracing::warn!(
            account.id = named.map(AccountId::as_str),
            reason = reason.as_str(),
            count,
            "notifications refused: {reason}"
        );
    }

    /// Records that a signed notification could not be used.
    pub(super) fn record_unusable(&self, account: &AccountId, reason: Rejection) {
        self.count(Some(account), reason);
    }

    /// Counts one rejection. If a log line is due, returns the number of rejections that it covers.
    fn count(&self, account: Option<&AccountId>, reason: Rejection) -> Option<u64> {
        let label = account.map_or(UNKNOWN_ACCOUNT, AccountId::as_str);
        let labels = [label, reason.as_str()];
        self.0.metrics.count(&WEBHOOK_REJECTED, labels, 1);
        let now = self.0.clock.now();
        let mut tallies = self.lock();
        let tally = tallies.entry((account.cloned(), reason)).or_default();
        tally.unlogged += 1;
        tally.add_unsaved(Unsaved {
            count: 1,
            first_at: now,
            last_at: now,
        });
        let due = tally.log_due(now);
        drop(tallies);
        self.0.changed.notify_one();
        due
    }

    /// Saves the counts until the service stops.
    pub async fn save(self, store: Store, stopping: CancellationToken) {
        while stopping
            .run_until_cancelled(self.0.changed.notified())
            .await
            .is_some()
        {
            self.save_counts(&store).await;
            stopping
                .run_until_cancelled(tokio::time::sleep(SAVE_INTERVAL))
                .await;
        }
        self.save_counts(&store).await;
    }

    async fn save_counts(&self, store: &Store) {
        let unsaved = self.take_unsaved();
        if unsaved.is_empty() {
            return;
        }
        if let Err(error) = store.add_rejections(&unsaved).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "refused notifications could not be recorded; retrying in 2 s"
            );
            self.put_back(unsaved);
        }
    }

    fn take_unsaved(&self) -> Vec<Rejected> {
        let mut tallies = self.lock();
        let unsaved = tallies.iter_mut().filter_map(|((account, reason), tally)| {
            let Unsaved {
                count,
                first_at,
                last_at,
            } = tally.unsaved.take()?;
            Some(Rejected {
                account_id: account.clone(),
                reason: *reason,
                count,
                first_at,
                last_at,
            })
        });
        unsaved.collect()
    }

    fn put_back(&self, unsaved: Vec<Rejected>) {
        let mut tallies = self.lock();
        for rejected in unsaved {
            let key = (rejected.account_id, rejected.reason);
            tallies.entry(key).or_default().add_unsaved(Unsaved {
                count: rejected.count,
                first_at: rejected.first_at,
                last_at: rejected.last_at,
            });
        }
        drop(tallies);
        self.0.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Tally>> {
        let tallies = self.0.tallies.lock();
        tallies.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn add_unsaved(&mut self, added: Unsaved) {
        self.unsaved = Some(match self.unsaved {
            Some(unsaved) => Unsaved {
                count: unsaved.count + added.count,
                first_at: unsaved.first_at.min(added.first_at),
                last_at: unsaved.last_at.max(added.last_at),
            },
            None => added,
        });
    }

    fn log_due(&mut self, now: DateTime<Utc>) -> Option<u64> {
        if self.logged_at.is_some_and(|at| now - at < LOG_INTERVAL) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    fn rejections() -> (Rejections, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let shared: SharedClock = clock.clone();
        (Rejections::new(Metrics::default(), shared), clock)
    }

    #[test]
    fn many_rejections_give_one_line_per_ten_seconds_and_one_row() {
        let (rejections, clock) = rejections();
        let account: AccountId = "12345678".parse().unwrap();
        let count = || rejections.count(Some(&account), Rejection::SignatureWrong);

        assert_eq!(count(), Some(1));
        for _ in 0..1000 {
            assert_eq!(count(), None);
        }
        clock.advance(LOG_INTERVAL);
        assert_eq!(count(), Some(1001));

        let rows = rejections.take_unsaved();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.count, row.reason), (1002, Rejection::SignatureWrong));
        assert_eq!(row.last_at - row.first_at, LOG_INTERVAL);
        assert!(rejections.take_unsaved().is_empty());
        rejections.put_back(rows.clone());
        assert_eq!(rejections.take_unsaved(), rows);
        // Counts that could not be saved have already been logged.
        clock.advance(LOG_INTERVAL);
        assert_eq!(count(), Some(1));
    }

    #[test]
    fn accounts_that_are_not_configured_share_a_count() {
        let (rejections, _) = rejections();
        for number in 0..1000 {
            let named = format!("a{number}").parse().ok();
            rejections.record_refusal(None, named.as_ref(), Rejection::UnknownAccount);
        }

        assert_eq!(rejections.lock().len(), 1);
    }
}
