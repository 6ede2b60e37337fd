//! The pools of the connections that read and of the one that writes.

use std::sync::Arc;

use sqlx::{SqliteConnection, SqlitePool};

use super::files::{self, Files};
use crate::store::Error;
use crate::store::engine::error;
use crate::store::engine::health::Health;

/// The connections of one pool, with the checks around each use. Clones share them.
#[derive(Debug, Clone)]
pub(in crate::store) struct CheckedPool {
    pool: SqlitePool,
    files: Option<Arc<Files>>,
    health: Health,
}

impl CheckedPool {
    pub(super) fn new(pool: SqlitePool, files: Option<Arc<Files>>, health: Health) -> Self {
        Self {
            pool,
            files,
            health,
        }
    }

    /// Returns the pool, for callers that do their own checks.
    pub(in crate::store) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Runs one statement. Succeeds only if its writes are in files that a restart finds.
    pub(in crate::store) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let outcome = self.try_run(statement).await;
        self.record(outcome)
    }

    async fn try_run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.check()?;
        let mut connection = self.pool.acquire().await?;
        match statement(&mut connection).await {
            Ok(value) => self.check().map(|()| value),
            Err(error) => {
                // After an outage, a new connection may work although this one does not.
                if error::is_outage(&error) {
                    connection.close_on_drop();
                }
                Err(error)
            }
        }
    }

    /// Checks that the files are still the ones that were opened.
    pub(super) fn check(&self) -> Result<(), sqlx::Error> {
        files::check(self.files.as_deref())
    }

    pub(super) fn record<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, Error> {
        self.health.record(outcome)
    }
}
