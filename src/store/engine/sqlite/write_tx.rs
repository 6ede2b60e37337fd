//! A transaction that writes.
//!
//! SQLite itself ends a transaction when the disk is full, an I/O operation fails, memory is short,
//! or a statement is interrupted. sqlx does not learn of this: its `ROLLBACK` then fails, it still
//! counts the connection as in a transaction, and it refuses each later `BEGIN`. So such a
//! connection does not go back to its pool, which makes another.

use sqlx::{Connection as _, Sqlite as Database, SqliteConnection, Transaction};

use super::CheckedPool;
use crate::store::Error;

/// A transaction. If it is dropped without a commit, nothing is written.
pub(in crate::store) struct WriteTx {
    transaction: Transaction<'static, Database>,
    writer: CheckedPool,
    /// The first error of a statement. SQLite may have ended the transaction then, and later
    /// statements would run outside it.
    first_error: Option<Error>,
}

impl WriteTx {
    /// Begins a transaction. `IMMEDIATE` takes the lock at once: after a plain `BEGIN`, a read
    /// followed by a write can fail with `SQLITE_BUSY_SNAPSHOT`, which waiting does not resolve.
    pub(super) async fn begin(writer: &CheckedPool) -> Result<Self, Error> {
        writer.record(writer.check())?;
        let transaction = writer.pool().begin_with("BEGIN IMMEDIATE").await;
        Ok(Self {
            transaction: writer.record(transaction)?,
            writer: writer.clone(),
            first_error: None,
        })
    }

    /// Runs one statement of the transaction. After a failed one, returns its error instead.
    pub(in crate::store) async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        if let Some(error) = &self.first_error {
            return Err(error.clone());
        }
        let outcome = statement(&mut self.transaction).await;
        let outcome = self.writer.record(outcome);
        self.first_error = outcome.as_ref().err().cloned();
        outcome
    }

    /// Commits. Succeeds only if the writes are in files that a restart finds.
    pub(in crate::store) async fn commit(self) -> Result<(), Error> {
        if let Some(error) = self.first_error {
            return Err(error);
        }
        let committed = self.transaction.commit().await;
        let committed = committed.and_then(|()| self.writer.check());
        self.writer.record(committed)
    }

    /// Rolls the transaction back.
    pub(in crate::store) async fn rollback(self) -> Result<(), Error> {
        let rolled_back = self.transaction.rollback().await;
        self.writer.record(rolled_back)
    }
}

/// True if a returned connection is in no transaction, so that the next caller can begin one.
pub(super) async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // Its `ROLLBACK` may still be queued; the ping runs after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::Sqlite;
    use super::*;
    use crate::store::engine::health::Health;

    async fn database(folder: &Path) -> Sqlite {
        let sqlite = Sqlite::open(folder, Health::default()).await.unwrap();
        execute(
            &sqlite,
            "CREATE TABLE texts (text TEXT CHECK (text <> 'bad'))",
        )
        .await;
        sqlite
    }

    async fn execute(sqlite: &Sqlite, sql: &'static str) {
        let ran = sqlite
            .writer()
            .run(async |db| sqlx::query(sql).execute(db).await);
        ran.await.unwrap();
    }

    async fn insert(write_tx: &mut WriteTx, text: &str) -> Result<(), Error> {
        let text = text.to_owned();
        let inserted = write_tx.run(async |db: &mut SqliteConnection| {
            let insert = sqlx::query("INSERT INTO texts VALUES ($1)").bind(text);
            insert.execute(db).await
        });
        inserted.await.map(drop)
    }

    async fn texts(sqlite: &Sqlite) -> Vec<String> {
        let texts = sqlite.readers().run(async |db: &mut SqliteConnection| {
            sqlx::query_scalar("SELECT text FROM texts ORDER BY text")
                .fetch_all(db)
                .await
        });
        texts.await.unwrap()
    }

    /// Fills the database in a new transaction, until a write is refused.
    async fn fill(sqlite: &Sqlite) -> WriteTx {
        // This limit is the connection's, and ends with it.
        execute(sqlite, "PRAGMA max_page_count = 20").await;
        let mut write_tx = sqlite.begin().await.unwrap();
        let mut refused = Ok(());
        for _ in 0..100 {
            refused = insert(&mut write_tx, &"x".repeat(4096)).await;
            if refused.is_err() {
                break;
            }
        }
        let refused = refused.unwrap_err();
        assert!(refused.is_outage(), "{refused:?}");
        write_tx
    }

    #[tokio::test]
    async fn a_transaction_can_begin_after_a_full_disk() {
        let folder = TempDir::new().unwrap();
        let sqlite = database(folder.path()).await;

        for round in ["one", "two"] {
            drop(fill(&sqlite).await);

            let mut write_tx = sqlite.begin().await.unwrap();
            insert(&mut write_tx, round).await.unwrap();
            write_tx.commit().await.unwrap();
        }

        assert_eq!(texts(&sqlite).await, ["one", "two"]);
        let rolled_back = fill(&sqlite).await.rollback().await;
        assert!(rolled_back.is_err(), "SQLite had ended it");
        sqlite.begin().await.unwrap().rollback().await.unwrap();
        let committed = fill(&sqlite).await.commit().await;
        assert!(committed.is_err());
        sqlite.begin().await.unwrap().rollback().await.unwrap();
        sqlite.close().await;
    }

    #[tokio::test]
    async fn a_transaction_with_a_failed_statement_writes_nothing() {
        let folder = TempDir::new().unwrap();
        let sqlite = database(folder.path()).await;

        let mut write_tx = sqlite.begin().await.unwrap();
        insert(&mut write_tx, "before").await.unwrap();
        insert(&mut write_tx, "bad").await.unwrap_err();
        insert(&mut write_tx, "after").await.unwrap_err();
        write_tx.commit().await.unwrap_err();
        let mut full = fill(&sqlite).await;
        insert(&mut full, "alone").await.unwrap_err();
        drop(full);

        assert_eq!(texts(&sqlite).await, [""; 0]);
        sqlite.close().await;
    }
}
