//! Waking those who wait for a channel's events, in every replica.
//!
//! PostgreSQL tells all replicas with `NOTIFY` at the commit; the embedded database has one process, which tells itself. A
//! bell can be missed, when the connection that listens is being made anew, so whoever waits also looks from time to time.

use std::fmt::Write as _;
use std::sync::Arc;

use dashmap::DashMap;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;

use crate::store::Store;
use crate::types::ids::ChannelId;

/// The channel of `NOTIFY`, as an expression: one for each schema of a database, by a hash, since a name has 63 bytes at
/// most. The payload is the bridge's channel.
macro_rules! name {
    () => {
        "'liveperson_bridge_' || hashtextextended(CAST(current_schema() AS TEXT), 0)"
    };
}

pub(super) use name;

/// The bells of all channels that somebody has waited for.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Bells(Arc<DashMap<ChannelId, watch::Sender<()>>>);

/// Tells that a channel has new events since the bell was taken or last rang.
#[derive(Debug)]
pub struct Bell(watch::Receiver<()>);

impl Bell {
    /// Waits until it rings.
    pub async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and with it all that could ring.
            std::future::pending::<()>().await;
        }
    }
}

impl Bells {
    pub(in crate::store) fn ring(&self, channel_id: &ChannelId) {
        if let Some(bell) = self.0.get(channel_id) {
            bell.send_replace(());
        }
    }

    pub(super) fn ring_all(&self) {
        for bell in self.0.iter() {
            bell.send_replace(());
        }
    }

    /// Ends a transaction of PostgreSQL, which tells every replica then. It goes as one message. A statement that writes could
    /// tell as well, but a distributed PostgreSQL runs that on a node where nobody listens.
    #[expect(
        clippy::disallowed_methods,
        reason = "a channel's id is made of letters, digits, dots, dashes and underscores"
    )]
    pub(in crate::store) async fn commit(
        transaction: &mut PgConnection,
        grown: &[ChannelId],
    ) -> Result<(), sqlx::Error> {
        if grown.is_empty() {
            sqlx::raw_sql("COMMIT").execute(transaction).await?;
            return Ok(());
        }
        let mut statements = String::new();
        for channel_id in grown {
            // Writing to a string does not fail.
            let _written = write!(statements, "SELECT pg_notify({}, '{channel_id}');", name!());
        }
        statements += "COMMIT";
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        statements.execute(transaction).await?;
        Ok(())
    }
}

impl Store {
    /// The bell of a channel; taken before a look at its events, it misses none.
    #[must_use]
    pub fn bell(&self, channel_id: &ChannelId) -> Bell {
        let bells = &self.bells.0;
        let bell = bells.entry(channel_id.clone()).or_default();
        Bell(bell.subscribe())
    }
}
