//! A look into the database behind a service, past the service.

use std::path::Path;

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::postgres::Server;

/// A connection of the run's own.
pub(crate) enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// The same words for either engine.
macro_rules! on {
    ($database:expr, |$db:ident| $body:expr) => {
        match $database {
            Self::Postgres($db) => $body,
            Self::Sqlite($db) => $body,
        }
    };
}

impl Database {
    /// The one of a server, or the file in a service's folder.
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

    /// The one number that a query with these numbers tells.
    pub(crate) async fn number(&mut self, query: &'static str, numbers: &[i64]) -> i64 {
        on!(self, |db| {
            let query = sqlx::query_scalar(query);
            let query = numbers.iter().fold(query, |query, it| query.bind(*it));
            query.fetch_one(db).await.unwrap()
        })
    }

    /// Pairs of numbers that a query with a number tells.
    pub(crate) async fn pairs(&mut self, query: &'static str, number: i64) -> Vec<(i64, i64)> {
        on!(self, |db| {
            let query = sqlx::query_as(query).bind(number);
            query.fetch_all(db).await.unwrap()
        })
    }

    /// Has the engine know what it holds.
    pub(crate) async fn settle(&mut self) {
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
