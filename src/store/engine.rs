//! Connections, transactions, batching and wake-ups, on either engine; knows no noun.
//!
//! The files of nouns stand on this. Nothing here names one of them, and `tests/it/house.rs` holds it to that.

pub(super) mod batching;
pub(super) mod bells;
pub(super) mod checking;
pub(super) mod error;
pub(super) mod health;
pub(super) mod limits;
mod listening;
pub(super) mod postgres;
pub(super) mod server_time;
pub(super) mod sqlite;
pub(super) mod tx;

/// The database that it is.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// Runs one statement, written once for both engines, that awaits itself: `$db` is where it runs. SQLite has a side for
/// what reads (`readers`) and one for what writes (`writer`).
macro_rules! run {
    ($store:expr, $side:ident, |$db:ident| $query:expr) => {
        match &$store.engine {
            crate::store::engine::Engine::Postgres(postgres) => {
                let statement = async |$db: &mut sqlx::PgConnection| Ok($query);
                postgres.run(statement).await?
            }
            crate::store::engine::Engine::Sqlite(sqlite) => {
                let statement = async |$db: &mut sqlx::SqliteConnection| Ok($query);
                sqlite.$side().run(statement).await?
            }
        }
    };
}

pub(super) use run;

/// The text of a statement that claims rows: `$change` up to the column that `$select` gives values of, and what follows.
///
/// Two who claim at once in PostgreSQL take different rows, and neither waits; SQLite has one writer. PostgreSQL is asked for
/// the members of an array, because it looks those up by index however many rows it expects.
macro_rules! claiming {
    ($store:expr, $change:literal, $select:literal, $rest:literal) => {
        claiming!($store, $change, $select, " FOR UPDATE SKIP LOCKED", $rest)
    };
    ($store:expr, $change:literal, $select:literal, $locking:literal, $rest:literal) => {
        match &$store.engine {
            crate::store::engine::Engine::Postgres(_) => {
                concat!($change, " = ANY (ARRAY(", $select, $locking, "))", $rest)
            }
            crate::store::engine::Engine::Sqlite(_) => {
                concat!($change, " IN (", $select, ")", $rest)
            }
        }
    };
}

pub(super) use claiming;
