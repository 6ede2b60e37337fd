//! Echoes of users' messages, and the notification lag of accounts.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::InFlight;
use crate::store::engine::tx::{EngineTx, Tx, on};
use crate::store::rows::batch;
use crate::store::{Error, Store, UserRef, run};
use crate::types::ids::AccountId;
use crate::types::message::Sequence;
use crate::types::sketch::Sketch;

/// 60 s: the most that the Cloud's clock may be behind ours.
const CLOUD_SKEW: TimeDelta = TimeDelta::seconds(60);

/// 5 s: the largest expected difference between the clocks of two replicas.
const REPLICA_SKEW: TimeDelta = TimeDelta::seconds(5);

/// The echo of a user's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// The dialog of the message.
    pub dialog_id: String,
    /// The sequence of the message in its dialog.
    pub sequence: Sequence,
    /// The digest of the message.
    pub digest: String,
    /// The sketch of its text; `None` for a file.
    pub sketch: Option<Sketch>,
    /// The time of sending by the Cloud's clock; `None` if the notification has none.
    pub sent_at: Option<DateTime<Utc>>,
}

/// The notification lag of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationLag {
    /// The time of the latest notification, by our clock.
    pub last_notified_at: DateTime<Utc>,
    /// The time, by the Cloud's clock, of the oldest event in the latest sample of notifications.
    /// `None` if no event of the sample has a time.
    pub oldest_change_at: Option<DateTime<Utc>>,
    /// The time, by our clock, of the latest notification that was late; `None` if there never was
    /// one.
    pub last_late_at: Option<DateTime<Utc>>,
}

/// Stores echoes, and makes the lanes due that may wait for one of them.
pub(in crate::store) async fn store_echoes(
    tx: &mut Tx,
    echoes: &[(UserRef, Echo)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if echoes.is_empty() {
        return Ok(());
    }
    // The lock order is the same as in settling requests, to avoid deadlocks: users before echoes,
    // and each of them sorted.
    let users = batch(echoes.iter().map(|(user, _)| json!({"user": user.0})));
    let make_due = match tx.engine {
        EngineTx::Postgres(_) => {
            "UPDATE users SET send_at = $2
             WHERE id = ANY (ARRAY(
                 SELECT id FROM users
                 WHERE id = ANY (ARRAY(SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1))) AND waiting > 0
                   AND EXISTS (SELECT 1 FROM requests r
                               WHERE r.user_ref = users.id AND COALESCE(r.settled_at, 0) = 0 AND r.state = 'unknown')
                 ORDER BY id FOR NO KEY UPDATE))"
        }
        EngineTx::Sqlite(_) => {
            "UPDATE users SET send_at = $2
             WHERE id IN (SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1)) AND waiting > 0
               AND EXISTS (SELECT 1 FROM requests r
                           WHERE r.user_ref = users.id AND COALESCE(r.settled_at, 0) = 0 AND r.state = 'unknown')"
        }
    };
    on!(tx, |db| sqlx::query(make_due)
        .bind(users)
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
    let mut sorted: Vec<_> = echoes.iter().collect();
    sorted.sort_by_key(|(_, echo)| (&echo.dialog_id, echo.sequence));
    let rows = batch(sorted.into_iter().map(|(user, echo)| {
        json!({
            "user": user.0,
            "dialog": echo.dialog_id,
            "sequence": echo.sequence,
            "digest": echo.digest,
            "sketch": echo.sketch.as_ref().map(Sketch::to_string),
            "sent_at": echo.sent_at.unwrap_or(now).timestamp_millis(),
        })
    }));
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO echoes (dialog_id, sequence, user_ref, digest, sketch, sent_at, received_at)
             SELECT value ->> 'dialog', CAST(value ->> 'sequence' AS BIGINT), CAST(value ->> 'user' AS BIGINT),
                    value ->> 'digest', value ->> 'sketch', CAST(value ->> 'sent_at' AS BIGINT), $2
             FROM json_each($1) WHERE true
             -- the row exists if the echo was attributed before it arrived
             ON CONFLICT DO NOTHING",
        )
        .bind(&rows)
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// Builds a row for [`attribute`]: an echo that is known to belong to a request. The echo need not
/// have arrived yet.
pub(super) fn attributed(
    user: UserRef,
    dialog_id: &str,
    sequence: Sequence,
    now: DateTime<Utc>,
) -> Value {
    json!({
        "dialog": dialog_id,
        "sequence": sequence,
        "user": user.0,
        "received_at": now.timestamp_millis(),
    })
}

/// Marks echoes as attributed: they are known to belong to a request.
pub(super) async fn attribute(
    tx: &mut Tx,
    echoes: impl Iterator<Item = &Value>,
) -> Result<(), Error> {
    // Sorted as in `store_echoes`. Duplicates are removed because one statement must not update a
    // row twice.
    let key = |echo: &Value| {
        let dialog_id = echo["dialog"].as_str().unwrap_or_default().to_owned();
        (dialog_id, echo["sequence"].as_i64())
    };
    let mut rows: Vec<_> = echoes.collect();
    rows.sort_by_cached_key(|echo| key(echo));
    rows.dedup_by_key(|echo| key(echo));
    if rows.is_empty() {
        return Ok(());
    }
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO echoes (dialog_id, sequence, user_ref, digest, sent_at, attributed, received_at)
             SELECT value ->> 'dialog', CAST(value ->> 'sequence' AS BIGINT), CAST(value ->> 'user' AS BIGINT), '', 0, 1,
                    CAST(value ->> 'received_at' AS BIGINT)
             FROM json_each($1) WHERE true
             ON CONFLICT (dialog_id, sequence) DO UPDATE SET attributed = 1",
        )
        .bind(batch(rows.into_iter()))
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

impl Store {
    /// Finds the echoes that may belong to an attempt, in the order of their sequences. Each comes
    /// with the time of its arrival, by our clock.
    ///
    /// These are the user's echoes in the dialog of the attempt that belong to no other message and
    /// that arrived after the attempt began. The comparison allows for the difference between
    /// clocks.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn find_echoes(
        &self,
        user: UserRef,
        in_flight: &InFlight,
    ) -> Result<Vec<(Echo, DateTime<Utc>)>, Error> {
        let rows: Vec<(i64, String, Option<String>, i64, i64)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT sequence, digest, sketch, sent_at, received_at FROM echoes
                 WHERE user_ref = $1 AND dialog_id = $2 AND attributed = 0 AND sent_at >= $3 AND received_at >= $4
                 ORDER BY sequence",
            )
            .bind(user.0)
            .bind(&in_flight.dialog_id)
            .bind((in_flight.begun_at - CLOUD_SKEW).timestamp_millis())
            .bind((in_flight.begun_at - REPLICA_SKEW).timestamp_millis())
            .fetch_all(db)
            .await?
        });
        let echoes = rows
            .into_iter()
            .map(|(sequence, digest, sketch, sent_at, received_at)| {
                let echo = Echo {
                    dialog_id: in_flight.dialog_id.clone(),
                    sequence: sequence.try_into().unwrap_or(Sequence::MAX),
                    digest,
                    sketch: sketch.and_then(|sketch| sketch.parse().ok()),
                    sent_at: Some(super::time(sent_at)?),
                };
                Ok((echo, super::time(received_at)?))
            });
        echoes.collect()
    }

    /// Removes echoes that arrived before a time, at most `limit`. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_echoes(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
            "DELETE FROM echoes WHERE (dialog_id, sequence) IN
                 (SELECT dialog_id, sequence FROM echoes WHERE received_at < $1 ORDER BY received_at LIMIT $2)",
        )
        .bind(before.timestamp_millis())
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected()
        }))
    }

    /// Stores the notification lag of an account.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn store_notification_lag(
        &self,
        account: &AccountId,
        lag: NotificationLag,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
            "INSERT INTO notification_lags (account_id, last_notified_at, oldest_change_at, last_late_at)
             VALUES ($1, $2, COALESCE($3, 0), COALESCE($4, 0))
             ON CONFLICT (account_id) DO UPDATE
                 SET last_notified_at = excluded.last_notified_at, oldest_change_at = COALESCE($3, notification_lags.oldest_change_at),
                     last_late_at = COALESCE($4, notification_lags.last_late_at)
             WHERE notification_lags.last_notified_at <= excluded.last_notified_at",
        )
        .bind(account.as_str())
        .bind(lag.last_notified_at.timestamp_millis())
        .bind(lag.oldest_change_at.map(|at| at.timestamp_millis()))
        .bind(lag.last_late_at.map(|at| at.timestamp_millis()))
        .execute(db)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// Reads the notification lag of an account.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn notification_lag(
        &self,
        account: &AccountId,
    ) -> Result<Option<NotificationLag>, Error> {
        let row: Option<(i64, i64, i64)> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT last_notified_at, oldest_change_at, last_late_at FROM notification_lags WHERE account_id = $1"
        )
        .bind(account.as_str())
        .fetch_optional(db)
        .await?
        });
        let known = |ms: i64| (ms > 0).then(|| super::time(ms)).transpose();
        row.map(|(last_notified_at, oldest_change_at, last_late_at)| {
            Ok(NotificationLag {
                last_notified_at: super::time(last_notified_at)?,
                oldest_change_at: known(oldest_change_at)?,
                last_late_at: known(last_late_at)?,
            })
        })
        .transpose()
    }
}
