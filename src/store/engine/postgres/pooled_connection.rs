//! A connection in use, and its return to the pool.
//!
//! sqlx's pool takes back each dropped connection, and first waits without a limit for the server's
//! answer. If a server stops answering, each connection would be missing until the network gives it
//! up, a quarter of an hour later. So this module returns a connection within a time limit, and
//! closes it after an error that the connection may have caused. A connection that has answered
//! every statement is returned without a wait.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres as Database};
use tokio::runtime::Handle;

use super::Postgres;
use crate::store::Error;
use crate::store::engine::health::Moment;
use crate::store::engine::limits;
use crate::store::engine::wakeups::Wakeups;
use crate::types::ids::ChannelId;

/// A connection taken from the pool.
pub(in crate::store) struct PooledConnection {
    /// Present until this is dropped.
    connection: Option<PoolConnection<Database>>,
    postgres: Postgres,
    acquired_at: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every statement on it has been answered.
    Idle,
    /// A statement may still be unanswered.
    AwaitingAnswer,
    /// In a transaction, which is ended before the connection is reused.
    InTransaction,
    /// It must not be used again.
    Broken,
}

impl PooledConnection {
    /// Takes an idle connection or makes a new one.
    pub(super) async fn acquire(postgres: &Postgres) -> Result<Self, Error> {
        let Postgres {
            pool,
            idle_connections,
            runtime,
            health,
            ..
        } = postgres;
        let (connection, acquired_at) = idle_connections.acquire(pool, runtime, health).await?;
        Ok(Self {
            connection: Some(connection),
            postgres: postgres.clone(),
            acquired_at,
            state: State::Idle,
        })
    }

    /// Runs one statement, within the limit for statements.
    pub(super) async fn run<T>(
        mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.state = State::AwaitingAnswer;
        let outcome = limits::within(limits::STATEMENT, statement(&mut self)).await;
        let settled = self.settle(outcome);
        if settled.is_ok() {
            self.state = State::Idle;
        }
        settled
    }

    /// Runs one statement of a transaction, within `limit`.
    pub(in crate::store) async fn run_in_tx<T>(
        &mut self,
        limit: Duration,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let outcome = limits::within(limit, statement(&mut *self)).await;
        self.settle(outcome)
    }

    /// Records the outcome of a statement. After an error that may be the connection's fault, the
    /// connection is not reused.
    pub(in crate::store) fn settle<T>(
        &mut self,
        outcome: Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let health = &self.postgres.health;
        let settled = health.record(outcome);
        if let Err(Error::Unavailable(cause)) = &settled
            && health.distrust(self.acquired_at, cause.error())
        {
            self.state = State::Broken;
        }
        settled
    }

    pub(in crate::store) async fn begin(&mut self) -> Result<(), Error> {
        // If the future is dropped here, it is unknown if a transaction has begun.
        self.state = State::Broken;
        let begun = limits::within(
            limits::STATEMENT,
            sqlx::raw_sql("BEGIN").execute(&mut **self),
        );
        let begun = begun.await;
        self.settle(begun)?;
        self.state = State::InTransaction;
        Ok(())
    }

    /// Commits the transaction. `channels_to_wake` are the channels with new events in their logs.
    pub(in crate::store) async fn commit(
        mut self,
        limit: Duration,
        channels_to_wake: &[ChannelId],
    ) -> Result<(), Error> {
        let committed = limits::within(limit, Wakeups::commit(&mut self, channels_to_wake)).await;
        self.settle(committed)?;
        self.state = State::Idle;
        Ok(())
    }
}

impl Deref for PooledConnection {
    type Target = PgConnection;

    #[expect(
        clippy::expect_used,
        reason = "the connection is taken only when this value is dropped"
    )]
    fn deref(&self) -> &PgConnection {
        self.connection
            .as_ref()
            .expect("a connection that is in use")
    }
}

impl DerefMut for PooledConnection {
    #[expect(
        clippy::expect_used,
        reason = "the connection is taken only when this value is dropped"
    )]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a connection that is in use")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let Postgres {
            idle_connections,
            health,
            ..
        } = &self.postgres;
        match self.state {
            State::Idle => idle_connections.put(connection, self.acquired_at, health),
            State::AwaitingAnswer => return_to_pool(connection, false),
            State::InTransaction => return_to_pool(connection, true),
            State::Broken => close(connection),
        }
    }
}

/// Closes a connection. The pool makes another when needed.
pub(super) fn close(mut connection: PoolConnection<Database>) {
    if Handle::try_current().is_ok() {
        connection.close_on_drop();
    } else {
        // Without a runtime nothing could tell the server that the connection ends.
        drop(connection.detach());
    }
}

/// Returns a connection to the pool, after ending a transaction that is still open.
pub(super) fn return_to_pool(mut connection: PoolConnection<Database>, is_open: bool) {
    let Ok(runtime) = Handle::try_current() else {
        return close(connection);
    };
    // If the connection is not returned below in time, it is closed, and the pool makes another.
    connection.close_on_drop();
    // The task ends within its limit, and closing the pool waits for it.
    runtime.spawn(async move {
        let returned = async {
            if is_open {
                sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
            }
            connection.return_to_pool().await;
            Ok(())
        };
        if let Err(error) = limits::within(limits::RETURN, returned).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection could not be returned to the pool and is replaced"
            );
        }
    });
}
