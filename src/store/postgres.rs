//! What is PostgreSQL's own: connecting and migrating.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgPool};
use tokio::time::timeout;

use super::Error;

/// 3 s: what a request waits for a free connection, and a start for its first one, before the storage counts as away.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn connect(url: &SecretString, max_connections: u32) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(|_| Error::Address)?
        .application_name("liveperson-bridge")
        // Statements hold no secrets, but their logging at every level costs time on the way of each message.
        .disable_statement_logging();
    // A pool would go on trying where the server refuses the connection, and then tell of its own time limit alone.
    let first = timeout(ACQUIRE_LIMIT, options.connect()).await;
    let first = first.map_err(|_| sqlx::Error::PoolTimedOut)??;
    first.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_LIMIT)
        // A ping before each use would double the round trips of a message; a dead connection shows itself in use.
        .test_before_acquire(false)
        .connect_lazy_with(options);
    Ok(pool)
}

pub(super) async fn migrate(pool: &PgPool) -> Result<(), Error> {
    // The migrator holds an advisory lock, so of several replicas that start at once one migrates and the rest wait.
    let mut migrator = sqlx::migrate!("migrations/postgres");
    // During a rolling update a replica of the version before may start after the newer schema is in place.
    migrator.set_ignore_missing(true);
    migrator.run(pool).await.map_err(Error::Migration)
}
