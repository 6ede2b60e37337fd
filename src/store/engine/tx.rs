//! Transactions, on either engine.

use std::time::Duration;

use tokio::time::Instant;

use super::postgres::PooledConnection;
use super::sqlite::WriteTx;
use super::wakeups::Wakeups;
use super::{Engine, limits};
use crate::store::{Error, Store};
use crate::types::ids::ChannelId;

/// A transaction. If it is dropped without a commit, nothing is written.
pub(in crate::store) struct Tx {
    pub(in crate::store) engine: EngineTx,
    /// The deadline of the transaction.
    pub(in crate::store) deadline: Instant,
    wakeups: Wakeups,
    /// The channels with new events in their logs.
    channels_to_wake: Vec<ChannelId>,
    /// Actions after the commit. They do not run if its outcome is unknown.
    after_commit: Vec<Box<dyn FnOnce() + Send>>,
}

pub(in crate::store) enum EngineTx {
    Postgres(PooledConnection),
    Sqlite(WriteTx),
}

/// Runs one statement of a transaction that is written once for both engines. `$query` awaits its
/// own result; `$db` is the connection.
macro_rules! on {
    ($tx:expr, |$db:ident| $query:expr) => {
        match &mut $tx.engine {
            crate::store::engine::tx::EngineTx::Postgres(pooled) => {
                let limit = crate::store::engine::tx::statement_limit($tx.deadline);
                let statement = async |$db: &mut sqlx::PgConnection| Ok::<_, sqlx::Error>($query);
                pooled.run_in_tx(limit, statement).await?
            }
            crate::store::engine::tx::EngineTx::Sqlite(write_tx) => {
                let statement =
                    async |$db: &mut sqlx::SqliteConnection| Ok::<_, sqlx::Error>($query);
                write_tx.run(statement).await?
            }
        }
    };
}

pub(in crate::store) use on;

/// Returns the time limit of the next statement in a transaction with this deadline.
pub(in crate::store) fn statement_limit(deadline: Instant) -> Duration {
    limits::STATEMENT.min(deadline.saturating_duration_since(Instant::now()))
}

impl Store {
    /// Begins a transaction that will write.
    pub(in crate::store) async fn begin(&self) -> Result<Tx, Error> {
        let engine = match &self.engine {
            Engine::Postgres(postgres) => {
                let mut pooled = postgres.acquire().await?;
                pooled.begin().await?;
                EngineTx::Postgres(pooled)
            }
            Engine::Sqlite(sqlite) => EngineTx::Sqlite(sqlite.begin().await?),
        };
        Ok(Tx {
            engine,
            deadline: Instant::now() + limits::TRANSACTION,
            wakeups: self.wakeups.clone(),
            after_commit: Vec::new(),
            channels_to_wake: Vec::new(),
        })
    }
}

impl Tx {
    /// Wakes the waiting readers of a channel's events, once the commit makes the events visible.
    pub(in crate::store) fn wake(&mut self, channel_id: ChannelId) {
        self.channels_to_wake.push(channel_id);
    }

    /// Does something once the transaction is committed.
    pub(in crate::store) fn after_commit(&mut self, action: impl FnOnce() + Send + 'static) {
        self.after_commit.push(Box::new(action));
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        match self.engine {
            EngineTx::Postgres(pooled) => {
                let limit = statement_limit(self.deadline);
                pooled.commit(limit, &self.channels_to_wake).await?;
            }
            EngineTx::Sqlite(write_tx) => {
                write_tx.commit().await?;
                for channel_id in self.channels_to_wake.drain(..) {
                    self.wakeups.wake(&channel_id);
                }
            }
        }
        for action in self.after_commit {
            action();
        }
        Ok(())
    }
}
