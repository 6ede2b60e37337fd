//! The clocks of the service, and the ids that contain their time. Only the log and the trace
//! export read the machine's time of day themselves.
//!
//! All other code that depends on the time of day takes a [`Clock`], so that a test can move a
//! [`ManualClock`] instead of sleeping. The service uses a [`DisciplinedClock`], on which all
//! replicas of a database agree. Ids are UUIDs of version 7, which sort by their creation time.

mod disciplined;
mod timeline;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

pub use disciplined::{DisciplinedClock, elapsed_us, machine_reading};
pub use timeline::{Correction, Reading, Reference};

/// A clock that shows the time of day.
pub trait Clock: Debug + Send + Sync {
    /// Returns the present time in milliseconds since the epoch, the form in which the store keeps
    /// it.
    fn now_ms(&self) -> i64;

    /// Returns the present time in the form in which the API shows it.
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms()).unwrap_or_default()
    }

    /// Generates a UUID of version 7 with the present time.
    fn uuid(&self) -> Uuid {
        let now = Duration::from_millis(u64::try_from(self.now_ms()).unwrap_or_default());
        let (seconds, nanoseconds) = (now.as_secs(), now.subsec_nanos());
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanoseconds))
    }

    /// True if this replica is so far ahead of the database's clock that it must not act on its own
    /// time. Otherwise it would end leases and deadlines of other replicas too early.
    fn is_ahead(&self) -> bool {
        false
    }

    /// Returns how far the machine's time of day is ahead of the time that all replicas use;
    /// negative if it is behind. `None` for a clock that is not compared with another.
    fn machine_offset(&self) -> Option<TimeDelta> {
        None
    }
}

/// A clock that the parts of the service share.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine, which may be set at any time. It is for code that shares no data with
/// replicas: the simulated Cloud, and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        wall_us() / 1000
    }
}

/// Returns the machine's time of day, in microseconds since the epoch.
fn wall_us() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    let elapsed = elapsed.unwrap_or_default().as_micros();
    i64::try_from(elapsed).unwrap_or(i64::MAX)
}

/// A clock that does not advance by itself.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// Creates a clock that shows `now`, truncated to milliseconds.
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
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// A clock that follows another one, and can be moved ahead of it.
#[derive(Debug)]
pub struct ShiftedClock {
    base: SharedClock,
    ahead_ms: AtomicI64,
}

impl ShiftedClock {
    /// The maximum lead in seconds: a hundred years.
    pub const MAX_LEAD_S: u32 = 3_155_760_000;

    /// Creates a clock that shows the time of `base` until it is moved.
    #[must_use]
    pub fn new(base: SharedClock) -> Self {
        Self {
            base,
            ahead_ms: AtomicI64::new(0),
        }
    }

    /// Moves the clock ahead by a number of seconds. Returns false, and does not move it, if the
    /// total exceeds [`Self::MAX_LEAD_S`].
    #[must_use]
    pub fn advance(&self, seconds: u32) -> bool {
        let max_lead = i64::from(Self::MAX_LEAD_S) * 1000;
        let moved = |ahead: i64| {
            let ahead = ahead.saturating_add(i64::from(seconds) * 1000);
            (ahead <= max_lead).then_some(ahead)
        };
        self.ahead_ms
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved)
            .is_ok()
    }

    /// Returns how many seconds the clock is ahead.
    #[must_use]
    pub fn ahead(&self) -> i64 {
        self.ahead_ms.load(Ordering::SeqCst) / 1000
    }

    /// Returns the clock that this one follows.
    #[must_use]
    pub fn base(&self) -> &dyn Clock {
        &*self.base
    }
}

impl Clock for ShiftedClock {
    fn now_ms(&self) -> i64 {
        self.base.now_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_changes_only_when_it_is_advanced() {
        let start = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let clock = ManualClock::new(start);

        assert_eq!(clock.now(), start);
        clock.advance(chrono::Duration::seconds(90));
        assert_eq!(clock.now_ms(), 1_800_000_090_123);
    }

    #[test]
    fn a_shifted_clock_follows_its_base_plus_its_offset() {
        let start = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let base = Arc::new(ManualClock::new(start));
        let clock = ShiftedClock::new(base.clone());
        assert_eq!(clock.now(), start);

        assert!(clock.advance(60));
        assert!(clock.advance(30));
        base.advance(chrono::Duration::seconds(5));

        assert_eq!(clock.now_ms(), 1_800_000_095_123);
        assert_eq!(clock.base().now_ms(), 1_800_000_005_123);
        assert_eq!(clock.ahead(), 90);
    }

    #[test]
    fn a_shifted_clock_is_never_more_than_a_hundred_years_ahead() {
        let clock = ShiftedClock::new(Arc::new(SystemClock));

        assert!(clock.advance(ShiftedClock::MAX_LEAD_S));
        assert!(!clock.advance(1));

        assert_eq!(clock.ahead(), i64::from(ShiftedClock::MAX_LEAD_S));
    }

    #[test]
    fn ids_sort_by_creation_time() {
        let clock = ManualClock::new(DateTime::from_timestamp_millis(1_800_000_000_000).unwrap());

        let first = clock.uuid();
        clock.advance(chrono::Duration::milliseconds(1));
        let second = clock.uuid();

        assert!(first < second);
        assert_eq!(first.get_version_num(), 7);
    }
}
