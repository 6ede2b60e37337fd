//! A connection of the pool in use, and how it comes back.
//!
//! The pool takes back whatever is dropped and first waits for the server's answer, without a limit: of a server that says
//! nothing, each connection would be missing until the network gives it up, a quarter of an hour later. So here one comes
//! back within a limit, and not at all after an error that may be the connection's own.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::runtime::Handle;

use crate::store::health::{Health, Moment};
use crate::store::{Error, limits};

/// A connection that the pool has lent.
pub(in crate::store) struct Lent {
    /// There until this is dropped.
    connection: Option<PoolConnection<Postgres>>,
    health: Health,
    taken_at: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As it was when it came.
    Sound,
    /// In a transaction, which ends before anybody else gets it.
    InTransaction,
    /// Nobody is to use it any more.
    Broken,
}

impl Lent {
    /// Takes a connection, or makes one.
    pub(in crate::store) async fn take(pool: &PgPool, health: &Health) -> Result<Self, Error> {
        Ok(Self {
            connection: Some(health.note(pool.acquire().await)?),
            health: health.clone(),
            taken_at: health.now(),
            state: State::Sound,
        })
    }

    /// Runs one statement within its limit on a connection that is taken for it.
    pub(in crate::store) async fn run<T>(
        pool: &PgPool,
        health: &Health,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let mut lent = Self::take(pool, health).await?;
        let outcome = limits::within(limits::STATEMENT, statement(&mut lent)).await;
        lent.settle(outcome)
    }

    /// What became of a statement; its failure may be the connection's last.
    pub(in crate::store) fn settle<T>(
        &mut self,
        outcome: Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let settled = self.health.note(outcome);
        if let Err(Error::Unavailable(why)) = &settled
            && self.health.distrust(self.taken_at, why)
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

    pub(in crate::store) async fn commit(mut self, limit: Duration) -> Result<(), Error> {
        let committed = limits::within(limit, sqlx::raw_sql("COMMIT").execute(&mut *self)).await;
        self.settle(committed)?;
        self.state = State::Sound;
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
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // What is not given back below in time is closed, and the pool makes another.
        connection.close_on_drop();
        let state = self.state;
        let (State::Sound | State::InTransaction, Ok(runtime)) = (state, Handle::try_current())
        else {
            return;
        };
        // It ends by itself within its limit, and closing the pool waits for it.
        runtime.spawn(async move {
            let back = async {
                if state == State::InTransaction {
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
}
