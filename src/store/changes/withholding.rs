//! Messages in unknown dialogs, withheld until the Cloud reports the kind of the dialog.
//!
//! A conversation may have dialogs among agents, which must not reach the user. The Cloud reports
//! the kind of a dialog with the state of its conversation, and a message may arrive before that.
//! So a message in an unknown dialog waits, and goes to the user once its dialog is known not to be
//! private. A message is released after a while if its dialog is never reported, so that a missing
//! state does not lose a message.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::ordering::Candidate;
use crate::store::engine::tx::{Tx, on};
use crate::store::rows::batch;
use crate::store::{Error, Store, run};
use crate::types::conversation::SideDialog;

/// Stores dialog $1 of conversation $2, in which users do not write. $3 is 1 if it is private. A
/// private dialog stays private.
pub(super) const STORE_SIDE_DIALOG: &str =
    "INSERT INTO side_dialogs (id, conversation_id, is_private)
     SELECT $1, id, $3 FROM conversations WHERE id = $2
     ON CONFLICT (id) DO UPDATE SET is_private = 1
     WHERE side_dialogs.conversation_id = excluded.conversation_id
       AND excluded.is_private = 1 AND side_dialogs.is_private = 0";

/// 500: the maximum number of dialogs that one call releases.
const MAX_DIALOGS: i64 = 500;

/// The known dialogs; the value is true for a private one.
#[derive(Debug, Default)]
pub(super) struct Dialogs(HashMap<String, bool>);

/// The visibility of a change in a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// The user may see it.
    Open,
    /// It must not reach the user.
    Private,
    /// The kind of the dialog is not known yet.
    Unknown,
}

impl Dialogs {
    /// Looks up the dialogs that changes name in addition to a conversation.
    pub(super) async fn look_up(tx: &mut Tx, candidates: &[Candidate<'_>]) -> Result<Self, Error> {
        let named: Vec<_> = candidates
            .iter()
            .filter_map(|it| it.named_dialog.as_deref())
            .collect();
        if named.is_empty() {
            return Ok(Self::default());
        }
        let rows: Vec<(String, i64)> = on!(tx, |db| {
            sqlx::query_as(
                "SELECT id, CAST(0 AS BIGINT) FROM dialogs
                 WHERE id IN (SELECT value ->> 'id' FROM json_each($1))
                 UNION ALL
                 SELECT id, is_private FROM side_dialogs
                 WHERE id IN (SELECT value ->> 'id' FROM json_each($1))",
            )
            .bind(batch(named.iter().map(|id| json!({"id": id}))))
            .fetch_all(db)
            .await?
        });
        let mut dialogs = Self::default();
        for (id, is_private) in rows {
            dialogs.add(&id, is_private != 0);
        }
        Ok(dialogs)
    }

    /// Records a dialog that the state of a conversation reports.
    pub(super) fn add(&mut self, id: &str, is_private: bool) {
        let known = self.0.entry(id.to_owned()).or_default();
        *known |= is_private;
    }

    /// Returns the visibility of a change of a conversation.
    pub(super) fn visibility(&self, candidate: &Candidate<'_>, conversation: &str) -> Visibility {
        let dialog = candidate.named_dialog.as_deref();
        match dialog.filter(|dialog| *dialog != conversation) {
            None => Visibility::Open,
            Some(dialog) => match self.0.get(dialog) {
                Some(false) => Visibility::Open,
                Some(true) => Visibility::Private,
                None => Visibility::Unknown,
            },
        }
    }
}

/// Stores the dialogs of a conversation in which users do not write.
pub(super) async fn store_side_dialogs(
    tx: &mut Tx,
    conversation: &str,
    dialogs: &[SideDialog],
) -> Result<(), Error> {
    for dialog in dialogs {
        on!(tx, |db| {
            sqlx::query(STORE_SIDE_DIALOG)
                .bind(dialog.id.as_str())
                .bind(conversation)
                .bind(i64::from(dialog.is_private))
                .execute(db)
                .await?
                .rows_affected()
        });
    }
    Ok(())
}

impl Store {
    /// Marks the unknown dialogs of messages that were withheld before a moment as not private, so
    /// that the messages can be released. Returns the dialogs.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn release_withheld(&self, before: DateTime<Utc>) -> Result<Vec<String>, Error> {
        let waiting: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT DISTINCT subject FROM unmatched_changes
                 WHERE withheld_of IS NOT NULL AND received_at < $1 LIMIT $2",
            )
            .bind(before.timestamp_millis())
            .bind(MAX_DIALOGS)
            .fetch_all(db)
            .await?
        });
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let subjects = batch(waiting.iter().map(|(subject,)| json!({"subject": subject})));
        run!(self, writer, |db| {
            sqlx::query(
                "INSERT INTO side_dialogs (id, conversation_id, is_private)
                 SELECT DISTINCT e.subject, c.id, 0
                 FROM unmatched_changes e JOIN conversations c ON c.id = e.withheld_of
                 WHERE e.subject IN (SELECT value ->> 'subject' FROM json_each($1))
                 ORDER BY 1
                 ON CONFLICT DO NOTHING",
            )
            .bind(subjects)
            .execute(db)
            .await?
            .rows_affected()
        });
        Ok(waiting.into_iter().map(|(subject,)| subject).collect())
    }
}
