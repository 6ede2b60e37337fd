//! What is SQLite's own: one file that one process owns, one writer and many readers.

use std::fs::{DirBuilder, File, TryLockError};
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    ConnectOptions, Connection as _, Sqlite as Database, SqliteConnection, SqlitePool, Transaction,
};
use tokio::sync::Mutex;

use super::Error;

/// 5 s: longer than any write of ours takes; past it a statement fails instead of waiting for the lock.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// 5 s: how long one may wait for a connection, above all for the only one that writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// Readers that may run beside each other and beside the writer (WAL); each holds half a megabyte and a thread.
const READERS: u32 = 2;

/// 1 MiB: pages that the look-ups of messages keep, more than a hundred thousand users need above the leaves of their index. There
/// is one connection for them: look-ups that come at the same time go together, and others would hold the same pages again.
const LOOK_UP_CACHE: &str = "-1024";

/// 256 KiB: pages that each of the readers keeps.
const READER_CACHE: &str = "-256";

/// 1 MiB: pages that the writer keeps.
const WRITER_CACHE: &str = "-1024";

/// The embedded database.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    /// One connection: SQLite takes one writer at a time, and waiting in our queue is fairer than in its.
    writer: SqlitePool,
    readers: SqlitePool,
    look_ups: Arc<LookUps>,
    /// Locked for as long as the store lives; `None` where another process owns the file, which is only read then.
    lock: Option<Arc<File>>,
}

/// One connection, for what is known of users. It is no pool's: a pool asks each time whether it is sound, which costs the way to
/// another thread and back, as a look-up does.
#[derive(Debug)]
struct LookUps {
    options: SqliteConnectOptions,
    connection: Mutex<LookUp>,
}

#[derive(Debug)]
enum LookUp {
    Ready(SqliteConnection),
    /// It has failed; another is to be made.
    Lost,
    Closed,
}

impl Sqlite {
    pub(super) async fn open(data_dir: &Path) -> Result<Self, Error> {
        let lock = Arc::new(lock(data_dir)?);
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("bridge.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns: a 2xx must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT)
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(QUEUE_LIMIT)
                .test_before_acquire(false)
        };
        let with_cache = |size| options.clone().pragma("cache_size", size);
        let reading = |size| with_cache(size).read_only(true);
        // The first to connect, since it makes the file.
        let writer = pool(1).connect_with(with_cache(WRITER_CACHE)).await?;
        let readers = pool(READERS).connect_with(reading(READER_CACHE)).await?;
        let look_ups = LookUps::open(reading(LOOK_UP_CACHE)).await?;
        Ok(Self {
            writer,
            readers,
            look_ups: Arc::new(look_ups),
            lock: Some(lock),
        })
    }

    /// Opens the file of another process to read it, which WAL allows beside its owner. Every
    /// statement that writes fails.
    pub(super) async fn open_beside(data_dir: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("bridge.db"))
            .read_only(true)
            .busy_timeout(BUSY_LIMIT)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(QUEUE_LIMIT)
            .connect_with(options.clone())
            .await?;
        Ok(Self {
            writer: pool.clone(),
            readers: pool,
            look_ups: Arc::new(LookUps::open(options).await?),
            lock: None,
        })
    }

    /// True if another process owns the file.
    pub(super) fn is_beside(&self) -> bool {
        self.lock.is_none()
    }

    pub(super) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Looks up what is known of users.
    pub(super) async fn look_up<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.look_ups.run(statement).await
    }

    /// How many connections there are for that, and how many of them are not in use.
    pub(super) fn look_ups(&self) -> (u32, usize) {
        match self.look_ups.connection.try_lock() {
            Ok(connection) if matches!(*connection, LookUp::Ready(_)) => (1, 1),
            Ok(_) => (0, 0),
            Err(_) => (1, 0),
        }
    }

    /// Begins a write. `IMMEDIATE` takes the lock at once: a plain `BEGIN` that reads and then writes can fail with
    /// `SQLITE_BUSY_SNAPSHOT`, which waiting does not mend.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Database>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    pub(super) async fn migrate(&self) -> Result<(), Error> {
        let mut migrator = sqlx::migrate!("migrations/sqlite");
        migrator.set_ignore_missing(true);
        Ok(migrator.run(&self.writer).await?)
    }

    pub(super) async fn close(&self) {
        self.look_ups.close().await;
        self.readers.close().await;
        self.writer.close().await;
        if let Some(lock) = &self.lock
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the embedded database's lock file could not be unlocked; it is freed when the process ends"
            );
        }
    }
}

impl LookUps {
    async fn open(options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let connection = options.connect().await?;
        Ok(Self {
            options,
            connection: Mutex::new(LookUp::Ready(connection)),
        })
    }

    async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut kept = self.connection.lock().await;
        let mut connection = match mem::replace(&mut *kept, LookUp::Lost) {
            LookUp::Ready(connection) => connection,
            LookUp::Lost => self.options.connect().await?,
            LookUp::Closed => {
                *kept = LookUp::Closed;
                return Err(sqlx::Error::PoolClosed);
            }
        };
        let outcome = statement(&mut connection).await;
        if outcome.is_ok() {
            *kept = LookUp::Ready(connection);
        }
        outcome
    }

    async fn close(&self) {
        let mut kept = self.connection.lock().await;
        if let LookUp::Ready(connection) = mem::replace(&mut *kept, LookUp::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the connection for look-ups was not closed"
            );
        }
    }
}

/// Takes the lock file of the folder, which is made when absent, for its owner alone.
fn lock(data_dir: &Path) -> Result<File, Error> {
    let unusable = |source| Error::Folder {
        data_dir: PathBuf::from(data_dir),
        source: Arc::new(source),
    };
    let mut folder = DirBuilder::new();
    folder.recursive(true).mode(0o700);
    folder.create(data_dir).map_err(unusable)?;
    let file = File::create(data_dir.join("bridge.lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            data_dir: PathBuf::from(data_dir),
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}
