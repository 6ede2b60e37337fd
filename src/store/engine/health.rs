//! The health of the database and of its connections.
//!
//! An outage is logged once when it begins and once when it ends, however many callers notice it. A
//! database that did not answer is available again with its first answer; one that refused a write,
//! with its first write.
//!
//! This module also records the time since which connections can be trusted. After a restart or a
//! failover, all older connections are dead, or lead to a server that has become read-only. The
//! first connection that shows this counts for all others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{Cause, Error};

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
    created_at: Instant,
    /// The time at which connections were last found to be unusable; zero if they never were.
    distrusted_at: AtomicU64,
    is_unavailable: AtomicBool,
    /// The last write that was refused; `None` after a write has succeeded.
    refusal: Mutex<Option<(Instant, Error)>>,
    /// True if `refusal` is set.
    has_refusal: AtomicBool,
    outage_log: Mutex<OutageLog>,
}

/// Microseconds since the store was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Moment(u64);

/// The state of the outage log.
#[derive(Debug, Default)]
struct OutageLog {
    /// The time at which an outage was last logged.
    logged_at: Option<Instant>,
    /// The start of the current outage, as logged.
    began_at: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(State {
            created_at: Instant::now(),
            distrusted_at: AtomicU64::new(0),
            is_unavailable: AtomicBool::new(false),
            refusal: Mutex::default(),
            has_refusal: AtomicBool::new(false),
            outage_log: Mutex::default(),
        }))
    }
}

impl Health {
    /// Records the outcome of a statement and classifies its error.
    pub(in crate::store) fn record<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, Error> {
        match outcome {
            Ok(value) => {
                let is_unavailable = self.0.is_unavailable.load(Ordering::Relaxed);
                // A successful read proves nothing about a database that refuses writes.
                if is_unavailable && !self.0.has_refusal.load(Ordering::Relaxed) {
                    self.report_recovery();
                }
                Ok(value)
            }
            Err(error) => {
                let error = Error::from(error);
                if let Error::Unavailable(cause) = &error
                    && !matches!(cause.error(), sqlx::Error::PoolClosed)
                {
                    if super::error::is_refusal(cause.error()) {
                        *lock(&self.0.refusal) = Some((Instant::now(), error.clone()));
                        self.0.has_refusal.store(true, Ordering::Relaxed);
                    }
                    self.report_outage(cause);
                }
                Err(error)
            }
        }
    }

    /// Records that a write has succeeded.
    pub(in crate::store) fn record_write(&self) {
        if self.0.has_refusal.swap(false, Ordering::Relaxed) {
            *lock(&self.0.refusal) = None;
            self.report_recovery();
        }
    }

    /// Returns the error of the last refused write if it is younger than `max_age` and no write
    /// has succeeded since.
    pub(in crate::store) fn refusal(&self, max_age: Duration) -> Option<Error> {
        if !self.0.has_refusal.load(Ordering::Relaxed) {
            return None;
        }
        let refusal = lock(&self.0.refusal);
        let (at, error) = refusal.as_ref()?;
        (at.elapsed() < max_age).then(|| error.clone())
    }

    pub(in crate::store) fn now(&self) -> Moment {
        let now = self.0.created_at.elapsed().as_micros();
        Moment(u64::try_from(now).unwrap_or(u64::MAX).max(1))
    }

    /// Returns the time that has elapsed since a moment.
    pub(in crate::store) fn elapsed_since(&self, moment: Moment) -> Duration {
        Duration::from_micros(self.now().0.saturating_sub(moment.0))
    }

    /// Records that the connection acquired at `acquired_at` is unusable. Returns true if it is to
    /// be closed. All connections made until now are then replaced before their next use.
    pub(in crate::store) fn distrust(&self, acquired_at: Moment, cause: &sqlx::Error) -> bool {
        if super::error::is_full(cause) {
            // The server is there, and would report the same over any other connection.
            return false;
        }
        if !self.still_trusts(acquired_at) {
            // It is distrusted already.
            return true;
        }
        let last = self.0.distrusted_at.load(Ordering::Relaxed);
        if last > 0
            && self.elapsed_since(Moment(last)) < RECONNECT_LIMIT
            && super::error::is_read_only(cause)
        {
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
            at => age < self.elapsed_since(Moment(at)),
        }
    }

    /// True if a connection that was trusted when it was acquired may still be used.
    pub(in crate::store) fn still_trusts(&self, acquired_at: Moment) -> bool {
        acquired_at.0 > self.0.distrusted_at.load(Ordering::Relaxed)
    }

    fn report_outage(&self, cause: &Cause) {
        self.0.is_unavailable.store(true, Ordering::Relaxed);
        let mut outage_log = lock(&self.0.outage_log);
        let now = Instant::now();
        if outage_log
            .logged_at
            .is_some_and(|at| now.duration_since(at) < LOG_INTERVAL)
        {
            return;
        }
        outage_log.logged_at = Some(now);
        outage_log.began_at.get_or_insert(now);
        drop(outage_log);
        tracing::error!(
            error = cause as &dyn std::error::Error,
            "the database is unavailable; requests are answered with 503 until it is available again"
        );
    }

    fn report_recovery(&self) {
        self.0.is_unavailable.store(false, Ordering::Relaxed);
        let mut outage_log = lock(&self.0.outage_log);
        let Some(began_at) = outage_log.began_at.take() else {
            return;
        };
        drop(outage_log);
        tracing::info!(
            after_ms = u64::try_from(began_at.elapsed().as_millis()).unwrap_or(u64::MAX),
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
        assert!(health.still_trusts(health.now()));
    }

    /// Waits until the clock advances.
    fn wait_for_tick(health: &Health) {
        let before = health.now();
        while health.now() <= before {}
    }

    #[test]
    fn after_a_failure_only_newer_connections_are_trusted() {
        let health = Health::default();
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let acquired_at = health.now();

        assert!(health.distrust(acquired_at, &lost));

        wait_for_tick(&health);
        assert!(!health.trusts(Duration::from_hours(1)));
        assert!(health.trusts(Duration::ZERO));
        assert!(!health.still_trusts(acquired_at));
        assert!(health.still_trusts(health.now()));
    }

    #[test]
    fn a_failure_of_an_old_connection_does_not_distrust_newer_ones() {
        let health = Health::default();
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let acquired_at = health.now();
        assert!(health.distrust(acquired_at, &lost));
        let distrusted_at = health.0.distrusted_at.load(Ordering::Relaxed);
        wait_for_tick(&health);

        assert!(health.distrust(acquired_at, &lost));

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
            assert!(health.record(Err::<(), _>(error)).is_err());
            assert!(!health.0.is_unavailable.load(Ordering::Relaxed));
        }
        assert!(
            health
                .record(Err::<(), _>(sqlx::Error::PoolTimedOut))
                .is_err()
        );
        assert!(health.0.is_unavailable.load(Ordering::Relaxed));

        assert!(health.record(Ok(())).is_ok());
        assert!(!health.0.is_unavailable.load(Ordering::Relaxed));
    }
}
