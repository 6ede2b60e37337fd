//! What is not kept for ever, removed a batch at a time, so that nobody waits long for it.
//!
//! Several replicas may remove at once: what one has removed the other does not find.

use chrono::{DateTime, Utc};

use super::engine::tx::on;
use super::{Error, Store, run};
use crate::types::ids::ChannelId;

/// What makes an event one that nobody waits for: `$2` is when it has become old, `$3` when its delivery was given up
/// without anybody saying so.
macro_rules! removable {
    () => {
        "created_at < $2
         AND (COALESCE(deliver_until < $3, FALSE)
              OR (delivery IS DISTINCT FROM 'pending' AND nack_at IS NULL))"
    };
}

impl Store {
    /// The channels that have a log, whether they are still configured or not.
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

    /// Removes the oldest events of a log that came before a moment, `limit` at most, and with them their attempts; says
    /// how many. The first that is younger, or that somebody still waits for, keeps all behind it: those whose delivery is
    /// pending, and agents' messages whose failure the Cloud is still to be told. They are waited for until
    /// `abandoned_before` is past the end of their delivery.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is removed then.
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
        // The log's row first, as whoever adds events takes it.
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
                 -- one that is to be delivered again since it was looked at stays
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

    /// Forgets changes that were seen before a moment, `limit` at most; says how many.
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

    /// Drops kept changes that came before a moment and are of no conversation that is known by now, and all that came
    /// before `matchable_before`; `limit` at most; says how many.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_early_changes(
        &self,
        before: DateTime<Utc>,
        matchable_before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
                "DELETE FROM early_changes WHERE id IN
                 (SELECT e.id FROM early_changes e
                  WHERE e.received_at < $1
                    AND (e.received_at < $2
                      OR NOT EXISTS (SELECT 1 FROM dialogs d WHERE d.id = e.place)
                         AND NOT EXISTS (SELECT 1 FROM side_dialogs s WHERE s.id = e.place))
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

    /// Removes the write checks of replicas that made none since a moment, `limit` at most; says how many.
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

    /// Forgets which conversations were erased before a moment, `limit` at most; says how many.
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
