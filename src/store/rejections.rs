//! Rejected notifications: their number for each account and reason, and the times of the first and
//! the last one.
//!
//! Readers query the database, so every replica and `doctor` report the same numbers. A row covers
//! a run of rejections: after a day without one, the count starts again.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::rows::batch;
use super::{Error, Store, run};
use crate::types::ids::AccountId;
use crate::types::rejection::Rejected;

/// 1 day: after a pause of this length, the count starts again.
const RESET_AFTER: TimeDelta = TimeDelta::days(1);

impl Store {
    /// Adds rejections to the counts.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is added then.
    pub async fn add_rejections(&self, rejections: &[Rejected]) -> Result<(), Error> {
        let rows = batch(rejections.iter().map(|rejected| {
            json!({
                "account": rejected.account_id.as_ref().map_or("", AccountId::as_str),
                "reason": rejected.reason.as_str(),
                "count": rejected.count,
                "first_at": rejected.first_at.timestamp_millis(),
                "last_at": rejected.last_at.timestamp_millis(),
            })
        }));
        run!(self, writer, |db| {
            sqlx::query(
                "INSERT INTO rejected_notifications (account_id, reason, count, first_at, last_at)
                 SELECT value ->> 'account', value ->> 'reason', CAST(value ->> 'count' AS BIGINT),
                        CAST(value ->> 'first_at' AS BIGINT), CAST(value ->> 'last_at' AS BIGINT)
                 FROM json_each($1) WHERE true
                 -- sorted, so that two replicas do not deadlock
                 ORDER BY 1, 2
                 ON CONFLICT (account_id, reason) DO UPDATE SET
                     count = excluded.count
                         + CASE WHEN excluded.first_at - rejected_notifications.last_at < $2
                                THEN rejected_notifications.count ELSE 0 END,
                     first_at =
                         CASE WHEN excluded.first_at - rejected_notifications.last_at < $2
                              THEN rejected_notifications.first_at ELSE excluded.first_at END,
                     last_at = CASE WHEN excluded.last_at > rejected_notifications.last_at
                                    THEN excluded.last_at ELSE rejected_notifications.last_at END",
            )
            .bind(rows)
            .bind(RESET_AFTER.num_milliseconds())
            .execute(db)
            .await?
            .rows_affected()
        });
        Ok(())
    }

    /// Lists all counts, the latest rejection first.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn rejections(&self) -> Result<Vec<Rejected>, Error> {
        let rows: Vec<(String, String, i64, i64, i64)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT account_id, reason, count, first_at, last_at FROM rejected_notifications
                 ORDER BY last_at DESC, account_id, reason",
            )
            .fetch_all(db)
            .await?
        });
        let time = |ms| {
            DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
                what: "time of a rejected notification",
            })
        };
        let mut rejections = Vec::new();
        for (account_id, reason, count, first_at, last_at) in rows {
            // A newer version may store reasons that this one does not know.
            let Ok(reason) = reason.parse() else {
                continue;
            };
            rejections.push(Rejected {
                account_id: account_id.parse().ok(),
                reason,
                count: count.unsigned_abs(),
                first_at: time(first_at)?,
                last_at: time(last_at)?,
            });
        }
        Ok(rejections)
    }

    /// Removes counts with a last rejection before a time, at most `limit`. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_rejections(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
                "DELETE FROM rejected_notifications WHERE (account_id, reason) IN
                     (SELECT account_id, reason FROM rejected_notifications WHERE last_at < $1 LIMIT $2)",
            )
            .bind(before.timestamp_millis())
            .bind(i64::from(limit))
            .execute(db)
            .await?
            .rows_affected()
        }))
    }
}
