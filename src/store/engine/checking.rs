//! Readiness of the database: it answers, its files are there, and it has accepted a write
//! recently.

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Engine, limits, run};
use crate::store::{Error, Store};
use crate::types::status::Outage;

/// 5 s: the time for which one successful write counts as proof.
const WRITE_VALID_FOR: Duration = Duration::from_secs(5);

/// 2 s: the time for which a refused write counts. It is short because a disk that is almost full
/// may accept a small write and refuse a large one.
const REFUSAL_VALID_FOR: Duration = Duration::from_secs(2);

/// The write checks of this replica: writes that only show that writing is possible.
#[derive(Debug)]
pub(in crate::store) struct Checks {
    /// The id of this replica in the table of write checks.
    replica: String,
    /// The time of the last write check that succeeded.
    written_at: Mutex<Option<Instant>>,
    /// The outage that was logged last; `None` if the last check succeeded.
    logged_outage: StdMutex<Option<Outage>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            replica: Uuid::new_v4().to_string(),
            written_at: Mutex::default(),
            logged_outage: StdMutex::default(),
        }
    }
}

impl Store {
    /// Checks that the database can be read and written, within 2 s at most.
    ///
    /// # Errors
    ///
    /// When it cannot. This is logged once.
    pub async fn check(&self, now: DateTime<Utc>) -> Result<(), Outage> {
        let checked = self.try_check(now).await;
        let outage = checked.as_ref().err().map(|(outage, _)| *outage);
        let logged_outage = &mut *self
            .checks
            .logged_outage
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Err((outage, error)), true) = (&checked, *logged_outage != outage) {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "not ready: {}",
                outage.reason()
            );
        }
        *logged_outage = outage;
        checked.map_err(|(outage, _)| outage)
    }

    async fn try_check(&self, now: DateTime<Utc>) -> Result<(), (Outage, Error)> {
        let until = Instant::now() + limits::PING;
        if let Engine::Sqlite(sqlite) = &self.engine {
            let files = self.health.record(sqlite.check_files());
            files.map_err(|error| (Outage::Files, error))?;
        }
        let answered = self.ping().await;
        answered.map_err(|error| (Outage::Silent, error))?;
        let remaining = until.saturating_duration_since(Instant::now());
        match timeout(remaining, self.ensure_writable(now)).await {
            Ok(written) => written.map_err(|error| (Outage::Unwritable, error)),
            Err(_) => Err((Outage::Unwritable, limits::no_answer(limits::PING).into())),
        }
    }

    /// Makes a write check, unless one succeeded a moment ago.
    async fn ensure_writable(&self, now: DateTime<Utc>) -> Result<(), Error> {
        if let Some(refusal) = self.health.refusal(REFUSAL_VALID_FOR) {
            return Err(refusal);
        }
        // Concurrent checks share one write and its result.
        let mut written_at = self.checks.written_at.lock().await;
        if written_at.is_none_or(|at| at.elapsed() >= WRITE_VALID_FOR) {
            self.write_check(now).await?;
            *written_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Writes the current time as the write check.
    async fn write_check(&self, now: DateTime<Utc>) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
                "INSERT INTO write_checks (replica, written_at) VALUES ($1, $2)
                 ON CONFLICT (replica) DO UPDATE SET written_at = excluded.written_at",
            )
            .bind(&self.checks.replica)
            .bind(now.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
        });
        self.health.record_write();
        Ok(())
    }

    /// Does the maintenance that is due about every second. It tests a database that has refused
    /// writes, and wipes deleted data from the disk of the embedded database.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn maintain(&self, now: DateTime<Utc>) -> Result<(), Error> {
        if self.health.refusal(Duration::MAX).is_some() {
            self.write_check(now).await?;
        }
        match &self.engine {
            Engine::Postgres(_) => Ok(()),
            Engine::Sqlite(sqlite) => sqlite.wipe().await,
        }
    }
}
