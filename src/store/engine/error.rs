//! The errors of the store, classified by the possible reaction of the caller.

mod cause;

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::types::ids::SchemaName;
pub use cause::Cause;

/// An error of the store. It can be cloned for all callers that waited for the same statement.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database does not answer, or not now: it is starting, stopping, or has just become a
    /// standby. Another attempt over another connection may succeed. The store itself logs the
    /// start and the end of the outage.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
    /// The database is there, but could not do this in time or because of concurrent statements.
    /// Another attempt may succeed.
    #[error("the database could not run a statement in time or because of concurrent ones")]
    Busy(#[source] Cause),
    /// The database rejected a statement or returned something unexpected: a bug of the bridge, or
    /// a schema that is not its own.
    #[error("the database rejected a statement or returned something unexpected")]
    Rejected(#[source] Cause),
    /// Concurrent transactions kept changing the same row. Another attempt may succeed.
    #[error("a row of the database was changed by concurrent transactions again and again")]
    Contended,
    /// A row holds a value that this version cannot read.
    #[error("the database holds a {what} that this version cannot read")]
    Unreadable {
        /// The name of the value that could not be read.
        what: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("the database could not be migrated")]
    Migration(#[source] Cause),
    /// The driver does not understand the configured address of the database.
    #[error("database.url cannot be used; check its parameters, such as sslmode")]
    Address,
    /// Connections do not use the configured schema.
    #[error(
        "connections do not use the schema {schema} (database.schema): a pooler in front of PostgreSQL drops the startup parameter options; let it pass the parameter on, or set the role's search_path and omit database.schema"
    )]
    Schema {
        /// The configured schema.
        schema: SchemaName,
    },
    /// Another process owns the embedded database.
    #[error(
        "another process uses the embedded database in {}{}; only one process at a time can use it; set database.url to share a PostgreSQL among several",
        data_dir.display(),
        process_text(*owner)
    )]
    InUse {
        /// The folder of the database.
        data_dir: PathBuf,
        /// The id of that process; `None` if it did not record its id.
        owner: Option<u32>,
    },
    /// The folder of the embedded database cannot be used.
    #[error("the directory {} of the embedded database cannot be used", data_dir.display())]
    Folder {
        /// The folder.
        data_dir: PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
}

impl Error {
    /// True if another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Busy(_) | Self::Contended => true,
            Self::Rejected(_)
            | Self::Unreadable { .. }
            | Self::Migration(_)
            | Self::Address
            | Self::Schema { .. }
            | Self::InUse { .. }
            | Self::Folder { .. } => false,
        }
    }

    /// True if the database is unavailable. The store logs the start and the end of an outage, so
    /// callers that retry need not log it too.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(Cause::new(sqlx::Error::Migrate(Box::new(error))))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match Class::of(&error) {
            Class::Outage => Self::Unavailable(Cause::new(error)),
            Class::Busy => Self::Busy(Cause::new(error)),
            Class::Fault => Self::Rejected(Cause::new(error)),
        }
    }
}

/// Returns the id of the process that owns the embedded database, as the end of its description.
fn process_text(owner: Option<u32>) -> String {
    owner.map_or_else(String::new, |id| format!(" (process id {id})"))
}

/// True if a statement waited too long for a lock.
pub(in crate::store) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// True if a server refused to write because it has become a standby.
pub(in crate::store) fn is_read_only(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("25006"))
}

/// True if the database has no space left.
pub(in crate::store) fn is_full(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("53100"))
}

/// True if the database is unavailable, or if this connection does not lead to it.
pub(in crate::store) fn is_outage(error: &sqlx::Error) -> bool {
    Class::of(error) == Class::Outage
}

/// True if the database refused to write, although it may still answer reads: its disk is full or
/// fails, or it has become a standby.
pub(in crate::store) fn is_refusal(error: &sqlx::Error) -> bool {
    let is_embedded = |error: &dyn DatabaseError| {
        error.try_downcast_ref::<SqliteError>().is_some()
            && Class::of_database(error) == Class::Outage
    };
    is_read_only(error)
        || is_full(error)
        || matches!(error, sqlx::Error::Database(error) if is_embedded(&**error))
}

/// The class of an error: its meaning for the caller, and for the connection that it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The database is unavailable for now, or this connection does not lead to it.
    Outage,
    /// The database is available, but this statement met a conflict or a limit.
    Busy,
    /// The statement will fail the next time too.
    Fault,
}

impl Class {
    fn of(error: &sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::Database(error) => Self::of_database(&**error),
            Error::Configuration(_)
            | Error::InvalidArgument(_)
            | Error::RowNotFound
            | Error::TypeNotFound { .. }
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::ColumnNotFound(_)
            | Error::ColumnDecode { .. }
            | Error::Encode(_)
            | Error::Decode(_)
            | Error::InvalidSavePointStatement => Self::Fault,
            // Errors of connections: refused, lost, silent, none free, or out of step with the
            // server. A connection that is out of step can return wrong answers.
            _ => Self::Outage,
        }
    }

    fn of_database(error: &dyn DatabaseError) -> Self {
        let code = error.code().unwrap_or_default();
        if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Self::of_sqlstate(&code)
        } else {
            code.parse().map_or(Self::Outage, Self::of_sqlite)
        }
    }

    /// Classifies PostgreSQL's error code. Source: PostgreSQL's documentation, appendix "Error
    /// Codes".
    fn of_sqlstate(code: &str) -> Self {
        match code {
            // A referenced row is gone, since its user has just been erased; a lock or a statement
            // took too long; memory is exhausted. The next arm has deadlocks and conflicts.
            "23503" | "55P03" | "57014" | "53200" => Self::Busy,
            _ if code.starts_with("40") => Self::Busy,
            _ => match code.get(..2) {
                // Faults of the statement: wrong data, a violated constraint, unknown or forbidden
                // names.
                Some("21" | "22" | "23" | "42") => Self::Fault,
                // Connections (08), a read-only server (25006), a full disk (53100), a server that
                // stops or starts (57P0x), too many connections (53300), a session that was ended
                // (25P03), a prepared statement that a pooler lost (26), and unknown codes.
                _ => Self::Outage,
            },
        }
    }

    /// Classifies SQLite's extended error code, whose last byte is the primary code. Source:
    /// SQLite's documentation, "Result and Error Codes".
    fn of_sqlite(code: u32) -> Self {
        // SQLITE_CONSTRAINT_FOREIGNKEY: as PostgreSQL's 23503.
        if code == 787 {
            return Self::Busy;
        }
        match code & 0xff {
            // BUSY, LOCKED, INTERRUPT, SCHEMA
            5 | 6 | 9 | 17 => Self::Busy,
            // ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE
            1 | 18 | 19 | 20 | 21 | 25 => Self::Fault,
            // NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB and the like: faults of the
            // file, its disk or the memory.
            _ => Self::Outage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_postgres_errors_are_distinguished_from_faults() {
        for (code, class) in [
            ("08006", Class::Outage),
            ("25006", Class::Outage),
            ("25P03", Class::Outage),
            ("26000", Class::Outage),
            ("28P01", Class::Outage),
            ("3D000", Class::Outage),
            ("53300", Class::Outage),
            ("57P01", Class::Outage),
            ("57P02", Class::Outage),
            ("57P03", Class::Outage),
            ("58030", Class::Outage),
            ("XX000", Class::Outage),
            ("", Class::Outage),
            ("40001", Class::Busy),
            ("40P01", Class::Busy),
            ("53100", Class::Outage),
            ("55P03", Class::Busy),
            ("57014", Class::Busy),
            ("23503", Class::Busy),
            ("22P02", Class::Fault),
            ("23505", Class::Fault),
            ("42P01", Class::Fault),
            ("42601", Class::Fault),
        ] {
            assert_eq!(Class::of_sqlstate(code), class, "{code}");
        }
    }

    #[test]
    fn sqlite_errors_are_classified_by_the_last_byte_of_their_code() {
        for (code, class) in [
            (5, Class::Busy),
            (261, Class::Busy),
            (517, Class::Busy),
            (787, Class::Busy),
            (10, Class::Outage),
            (778, Class::Outage),
            (13, Class::Outage),
            (7, Class::Outage),
            (8, Class::Outage),
            (11, Class::Outage),
            (14, Class::Outage),
            (26, Class::Outage),
            (1, Class::Fault),
            (2067, Class::Fault),
        ] {
            assert_eq!(Class::of_sqlite(code), class, "{code}");
        }
    }

    #[test]
    fn an_unreadable_result_is_a_fault_and_a_lost_connection_an_outage() {
        let unreadable = sqlx::Error::ColumnNotFound("id".to_owned());
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());

        assert!(!Error::from(unreadable).is_transient());
        assert!(Error::from(lost).is_outage());
        assert!(Error::from(sqlx::Error::PoolTimedOut).is_outage());
    }
}
