//! Locks on users' rows, which order what is changed of a user.

use serde_json::json;

use super::Error;
use super::engine::tx::{Side, Tx, on};
use super::rows::{UserRef, batch};

/// Holds the user of conversation or dialog $1.
const HOLD_USER_OF: &str = "SELECT id FROM users
     WHERE id = (SELECT c.user_ref FROM dialogs d JOIN conversations c ON c.id = d.conversation_id WHERE d.id = $1)
     FOR NO KEY UPDATE";

/// Holds users, in one order everywhere.
const HOLD_USERS: &str = "SELECT id FROM users
     WHERE id = ANY (ARRAY(SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1)))
     ORDER BY id FOR NO KEY UPDATE";

/// Locks users until the end of a transaction that changes conversations of theirs, and is called before it does: the open
/// conversation is written into the user's row, so two transactions, one of which locked the conversation first and one the
/// user, would wait for each other. `SQLite` has one writer, which locks everything.
pub(super) async fn hold(tx: &mut Tx, users: impl Iterator<Item = UserRef>) -> Result<(), Error> {
    if let Side::Postgres(_) = tx.side {
        let users = batch(users.map(|user| json!({"user": user.0})));
        on!(tx, |db| sqlx::query(HOLD_USERS)
            .bind(users)
            .execute(db)
            .await?
            .rows_affected());
    }
    Ok(())
}

/// Like [`hold`], for the user of a conversation or dialog.
pub(super) async fn hold_user_of(tx: &mut Tx, id: &str) -> Result<(), Error> {
    if let Side::Postgres(_) = tx.side {
        on!(tx, |db| sqlx::query(HOLD_USER_OF)
            .bind(id)
            .execute(db)
            .await?
            .rows_affected());
    }
    Ok(())
}
