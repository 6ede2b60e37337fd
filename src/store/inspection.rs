//! A read-only inspection of the database: its engine, the version of its schema, and write access.

use std::collections::HashSet;

use sqlx::migrate::Migrator;

use super::{Engine, Error, Store, run};

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// The name and version of the engine.
    pub engine: String,
    /// The server's major version; `None` for the embedded database, which is part of the program.
    pub major: Option<i32>,
    /// Migrations of this version that are not applied yet.
    pub pending: usize,
    /// Applied migrations that this version does not know: a newer version has run.
    pub newer: usize,
    /// True if the bridge may write and migrate.
    pub writable: bool,
    /// True if no migration was ever applied.
    pub is_new: bool,
    /// True if another process owns the embedded database, which is only read then.
    pub is_in_use: bool,
}

impl Store {
    /// Inspects the database.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn inspect(&self) -> Result<DatabaseInfo, Error> {
        let (engine, major, migrator) = match &self.engine {
            Engine::Postgres(_) => {
                let number: i32 = self
                    .postgres_integer(
                        "SELECT CAST(current_setting('server_version_num') AS INTEGER)",
                    )
                    .await?;
                let major = number / 10_000;
                let migrator = sqlx::migrate!("migrations/postgres");
                (format!("PostgreSQL {major}"), Some(major), migrator)
            }
            Engine::Sqlite(_) => {
                let migrator = sqlx::migrate!("migrations/sqlite");
                ("the embedded database".to_owned(), None, migrator)
            }
        };
        let applied = self.applied_versions().await?;
        let known: HashSet<i64> = versions(&migrator).collect();
        Ok(DatabaseInfo {
            engine,
            major,
            pending: known.difference(&applied).count(),
            newer: applied.difference(&known).count(),
            writable: self.is_writable().await?,
            is_new: applied.is_empty(),
            is_in_use: matches!(&self.engine, Engine::Sqlite(sqlite) if sqlite.is_in_use()),
        })
    }

    /// Returns the versions of the applied migrations. The set is empty if no migration was ever
    /// applied.
    async fn applied_versions(&self) -> Result<HashSet<i64>, Error> {
        let (exists,): (i64,) = match &self.engine {
            Engine::Postgres(_) => run!(self, readers, |db| {
                sqlx::query_as(
                    "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')",
                )
                .fetch_one(db)
                .await?
            }),
            Engine::Sqlite(_) => run!(self, readers, |db| {
                sqlx::query_as("SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'")
                    .fetch_one(db)
                    .await?
            }),
        };
        if exists == 0 {
            return Ok(HashSet::new());
        }
        let rows: Vec<(i64,)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(db)
                .await?
        });
        Ok(rows.into_iter().map(|(version,)| version).collect())
    }

    async fn is_writable(&self) -> Result<bool, Error> {
        match &self.engine {
            Engine::Postgres(_) => {
                // A standby rejects writes, and the role may lack the privileges.
                let number = self
                    .postgres_integer(
                        "SELECT CASE WHEN NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
                              AND COALESCE(has_schema_privilege(current_schema(), 'CREATE'),
                                           has_database_privilege(current_database(), 'CREATE'))
                              AND COALESCE(has_table_privilege(to_regclass('users'), 'INSERT, UPDATE, DELETE'), TRUE)
                         THEN 1 ELSE 0 END",
                    )
                    .await?;
                Ok(number == 1)
            }
            Engine::Sqlite(sqlite) if sqlite.is_in_use() => Ok(false),
            Engine::Sqlite(sqlite) => {
                sqlite.begin().await?.rollback().await?;
                Ok(true)
            }
        }
    }

    async fn postgres_integer(&self, statement: &'static str) -> Result<i32, Error> {
        let (number,): (i32,) = run!(self, readers, |db| {
            sqlx::query_as(statement).fetch_one(db).await?
        });
        Ok(number)
    }
}

fn versions(migrator: &Migrator) -> impl Iterator<Item = i64> {
    migrator.iter().map(|migration| migration.version)
}
