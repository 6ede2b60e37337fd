//! Retention: removes old rows in small batches, so that no other statement waits long.
//!
//! Several replicas may remove rows at once. A replica does not find the rows that another one has
//! removed.

use chrono::{DateTime, Utc};

use super::engine::tx::on;
use super::{Error, Store, run};
use crate::types::ids::ChannelId;

/// The condition under which an event may be removed: it is older than `$2`, and nothing is pending
/// for it. Its delivery and the notification of an agent count as abandoned if the delivery
/// deadline was before `$3`.
macro_rules! removable {
    () => {
        "created_at < $2
         AND (COALESCE(deliver_until < $3, FALSE)
              OR (delivery IS DISTINCT FROM 'pending' AND nack_at IS NULL))"
    };
}

impl Store {
    /// Lists the channels that have a log, including those that are not configured any more.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn logs(&self) -> Result<Vec<ChannelId>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT channel_id FROM logs ORDER BY channel_id")
                .fetch_all(db)
                .await?
        });
        rows.into_iter()
            .map(|(id,)| {
                id.parse()
                    .map_err(|_| Error::Unreadable { what: "channel id" })
            })
            .collect()
    }

    /// Removes the oldest events of a log, as far as they are older than `before`, with their
    /// attempts. Removes at most `limit` and returns their number.
    ///
    /// Removal stops at the first event that is younger or has something pending: its delivery, or
    /// the notification of an agent about a failed message. Neither counts as pending any more if
    /// the event's delivery deadline is before `abandoned_before`.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is removed then.
    pub async fn remove_events(
        &self,
        channel_id: &ChannelId,
        before: DateTime<Utc>,
        abandoned_before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let oldest: Vec<(i64, i64)> = run!(self, readers, |db| {
            sqlx::query_as(concat!(
                "SELECT position, CAST(CASE WHEN ",
                removable!(),
                " THEN 1 ELSE 0 END AS BIGINT)
                 FROM events WHERE channel_id = $1 ORDER BY position LIMIT $4"
            ))
            .bind(channel_id.as_str())
            .bind(before.timestamp_millis())
            .bind(abandoned_before.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        let removable = oldest.iter().take_while(|(_, removable)| *removable == 1);
        let Some((last, _)) = removable.last() else {
            return Ok(0);
        };
        let mut tx = self.begin().await?;
        // The log's row is locked first, as in appending events.
        on!(tx, |db| {
            sqlx::query("UPDATE logs SET floor = $2 WHERE channel_id = $1 AND floor < $2")
                .bind(channel_id.as_str())
                .bind(last)
                .execute(db)
                .await?
                .rows_affected()
        });
        let removed = on!(tx, |db| {
            sqlx::query(concat!(
                "DELETE FROM events WHERE channel_id = $1 AND position <= $4
                 -- an event that has become pending since the first statement stays
                 AND ",
                removable!()
            ))
            .bind(channel_id.as_str())
            .bind(before.timestamp_millis())
            .bind(abandoned_before.timestamp_millis())
            .bind(last)
            .execute(db)
            .await?
            .rows_affected()
        });
        tx.commit().await?;
        Ok(removed)
    }

    /// Removes keys of changes that were seen before a time, at most `limit`. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_seen_changes(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| sqlx::query(
            "DELETE FROM seen_changes WHERE key IN
                 (SELECT key FROM seen_changes WHERE seen_at < $1 ORDER BY seen_at LIMIT $2)",
        )
        .bind(before.timestamp_millis())
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected()))
    }

    /// Removes unmatched changes, at most `limit`: those older than `before` with a conversation
    /// that is still unknown, and all that are older than `matchable_before`. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_unmatched_changes(
        &self,
        before: DateTime<Utc>,
        matchable_before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
                "DELETE FROM unmatched_changes WHERE id IN
                 (SELECT e.id FROM unmatched_changes e
                  WHERE e.received_at < $1
                    AND (e.received_at < $2
                      OR NOT EXISTS (SELECT 1 FROM dialogs d WHERE d.id = e.subject)
                         AND NOT EXISTS (SELECT 1 FROM side_dialogs s WHERE s.id = e.subject))
                  ORDER BY e.received_at LIMIT $3)",
            )
            .bind(before.timestamp_millis())
            .bind(matchable_before.timestamp_millis())
            .bind(i64::from(limit))
            .execute(db)
            .await?
            .rows_affected()
        }))
    }

    /// Removes the write checks of replicas that have made none since a time, at most `limit`.
    /// Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_write_checks(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
                "DELETE FROM write_checks WHERE replica IN
                 (SELECT replica FROM write_checks WHERE written_at < $1 LIMIT $2)",
            )
            .bind(before.timestamp_millis())
            .bind(i64::from(limit))
            .execute(db)
            .await?
            .rows_affected()
        }))
    }

    /// Removes the record of conversations that were erased before a time, at most `limit`. Returns
    /// their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_erased_conversations(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
            "DELETE FROM erased_conversations WHERE key IN
                 (SELECT key FROM erased_conversations WHERE erased_at < $1 ORDER BY erased_at LIMIT $2)",
        )
        .bind(before.timestamp_millis())
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected()
        }))
    }
}
