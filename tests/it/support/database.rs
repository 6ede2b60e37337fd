//! A database of one's own, on either engine.

use std::sync::Arc;

use liveperson_bridge::store::{Location, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// The engine that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

/// An empty database; a PostgreSQL one goes with its throw-away server, an SQLite one with this value.
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

    /// A store on it, with the schema in place.
    pub(crate) async fn store(&self) -> Store {
        let store = Store::connect(&self.location).await.unwrap();
        store.migrate().await.unwrap();
        store
    }
}

async fn create_postgres() -> Url {
    let server = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL names a PostgreSQL server; scripts/test starts one");
    let mut url = Url::parse(&server).unwrap();
    let name = format!("bridge_test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    // The name is ours, and a name cannot be bound.
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    url.set_path(&name);
    url
}
