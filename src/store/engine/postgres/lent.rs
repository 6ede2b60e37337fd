//! A connection in use, and how it comes back.
//!
//! The pool takes back whatever is dropped and first waits for the server's answer, without a limit: of a server that says
//! nothing, each connection would be missing until the network gives it up, a quarter of an hour later. So here one comes
//! back within a limit, and not at all after an error that may be the connection's own. One that has answered all that it was asked
//! needs not be waited for, and is spared that.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres as Database};
use tokio::runtime::Handle;

use super::Postgres;
use crate::store::Error;
use crate::store::engine::bells::Bells;
use crate::store::engine::health::Moment;
use crate::store::engine::limits;
use crate::types::ids::ChannelId;

/// A connection that the pool has lent.
pub(in crate::store) struct Lent {
    /// There until this is dropped.
    connection: Option<PoolConnection<Database>>,
    from: Postgres,
    taken_at: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has answered all that it was asked.
    Settled,
    /// It may have something to answer yet.
    Asked,
    /// In a transaction, which ends before anybody else gets it.
    InTransaction,
    /// Nobody is to use it any more.
    Broken,
}

impl Lent {
    /// Takes a connection, or makes one.
    pub(super) async fn take(from: &Postgres) -> Result<Self, Error> {
        let Postgres {
            pool,
            spares,
            health,
            ..
        } = from;
        let (connection, taken_at) = spares.take(pool, health).await?;
        Ok(Self {
            connection: Some(connection),
            from: from.clone(),
            taken_at,
            state: State::Settled,
        })
    }

    /// Runs one statement within its limit.
    pub(super) async fn run<T>(
        mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.state = State::Asked;
        let outcome = limits::within(limits::STATEMENT, statement(&mut self)).await;
        let settled = self.settle(outcome);
        if settled.is_ok() {
            self.state = State::Settled;
        }
        settled
    }

    /// Runs one statement of a transaction within a limit.
    pub(in crate::store) async fn ask<T>(
        &mut self,
        limit: Duration,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let outcome = limits::within(limit, statement(&mut *self)).await;
        self.settle(outcome)
    }

    /// What became of a statement; its failure may be the connection's last.
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
        // Where this is given up, it is not known whether a transaction has begun.
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

    /// Ends a transaction in which these channels' logs have grown.
    pub(in crate::store) async fn commit(
        mut self,
        limit: Duration,
        grown: &[ChannelId],
    ) -> Result<(), Error> {
        let committed = limits::within(limit, Bells::commit(&mut self, grown)).await;
        self.settle(committed)?;
        self.state = State::Settled;
        Ok(())
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    #[expect(
        clippy::expect_used,
        reason = "it is taken when this is dropped, not before"
    )]
    fn deref(&self) -> &PgConnection {
        self.connection
            .as_ref()
            .expect("a connection that is in use")
    }
}

impl DerefMut for Lent {
    #[expect(
        clippy::expect_used,
        reason = "it is taken when this is dropped, not before"
    )]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a connection that is in use")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let Postgres { spares, health, .. } = &self.from;
        match self.state {
            State::Settled => spares.keep(connection, self.taken_at, health),
            State::Asked => give_back(connection, false),
            State::InTransaction => give_back(connection, true),
            State::Broken => close(connection),
        }
    }
}

/// Closes a connection, and the pool makes another.
pub(super) fn close(mut connection: PoolConnection<Database>) {
    if Handle::try_current().is_ok() {
        connection.close_on_drop();
    } else {
        // Nobody would be there to say goodbye to the server.
        drop(connection.detach());
    }
}

/// Gives a connection back to the pool, after a transaction that is still open has been ended.
pub(super) fn give_back(mut connection: PoolConnection<Database>, is_open: bool) {
    let Ok(runtime) = Handle::try_current() else {
        return close(connection);
    };
    // What is not given back below in time is closed, and the pool makes another.
    connection.close_on_drop();
    // It ends by itself within its limit, and closing the pool waits for it.
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
                "a connection to the database did not come back, and is replaced"
            );
        }
    });
}
