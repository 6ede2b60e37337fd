//! Typing users. Their state is stored, so that another replica can end it if the one that set it
//! has died.

use chrono::{DateTime, Utc};

use super::{Error, Store, UserRef, run};
use crate::types::ids::UserKey;

/// The state of a user who types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typing {
    /// The time when the Cloud was last notified.
    pub sent_at: DateTime<Utc>,
    /// The time when the typing ends by itself.
    pub until: DateTime<Utc>,
}

/// A user with typing that is due to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTyping {
    /// The user's row.
    pub user: UserRef,
    /// The user.
    pub key: UserKey,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    id: i64,
    account_id: String,
    namespace: String,
    user_id: String,
}

impl Store {
    /// Stores that a user types.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn set_typing(&self, user: UserRef, typing: Typing) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE users SET typing_sent_at = $2, typing_until = $3 WHERE id = $1",
        )
        .bind(user.0)
        .bind(typing.sent_at.timestamp_millis())
        .bind(typing.until.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Sets the time when a user's typing ends. Does nothing for a user who does not type.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn end_typing(&self, user: UserRef, at: DateTime<Utc>) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE users SET typing_until = $2 WHERE id = $1 AND typing_until IS NOT NULL",
        )
        .bind(user.0)
        .bind(at.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Deletes a user's typing state, but only if it ends at `until`; `None` deletes it in any
    /// case.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn clear_typing(
        &self,
        user: UserRef,
        until: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE users SET typing_sent_at = NULL, typing_until = NULL
             WHERE id = $1 AND typing_until = COALESCE($2, typing_until)",
        )
        .bind(user.0)
        .bind(until.map(|until| until.timestamp_millis()))
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Claims users with typing that is due to end, at most `limit`. No other claim returns them
    /// before `again_at`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_due_typing(
        &self,
        now: DateTime<Utc>,
        again_at: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueTyping>, Error> {
        let rows: Vec<DueRow> = run!(self, writer, |db| {
            sqlx::query_as(
            "UPDATE users SET typing_until = $2, typing_sent_at = 0
             WHERE id IN (SELECT id FROM users WHERE typing_until <= $1 ORDER BY typing_until LIMIT $3)
               -- checked again with the row locked: another replica may have claimed it
               AND typing_until <= $1
             RETURNING id, account_id, namespace, user_id",
        )
        .bind(now.timestamp_millis())
        .bind(again_at.timestamp_millis())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?
        });
        rows.into_iter()
            .map(|row| {
                Ok(DueTyping {
                    user: UserRef(row.id),
                    key: super::rows::key(row.account_id, row.namespace, row.user_id)?,
                })
            })
            .collect()
    }
}
