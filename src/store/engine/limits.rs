//! Time limits for the database. Past a limit, the caller gets an error that says that the storage
//! is unavailable.
//!
//! PostgreSQL gets limits of its own with each connection, so that it ends slow statements itself
//! and the connection stays usable. The limits here are for a server or a network that does not
//! answer at all, and are therefore a little longer.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

/// 3 s: the longest wait for a free connection, and at the start for the first connection.
pub(in crate::store) const CONNECTION: Duration = Duration::from_secs(3);

/// 6 s: the time for a statement, until its answer arrives.
pub(in crate::store) const STATEMENT: Duration = Duration::from_secs(6);

/// 10 s: the time for a transaction, from its beginning until its commit is answered.
pub(in crate::store) const TRANSACTION: Duration = Duration::from_secs(10);

/// 2 s: the time for a ping, including the wait for a connection. Callers of a health check do not
/// wait for long either.
pub(in crate::store) const PING: Duration = Duration::from_secs(2);

/// 6 s: the time for a connection to come back to the pool, including the end of a statement that
/// no caller waits for any more.
pub(in crate::store) const RETURN: Duration = STATEMENT;

/// The settings of the server for each connection. The bridge's statements take milliseconds, and
/// waiting longer for a locked row does not help the caller. A transaction is idle for long only if
/// its replica hangs.
///
/// Indexes are preferred wherever there is one. Otherwise PostgreSQL would cache a plan made while
/// a queue was empty, and with a backlog it would read the whole queue for every request (queued
/// messages: 600 to 850 instead of 205 µs each). With this setting, plans without an index seem so
/// expensive that PostgreSQL would JIT-compile them, which takes longer than running them; so JIT
/// is off.
pub(in crate::store) const SERVER_SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// The same for migrations. Building an index may take long. But a migration that waits for a lock
/// blocks all statements after it, so it gives up after 2 s and tries again later. The notice that
/// the table of migrations already exists, which every start would log, is left out.
pub(in crate::store) const MIGRATION_SETTINGS: [(&str, &str); 4] = [
    ("client_min_messages", "warning"),
    ("statement_timeout", "0"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Awaits `work` within a limit. Past it, returns the same class of error as for a lost connection.
pub(in crate::store) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(no_answer(limit)),
    }
}

/// Returns the error for an answer that did not arrive within the limit.
pub(in crate::store) fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}
