//! The connection for what is known of users.

use std::mem;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use super::files::{self, Files};

/// One connection, for what is known of users. It is no pool's: a pool asks each time whether it is sound, which costs the way to
/// another thread and back, as a look-up does.
#[derive(Debug)]
pub(super) struct LookUps {
    options: SqliteConnectOptions,
    files: Option<Arc<Files>>,
    connection: Mutex<LookUp>,
}

#[derive(Debug)]
enum LookUp {
    Ready(SqliteConnection),
    /// It has failed, and is closed when there is another: the last to be closed would take the log away.
    Lost(Option<SqliteConnection>),
    Closed,
}

impl LookUps {
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

    /// How many connections there are, and how many of them are not in use.
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
                "the connection for look-ups was not closed"
            );
        }
    }
}
