//! What can go wrong with the store, by what the caller can do about it.

use std::path::PathBuf;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database does not answer, or refused the statement; another try may succeed.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Others changed the same row again and again; another try may succeed.
    #[error("a row of the database was changed by others again and again")]
    Contended,
    /// A row holds what this version cannot read.
    #[error("the database holds a {what} that this version cannot read")]
    Unreadable {
        /// What could not be read.
        what: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("the database could not be migrated")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The address of the database is not one.
    #[error("database.url is not a PostgreSQL address")]
    Address,
    /// Another process owns the embedded database.
    #[error(
        "another process uses the embedded database in {}; one process at a time may, several share a PostgreSQL (database.url)",
        data_dir.display()
    )]
    InUse {
        /// The folder of the database.
        data_dir: PathBuf,
    },
    /// The folder of the embedded database cannot be used.
    #[error("the folder {} of the embedded database cannot be used", data_dir.display())]
    Folder {
        /// The folder.
        data_dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}
