//! The files of the embedded database: made for their owner alone, and looked after while they are open.
//!
//! SQLite goes on with a file that has no name any more, and would take promises that no restart finds again. It also goes on
//! beside a file that has come in its place. So before and after each use it is looked whether the files are those that were
//! opened, which costs two microseconds.
//!
//! This is by name and by one handle that stays open: to close any handle of a file would free the locks that SQLite has on it.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::Error;

/// The database.
pub(super) const DATABASE: &str = "bridge.db";

/// What has been committed and is not in it yet.
const LOG: &str = "bridge.db-wal";

/// What readers find that with.
const INDEX: &str = "bridge.db-shm";

/// Held by the process that owns them all.
const LOCK: &str = "bridge.lock";

/// For the owner alone.
const PRIVATE: u32 = 0o600;

/// 24 bytes that stay as they are once a database is made, up to the size of its pages and what they leave free. Source: SQLite's
/// documentation, "Database File Format".
const HEADER: usize = 24;

/// The files as they were when they were opened.
#[derive(Debug)]
pub(super) struct Files {
    database: PathBuf,
    log: PathBuf,
    opened: File,
    seal: Seal,
    /// True since the store began to close: SQLite takes the log away by itself then.
    is_closed: AtomicBool,
    /// Locked for as long as this lives.
    lock: File,
}

/// What they are known by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seal {
    database: Identity,
    log: Identity,
    header: [u8; HEADER],
}

/// The device and the number of a file on it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// What happened to a file while it was open, and what is to be done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(
        "{} was deleted or moved while the service runs; nothing is written, since a restart would not find it: put the \
         file back, or restart the service to begin with what is there", .0.display()
    )]
    Gone(PathBuf),
    #[error(
        "another file was put in the place of {} while the service runs; nothing is written, since a restart would not \
         find it: restart the service to use this file", .0.display()
    )]
    Replaced(PathBuf),
    #[error(
        "{} was overwritten while the service runs; nothing is written any more: stop the service and restore a backup", .0.display()
    )]
    Damaged(PathBuf),
}

impl Files {
    /// Makes what is absent, takes the lock, and closes what others may read.
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
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let database = data_dir.join(DATABASE);
        // SQLite gives its other files the permissions of this one.
        let opened = open(&database).map_err(unusable)?;
        for name in [DATABASE, LOG, INDEX, LOCK] {
            close_to_others(&data_dir.join(name));
        }
        Ok(Self {
            database,
            log: data_dir.join(LOG),
            opened,
            seal: Seal::default(),
            is_closed: AtomicBool::new(false),
            lock,
        })
    }

    /// Notes what the files are, once SQLite has opened them.
    pub(super) fn seal(mut self) -> Result<Self, sqlx::Error> {
        self.seal = Seal {
            database: Identity::of(&self.opened.metadata()?),
            log: Identity::of(&fs::metadata(&self.log)?),
            header: self.header()?,
        };
        self.check()?;
        Ok(self)
    }

    /// The database.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// How many bytes the database has, and its log.
    pub(super) fn sizes(&self) -> io::Result<(u64, u64)> {
        let log = fs::metadata(&self.log)?;
        Ok((self.opened.metadata()?.len(), log.len()))
    }

    /// Looks at nothing any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Frees the lock.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the embedded database's lock file could not be unlocked; it is freed when the process ends"
            );
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        is_still(&self.database, self.seal.database)?;
        is_still(&self.log, self.seal.log)?;
        match self.header() {
            Ok(header) if header == self.seal.header => Ok(()),
            Ok(_) => Err(Trouble::Damaged(self.database.clone()).into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Trouble::Damaged(self.database.clone()).into())
            }
            Err(error) => Err(error),
        }
    }

    fn header(&self) -> io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        self.opened.read_exact_at(&mut header, 0)?;
        Ok(header)
    }
}

/// Looks whether files are still those that were opened, where this process owns them.
pub(super) fn check(files: Option<&Files>) -> Result<(), sqlx::Error> {
    files.map_or(Ok(()), |files| Ok(files.check()?))
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        Self::other(trouble)
    }
}

/// Looks whether a name still leads to a file.
fn is_still(path: &Path, identity: Identity) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == identity => Ok(()),
        Ok(_) => Err(Trouble::Replaced(PathBuf::from(path)).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Trouble::Gone(PathBuf::from(path)).into())
        }
        Err(error) => Err(error),
    }
}

/// Opens a file, which is made when absent, for its owner alone.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(PRIVATE).open(path)
}

/// Takes a file from everybody but its owner, if it is there.
fn close_to_others(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & !PRIVATE == 0 {
        return;
    }
    let closed = fs::set_permissions(path, Permissions::from_mode(PRIVATE));
    match closed {
        Ok(()) => tracing::warn!(
            file = %path.display(),
            mode = %format_args!("{mode:04o}"),
            "a file of the embedded database was open to others; now it is its owner's alone"
        ),
        Err(error) => tracing::warn!(
            file = %path.display(),
            mode = %format_args!("{mode:04o}"),
            error = &error as &dyn std::error::Error,
            "a file of the embedded database is open to others, and that could not be changed"
        ),
    }
}
