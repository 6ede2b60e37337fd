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
    pub(in crate::store) side: EngineTx,
    /// The deadline of the transaction.
    pub(in crate::store) until: Instant,
    wakeups: Wakeups,
    /// The channels with new events in their logs.
    grown: Vec<ChannelId>,
}

pub(in crate::store) enum EngineTx {
    Postgres(PooledConnection),
    Sqlite(WriteTx),
}

/// Runs one statement of a transaction that is written once for both engines. `$query` awaits its
/// own result; `$db` is the connection.
macro_rules! on {
    ($tx:expr, |$db:ident| $query:expr) => {
        match &mut $tx.side {
            crate::store::engine::tx::EngineTx::Postgres(pooled) => {
                let left = crate::store::engine::tx::left($tx.until);
                let statement = async |$db: &mut sqlx::PgConnection| Ok::<_, sqlx::Error>($query);
                pooled.ask(left, statement).await?
            }
            crate::store::engine::tx::EngineTx::Sqlite(writing) => {
                let statement =
                    async |$db: &mut sqlx::SqliteConnection| Ok::<_, sqlx::Error>($query);
                writing.ask(statement).await?
            }
        }
    };
}

pub(in crate::store) use on;

/// Returns the time limit of the next statement in a transaction with this deadline.
pub(in crate::store) fn left(until: Instant) -> Duration {
    limits::STATEMENT.min(until.saturating_duration_since(Instant::now()))
}

impl Store {
    /// Begins a transaction that will write.
    pub(in crate::store) async fn begin(&self) -> Result<Tx, Error> {
        let side = match &self.engine {
            Engine::Postgres(postgres) => {
                let mut pooled = postgres.acquire().await?;
                pooled.begin().await?;
                EngineTx::Postgres(pooled)
            }
            Engine::Sqlite(sqlite) => EngineTx::Sqlite(sqlite.begin().await?),
        };
        Ok(Tx {
            side,
            until: Instant::now() + limits::TRANSACTION,
            wakeups: self.wakeups.clone(),
            grown: Vec::new(),
        })
    }
}

impl Tx {
    /// Wakes the waiting readers of a channel's events, once the commit makes the events visible.
    pub(in crate::store) fn wake(&mut self, channel_id: ChannelId) {
        self.grown.push(channel_id);
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        match self.side {
            EngineTx::Postgres(pooled) => pooled.commit(left(self.until), &self.grown).await?,
            EngineTx::Sqlite(writing) => {
                writing.commit().await?;
                for channel_id in self.grown.drain(..) {
                    self.wakeups.wake(&channel_id);
                }
            }
        }
        Ok(())
    }
}
