//! Agents' messages that could not be delivered, and whose senders have still to be notified.

use chrono::{DateTime, Utc};

use super::{Error, Store, claiming, run};
use crate::types::ids::UserKey;

/// An agent's message that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueNack {
    /// The event of the message.
    pub event_id: String,
    /// The recipient of the message.
    pub key: UserKey,
    /// The event as it was to be delivered.
    pub body: String,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    id: String,
    body: String,
    account_id: String,
    namespace: String,
    user_id: String,
}

impl Store {
    /// Claims undelivered messages with an agent to notify, at most `limit`. No other claim
    /// returns them before `again_at`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_due_nacks(
        &self,
        now: DateTime<Utc>,
        again_at: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueNack>, Error> {
        let claim = claiming!(
            self,
            "UPDATE events SET nack_at = $2 WHERE id",
            "SELECT id FROM events WHERE nack_at <= $1 AND user_ref IS NOT NULL ORDER BY nack_at LIMIT $3",
            " RETURNING id, body,
                 (SELECT u.account_id FROM users u WHERE u.id = events.user_ref) AS account_id,
                 (SELECT u.namespace FROM users u WHERE u.id = events.user_ref) AS namespace,
                 (SELECT u.user_id FROM users u WHERE u.id = events.user_ref) AS user_id"
        );
        let rows: Vec<DueRow> = run!(self, writer, |db| {
            sqlx::query_as(claim)
                .bind(now.timestamp_millis())
                .bind(again_at.timestamp_millis())
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        rows.into_iter()
            .map(|row| {
                Ok(DueNack {
                    event_id: row.id,
                    key: super::rows::key(row.account_id, row.namespace, row.user_id)?,
                    body: row.body,
                })
            })
            .collect()
    }

    /// Records that the agent was notified, if the claim until `claimed_until` is still valid.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn clear_nack(
        &self,
        event_id: &str,
        claimed_until: DateTime<Utc>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE events SET nack_at = NULL WHERE id = $1 AND nack_at = $2",
        )
        .bind(event_id)
        .bind(claimed_until.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }
}
