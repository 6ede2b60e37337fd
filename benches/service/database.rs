//! Direct access to the database of a service.

use std::path::Path;

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::postgres::Server;

/// A connection of the benchmark's own.
pub(crate) enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// The same expression for either engine.
macro_rules! on {
    ($database:expr, |$db:ident| $body:expr) => {
        match $database {
            Self::Postgres($db) => $body,
            Self::Sqlite($db) => $body,
        }
    };
}

impl Database {
    /// Connects to the database of a server, or to the file in a service's folder.
    pub(crate) async fn connect(server: Option<&Server>, folder: &Path) -> Self {
        if let Some(server) = server {
            return Self::Postgres(PgConnection::connect(&server.url()).await.unwrap());
        }
        let file = folder.join("data/bridge.db");
        Self::Sqlite(
            SqliteConnection::connect(file.to_str().unwrap())
                .await
                .unwrap(),
        )
    }

    /// Runs a statement with these numbers.
    pub(crate) async fn execute(&mut self, statement: &'static str, numbers: &[i64]) {
        on!(self, |db| {
            let query = sqlx::query(statement);
            let query = numbers.iter().fold(query, |query, it| query.bind(*it));
            query.execute(db).await.unwrap();
        });
    }

    /// Runs a query with these numbers; returns its only number.
    pub(crate) async fn number(&mut self, query: &'static str, numbers: &[i64]) -> i64 {
        on!(self, |db| {
            let query = sqlx::query_scalar(query);
            let query = numbers.iter().fold(query, |query, it| query.bind(*it));
            query.fetch_one(db).await.unwrap()
        })
    }

    /// Runs a query with a number; returns its pairs of numbers.
    pub(crate) async fn pairs(&mut self, query: &'static str, number: i64) -> Vec<(i64, i64)> {
        on!(self, |db| {
            let query = sqlx::query_as(query).bind(number);
            query.fetch_all(db).await.unwrap()
        })
    }

    /// Updates the engine's statistics of the data.
    pub(crate) async fn analyze(&mut self) {
        match self {
            Self::Postgres(db) => {
                for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
                    sqlx::raw_sql(statement).execute(&mut *db).await.unwrap();
                }
            }
            Self::Sqlite(db) => {
                sqlx::raw_sql("ANALYZE").execute(db).await.unwrap();
            }
        }
    }

    pub(crate) async fn close(self) {
        on!(self, |db| db.close().await.unwrap());
    }
}
