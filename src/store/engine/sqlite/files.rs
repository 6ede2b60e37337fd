//! The files of the embedded database: readable only by their owner, and checked while they are
//! open.
//!
//! SQLite goes on using a file that was deleted, and would accept writes that are lost at the next
//! restart. It also goes on if another file has taken its place. So before and after each use, the
//! files are compared with the ones that were opened, which takes two microseconds.
//!
//! The check uses the names of the files and one handle that stays open. Closing any handle of a
//! file would release the locks that SQLite holds on it.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::Error;

/// The database file.
pub(super) const DATABASE: &str = "bridge.db";

/// The write-ahead log: committed data that is not in the database file yet.
const LOG: &str = "bridge.db-wal";

/// The index of the log, for readers.
const INDEX: &str = "bridge.db-shm";

/// The lock file, locked by the process that owns the database.
const LOCK: &str = "bridge.lock";

/// Permissions for the owner only.
const PRIVATE: u32 = 0o600;

/// 24 bytes: the start of the database file, which does not change once the database is created. It
/// ends with the page size and the reserved space of a page. Source: SQLite's documentation,
/// "Database File Format".
const HEADER: usize = 24;

/// The files as they were when they were opened.
#[derive(Debug)]
pub(super) struct Files {
    database: PathBuf,
    log: PathBuf,
    handle: File,
    snapshot: Snapshot,
    /// True once the store begins to close: SQLite itself then removes the log.
    is_closed: AtomicBool,
    /// The lock file, locked until the store is closed.
    lock: File,
}

/// The properties by which the files are recognized.
#[derive(Debug, Default, PartialEq, Eq)]
struct Snapshot {
    database: Identity,
    log: Identity,
    header: [u8; HEADER],
}

/// The device of a file and its inode number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// A change to a file while it was open, with advice for the operator.
#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error(
        "{} was deleted or moved while the service was running; nothing is written, since a restart would not find it; put the file back, or restart the service to begin with the present files", .0.display()
    )]
    Missing(PathBuf),
    #[error(
        "{} was replaced with another file while the service was running; nothing is written, since a restart would not find it; restart the service to use the new file", .0.display()
    )]
    Replaced(PathBuf),
    #[error(
        "{} was overwritten while the service was running; nothing is written; stop the service and restore a backup", .0.display()
    )]
    Damaged(PathBuf),
}

impl Files {
    /// Creates the absent files, takes the lock, and removes other users' access.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Folder {
            data_dir: PathBuf::from(data_dir),
            source: Arc::new(source),
        };
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700);
        folder.create(data_dir).map_err(unusable)?;
        let lock = open(&data_dir.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    data_dir: PathBuf::from(data_dir),
                    owner: read_owner(&lock),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        record_owner(&lock);
        let database = data_dir.join(DATABASE);
        // SQLite gives its other files the permissions of this one.
        let handle = open(&database).map_err(unusable)?;
        for name in [DATABASE, LOG, INDEX, LOCK] {
            make_private(&data_dir.join(name));
        }
        Ok(Self {
            database,
            log: data_dir.join(LOG),
            handle,
            snapshot: Snapshot::default(),
            is_closed: AtomicBool::new(false),
            lock,
        })
    }

    /// Records the identity of the files, once SQLite has opened them.
    pub(super) fn record_identity(mut self) -> Result<Self, sqlx::Error> {
        self.snapshot = Snapshot {
            database: Identity::of(&self.handle.metadata()?),
            log: Identity::of(&fs::metadata(&self.log)?),
            header: self.header()?,
        };
        self.check()?;
        Ok(self)
    }

    /// Returns the path of the database file.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// Returns the sizes in bytes of the database file and of the log.
    pub(super) fn sizes(&self) -> io::Result<(u64, u64)> {
        let log = fs::metadata(&self.log)?;
        Ok((self.handle.metadata()?.len(), log.len()))
    }

    /// Stops the checks.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Releases the lock.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the embedded database's lock file could not be unlocked; it is unlocked when the process ends"
            );
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        check_identity(&self.database, self.snapshot.database)?;
        check_identity(&self.log, self.snapshot.log)?;
        match self.header() {
            Ok(header) if header == self.snapshot.header => Ok(()),
            Ok(_) => Err(FileFault::Damaged(self.database.clone()).into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(FileFault::Damaged(self.database.clone()).into())
            }
            Err(error) => Err(error),
        }
    }

    fn header(&self) -> io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        self.handle.read_exact_at(&mut header, 0)?;
        Ok(header)
    }
}

/// Checks that the files are still the ones that were opened, if this process owns them.
pub(super) fn check(files: Option<&Files>) -> Result<(), sqlx::Error> {
    files.map_or(Ok(()), |files| Ok(files.check()?))
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl From<FileFault> for io::Error {
    fn from(fault: FileFault) -> Self {
        Self::other(fault)
    }
}

/// Checks that a path still leads to the same file.
fn check_identity(path: &Path, identity: Identity) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == identity => Ok(()),
        Ok(_) => Err(FileFault::Replaced(PathBuf::from(path)).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(FileFault::Missing(PathBuf::from(path)).into())
        }
        Err(error) => Err(error),
    }
}

/// Opens a file, which is created for its owner only if absent.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(PRIVATE).open(path)
}

/// Records the id of this process in the lock file, for the error that another process gets.
fn record_owner(mut lock: &File) {
    let id = process::id().to_string();
    let recorded = lock.set_len(0).and_then(|()| lock.write_all(id.as_bytes()));
    // The id only helps an operator, so a full disk does not prevent the start.
    if let Err(error) = recorded {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the id of this process could not be recorded in the lock file of the embedded database"
        );
    }
}

/// Returns the id of the process that recorded it in the lock file.
fn read_owner(lock: &File) -> Option<u32> {
    io::read_to_string(lock).ok()?.parse().ok()
}

/// Removes the access of everybody but the owner, if the file exists.
fn make_private(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & !PRIVATE == 0 {
        return;
    }
    let changed = fs::set_permissions(path, Permissions::from_mode(PRIVATE));
    match changed {
        Ok(()) => tracing::warn!(
            file = %path.display(),
            mode = %format_args!("{mode:04o}"),
            "a file of the embedded database was accessible to other users; now only its owner has access"
        ),
        Err(error) => tracing::warn!(
            file = %path.display(),
            mode = %format_args!("{mode:04o}"),
            error = &error as &dyn std::error::Error,
            "a file of the embedded database is accessible to other users, and this could not be changed"
        ),
    }
}
