//! The copy of a user's open conversation in the user's row (`users.open_conversation`).
//!
//! Every message needs the open conversation, and reads it with the rest of the user's row. The
//! copy is derived from `conversations` and `dialogs`. So all code that opens or closes one of
//! these calls [`update_copy`] in the same transaction, after
//! [`lock_users`](super::locks::lock_users).

use super::Error;
use super::engine::tx::{EngineTx, Tx, on};

/// The statement that updates the copy for the user of conversation $1. `$object` is the function
/// that makes a JSON object of names and values; `$features` is the features column as JSON.
macro_rules! update_copy_statement {
    ($object:literal, $features:literal) => {
        concat!(
            "UPDATE users SET open_conversation = now.state
             FROM (SELECT owner.user_ref AS id,
                          (SELECT CAST(",
            $object,
            "('id', c.id, 'features', ",
            $features,
            ",
                                       -- the dialog that the user writes in: the survey, else the main one; NULL if both have ended
                                       'dialog', (SELECT d.id FROM dialogs d
                                                  WHERE d.conversation_id = c.id AND d.closed_at IS NULL
                                                  ORDER BY d.kind DESC, d.opened_at DESC, d.id DESC LIMIT 1)) AS TEXT)
                           FROM conversations c WHERE c.user_ref = owner.user_ref AND c.closed_at IS NULL) AS state
                   FROM conversations owner WHERE owner.id = $1) AS now
             WHERE users.id = now.id AND users.open_conversation IS DISTINCT FROM now.state"
        )
    };
}

const IN_POSTGRES: &str = update_copy_statement!("jsonb_build_object", "c.features");
const IN_SQLITE: &str = update_copy_statement!("json_object", "json(c.features)");

/// Updates the copy in the user's row after a change to this conversation. The caller has locked
/// the user's row.
pub(super) async fn update_copy(tx: &mut Tx, conversation_id: &str) -> Result<(), Error> {
    let statement = match tx.engine {
        EngineTx::Postgres(_) => IN_POSTGRES,
        EngineTx::Sqlite(_) => IN_SQLITE,
    };
    on!(tx, |db| sqlx::query(statement)
        .bind(conversation_id)
        .execute(db)
        .await?
        .rows_affected());
    Ok(())
}
