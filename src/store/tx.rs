//! A transaction, whichever engine it is in.

use sqlx::{Postgres, Sqlite, Transaction};

use super::bells::Bells;
use super::{Engine, Error, Store};
use crate::types::ids::ChannelId;

/// A transaction; dropped without a commit, nothing of it happened.
pub(super) struct Tx {
    pub(super) side: Side,
    bells: Bells,
    /// The logs that have grown.
    grown: Vec<ChannelId>,
}

pub(super) enum Side {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

/// Runs one statement of a transaction, written once for both engines, that awaits itself: `$db` is where it runs.
macro_rules! on {
    ($tx:expr, |$db:ident| $query:expr) => {
        match &mut $tx.side {
            crate::store::tx::Side::Postgres(transaction) => {
                let $db = &mut **transaction;
                $query
            }
            crate::store::tx::Side::Sqlite(transaction) => {
                let $db = &mut **transaction;
                $query
            }
        }
    };
}

pub(super) use on;

impl Store {
    /// Begins a transaction that will write.
    pub(super) async fn begin(&self) -> Result<Tx, Error> {
        let side = match &self.engine {
            Engine::Postgres(pool) => Side::Postgres(pool.begin().await?),
            Engine::Sqlite(sqlite) => Side::Sqlite(sqlite.begin().await?),
        };
        Ok(Tx {
            side,
            bells: self.bells.clone(),
            grown: Vec::new(),
        })
    }
}

impl Tx {
    /// Wakes those who wait for a channel's events, once they can see them.
    pub(super) fn ring(&mut self, channel_id: ChannelId) {
        self.grown.push(channel_id);
    }

    pub(super) async fn commit(mut self) -> Result<(), Error> {
        match self.side {
            Side::Postgres(mut transaction) => {
                for channel_id in &self.grown {
                    Bells::announce(&mut transaction, channel_id).await?;
                }
                transaction.commit().await?;
            }
            Side::Sqlite(transaction) => {
                transaction.commit().await?;
                for channel_id in self.grown.drain(..) {
                    self.bells.ring(&channel_id);
                }
            }
        }
        Ok(())
    }
}
