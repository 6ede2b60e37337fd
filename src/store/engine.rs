//! Connections, transactions, batching and wake-ups, for either engine.
//!
//! The files of the entities build on this module. Nothing here names an entity, which
//! `tests/it/house.rs` checks.

pub(super) mod batching;
pub(super) mod checking;
pub(super) mod error;
pub(super) mod health;
pub(super) mod limits;
mod listening;
pub(super) mod postgres;
pub(super) mod server_time;
pub(super) mod sqlite;
pub(super) mod tx;
pub(super) mod wakeups;

/// The database engine in use.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// Runs one statement that is written once for both engines. `$query` awaits its own result; `$db`
/// is the connection. For SQLite, `$side` names the pool: `readers` or `writer`.
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

/// Builds the text of a statement that claims rows: `$change`, which ends with a column; the
/// condition that this column is one of the values from `$select`; and `$suffix`.
///
/// In PostgreSQL, concurrent claims take different rows, and none of them waits. SQLite has only
/// one writer. For PostgreSQL, the values are the members of an array. PostgreSQL then looks rows
/// up by index, whatever number of them it expects.
macro_rules! claiming {
    ($store:expr, $change:literal, $select:literal, $suffix:literal) => {
        claiming!($store, $change, $select, " FOR UPDATE SKIP LOCKED", $suffix)
    };
    ($store:expr, $change:literal, $select:literal, $locking:literal, $suffix:literal) => {
        match &$store.engine {
            crate::store::engine::Engine::Postgres(_) => {
                concat!($change, " = ANY (ARRAY(", $select, $locking, "))", $suffix)
            }
            crate::store::engine::Engine::Sqlite(_) => {
                concat!($change, " IN (", $select, ")", $suffix)
            }
        }
    };
}

pub(super) use claiming;
