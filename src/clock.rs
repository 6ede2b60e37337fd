//! Time and ids: the only place that reads the system clock and that mints identifiers.
//!
//! Everything that depends on the time takes a [`Clock`], so that a test moves a [`ManualClock`] instead of
//! sleeping. Ids are UUIDs of version 7, which sort by the time they were made.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// The present moment, in whole milliseconds: what the store keeps and the facade shows.
    fn now(&self) -> DateTime<Utc>;

    /// The present moment in milliseconds since the epoch, as the store keeps it.
    fn now_ms(&self) -> i64 {
        self.now().timestamp_millis()
    }

    /// A new UUID of version 7 that bears the present moment.
    fn uuid(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(
            NoContext,
            seconds,
            now.timestamp_subsec_nanos(),
        ))
    }
}

/// A clock that is shared between the parts of the service.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`, cut to milliseconds.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            now_ms: AtomicI64::new(now.timestamp_millis()),
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: chrono::Duration) {
        self.now_ms
            .fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let start = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let clock = ManualClock::new(start);

        assert_eq!(clock.now(), start);
        clock.advance(chrono::Duration::seconds(90));
        assert_eq!(clock.now_ms(), 1_800_000_090_123);
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let clock = ManualClock::new(DateTime::from_timestamp_millis(1_800_000_000_000).unwrap());

        let first = clock.uuid();
        clock.advance(chrono::Duration::milliseconds(1));
        let second = clock.uuid();

        assert!(first < second);
        assert_eq!(first.get_version_num(), 7);
    }
}
