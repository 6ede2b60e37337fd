//! Migrations that are applied one statement at a time.
//!
//! sqlx sends a whole migration file as one message. A distributed PostgreSQL such as Citus refuses
//! to create several tables in one message, but creates them in one transaction.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A connection that applies migrations one statement at a time.
pub(super) struct Stepwise<'a>(pub(super) &'a mut PgConnection);

impl Migrate for Stepwise<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the statement is a part of a static text"
    )]
    fn apply<'e>(
        &'e mut self,
        table_name: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, MigrateError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
            let mut transaction = self.0.begin().await?;
            for statement in statements(migration.sql.as_str()) {
                sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed)?;
            }
            // Only records that the migration is applied; runs nothing.
            transaction.skip(table_name, migration).await?;
            transaction.commit().await?;
            Ok(begun.elapsed())
        })
    }

    fn create_schema_if_not_exists<'e>(
        &'e mut self,
        schema_name: &'e str,
    ) -> BoxFuture<'e, Result<(), MigrateError>> {
        Box::pin(async move {
            // A role that may not create schemas may still use an existing one.
            let exists: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
                .bind(schema_name)
                .fetch_one(&mut *self.0)
                .await?;
            if exists {
                return Ok(());
            }
            let quoted = format!("\"{schema_name}\"");
            self.0.create_schema_if_not_exists(&quoted).await
        })
    }

    fn ensure_migrations_table<'e>(
        &'e mut self,
        table_name: &'e str,
    ) -> BoxFuture<'e, Result<(), MigrateError>> {
        self.0.ensure_migrations_table(table_name)
    }

    fn dirty_version<'e>(
        &'e mut self,
        table_name: &'e str,
    ) -> BoxFuture<'e, Result<Option<i64>, MigrateError>> {
        self.0.dirty_version(table_name)
    }

    fn list_applied_migrations<'e>(
        &'e mut self,
        table_name: &'e str,
    ) -> BoxFuture<'e, Result<Vec<AppliedMigration>, MigrateError>> {
        self.0.list_applied_migrations(table_name)
    }

    fn lock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        self.0.lock()
    }

    fn unlock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        self.0.unlock()
    }

    fn revert<'e>(
        &'e mut self,
        table_name: &'e str,
        migration: &'e Migration,
    ) -> BoxFuture<'e, Result<Duration, MigrateError>> {
        self.0.revert(table_name, migration)
    }
}

/// Splits a migration into its statements. Each ends with a semicolon at the end of a line, outside
/// a comment.
fn statements(migration: &str) -> impl Iterator<Item = &str> {
    let mut remaining = migration;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in remaining.split_inclusive('\n') {
            end += line.len();
            let code = line.split("--").next().unwrap_or_default();
            if code.trim_end().ends_with(';') {
                break;
            }
        }
        let (statement, after) = remaining.split_at(end);
        remaining = after;
        (!statement.trim().is_empty()).then_some(statement)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_at_the_end_of_a_line() {
        let found: Vec<_> = statements(
            "-- of a; b;\nCREATE TABLE a (\n    b TEXT -- one; two;\n);\n\nCREATE FUNCTION c() AS 'SELECT 1; SELECT 2';  \nDROP TABLE a; -- gone\n",
        )
        .collect();

        assert_eq!(
            found,
            [
                "-- of a; b;\nCREATE TABLE a (\n    b TEXT -- one; two;\n);\n",
                "\nCREATE FUNCTION c() AS 'SELECT 1; SELECT 2';  \n",
                "DROP TABLE a; -- gone\n",
            ]
        );
    }

    #[test]
    fn the_rest_of_a_script_is_a_statement_unless_blank() {
        assert_eq!(statements("SELECT 1").collect::<Vec<_>>(), ["SELECT 1"]);
        assert_eq!(statements("SELECT 1;\n\n").count(), 1);
        assert_eq!(statements("").count(), 0);
    }
}
