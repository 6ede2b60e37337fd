//! A transaction, whichever engine it is in.

use std::time::Duration;

use tokio::time::Instant;

use super::bells::Bells;
use super::postgres::Lent;
use super::sqlite::Writing;
use super::{Engine, limits};
use crate::store::{Error, Store};
use crate::types::ids::ChannelId;

/// A transaction; dropped without a commit, nothing of it happened.
pub(in crate::store) struct Tx {
    pub(in crate::store) side: Side,
    /// When it has taken too long.
    pub(in crate::store) until: Instant,
    bells: Bells,
    /// The logs that have grown.
    grown: Vec<ChannelId>,
}

pub(in crate::store) enum Side {
    Postgres(Lent),
    Sqlite(Writing),
}

/// Runs one statement of a transaction, written once for both engines, that awaits itself: `$db` is where it runs.
macro_rules! on {
    ($tx:expr, |$db:ident| $query:expr) => {
        match &mut $tx.side {
            crate::store::engine::tx::Side::Postgres(lent) => {
                let left = crate::store::engine::tx::left($tx.until);
                let statement = async |$db: &mut sqlx::PgConnection| Ok::<_, sqlx::Error>($query);
                lent.ask(left, statement).await?
            }
            crate::store::engine::tx::Side::Sqlite(writing) => {
                let statement =
                    async |$db: &mut sqlx::SqliteConnection| Ok::<_, sqlx::Error>($query);
                writing.ask(statement).await?
            }
        }
    };
}

pub(in crate::store) use on;

/// What a statement may take in a transaction that has time until a moment.
pub(in crate::store) fn left(until: Instant) -> Duration {
    limits::STATEMENT.min(until.saturating_duration_since(Instant::now()))
}

impl Store {
    /// Begins a transaction that will write.
    pub(in crate::store) async fn begin(&self) -> Result<Tx, Error> {
        let side = match &self.engine {
            Engine::Postgres(postgres) => {
                let mut lent = postgres.lend().await?;
                lent.begin().await?;
                Side::Postgres(lent)
            }
            Engine::Sqlite(sqlite) => Side::Sqlite(sqlite.begin().await?),
        };
        Ok(Tx {
            side,
            until: Instant::now() + limits::TRANSACTION,
            bells: self.bells.clone(),
            grown: Vec::new(),
        })
    }
}

impl Tx {
    /// Wakes those who wait for a channel's events, once they can see them.
    pub(in crate::store) fn ring(&mut self, channel_id: ChannelId) {
        self.grown.push(channel_id);
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        match self.side {
            Side::Postgres(lent) => lent.commit(left(self.until), &self.grown).await?,
            Side::Sqlite(writing) => {
                writing.commit().await?;
                for channel_id in self.grown.drain(..) {
                    self.bells.ring(&channel_id);
                }
            }
        }
        Ok(())
    }
}
