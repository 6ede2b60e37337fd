//! The connection for lookups of users.

use std::mem;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use super::files::{self, Files};

/// One connection for lookups of users, outside any pool. A pool would check the connection at each
/// use, which costs a switch to another thread and back: as much as the lookup itself.
#[derive(Debug)]
pub(super) struct LookupConnection {
    options: SqliteConnectOptions,
    files: Option<Arc<Files>>,
    connection: Mutex<LookUp>,
}

#[derive(Debug)]
enum LookUp {
    Ready(SqliteConnection),
    /// The connection failed. The old one is closed once there is a new one: closing the last
    /// connection would remove the write-ahead log.
    Lost(Option<SqliteConnection>),
    Closed,
}

impl LookupConnection {
    pub(super) async fn open(
        options: SqliteConnectOptions,
        files: Option<Arc<Files>>,
    ) -> Result<Self, sqlx::Error> {
        let connection = options.connect().await?;
        Ok(Self {
            options,
            files,
            connection: Mutex::new(LookUp::Ready(connection)),
        })
    }

    /// Returns the number of connections, and the number of those that are idle.
    pub(super) fn connections(&self) -> (u32, usize) {
        match self.connection.try_lock() {
            Ok(connection) if matches!(*connection, LookUp::Ready(_)) => (1, 1),
            Ok(_) => (0, 0),
            Err(_) => (1, 0),
        }
    }

    pub(super) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        files::check(self.files.as_deref())?;
        let mut kept = self.connection.lock().await;
        let mut connection = match mem::replace(&mut *kept, LookUp::Lost(None)) {
            LookUp::Ready(connection) => connection,
            LookUp::Lost(old) => match self.options.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    *kept = LookUp::Lost(old);
                    return Err(error);
                }
            },
            LookUp::Closed => {
                *kept = LookUp::Closed;
                return Err(sqlx::Error::PoolClosed);
            }
        };
        let outcome = statement(&mut connection).await;
        *kept = match &outcome {
            Ok(_) => LookUp::Ready(connection),
            Err(_) => LookUp::Lost(Some(connection)),
        };
        outcome
    }

    pub(super) async fn close(&self) {
        let mut kept = self.connection.lock().await;
        if let LookUp::Ready(connection) = mem::replace(&mut *kept, LookUp::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the connection for lookups was not closed"
            );
        }
    }
}
