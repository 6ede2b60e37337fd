//! The PostgreSQL engine: connecting, limits and migrations.

mod idle_connections;
mod pooled_connection;
mod stepwise;

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection, PgPool};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::health::Health;
use super::limits;
use crate::store::Error;
use crate::types::ids::SchemaName;

use idle_connections::IdleConnections;
pub(in crate::store) use pooled_connection::PooledConnection;
use stepwise::Stepwise;

/// 1 s: the pause before a migration that gave way to a lock is attempted again.
const MIGRATE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// 30: the number of times that a migration may fail on a lock. Together, these attempts take more
/// than a minute.
const MAX_MIGRATE_FAILURES: u32 = 30;

/// The connections to PostgreSQL. Clones share them.
#[derive(Debug, Clone)]
pub(in crate::store) struct Postgres {
    pool: PgPool,
    schema: Option<SchemaName>,
    idle_connections: IdleConnections,
    /// The runtime on which the connections are made.
    runtime: Handle,
    health: Health,
}

impl Postgres {
    /// Takes an idle connection or makes a new one.
    pub(in crate::store) async fn acquire(&self) -> Result<PooledConnection, Error> {
        PooledConnection::acquire(self).await
    }

    /// Runs one statement on a connection of its own, within the limit for statements.
    pub(in crate::store) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.acquire().await?.run(statement).await
    }

    /// Returns the options with which connections are made.
    pub(in crate::store) fn options(&self) -> PgConnectOptions {
        (*self.pool.connect_options()).clone()
    }

    /// Returns the number of connections.
    pub(in crate::store) fn size(&self) -> u32 {
        self.pool.size()
    }

    /// Returns the maximum number of connections.
    pub(in crate::store) fn max_connections(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    /// Returns the number of idle connections.
    pub(in crate::store) fn idle(&self) -> usize {
        self.pool.num_idle() + self.idle_connections.len()
    }

    pub(in crate::store) async fn migrate(&self) -> Result<(), Error> {
        migrate(&self.options(), self.schema.as_ref()).await
    }

    /// Closes all connections.
    pub(in crate::store) async fn close(&self) {
        self.idle_connections.close();
        self.pool.close().await;
    }
}

/// Returns the options for connections to the server of a URL, with its tables in this schema.
///
/// # Errors
///
/// When the URL is not a PostgreSQL URL.
pub(in crate::store) fn options(
    url: &SecretString,
    schema: Option<&SchemaName>,
) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(|_| Error::Address)?
        .application_name("liveperson-bridge")
        // Statements contain no secrets, but logging them, at any level, costs each message time.
        .disable_statement_logging();
    let options = limited(options);
    Ok(match schema {
        Some(schema) => options.options([("search_path", schema)]),
        None => options,
    })
}

pub(in crate::store) async fn connect(
    options: PgConnectOptions,
    schema: Option<SchemaName>,
    max_connections: u32,
    health: Health,
) -> Result<Postgres, Error> {
    // A pool would retry a refused connection, and then report only its own timeout.
    let mut first = limits::within(limits::CONNECTION, options.connect()).await?;
    if let Some(schema) = &schema {
        limits::within(limits::STATEMENT, check_schema(&mut first, schema)).await??;
    }
    limits::within(limits::CONNECTION, first.close()).await?;
    let pool_health = health.clone();
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(limits::CONNECTION)
        // A ping before each use would double the round trips of a message. A dead connection is
        // detected in use, and all connections older than that are then replaced.
        .test_before_acquire(false)
        .before_acquire(move |_, connection| {
            let is_trusted = pool_health.trusts(connection.age);
            Box::pin(std::future::ready(Ok(is_trusted)))
        })
        .connect_lazy_with(options);
    Ok(Postgres {
        pool,
        schema,
        idle_connections: IdleConnections::default(),
        runtime: Handle::current(),
        health,
    })
}

/// Fails if the connection does not use the schema. A pooler in front of the server may drop the
/// startup parameters, and tables would then be looked up in another schema.
async fn check_schema(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<Result<(), Error>, sqlx::Error> {
    let path: String = sqlx::query_scalar("SELECT current_setting('search_path')")
        .fetch_one(connection)
        .await?;
    Ok(if path == schema.as_str() {
        Ok(())
    } else {
        Err(Error::Schema {
            schema: schema.clone(),
        })
    })
}

/// Adds the server-side limits, except those that the operator has set in the URL.
fn limited(options: PgConnectOptions) -> PgConnectOptions {
    let configured = options.get_options().unwrap_or_default().to_owned();
    let defaults = limits::SERVER_SETTINGS
        .into_iter()
        .filter(|(name, _)| !configured.contains(name));
    options.options(defaults)
}

/// Makes a separate pool, of one connection that is made at its first use.
pub(in crate::store) fn separate_pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(limits::CONNECTION)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options)
}

async fn migrate(options: &PgConnectOptions, schema: Option<&SchemaName>) -> Result<(), Error> {
    // The migrator holds an advisory lock: of several replicas that start at once, one migrates and
    // the others wait.
    let mut migrator = sqlx::migrate!("migrations/postgres");
    // During a rolling update, a replica of the previous version may start after the newer schema
    // is in place.
    migrator.set_ignore_missing(true);
    if let Some(schema) = schema {
        migrator.create_schema(schema.to_string());
    }
    let options = options.clone().options(limits::MIGRATION_SETTINGS);
    let mut failures = 0;
    loop {
        let pool = separate_pool(options.clone());
        let outcome = migrate_once(&migrator, &pool).await;
        // Closing the connection releases the advisory lock that other replicas wait for.
        pool.close().await;
        let Err(error) = outcome else {
            return Ok(());
        };
        match &error {
            // Another replica is migrating. It may take as long as it needs.
            MigrateError::Execute(cause) if super::error::is_locked(cause) => {}
            MigrateError::ExecuteMigration(cause, _) if super::error::is_locked(cause) => {
                failures += 1;
                if failures == MAX_MIGRATE_FAILURES {
                    return Err(error.into());
                }
            }
            _ => return Err(error.into()),
        }
        tracing::info!(
            "the database cannot be migrated yet, since another process holds a lock; this is retried"
        );
        sleep(MIGRATE_RETRY_DELAY).await;
    }
}

async fn migrate_once(migrator: &Migrator, pool: &PgPool) -> Result<(), MigrateError> {
    let mut connection = pool.acquire().await?;
    let mut stepwise = Stepwise(&mut connection);
    migrator.run_direct(None, &mut stepwise, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_options(url: &str) -> String {
        let options = limited(PgConnectOptions::from_str(url).unwrap());
        options.get_options().unwrap().to_owned()
    }

    #[test]
    fn the_default_limits_are_passed_to_the_server() {
        assert_eq!(
            server_options("postgres://db/bridge"),
            "-c statement_timeout=5s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s -c enable_seqscan=off -c jit=off"
        );
    }

    #[test]
    fn a_limit_in_the_url_overrides_the_default() {
        assert_eq!(
            server_options("postgres://db/bridge?options=-c%20statement_timeout%3D20s"),
            "-c statement_timeout=20s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s -c enable_seqscan=off -c jit=off"
        );
    }
}
