//! A connection in use, and its way back to the pool.
//!
//! sqlx's pool takes back each dropped connection, and first waits without a limit for the server's
//! answer. If a server stops answering, each connection would be missing until the network gives it
//! up, a quarter of an hour later. So this module returns a connection within a time limit, and
//! closes it after an error that may be its own fault. A connection that has answered every
//! statement is returned without a wait.

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
    from: Postgres,
    taken_at: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every statement on it has been answered.
    Idle,
    /// A statement may still be unanswered.
    Asked,
    /// In a transaction, which is ended before the connection is reused.
    InTransaction,
    /// It must not be used again.
    Broken,
}

impl PooledConnection {
    /// Takes an idle connection or makes a new one.
    pub(super) async fn take(from: &Postgres) -> Result<Self, Error> {
        let Postgres {
            pool,
            idle_connections,
            health,
            ..
        } = from;
        let (connection, taken_at) = idle_connections.take(pool, health).await?;
        Ok(Self {
            connection: Some(connection),
            from: from.clone(),
            taken_at,
            state: State::Idle,
        })
    }

    /// Runs one statement, within the limit for statements.
    pub(super) async fn run<T>(
        mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.state = State::Asked;
        let outcome = limits::within(limits::STATEMENT, statement(&mut self)).await;
        let settled = self.settle(outcome);
        if settled.is_ok() {
            self.state = State::Idle;
        }
        settled
    }

    /// Runs one statement of a transaction, within `limit`.
    pub(in crate::store) async fn ask<T>(
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
        let health = &self.from.health;
        let settled = health.note(outcome);
        if let Err(Error::Unavailable(why)) = &settled
            && health.distrust(self.taken_at, why)
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

    /// Commits the transaction. `grown` names the channels with new events in their logs.
    pub(in crate::store) async fn commit(
        mut self,
        limit: Duration,
        grown: &[ChannelId],
    ) -> Result<(), Error> {
        let committed = limits::within(limit, Wakeups::commit(&mut self, grown)).await;
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
        } = &self.from;
        match self.state {
            State::Idle => idle_connections.keep(connection, self.taken_at, health),
            State::Asked => give_back(connection, false),
            State::InTransaction => give_back(connection, true),
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
pub(super) fn give_back(mut connection: PoolConnection<Database>, is_open: bool) {
    let Ok(runtime) = Handle::try_current() else {
        return close(connection);
    };
    // If the connection is not returned below in time, it is closed, and the pool makes another.
    connection.close_on_drop();
    // The task ends within its limit, and closing the pool waits for it.
    runtime.spawn(async move {
        let back = async {
            if is_open {
                sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
            }
            connection.return_to_pool().await;
            Ok(())
        };
        if let Err(error) = limits::within(limits::RETURN, back).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection could not be returned to the pool and is replaced"
            );
        }
    });
}
