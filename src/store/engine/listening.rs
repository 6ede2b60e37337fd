//! Wake-ups from other replicas on the same PostgreSQL, which have added events to channels' logs.

use std::io::ErrorKind::UnexpectedEof;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::{sleep, timeout};

use super::postgres::{self, Postgres};
use super::wakeups::notify_channel;
use super::{Engine, limits};
use crate::store::{Error, Store};

/// 1 s: the pause before the listening connection is made again.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// 10 s: the silence after which the server is pinged.
const PING_AFTER: Duration = Duration::from_secs(10);

impl Store {
    /// Receives wake-ups from other replicas, until the future is dropped.
    pub async fn listen(self) {
        let Engine::Postgres(postgres) = &self.engine else {
            return std::future::pending().await;
        };
        // An outage is logged once, not at each attempt.
        let mut is_logged = false;
        loop {
            if let Err(error) = Box::pin(self.receive(postgres, &mut is_logged)).await
                && !is_logged
            {
                is_logged = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "new events are noticed with a delay until the connection to the database is back"
                );
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    /// Receives wake-ups until the connection is lost. The connection is outside the pool, because
    /// it is never returned and its loss may go unnoticed for long.
    async fn receive(&self, postgres: &Postgres, is_logged: &mut bool) -> Result<(), Error> {
        let pool = postgres::separate_pool(postgres.options());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        let channel = sqlx::query_scalar(concat!("SELECT ", notify_channel!()));
        let channel = channel.fetch_one(&mut listener);
        let channel: String = limits::within(limits::STATEMENT, channel).await?;
        limits::within(limits::STATEMENT, listener.listen(&channel)).await?;
        *is_logged = false;
        // Covers the wake-ups that were missed while nothing listened.
        self.wakeups.wake_all();
        loop {
            let Ok(received) = timeout(PING_AFTER, listener.try_recv()).await else {
                // A dead connection looks like an idle one, so the server is pinged.
                let answer = sqlx::query("SELECT 1").execute(&mut listener);
                limits::within(limits::STATEMENT, answer).await?;
                continue;
            };
            let Some(notification) = received? else {
                return Err(sqlx::Error::from(std::io::Error::from(UnexpectedEof)).into());
            };
            if let Ok(channel_id) = notification.payload().parse() {
                self.wakeups.wake(&channel_id);
            }
        }
    }
}
