//! Hearing what other replicas have added to channels' logs, where replicas share a PostgreSQL.

use std::io::ErrorKind::UnexpectedEof;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::{sleep, timeout};

use super::bells::name;
use super::postgres::{self, Postgres};
use super::{Engine, limits};
use crate::store::{Error, Store};

/// 1 s: how soon the connection that listens is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// 10 s: after so much silence the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Hears what other replicas have added, for as long as it is awaited.
    pub async fn listen(self) {
        let Engine::Postgres(postgres) = &self.engine else {
            return std::future::pending().await;
        };
        // An outage is told of once, not with every try.
        let mut is_told = false;
        loop {
            if let Err(error) = Box::pin(self.hear(postgres, &mut is_told)).await
                && !is_told
            {
                is_told = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "new events are not heard of at once, until the connection to the database is back"
                );
            }
            sleep(AGAIN).await;
        }
    }

    /// Hears until the connection is lost. It is none of the pool's: it is never given back, and it may be lost without
    /// anybody noticing for long.
    async fn hear(&self, postgres: &Postgres, is_told: &mut bool) -> Result<(), Error> {
        let own = postgres::apart(postgres.options());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        let name = sqlx::query_scalar(concat!("SELECT ", name!())).fetch_one(&mut listener);
        let name: String = limits::within(limits::STATEMENT, name).await?;
        limits::within(limits::STATEMENT, listener.listen(&name)).await?;
        *is_told = false;
        // What came while nobody listened.
        self.bells.ring_all();
        loop {
            let Ok(heard) = timeout(SILENCE, listener.try_recv()).await else {
                // A connection that leads nowhere says as much as one on which nothing happens.
                let answer = sqlx::query("SELECT 1").execute(&mut listener);
                limits::within(limits::STATEMENT, answer).await?;
                continue;
            };
            let Some(told) = heard? else {
                return Err(sqlx::Error::from(std::io::Error::from(UnexpectedEof)).into());
            };
            if let Ok(channel_id) = told.payload().parse() {
                self.bells.ring(&channel_id);
            }
        }
    }
}
