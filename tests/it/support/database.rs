//! A database of a test's own, on either engine.

use std::sync::Arc;

use liveperson_bridge::store::{Location, Store};
use secrecy::ExposeSecret as _;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// The engine that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

/// An empty database. A PostgreSQL database exists as long as its throw-away server, an SQLite
/// database as long as a clone of this value.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) location: Location,
    _folder: Option<Arc<TempDir>>,
}

impl Database {
    pub(crate) async fn create(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => Self {
                location: Location::Postgres {
                    url: create_postgres().await.to_string().into(),
                    schema: None,
                    max_connections: 8,
                },
                _folder: None,
            },
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                Self {
                    location: Location::Embedded {
                        data_dir: folder.path().join("data"),
                    },
                    _folder: Some(Arc::new(folder)),
                }
            }
        }
    }

    /// Uses an existing PostgreSQL database.
    pub(crate) fn at(location: Location) -> Self {
        Self {
            location,
            _folder: None,
        }
    }

    /// Opens a connection to a PostgreSQL database, for statements that the service does not run.
    pub(crate) async fn connection(&self) -> PgConnection {
        let Location::Postgres { url, .. } = &self.location else {
            panic!("not a PostgreSQL database");
        };
        PgConnection::connect(url.expose_secret()).await.unwrap()
    }

    /// Runs a statement that the service does not run.
    pub(crate) async fn execute(&self, sql: &'static str) {
        match &self.location {
            Location::Postgres { .. } => {
                let mut connection = self.connection().await;
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            Location::Embedded { data_dir } => {
                let options = SqliteConnectOptions::new().filename(data_dir.join("bridge.db"));
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Returns the rows of a query with two text columns.
    pub(crate) async fn pairs(&self, sql: &'static str) -> Vec<(String, String)> {
        match &self.location {
            Location::Postgres { .. } => {
                let mut connection = self.connection().await;
                sqlx::query_as(sql).fetch_all(&mut connection).await
            }
            Location::Embedded { data_dir } => {
                let options = SqliteConnectOptions::new().filename(data_dir.join("bridge.db"));
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query_as(sql).fetch_all(&mut connection).await
            }
        }
        .unwrap()
    }

    /// Opens a store, with the schema in place.
    pub(crate) async fn store(&self) -> Store {
        let store = Store::connect(&self.location).await.unwrap();
        store.migrate().await.unwrap();
        store
    }
}

impl Database {
    /// Returns every row of every table as text, for searches.
    pub(crate) async fn dump(&self) -> String {
        match &self.location {
            Location::Postgres { url, .. } => {
                let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
                let tables: Vec<String> = sqlx::query_scalar(
                    "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'",
                )
                .fetch_all(&mut connection)
                .await
                .unwrap();
                let mut dump = String::new();
                for table in tables {
                    let rows: Vec<String> =
                        sqlx::query_scalar(AssertSqlSafe(format!("SELECT t::text FROM {table} t")))
                            .fetch_all(&mut connection)
                            .await
                            .unwrap();
                    dump.extend(rows);
                }
                dump
            }
            Location::Embedded { data_dir } => {
                let options = SqliteConnectOptions::new().filename(data_dir.join("bridge.db"));
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                let columns: Vec<(String, String)> = sqlx::query_as(
                    "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
                     WHERE t.type = 'table'",
                )
                .fetch_all(&mut connection)
                .await
                .unwrap();
                let mut dump = String::new();
                for (table, column) in columns {
                    let sql = format!("SELECT CAST(COALESCE({column}, '') AS BLOB) FROM {table}");
                    let values: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
                        .fetch_all(&mut connection)
                        .await
                        .unwrap();
                    dump.extend(values.iter().map(|value| String::from_utf8_lossy(value)));
                }
                dump
            }
        }
    }
}

async fn create_postgres() -> Url {
    let server = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL names a PostgreSQL server; scripts/test starts one");
    let mut url = Url::parse(&server).unwrap();
    let name = format!("bridge_test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    // The name is generated here, and a database name cannot be a bound parameter.
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    url.set_path(&name);
    url
}
