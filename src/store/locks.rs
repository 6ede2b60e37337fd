//! Locks on users' rows, which serialize changes to a user.

use serde_json::json;

use super::Error;
use super::engine::tx::{EngineTx, Tx, on};
use super::rows::{UserRef, batch};

/// Locks the row of the user of conversation or dialog $1.
const LOCK_USER_OF: &str = "SELECT id FROM users
     WHERE id = (SELECT c.user_ref FROM dialogs d JOIN conversations c ON c.id = d.conversation_id WHERE d.id = $1)
     FOR NO KEY UPDATE";

/// Locks users' rows in the order of their ids, so that two transactions do not deadlock.
const LOCK_USERS: &str = "SELECT id FROM users
     WHERE id = ANY (ARRAY(SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1)))
     ORDER BY id FOR NO KEY UPDATE";

/// Locks the row of a user that is to be deleted. It waits for transactions that refer to the row,
/// such as one that stores an event of the user, before this one holds anything that they wait for.
const LOCK_FOR_DELETION: &str = "SELECT id FROM users WHERE id = $1 FOR UPDATE";

/// Locks users until the end of a transaction that changes their conversations.
///
/// It must be called before the first change. The open conversation is copied into the user's row,
/// so a transaction that locks the conversation first would deadlock with one that locks the user
/// first. `SQLite` needs no lock, because it has only one writer.
pub(super) async fn lock_users(
    tx: &mut Tx,
    users: impl Iterator<Item = UserRef>,
) -> Result<(), Error> {
    if let EngineTx::Postgres(_) = tx.engine {
        let users = batch(users.map(|user| json!({"user": user.0})));
        on!(tx, |db| sqlx::query(LOCK_USERS)
            .bind(users)
            .execute(db)
            .await?
            .rows_affected());
    }
    Ok(())
}

/// Does the same as [`lock_users`] for the user of a conversation or dialog.
pub(super) async fn lock_user_of(tx: &mut Tx, id: &str) -> Result<(), Error> {
    if let EngineTx::Postgres(_) = tx.engine {
        on!(tx, |db| sqlx::query(LOCK_USER_OF)
            .bind(id)
            .execute(db)
            .await?
            .rows_affected());
    }
    Ok(())
}

/// Locks a user until the end of a transaction that deletes the user.
pub(super) async fn lock_for_deletion(tx: &mut Tx, user: UserRef) -> Result<(), Error> {
    if let EngineTx::Postgres(_) = tx.engine {
        on!(tx, |db| sqlx::query(LOCK_FOR_DELETION)
            .bind(user.0)
            .execute(db)
            .await?
            .rows_affected());
    }
    Ok(())
}

/// Locks the events of a query, in the order in which it returns their ids. `SQLite` needs no lock.
macro_rules! lock_events {
    ($tx:expr, $select:expr, $($value:expr),+) => {
        if let crate::store::engine::tx::EngineTx::Postgres(_) = $tx.engine {
            on!($tx, |db| sqlx::query(concat!($select, " FOR UPDATE"))
                $(.bind($value))+
                .execute(db)
                .await?
                .rows_affected());
        }
    };
}

pub(super) use lock_events;
