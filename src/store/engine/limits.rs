//! How long the database may take: past a limit, whoever asked is told that the storage is away.
//!
//! PostgreSQL gets limits of its own with each connection, so that it ends what is too slow, and the connection stays of use.
//! Ours are for a server or a network that says nothing at all, and therefore a little longer.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

/// 3 s: what a request waits for a free connection, and a start for its first one.
pub(in crate::store) const CONNECTION: Duration = Duration::from_secs(3);

/// 6 s: a statement, until its answer is here.
pub(in crate::store) const STATEMENT: Duration = Duration::from_secs(6);

/// 10 s: a transaction, from its beginning until its commit is answered.
pub(in crate::store) const TRANSACTION: Duration = Duration::from_secs(10);

/// 2 s: a sign of life, with the wait for a connection; who asks for one does not wait for long either.
pub(in crate::store) const PING: Duration = Duration::from_secs(2);

/// 6 s: what a connection may take to come back, with the end of a statement that nobody waits for any more.
pub(in crate::store) const RETURN: Duration = STATEMENT;

/// What the server is told with each connection. Statements of ours take milliseconds, and waiting for a row that another
/// has locked does not help who asked; a transaction that stands still is one of a replica that does.
///
/// Also that it goes by index wherever there is one: a plan that was made, and kept, while a queue was empty would read all of
/// it for every request of a backlog (queued messages: 600 to 850 instead of 205 µs each). Plans without an index seem so dear
/// then that they would be compiled, which takes longer than they do.
pub(in crate::store) const OF_SERVER: [(&str, &str); 5] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// The same for migrations: an index may take long to build, but a migration that waits for a lock holds up all who come
/// after it, so it stands back in between.
pub(in crate::store) const OF_SERVER_FOR_MIGRATIONS: [(&str, &str); 3] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// What something comes to within a limit, else an error as of a connection that was lost.
pub(in crate::store) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(no_answer(limit)),
    }
}

/// That nothing was heard for so long.
pub(in crate::store) fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}
