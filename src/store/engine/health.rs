//! Whether the database is there: told to the log once when it goes and once when it is back, however many notice. One that was
//! away is back with the first answer, one that refused a write with the first write.
//!
//! Also since when its connections are to be trusted. After a restart or a failover all that were made before lead nowhere, or
//! to a server that only reads by now: the first one that shows it speaks for the rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Error;

/// 1 minute: how often the log is told at most, for a database that comes and goes.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// 1 s: where new connections only read as well, the server does; to make more of them at once would only be a storm.
const STORM: Duration = Duration::from_secs(1);

/// What is known of the database; clones share it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Health(Arc<Known>);

#[derive(Debug)]
struct Known {
    begun: Instant,
    /// The moment when connections were last found to be of no use; 0 where they never were.
    distrusted_at: AtomicU64,
    is_away: AtomicBool,
    /// The last write that was refused; none since one succeeded.
    refusal: Mutex<Option<(Instant, Error)>>,
    /// True if there is one.
    has_refused: AtomicBool,
    told: Mutex<Told>,
}

/// Microseconds since the store began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Moment(u64);

/// What the log was told.
#[derive(Debug, Default)]
struct Told {
    /// When it was last told that the database is away.
    at: Option<Instant>,
    /// Since when it takes it for away.
    since: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Known {
            begun: Instant::now(),
            distrusted_at: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
            refusal: Mutex::default(),
            has_refused: AtomicBool::new(false),
            told: Mutex::default(),
        }))
    }
}

impl Health {
    /// Notes what became of a statement, and says what that means.
    pub(in crate::store) fn note<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, Error> {
        match outcome {
            Ok(value) => {
                let is_away = self.0.is_away.load(Ordering::Relaxed);
                // That something was read says nothing of a database that cannot be written.
                if is_away && !self.0.has_refused.load(Ordering::Relaxed) {
                    self.is_back();
                }
                Ok(value)
            }
            Err(error) => {
                let error = Error::from(error);
                if let Error::Unavailable(cause) = &error
                    && !matches!(**cause, sqlx::Error::PoolClosed)
                {
                    if super::error::is_refusal(cause) {
                        *lock(&self.0.refusal) = Some((Instant::now(), error.clone()));
                        self.0.has_refused.store(true, Ordering::Relaxed);
                    }
                    self.is_away(cause);
                }
                Err(error)
            }
        }
    }

    /// Notes that something was written.
    pub(in crate::store) fn has_written(&self) {
        if self.0.has_refused.swap(false, Ordering::Relaxed) {
            *lock(&self.0.refusal) = None;
            self.is_back();
        }
    }

    /// Why a write was refused, if one was in the time before now, and no check has succeeded since.
    pub(in crate::store) fn refusal(&self, before_now: Duration) -> Option<Error> {
        if !self.0.has_refused.load(Ordering::Relaxed) {
            return None;
        }
        let refusal = lock(&self.0.refusal);
        let (at, error) = refusal.as_ref()?;
        (at.elapsed() < before_now).then(|| error.clone())
    }

    pub(in crate::store) fn now(&self) -> Moment {
        let now = self.0.begun.elapsed().as_micros();
        Moment(u64::try_from(now).unwrap_or(u64::MAX).max(1))
    }

    /// How long ago a moment was.
    pub(in crate::store) fn since(&self, moment: Moment) -> Duration {
        Duration::from_micros(self.now().0.saturating_sub(moment.0))
    }

    /// Hears that a connection that was taken at a moment is of no use, and says whether it is to go. Those that were made
    /// until now are replaced before they are used again.
    pub(in crate::store) fn distrust(&self, taken_at: Moment, why: &sqlx::Error) -> bool {
        if super::error::is_full(why) {
            // The server is there, and would say the same over another.
            return false;
        }
        if !self.trusts_since(taken_at) {
            // One of those that are distrusted already.
            return true;
        }
        let last = self.0.distrusted_at.load(Ordering::Relaxed);
        if last > 0 && self.since(Moment(last)) < STORM && super::error::only_reads(why) {
            return false;
        }
        self.0
            .distrusted_at
            .fetch_max(self.now().0, Ordering::Relaxed);
        true
    }

    /// Whether a connection of this age may be used.
    pub(in crate::store) fn trusts(&self, age: Duration) -> bool {
        match self.0.distrusted_at.load(Ordering::Relaxed) {
            0 => true,
            at => age < self.since(Moment(at)),
        }
    }

    /// Whether a connection that was taken at a moment, when it was trusted, still may be used.
    pub(in crate::store) fn trusts_since(&self, taken_at: Moment) -> bool {
        taken_at.0 > self.0.distrusted_at.load(Ordering::Relaxed)
    }

    fn is_away(&self, cause: &sqlx::Error) {
        self.0.is_away.store(true, Ordering::Relaxed);
        let mut told = lock(&self.0.told);
        let now = Instant::now();
        if told
            .at
            .is_some_and(|at| now.duration_since(at) < TELL_AGAIN)
        {
            return;
        }
        told.at = Some(now);
        told.since.get_or_insert(now);
        drop(told);
        tracing::error!(
            error = cause as &dyn std::error::Error,
            "the database is not available; requests are answered with 503 until it is"
        );
    }

    fn is_back(&self) {
        self.0.is_away.store(false, Ordering::Relaxed);
        let mut told = lock(&self.0.told);
        let Some(since) = told.since.take() else {
            return;
        };
        drop(told);
        tracing::info!(
            after_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the database is available again"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_trusted_until_one_is_of_no_use() {
        let health = Health::default();

        assert!(health.trusts(Duration::ZERO));
        assert!(health.trusts(Duration::from_hours(1)));
        assert!(health.trusts_since(health.now()));
    }

    /// Lets the clock go on.
    fn pass(health: &Health) {
        let before = health.now();
        while health.now() <= before {}
    }

    #[test]
    fn after_one_was_of_no_use_only_newer_ones_are_trusted() {
        let health = Health::default();
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let taken_at = health.now();

        assert!(health.distrust(taken_at, &lost));

        pass(&health);
        assert!(!health.trusts(Duration::from_hours(1)));
        assert!(health.trusts(Duration::ZERO));
        assert!(!health.trusts_since(taken_at));
        assert!(health.trusts_since(health.now()));
    }

    #[test]
    fn what_was_taken_before_says_nothing_of_those_made_since() {
        let health = Health::default();
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let taken_at = health.now();
        assert!(health.distrust(taken_at, &lost));
        let distrusted_at = health.0.distrusted_at.load(Ordering::Relaxed);
        pass(&health);

        assert!(health.distrust(taken_at, &lost));

        assert_eq!(
            health.0.distrusted_at.load(Ordering::Relaxed),
            distrusted_at
        );
        assert!(health.distrust(health.now(), &lost));
        assert_ne!(
            health.0.distrusted_at.load(Ordering::Relaxed),
            distrusted_at
        );
    }

    #[test]
    fn what_fails_for_other_reasons_does_not_make_the_database_away() {
        let health = Health::default();

        for error in [sqlx::Error::RowNotFound, sqlx::Error::PoolClosed] {
            assert!(health.note(Err::<(), _>(error)).is_err());
            assert!(!health.0.is_away.load(Ordering::Relaxed));
        }
        assert!(
            health
                .note(Err::<(), _>(sqlx::Error::PoolTimedOut))
                .is_err()
        );
        assert!(health.0.is_away.load(Ordering::Relaxed));

        assert!(health.note(Ok(())).is_ok());
        assert!(!health.0.is_away.load(Ordering::Relaxed));
    }
}
