//! Dialogs: the main dialog of a conversation, which has the conversation's id, and the survey that
//! may follow.
//!
//! A closed dialog stays closed, because notifications may arrive late and in any order. The one
//! exception is `Store::reopen_main_dialog`.

use chrono::{DateTime, Utc};

use super::engine::tx::on;
use super::locks::lock_user_of;
use super::{Error, Store, open_conversation};

/// Stores dialog $1 of conversation $2, with its kind $3, its start $4 and its end $5, which may be
/// NULL. Stores nothing if the conversation is unknown.
pub(super) const STORE_DIALOG: &str =
    "INSERT INTO dialogs (id, conversation_id, kind, opened_at, closed_at)
     SELECT $1, id, $3, $4, $5 FROM conversations WHERE id = $2
     ON CONFLICT (id) DO UPDATE SET closed_at = COALESCE(dialogs.closed_at, excluded.closed_at)
     -- a dialog never moves to another conversation
     WHERE dialogs.conversation_id = excluded.conversation_id";

/// Ends dialog $1 at $2. Returns its conversation if the dialog was open.
const CLOSE_DIALOG: &str = "UPDATE dialogs SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL RETURNING conversation_id";

/// Ends all dialogs of conversation $1 at $2.
pub(super) const CLOSE_DIALOGS: &str =
    "UPDATE dialogs SET closed_at = $2 WHERE conversation_id = $1 AND closed_at IS NULL";

impl Store {
    /// Ends a dialog, but not its conversation. Returns true if the dialog was open until now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn close_dialog(&self, id: &str, at: DateTime<Utc>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        lock_user_of(&mut tx, id).await?;
        let conversation: Option<(String,)> = on!(tx, |db| {
            sqlx::query_as(CLOSE_DIALOG)
                .bind(id)
                .bind(at.timestamp_millis())
                .fetch_optional(db)
                .await?
        });
        if let Some((conversation,)) = &conversation {
            open_conversation::update_copy(&mut tx, conversation).await?;
        }
        tx.commit().await?;
        Ok(conversation.is_some())
    }
}
