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
    connection: Mutex<State>,
}

#[derive(Debug)]
enum State {
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
            connection: Mutex::new(State::Ready(connection)),
        })
    }

    /// Returns the number of connections, and the number of those that are idle.
    pub(super) fn connections(&self) -> (u32, usize) {
        match self.connection.try_lock() {
            Ok(connection) if matches!(*connection, State::Ready(_)) => (1, 1),
            Ok(_) => (0, 0),
            Err(_) => (1, 0),
        }
    }

    pub(super) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        files::check(self.files.as_deref())?;
        let mut state = self.connection.lock().await;
        let mut connection = match mem::replace(&mut *state, State::Lost(None)) {
            State::Ready(connection) => connection,
            State::Lost(old) => match self.options.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    *state = State::Lost(old);
                    return Err(error);
                }
            },
            State::Closed => {
                *state = State::Closed;
                return Err(sqlx::Error::PoolClosed);
            }
        };
        let outcome = statement(&mut connection).await;
        *state = match &outcome {
            Ok(_) => State::Ready(connection),
            Err(_) => State::Lost(Some(connection)),
        };
        outcome
    }

    pub(super) async fn close(&self) {
        let mut state = self.connection.lock().await;
        if let State::Ready(connection) = mem::replace(&mut *state, State::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the connection for lookups was not closed"
            );
        }
    }
}
