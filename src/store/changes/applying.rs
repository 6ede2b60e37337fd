//! The application of a change to its conversation.

use chrono::{DateTime, Utc};

use super::KnownConversation;
use super::announcement::{announced, as_str, time};
use super::withholding::store_side_dialogs;
use crate::store::dialogs::{CLOSE_DIALOGS, STORE_DIALOG};
use crate::store::engine::tx::{Tx, on};
use crate::store::files::ENSURE_FILE;
use crate::store::{Error, HostedFile, UserRef, open_conversation};
use crate::types::conversation::ConversationChange;
use crate::types::file::FileId;

/// Stores a file for its user, unless the user has it already. Returns the id under which it is
/// stored.
pub(super) async fn ensure_file(
    tx: &mut Tx,
    user: UserRef,
    id: FileId,
    file: &HostedFile,
    now: DateTime<Utc>,
) -> Result<FileId, Error> {
    let (id,): (String,) = on!(tx, |db| {
        sqlx::query_as(ENSURE_FILE)
            .bind(id.to_string())
            .bind(user.0)
            .bind(&file.relative_path)
            .bind(file.file_type.as_str())
            .bind(now.timestamp_millis())
            .fetch_one(db)
            .await?
    });
    id.parse()
        .map_err(|_| Error::Unreadable { what: "file id" })
}

/// Stores a newer state of a conversation. Returns false if another replica has changed it since it
/// was read.
pub(super) async fn apply(
    tx: &mut Tx,
    known: &mut KnownConversation,
    change: &ConversationChange,
) -> Result<bool, Error> {
    let id = known.conversation_id.as_str();
    let updated_at = change.updated_at.or(known.updated_at);
    let closed_at = change
        .closed
        .as_ref()
        .map(|closed| closed.at.timestamp_millis());
    let reason = change
        .closed
        .as_ref()
        .and_then(|closed| closed.reason.as_ref());
    let rows = on!(tx, |db| {
        sqlx::query(
            "UPDATE conversations
             SET updated_at = $2, announced = $3, closed_at = COALESCE(closed_at, $4),
                 close_reason = COALESCE(close_reason, $5), fingerprint = $8,
                 offer = CASE WHEN COALESCE(closed_at, $4) IS NULL THEN offer END
             WHERE id = $1 AND updated_at IS NOT DISTINCT FROM $6 AND announced IS NOT DISTINCT FROM $7
               AND fingerprint IS NOT DISTINCT FROM $9",
        )
        .bind(id)
        .bind(updated_at.map(|at| at.timestamp_millis()))
        .bind(as_str(change.announced))
        .bind(closed_at)
        .bind(reason.map(|reason| &reason.0[..]))
        .bind(known.updated_at.map(|at| at.timestamp_millis()))
        .bind(known.announced.map(as_str))
        .bind(&change.fingerprint)
        .bind(&known.fingerprint)
        .execute(db)
        .await?
        .rows_affected()
    });
    if rows == 0 {
        return Ok(false);
    }
    known.updated_at = updated_at;
    known.announced = Some(change.announced);
    known.fingerprint = Some(change.fingerprint.clone());
    for dialog in &change.dialogs {
        on!(tx, |db| {
            sqlx::query(STORE_DIALOG)
                .bind(dialog.id.as_str())
                .bind(id)
                .bind(dialog.kind.as_str())
                .bind(dialog.opened_at.timestamp_millis())
                .bind(dialog.closed_at.map(|at| at.timestamp_millis()))
                .execute(db)
                .await?
                .rows_affected()
        });
    }
    store_side_dialogs(tx, id, &change.side_dialogs).await?;
    if let Some(closed_at) = closed_at {
        on!(tx, |db| {
            sqlx::query(CLOSE_DIALOGS)
                .bind(id)
                .bind(closed_at)
                .execute(db)
                .await?
                .rows_affected()
        });
    }
    open_conversation::update_copy(tx, id).await?;
    Ok(true)
}

/// Reads the parts of the state again that another replica may have changed.
pub(super) async fn reload(tx: &mut Tx, known: &mut KnownConversation) -> Result<(), Error> {
    let row: Option<(Option<String>, Option<i64>, Option<String>)> = on!(tx, |db| {
        sqlx::query_as("SELECT announced, updated_at, fingerprint FROM conversations WHERE id = $1")
            .bind(known.conversation_id.as_str())
            .fetch_optional(db)
            .await?
    });
    let (announced_text, updated_at, fingerprint) = row.ok_or(Error::Contended)?;
    known.announced = announced_text.as_deref().map(announced).transpose()?;
    known.updated_at = updated_at.map(time).transpose()?;
    known.fingerprint = fingerprint;
    Ok(())
}
