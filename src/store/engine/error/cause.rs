//! The cause of a database error as text: each thing is said once, with advice if the configuration
//! of the database may be wrong.

use std::fmt;
use std::io;
use std::sync::Arc;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

/// The start of the system resolver's error for a name without an address.
const FAILED_LOOKUP: &str = "failed to lookup address information";

/// The cause of a database error. It has no source of its own: the errors of sqlx repeat their
/// causes, and PostgreSQL's name a line of its source code.
#[derive(Debug, Clone)]
pub struct Cause(Arc<sqlx::Error>);

impl Cause {
    pub(in crate::store) fn new(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }

    /// Returns the error of the driver.
    pub(in crate::store) fn error(&self) -> &sqlx::Error {
        &self.0
    }

    /// Returns advice for the operator, with which the text ends; `None` if the configuration need
    /// not be wrong.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        advice(&self.0)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(&self.0, f)?;
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cause {}

fn describe(error: &sqlx::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => f.write_str(error.message()),
            None => write!(f, "{error}"),
        },
        sqlx::Error::Io(error) => write!(f, "{error}"),
        sqlx::Error::Tls(error) => write!(f, "no TLS connection could be made: {error}"),
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) => describe(error, f),
            MigrateError::ExecuteMigration(error, version) => {
                write!(f, "migration {version}: ")?;
                describe(error, f)
            }
            error => write!(f, "{error}"),
        },
        error => write!(f, "{error}"),
    }
}

fn advice(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Database(error) => {
            let error = error.try_downcast_ref::<PgDatabaseError>()?;
            advice_on_refusal(
                error.code(),
                error.routine().unwrap_or_default(),
                error.message(),
            )
        }
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Some("check that PostgreSQL runs, and the host and port in database.url")
        }
        sqlx::Error::Io(error) if error.to_string().starts_with(FAILED_LOOKUP) => {
            Some("check the host in database.url")
        }
        sqlx::Error::Tls(_) => {
            Some("check that the server offers TLS, and sslmode and sslrootcert in database.url")
        }
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                advice(error)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns advice for a connection that PostgreSQL refused with this error code in this routine of
/// its source code. The message may be in any language, so it decides only between variants of the
/// same advice.
fn advice_on_refusal(code: &str, routine: &str, message: &str) -> Option<&'static str> {
    Some(match (code, routine) {
        ("28P01", _) => {
            "check the user and the password in database.url, where characters such as @ / # : ? % of a password are percent-encoded"
        }
        ("28000", "InitializeSessionUserId") => {
            "create this role with LOGIN, or correct the user in database.url"
        }
        ("28000", _) if message.contains("no encryption") => {
            "allow the connection in the server's pg_hba.conf; if the server requires TLS, set sslmode=require in database.url"
        }
        ("28000", _) => "allow the connection in the server's pg_hba.conf",
        ("3D000", _) => "create this database, or correct its name in database.url",
        ("53300", _) => {
            "lower database.max_connections, or raise the limit of the server, the database or the role"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: sqlx::Error) -> String {
        Cause::new(error).to_string()
    }

    #[test]
    fn a_cause_is_named_once_and_without_the_words_of_the_driver() {
        let lost = || io::Error::other("the connection was reset");
        let migration = MigrateError::ExecuteMigration(sqlx::Error::Io(lost()), 3);

        assert_eq!(text(sqlx::Error::Io(lost())), "the connection was reset");
        assert_eq!(
            text(sqlx::Error::Migrate(Box::new(migration))),
            "migration 3: the connection was reset"
        );
        assert_eq!(
            text(sqlx::Error::Tls("certificate expired".into())),
            "no TLS connection could be made: certificate expired; check that the server offers TLS, and sslmode and sslrootcert in database.url"
        );
    }

    #[test]
    fn advice_on_refused_connections_depends_on_code_routine_and_encryption() {
        for (code, routine, message, expected) in [
            ("28P01", "auth_failed", "", "percent-encoded"),
            ("28000", "InitializeSessionUserId", "", "create this role"),
            (
                "28000",
                "ClientAuthentication",
                "no pg_hba.conf entry for host \"::1\", user \"b\", database \"b\", no encryption",
                "sslmode=require",
            ),
            (
                "28000",
                "auth_failed",
                "Peer authentication failed",
                "pg_hba.conf",
            ),
            ("3D000", "InitPostgres", "", "create this database"),
            ("53300", "InitProcess", "", "max_connections"),
        ] {
            let advice = advice_on_refusal(code, routine, message).unwrap();
            assert!(advice.contains(expected), "{code}: {advice}");
        }
        for code in ["57P03", "57P01", "42501", "23505"] {
            assert_eq!(advice_on_refusal(code, "", ""), None, "{code}");
        }
    }
}
