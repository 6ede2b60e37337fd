//! What is SQLite's own: one file that one process owns, one writer and many readers.
//!
//! Every statement goes over a [`Side`], every transaction over a [`Writing`]: both look at the files before and after, and
//! neither lends a connection again that SQLite has left in doubt.

mod files;
mod look_ups;
mod side;
mod wiping;
mod writing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::health::Health;
use crate::store::Error;
use files::Files;
use look_ups::LookUps;
pub(in crate::store) use side::Side;
use wiping::Wiping;
pub(in crate::store) use writing::Writing;

/// 5 s: longer than any write of ours takes; past it a statement fails instead of waiting for the lock.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// 5 s: how long one may wait for a connection, above all for the only one that writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// Readers that may run beside each other and beside the writer (WAL); each holds half a megabyte and a thread.
pub(in crate::store) const READERS: u32 = 2;

/// 1 MiB: pages that the look-ups of messages keep, more than a hundred thousand users need above the leaves of their index. There
/// is one connection for them: look-ups that come at the same time go together, and others would hold the same pages again.
const LOOK_UP_CACHE: &str = "-1024";

/// 256 KiB: pages that each of the readers keeps.
const READER_CACHE: &str = "-256";

/// 1 MiB: pages that the writer keeps.
const WRITER_CACHE: &str = "-1024";

/// The embedded database.
#[derive(Debug, Clone)]
pub(in crate::store) struct Sqlite {
    /// One connection: SQLite takes one writer at a time, and waiting in our queue is fairer than in its.
    writer: Side,
    readers: Side,
    look_ups: Arc<LookUps>,
    /// The files that this process owns; `None` where another does, and they are only read.
    files: Option<Arc<Files>>,
    wiping: Arc<Wiping>,
}

impl Sqlite {
    pub(in crate::store) async fn open(data_dir: &Path, health: Health) -> Result<Self, Error> {
        let files = Files::open(data_dir)?;
        let options = SqliteConnectOptions::new()
            .filename(files.path())
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns: a 2xx must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT)
            // What is removed is overwritten with zeros, and not only given free.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let with_cache = |size| options.clone().pragma("cache_size", size);
        let reading = |size| with_cache(size).read_only(true);
        // The first to connect, since it fills the file.
        let writer = pool(1).connect_with(with_cache(WRITER_CACHE)).await?;
        // With the first look at the database its log is there too.
        sqlx::query("SELECT COUNT(*) FROM sqlite_schema")
            .execute(&writer)
            .await?;
        let files = Arc::new(files.seal()?);
        let readers = pool(READERS).connect_with(reading(READER_CACHE)).await?;
        let look_ups = LookUps::open(reading(LOOK_UP_CACHE), Some(Arc::clone(&files)));
        let files = Some(files);
        Ok(Self {
            writer: Side::new(writer, files.clone(), health.clone()),
            readers: Side::new(readers, files.clone(), health),
            look_ups: Arc::new(look_ups.await?),
            files,
            wiping: Arc::new(Wiping::new(options, data_dir)),
        })
    }

    /// Opens the file of another process to read it, which WAL allows beside its owner. Every
    /// statement that writes fails.
    pub(in crate::store) async fn open_beside(
        data_dir: &Path,
        health: Health,
    ) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join(files::DATABASE))
            .read_only(true)
            .busy_timeout(BUSY_LIMIT)
            .disable_statement_logging();
        let pool = pool(1).connect_with(options.clone()).await?;
        let side = Side::new(pool, None, health);
        Ok(Self {
            writer: side.clone(),
            readers: side,
            look_ups: Arc::new(LookUps::open(options.clone(), None).await?),
            files: None,
            wiping: Arc::new(Wiping::new(options, data_dir)),
        })
    }

    /// True if another process owns the file.
    pub(in crate::store) fn is_beside(&self) -> bool {
        self.files.is_none()
    }

    /// Looks whether the files are still those that were opened.
    ///
    /// # Errors
    ///
    /// When one of them was deleted, replaced or damaged.
    pub(in crate::store) fn check_files(&self) -> Result<(), sqlx::Error> {
        files::check(self.files.as_deref())
    }

    pub(in crate::store) fn writer(&self) -> &Side {
        &self.writer
    }

    pub(in crate::store) fn readers(&self) -> &Side {
        &self.readers
    }

    /// Looks up what is known of users.
    pub(in crate::store) async fn look_up<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.look_ups.run(statement).await
    }

    /// How many connections there are for that, and how many of them are not in use.
    pub(in crate::store) fn look_ups(&self) -> (u32, usize) {
        self.look_ups.connections()
    }

    /// Begins a write.
    pub(in crate::store) async fn begin(&self) -> Result<Writing, Error> {
        Writing::begin(&self.writer).await
    }

    /// Says that somebody is to be gone from the disk as soon as may be.
    pub(in crate::store) fn has_erased(&self) {
        self.wiping.has_erased();
    }

    /// Takes from the disk what was removed from the tables, where that is due.
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
        self.look_ups.close().await;
        self.readers.pool().close().await;
        self.writer.pool().close().await;
        if let Some(files) = &self.files {
            files.unlock();
        }
    }
}

/// A pool that keeps its connections: the last to be closed would take the log away, which [`Files`] knows.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(QUEUE_LIMIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(writing::is_over(connection)))
}
