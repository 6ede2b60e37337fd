//! Wake-ups for readers that wait for a channel's events, in every replica.
//!
//! PostgreSQL notifies all replicas with `NOTIFY` at the commit. The embedded database belongs to
//! one process, which notifies itself. A wake-up can be lost while the listening connection is
//! being replaced, so waiting readers also poll from time to time.

use std::fmt::Write as _;
use std::sync::Arc;

use dashmap::DashMap;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;

use crate::store::Store;
use crate::types::ids::ChannelId;

/// The SQL expression for the channel of `NOTIFY`. Each schema of a database has one, named by a
/// hash because a name has at most 63 bytes. The payload is the id of the bridge's channel.
macro_rules! notify_channel {
    () => {
        "'liveperson_bridge_' || hashtextextended(CAST(current_schema() AS TEXT), 0)"
    };
}

pub(super) use notify_channel;

/// The wake-ups of all channels that a reader has waited for.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Wakeups(Arc<DashMap<ChannelId, watch::Sender<()>>>);

/// A wake-up: signals that a channel has got new events since this was created or last fired.
#[derive(Debug)]
pub struct Wakeup(watch::Receiver<()>);

impl Wakeup {
    /// Waits for the next wake-up.
    pub async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // The store was dropped, so no wake-up will come.
            std::future::pending::<()>().await;
        }
    }
}

impl Wakeups {
    pub(in crate::store) fn wake(&self, channel_id: &ChannelId) {
        // Not sent under the map's lock: thousands of readers may wait, on other threads as well.
        let wakeup = self.0.get(channel_id).map(|wakeup| wakeup.clone());
        if let Some(wakeup) = wakeup {
            wakeup.send_replace(());
        }
    }

    pub(super) fn wake_all(&self) {
        let wakeups: Vec<_> = self.0.iter().map(|wakeup| wakeup.clone()).collect();
        for wakeup in wakeups {
            wakeup.send_replace(());
        }
    }

    /// Commits a transaction of PostgreSQL and notifies every replica at that moment, in one
    /// message. A statement that writes could notify as well, but a distributed PostgreSQL would
    /// run it on a node that has no listener.
    #[expect(
        clippy::disallowed_methods,
        reason = "a channel's id is made of letters, digits, dots, dashes and underscores"
    )]
    pub(in crate::store) async fn commit(
        transaction: &mut PgConnection,
        channels_to_wake: &[ChannelId],
    ) -> Result<(), sqlx::Error> {
        if channels_to_wake.is_empty() {
            sqlx::raw_sql("COMMIT").execute(transaction).await?;
            return Ok(());
        }
        let mut statements = String::new();
        for channel_id in channels_to_wake {
            // Writing to a string does not fail.
            let _written = write!(
                statements,
                "SELECT pg_notify({}, '{channel_id}');",
                notify_channel!()
            );
        }
        statements += "COMMIT";
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        statements.execute(transaction).await?;
        Ok(())
    }
}

impl Store {
    /// Returns the wake-up of a channel. A reader that takes the wake-up before it reads the events
    /// misses no event.
    #[must_use]
    pub fn wakeup(&self, channel_id: &ChannelId) -> Wakeup {
        let wakeups = &self.wakeups.0;
        let wakeup = wakeups.entry(channel_id.clone()).or_default();
        Wakeup(wakeup.subscribe())
    }
}
