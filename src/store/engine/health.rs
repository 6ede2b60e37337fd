//! The health of the database and of its connections.
//!
//! An outage is logged once when it begins and once when it ends, however many callers notice it. A
//! database that did not answer is available again with its first answer; one that refused a write,
//! with its first write.
//!
//! This module also records the time since which connections can be trusted. After a restart or a
//! failover, all older connections lead nowhere, or to a server that has become read-only. The
//! first connection that shows this speaks for all the others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Error;

/// 1 minute: the minimum time between two log lines about a database that comes and goes.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// 1 s: if a connection that was made after the others were distrusted turns out to be read-only
/// within this time, the server itself is read-only. Replacing connections again would only cause a
/// storm of new ones.
const RECONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The state of the database as this replica sees it. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Health(Arc<State>);

#[derive(Debug)]
struct State {
    begun: Instant,
    /// The time at which connections were last found to be unusable; zero if they never were.
    distrusted_at: AtomicU64,
    is_away: AtomicBool,
    /// The last write that was refused; `None` after a write has succeeded.
    refusal: Mutex<Option<(Instant, Error)>>,
    /// True if `refusal` is set.
    has_refused: AtomicBool,
    told: Mutex<OutageLog>,
}

/// Microseconds since the store was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Moment(u64);

/// The state of the outage log.
#[derive(Debug, Default)]
struct OutageLog {
    /// The time at which an outage was last logged.
    at: Option<Instant>,
    /// The start of the current outage, as logged.
    since: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(State {
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
    /// Records the outcome of a statement and classifies its error.
    pub(in crate::store) fn note<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, Error> {
        match outcome {
            Ok(value) => {
                let is_away = self.0.is_away.load(Ordering::Relaxed);
                // A successful read proves nothing about a database that refuses writes.
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

    /// Records that a write has succeeded.
    pub(in crate::store) fn has_written(&self) {
        if self.0.has_refused.swap(false, Ordering::Relaxed) {
            *lock(&self.0.refusal) = None;
            self.is_back();
        }
    }

    /// Returns the error of the last refused write if it is younger than `before_now` and no write
    /// has succeeded since.
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

    /// Returns the time that has passed since a moment.
    pub(in crate::store) fn since(&self, moment: Moment) -> Duration {
        Duration::from_micros(self.now().0.saturating_sub(moment.0))
    }

    /// Records that a connection taken at `taken_at` is unusable, and returns true if it is to be
    /// closed. All connections made until now are then replaced before their next use.
    pub(in crate::store) fn distrust(&self, taken_at: Moment, why: &sqlx::Error) -> bool {
        if super::error::is_full(why) {
            // The server is there, and would report the same over any other connection.
            return false;
        }
        if !self.trusts_since(taken_at) {
            // It is distrusted already.
            return true;
        }
        let last = self.0.distrusted_at.load(Ordering::Relaxed);
        if last > 0 && self.since(Moment(last)) < RECONNECT_LIMIT && super::error::only_reads(why) {
            return false;
        }
        self.0
            .distrusted_at
            .fetch_max(self.now().0, Ordering::Relaxed);
        true
    }

    /// True if a connection of this age may be used.
    pub(in crate::store) fn trusts(&self, age: Duration) -> bool {
        match self.0.distrusted_at.load(Ordering::Relaxed) {
            0 => true,
            at => age < self.since(Moment(at)),
        }
    }

    /// True if a connection that was trusted when it was taken, at `taken_at`, may still be used.
    pub(in crate::store) fn trusts_since(&self, taken_at: Moment) -> bool {
        taken_at.0 > self.0.distrusted_at.load(Ordering::Relaxed)
    }

    fn is_away(&self, cause: &sqlx::Error) {
        self.0.is_away.store(true, Ordering::Relaxed);
        let mut told = lock(&self.0.told);
        let now = Instant::now();
        if told
            .at
            .is_some_and(|at| now.duration_since(at) < LOG_INTERVAL)
        {
            return;
        }
        told.at = Some(now);
        told.since.get_or_insert(now);
        drop(told);
        tracing::error!(
            error = cause as &dyn std::error::Error,
            "the database is unavailable; requests are answered with 503 until it is available again"
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
    fn connections_are_trusted_until_one_fails() {
        let health = Health::default();

        assert!(health.trusts(Duration::ZERO));
        assert!(health.trusts(Duration::from_hours(1)));
        assert!(health.trusts_since(health.now()));
    }

    /// Waits until the clock advances.
    fn pass(health: &Health) {
        let before = health.now();
        while health.now() <= before {}
    }

    #[test]
    fn after_a_failure_only_newer_connections_are_trusted() {
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
    fn a_failure_of_an_old_connection_does_not_distrust_newer_ones() {
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
    fn errors_other_than_outages_do_not_mark_the_database_unavailable() {
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
