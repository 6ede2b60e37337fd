//! The SQLite engine: one file that one process owns, with one writer and several readers.
//!
//! Every statement runs through a [`CheckedPool`] and every transaction through a [`WriteTx`]. Both
//! check the files before and after, and neither reuses a connection that SQLite has left in an
//! uncertain state.

mod checked_pool;
mod files;
mod lookups;
mod wiping;
mod write_tx;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::health::Health;
use crate::store::Error;
pub(in crate::store) use checked_pool::CheckedPool;
use files::Files;
use lookups::LookupConnection;
use wiping::Wiping;
pub(in crate::store) use write_tx::WriteTx;

/// 5 s: longer than any write of the bridge takes. Past it a statement fails instead of waiting for
/// SQLite's lock.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// 5 s: the longest wait for a connection, above all for the only one that writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// The number of readers that may run beside each other and beside the writer (WAL). Each holds
/// half a megabyte and a thread.
pub(in crate::store) const READERS: u32 = 2;

/// 1 MiB: the page cache of the connection for user lookups. It holds all pages above the leaves of
/// the users' index, for more than a hundred thousand users. There is one such connection:
/// concurrent lookups are batched, and further connections would hold the same pages again.
const LOOKUP_CACHE: &str = "-1024";

/// 256 KiB: the page cache of each reader.
const READER_CACHE: &str = "-256";

/// 1 MiB: the page cache of the writer.
const WRITER_CACHE: &str = "-1024";

/// The embedded database.
#[derive(Debug, Clone)]
pub(in crate::store) struct Sqlite {
    /// One connection: SQLite allows one writer at a time, and the pool's queue is fairer than
    /// SQLite's lock.
    writer: CheckedPool,
    readers: CheckedPool,
    lookup_connection: Arc<LookupConnection>,
    /// The files that this process owns; `None` if another process owns them and they are only
    /// read.
    files: Option<Arc<Files>>,
    wiping: Arc<Wiping>,
}

impl Sqlite {
    pub(in crate::store) async fn open(data_dir: &Path, health: Health) -> Result<Self, Error> {
        let files = Files::open(data_dir)?;
        let options = SqliteConnectOptions::new()
            .filename(files.path())
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns: a 2xx response must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT)
            // Deleted data is overwritten with zeros, not only marked as free.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let with_cache = |size| options.clone().pragma("cache_size", size);
        let reading = |size| with_cache(size).read_only(true);
        // This is the first connection, since it creates the database in the file.
        let writer = pool(1).connect_with(with_cache(WRITER_CACHE)).await?;
        // The first read of the database creates its write-ahead log.
        sqlx::query("SELECT COUNT(*) FROM sqlite_schema")
            .execute(&writer)
            .await?;
        let files = Arc::new(files.record_identity()?);
        let readers = pool(READERS).connect_with(reading(READER_CACHE)).await?;
        let lookup_connection =
            LookupConnection::open(reading(LOOKUP_CACHE), Some(Arc::clone(&files)));
        let files = Some(files);
        Ok(Self {
            writer: CheckedPool::new(writer, files.clone(), health.clone()),
            readers: CheckedPool::new(readers, files.clone(), health),
            lookup_connection: Arc::new(lookup_connection.await?),
            files,
            wiping: Arc::new(Wiping::new(options, data_dir)),
        })
    }

    /// Opens the file of another process for reading, which WAL allows beside its owner. Every
    /// statement that writes fails.
    pub(in crate::store) async fn open_read_only(
        data_dir: &Path,
        health: Health,
    ) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join(files::DATABASE))
            .read_only(true)
            .busy_timeout(BUSY_LIMIT)
            .disable_statement_logging();
        let pool = pool(1).connect_with(options.clone()).await?;
        let checked_pool = CheckedPool::new(pool, None, health);
        Ok(Self {
            writer: checked_pool.clone(),
            readers: checked_pool,
            lookup_connection: Arc::new(LookupConnection::open(options.clone(), None).await?),
            files: None,
            wiping: Arc::new(Wiping::new(options, data_dir)),
        })
    }

    /// True if another process owns the file.
    pub(in crate::store) fn is_in_use(&self) -> bool {
        self.files.is_none()
    }

    /// Checks that the files are still the ones that were opened.
    ///
    /// # Errors
    ///
    /// When one of them was deleted, replaced or damaged.
    pub(in crate::store) fn check_files(&self) -> Result<(), sqlx::Error> {
        files::check(self.files.as_deref())
    }

    pub(in crate::store) fn writer(&self) -> &CheckedPool {
        &self.writer
    }

    pub(in crate::store) fn readers(&self) -> &CheckedPool {
        &self.readers
    }

    /// Runs a lookup of users.
    pub(in crate::store) async fn look_up<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.lookup_connection.run(statement).await
    }

    /// Returns the number of connections for lookups, and the number of those that are idle.
    pub(in crate::store) fn lookup_connections(&self) -> (u32, usize) {
        self.lookup_connection.connections()
    }

    /// Begins a transaction that writes.
    pub(in crate::store) async fn begin(&self) -> Result<WriteTx, Error> {
        WriteTx::begin(&self.writer).await
    }

    /// Records that a user was erased, so that their data is wiped from the disk soon.
    pub(in crate::store) fn record_erasure(&self) {
        self.wiping.record_erasure();
    }

    /// Wipes deleted data from the disk if that is due.
    pub(in crate::store) async fn wipe(&self) -> Result<(), Error> {
        match &self.files {
            Some(files) if !files.is_closed() => self.wiping.run(&self.writer, files).await,
            _ => Ok(()),
        }
    }

    pub(in crate::store) async fn migrate(&self) -> Result<(), Error> {
        let mut migrator = sqlx::migrate!("migrations/sqlite");
        migrator.set_ignore_missing(true);
        Ok(migrator.run(self.writer.pool()).await?)
    }

    pub(in crate::store) async fn close(&self) {
        if let Some(files) = &self.files {
            files.close();
        }
        self.lookup_connection.close().await;
        self.readers.pool().close().await;
        self.writer.pool().close().await;
        if let Some(files) = &self.files {
            files.unlock();
        }
    }
}

/// Creates a pool that keeps its connections open: closing the last one would remove the
/// write-ahead log, which [`Files`] checks.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(QUEUE_LIMIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(write_tx::is_reusable(connection)))
}
