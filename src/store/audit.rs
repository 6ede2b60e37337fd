//! The audit log. An entry is written in the transaction of the action that it describes; the
//! command `audit` reads it.
//!
//! Entries name no users, so no row here references one.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::engine::tx::{Tx, on};
use super::{Error, Store, run};
use crate::types::audit::{Action, Actor, Entry, EntryId, Record};
use crate::types::ids::ChannelId;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    at: i64,
    actor: String,
    channel_id: Option<String>,
    action: String,
    subject: Option<String>,
    details: Json<serde_json::Value>,
    request_id: Option<String>,
}

impl Store {
    /// Records an action that writes nothing else, or that has written everything else already.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn record_action(&self, entry: &Entry) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        record(&mut tx, entry).await?;
        tx.commit().await
    }

    /// Records that the schema was migrated to the newest version, unless that is recorded already.
    /// Returns the entry if this call has recorded it.
    ///
    /// Each migration has its own transaction, and this one comes after it. If a process dies in
    /// between, the next process writes the entry.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn record_migration(
        &self,
        actor: Actor,
        now: DateTime<Utc>,
    ) -> Result<Option<Entry>, Error> {
        let (newest, recorded): (i64, Option<i64>) = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT (SELECT max(version) FROM _sqlx_migrations),
                        (SELECT max(CAST(subject AS BIGINT)) FROM audit WHERE action = $1)",
            )
            .bind(Action::MIGRATE)
            .fetch_one(db)
            .await?
        });
        if recorded >= Some(newest) {
            return Ok(None);
        }
        let entry = Entry {
            id: EntryId::of_migration(newest),
            at: now,
            actor,
            channel_id: None,
            action: Action::Migrate {
                from: recorded,
                to: newest,
            },
            request_id: None,
        };
        let mut tx = self.begin().await?;
        let is_first = insert(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(is_first.then_some(entry))
    }

    /// Lists the newest entries since a time, at most `limit`, the oldest of them first.
    /// `channel_id` limits them to one channel; `None` lists all entries, including those without a
    /// channel.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn recorded_actions(
        &self,
        since: DateTime<Utc>,
        channel_id: Option<&ChannelId>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let rows: Vec<Row> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT id, at, actor, channel_id, action, subject, details, request_id FROM audit
                 WHERE at >= $1 AND ($2 IS NULL OR channel_id = $2)
                 ORDER BY at DESC, id DESC LIMIT $3",
            )
            .bind(since.timestamp_millis())
            .bind(channel_id.map(ChannelId::as_str))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().rev().map(Record::try_from).collect()
    }

    /// Lists the newest `limit` entries with this subject, such as the id of an event, the oldest
    /// of them first.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn actions_on(&self, subject: &str, limit: u32) -> Result<Vec<Record>, Error> {
        let rows: Vec<Row> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT id, at, actor, channel_id, action, subject, details, request_id FROM audit
                 WHERE subject = $1 ORDER BY at DESC, id DESC LIMIT $2",
            )
            .bind(subject)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().rev().map(Record::try_from).collect()
    }

    /// Removes entries that are older than `before`, at most `limit`. Returns their number. The
    /// newest entry of a migration stays, because it shows if the next migration is new.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_recorded_actions(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| {
            sqlx::query(
            "DELETE FROM audit WHERE id IN
                 (SELECT id FROM audit
                  WHERE at < $1
                    AND CASE WHEN action = $3
                             THEN CAST(subject AS BIGINT) < (SELECT max(CAST(subject AS BIGINT)) FROM audit WHERE action = $3)
                             ELSE TRUE END
                  ORDER BY at, id LIMIT $2)",
        )
        .bind(before.timestamp_millis())
        .bind(i64::from(limit))
        .bind(Action::MIGRATE)
        .execute(db)
        .await?
        .rows_affected()
        }))
    }
}

/// Records an action in the transaction that carries it out. An action with several transactions
/// calls this in each of them, and each later call updates the details of the entry.
pub(super) async fn record(tx: &mut Tx, entry: &Entry) -> Result<(), Error> {
    if insert(tx, entry).await? {
        return Ok(());
    }
    let record = entry.record();
    on!(tx, |db| {
        sqlx::query("UPDATE audit SET details = $2 WHERE id = $1")
            .bind(record.id)
            .bind(Json(record.details))
            .execute(db)
            .await?
            .rows_affected()
    });
    Ok(())
}

/// Inserts an entry, unless it exists already. Returns true if it was inserted.
async fn insert(tx: &mut Tx, entry: &Entry) -> Result<bool, Error> {
    let record = entry.record();
    let rows = on!(tx, |db| {
        sqlx::query(
            "INSERT INTO audit (id, at, actor, channel_id, action, subject, details, request_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&record.id)
        .bind(record.at.timestamp_millis())
        .bind(&record.actor)
        .bind(&record.channel)
        .bind(&record.action)
        .bind(&record.subject)
        .bind(Json(&record.details))
        .bind(&record.request_id)
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(rows == 1)
}

impl TryFrom<Row> for Record {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.id,
            at: DateTime::from_timestamp_millis(row.at).ok_or(Error::Unreadable {
                what: "time of an entry of the audit log",
            })?,
            actor: row.actor,
            channel: row.channel_id,
            action: row.action,
            subject: row.subject,
            details: row.details.0,
            request_id: row.request_id,
        })
    }
}
