//! Reads unmatched changes without deleting them. The command `doctor` uses this to follow a
//! conversation of its own, for which no user and no channel is known.

use chrono::{DateTime, Utc};

use super::announcement::time;
use crate::store::{Error, Store, run};
use crate::types::ids::{AccountId, ConversationId};

/// 1,000: the maximum number of rows that one call returns.
const MAX_ROWS: i64 = 1000;

/// An unmatched change: it is kept because its conversation is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedChange {
    /// The type of its notification.
    pub kind: String,
    /// The change as it was received.
    pub body: String,
    /// The form of the notification's signature; `None` if an older version stored the change.
    pub signed: Option<String>,
    /// The time at which it was received.
    pub received_at: DateTime<Utc>,
}

impl Store {
    /// Returns the unmatched changes of a conversation, in the order of their arrival.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn unmatched_changes_of(
        &self,
        account_id: &AccountId,
        conversation_id: &ConversationId,
    ) -> Result<Vec<UnmatchedChange>, Error> {
        let rows: Vec<(String, String, Option<String>, i64)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT kind, body, signed, received_at FROM unmatched_changes
                 WHERE subject = $1 AND account_id = $2 ORDER BY id LIMIT $3",
            )
            .bind(conversation_id.as_str())
            .bind(account_id.as_str())
            .bind(MAX_ROWS)
            .fetch_all(db)
            .await?
        });
        let changes = rows.into_iter().map(|(kind, body, signed, received_at)| {
            Ok(UnmatchedChange {
                kind,
                body,
                signed,
                received_at: time(received_at)?,
            })
        });
        changes.collect()
    }

    /// Returns the conversations of a consumer that are open according to unmatched changes.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn unmatched_open_conversations(
        &self,
        account_id: &AccountId,
        consumer_id: &str,
    ) -> Result<Vec<ConversationId>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT subject FROM unmatched_changes WHERE account_id = $1 AND consumer_id = $2 AND state IS NOT NULL
                 GROUP BY subject HAVING MAX(CASE WHEN state = 'closed' THEN 1 ELSE 0 END) = 0
                 ORDER BY subject LIMIT $3",
            )
            .bind(account_id.as_str())
            .bind(consumer_id)
            .bind(MAX_ROWS)
            .fetch_all(db)
            .await?
        });
        Ok(rows
            .into_iter()
            .filter_map(|(subject,)| subject.parse().ok())
            .collect())
    }

    /// Deletes the unmatched changes of a conversation and returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is deleted then.
    pub async fn remove_unmatched_changes_of(
        &self,
        account_id: &AccountId,
        conversation_id: &ConversationId,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query("DELETE FROM unmatched_changes WHERE subject = $1 AND account_id = $2")
                .bind(conversation_id.as_str())
                .bind(account_id.as_str())
                .execute(db)
                .await?
                .rows_affected()
        }))
    }
}
