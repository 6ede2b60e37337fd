//! Waking those who wait for a channel's events, in every replica.
//!
//! PostgreSQL tells all replicas with `NOTIFY` at the commit; the embedded database has one process, which tells itself. A
//! bell can be missed, when the connection that listens is being made anew, so whoever waits also looks from time to time.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use sqlx::postgres::PgListener;
use sqlx::{Postgres, Transaction};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Engine, Error, Store};
use crate::types::ids::ChannelId;

/// What `NOTIFY` is told under; the payload is the channel.
const NAME: &str = "liveperson_bridge_events";

/// 1 s: how soon the connection that listens is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// The bells of all channels that somebody has waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Bells(Arc<DashMap<ChannelId, watch::Sender<()>>>);

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
    pub(super) fn ring(&self, channel_id: &ChannelId) {
        if let Some(bell) = self.0.get(channel_id) {
            bell.send_replace(());
        }
    }

    fn ring_all(&self) {
        for bell in self.0.iter() {
            bell.send_replace(());
        }
    }

    /// Has PostgreSQL tell every replica at the commit.
    pub(super) async fn announce(
        transaction: &mut Transaction<'static, Postgres>,
        channel_id: &ChannelId,
    ) -> Result<(), Error> {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(NAME)
            .bind(channel_id.as_str())
            .execute(&mut **transaction)
            .await?;
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

    /// Hears what other replicas have added, for as long as it is awaited.
    pub async fn listen(self) {
        let Engine::Postgres(pool) = &self.engine else {
            return std::future::pending().await;
        };
        loop {
            if let Err(error) = self.hear(pool).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "new events are not heard of at once, until the connection to the database is back"
                );
            }
            sleep(AGAIN).await;
        }
    }

    async fn hear(&self, pool: &sqlx::PgPool) -> Result<(), Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(NAME).await?;
        // What came while nobody listened.
        self.bells.ring_all();
        loop {
            match listener.try_recv().await? {
                Some(told) => {
                    if let Ok(channel_id) = told.payload().parse() {
                        self.bells.ring(&channel_id);
                    }
                }
                // The connection was lost and is there again.
                None => self.bells.ring_all(),
            }
        }
    }
}
