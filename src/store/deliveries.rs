//! What operators see of deliveries, and what they can do about them: send again, catch up, let a callback go on.
//!
//! A delivery is an event with what becomes of it, so there is no row of its own. What makes events pending again also
//! notes it in their lanes, in the same transaction and in the order in which everybody takes rows: events, then lanes.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::audit::record;
use super::engine::tx::{Side, Tx, on};
use super::log::fill_lanes;
use super::rows::batch;
use super::{Error, Store, run};
use crate::types::audit::Entry;
use crate::types::delivery::{Attempt, Delivery, DeliveryState, EventRecord, Replay};
use crate::types::event::{EventId, EventType};
use crate::types::ids::{ChannelId, UserId};

/// Events that a replay takes at once: enough to be quick, few enough that no lane is held up.
const REPLAY_BATCH: i64 = 500;

/// How far one has come through what a replay is about.
struct Walk<'a> {
    channel_id: &'a ChannelId,
    replay: &'a Replay,
    /// The row of the user whom it is about; none where it is about all.
    user: Option<i64>,
    /// The place of the last event so far.
    after: i64,
    /// How many there were.
    count: u64,
}

#[derive(sqlx::FromRow)]
pub(super) struct DeliveryRow {
    position: i64,
    id: String,
    kind: String,
    user_id: Option<String>,
    created_at: i64,
    deliver_until: Option<i64>,
    attempts: i64,
    failure: Option<String>,
}

#[derive(sqlx::FromRow)]
struct EventRow {
    position: i64,
    kind: String,
    body: String,
    created_at: i64,
    delivery: Option<String>,
    deliver_until: Option<i64>,
    failure: Option<String>,
}

#[derive(sqlx::FromRow)]
struct AttemptRow {
    number: i64,
    at: i64,
    duration_ms: i64,
    status: Option<i64>,
    error: Option<String>,
}

impl Store {
    /// Events of a channel whose delivery is in a state, behind a position of its log and in its order; `limit` at most.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn deliveries(
        &self,
        channel_id: &ChannelId,
        state: DeliveryState,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Delivery>, Error> {
        // One text for each state: a partial index serves only who names its condition word by word.
        macro_rules! list {
            ($condition:literal) => {
                concat!(
                    "SELECT e.position, e.id, e.kind, u.user_id, e.created_at, e.deliver_until, e.attempts, e.failure
                     FROM events e LEFT JOIN users u ON u.id = e.user_ref
                     WHERE e.channel_id = $1 AND e.position > $2 AND ",
                    $condition,
                    " ORDER BY e.position LIMIT $3"
                )
            };
        }
        let list = match state {
            DeliveryState::Pending => list!("e.delivery = 'pending'"),
            DeliveryState::Delivered => list!("e.delivery = 'delivered'"),
            DeliveryState::Failed => list!("e.delivery = 'failed'"),
            DeliveryState::Dropped => list!("e.delivery = 'dropped'"),
        };
        let rows: Vec<DeliveryRow> = run!(self, readers, |db| {
            sqlx::query_as(list)
                .bind(channel_id.as_str())
                .bind(i64::try_from(after.unwrap_or_default()).unwrap_or(i64::MAX))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        rows.into_iter().map(Delivery::try_from).collect()
    }

    /// An event of a channel, with every try to deliver it.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn event(
        &self,
        channel_id: &ChannelId,
        id: EventId,
    ) -> Result<Option<EventRecord>, Error> {
        let row: Option<EventRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT position, kind, body, created_at, delivery, deliver_until, failure
                 FROM events WHERE id = $1 AND channel_id = $2",
            )
            .bind(id.to_string())
            .bind(channel_id.as_str())
            .fetch_optional(db)
            .await?
        });
        let Some(row) = row else {
            return Ok(None);
        };
        let attempts: Vec<AttemptRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT number, at, duration_ms, status, error FROM attempts
                 WHERE event_id = $1 ORDER BY number",
            )
            .bind(id.to_string())
            .fetch_all(db)
            .await?
        });
        Ok(Some(EventRecord {
            position: row.position.unsigned_abs(),
            kind: row.kind,
            body: row.body,
            created_at: time(row.created_at)?,
            delivery: row
                .delivery
                .as_deref()
                .map(DeliveryState::read)
                .transpose()?,
            deliver_until: row.deliver_until.map(time).transpose()?,
            failure: row.failure,
            attempts: attempts
                .into_iter()
                .map(Attempt::try_from)
                .collect::<Result<_, _>>()?,
        }))
    }

    /// Has an event delivered, whatever became of it before, as soon as the events before it allow, and records that.
    ///
    /// Says whether it will be: what somebody was typing is not sent again. `None`: the channel has no such event.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn retry_delivery(
        &self,
        channel_id: &ChannelId,
        id: EventId,
        now: DateTime<Utc>,
        deliver_until: DateTime<Utc>,
        entry: &Entry,
    ) -> Result<Option<bool>, Error> {
        let mut tx = self.begin().await?;
        let event: Option<(String, Option<i64>)> = on!(tx, |db| {
            sqlx::query_as("SELECT kind, user_ref FROM events WHERE id = $1 AND channel_id = $2")
                .bind(id.to_string())
                .bind(channel_id.as_str())
                .fetch_optional(db)
                .await?
        });
        let Some((kind, user)) = event else {
            return Ok(None);
        };
        if kind == EventType::TypingChanged.as_str() {
            return Ok(Some(false));
        }
        on!(tx, |db| {
            sqlx::query(
                "UPDATE events SET delivery = 'pending', deliver_until = $2, failure = NULL, nack_at = NULL
                 WHERE id = $1",
            )
            .bind(id.to_string())
            .bind(deliver_until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
        });
        fill_lanes(&mut tx, channel_id, &[user], now).await?;
        hurry_lanes(&mut tx, channel_id, &[user], now).await?;
        record(&mut tx, entry).await?;
        tx.ring(channel_id.clone());
        tx.commit().await?;
        Ok(Some(true))
    }

    /// Has events delivered again, in their users' order, says how many, and records that: `entry` is what to record of so
    /// many. Where there are none, nothing is recorded.
    ///
    /// What somebody was typing is not sent again. Events that are pending are hurried where they are asked for.
    ///
    /// # Errors
    ///
    /// When the database does not answer; what was replayed until then is, and recorded.
    pub async fn replay_deliveries(
        &self,
        channel_id: &ChannelId,
        replay: &Replay,
        now: DateTime<Utc>,
        deliver_until: DateTime<Utc>,
        entry: impl Fn(u64) -> Entry + Send + Sync,
    ) -> Result<u64, Error> {
        let Some(mut walk) = self.walk(channel_id, replay).await? else {
            return Ok(0);
        };
        while let Some(found) = self.replayable(&mut walk).await? {
            let mut tx = self.begin().await?;
            replay_batch(&mut tx, channel_id, &found, now, deliver_until).await?;
            record(&mut tx, &entry(walk.count)).await?;
            tx.commit().await?;
        }
        Ok(walk.count)
    }

    /// How many events a replay would be about.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_replayable(
        &self,
        channel_id: &ChannelId,
        replay: &Replay,
    ) -> Result<u64, Error> {
        let Some(mut walk) = self.walk(channel_id, replay).await? else {
            return Ok(0);
        };
        while self.replayable(&mut walk).await?.is_some() {}
        Ok(walk.count)
    }

    /// A walk through what a replay is about; none where nobody knows its user.
    async fn walk<'a>(
        &self,
        channel_id: &'a ChannelId,
        replay: &'a Replay,
    ) -> Result<Option<Walk<'a>>, Error> {
        let user = match &replay.user {
            Some(key) => match self.standing(key).await? {
                Some(standing) => Some(standing.user.0),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(Some(Walk {
            channel_id,
            replay,
            user,
            after: 0,
            count: 0,
        }))
    }

    /// Lets a channel's callbacks go on that were paused or only probed, and everything that waits be sent at once, and
    /// records that.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn resume_callback(
        &self,
        channel_id: &ChannelId,
        now: DateTime<Utc>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query(
            "UPDATE callbacks SET failures = 0, paused_at = NULL, held_at = NULL, probe_at = NULL WHERE channel_id = $1",
        )
        .bind(channel_id.as_str())
        .execute(db)
        .await?
        .rows_affected()
        });
        record(&mut tx, entry).await?;
        tx.commit().await?;
        self.wake_lanes(channel_id, now).await
    }

    /// Places and users of the next events that a replay is about; none at its end.
    async fn replayable(
        &self,
        walk: &mut Walk<'_>,
    ) -> Result<Option<Vec<(i64, Option<i64>)>>, Error> {
        let replay = walk.replay;
        macro_rules! find {
            ($condition:literal) => {
                concat!(
                    "SELECT position, user_ref FROM events
                     WHERE channel_id = $1 AND position > $2 AND created_at >= $3 AND created_at < $4
                       AND ($5 IS NULL OR user_ref = $5) AND kind <> $7 AND ",
                    $condition,
                    " ORDER BY position LIMIT $6"
                )
            };
        }
        let find = match replay.state {
            Some(DeliveryState::Pending) => find!("delivery = 'pending'"),
            Some(DeliveryState::Delivered) => find!("delivery = 'delivered'"),
            Some(DeliveryState::Failed) => find!("delivery = 'failed'"),
            Some(DeliveryState::Dropped) => find!("delivery = 'dropped'"),
            None => find!("delivery IS DISTINCT FROM 'pending'"),
        };
        let until = replay.until.map_or(i64::MAX, |at| at.timestamp_millis());
        let found: Vec<(i64, Option<i64>)> = run!(self, readers, |db| {
            sqlx::query_as(find)
                .bind(walk.channel_id.as_str())
                .bind(walk.after)
                .bind(replay.since.timestamp_millis())
                .bind(until)
                .bind(walk.user)
                .bind(REPLAY_BATCH)
                .bind(EventType::TypingChanged.as_str())
                .fetch_all(db)
                .await?
        });
        let Some((last, _)) = found.last() else {
            return Ok(None);
        };
        walk.after = *last;
        walk.count += u64::try_from(found.len()).unwrap_or(u64::MAX);
        Ok(Some(found))
    }
}

/// The text that makes events pending again, whose rows are held in the order of their log, as by those who settle tries.
macro_rules! replay {
    ($in:literal, $locking:literal) => {
        concat!(
            "UPDATE events SET delivery = 'pending', deliver_until = $3, failure = NULL, nack_at = NULL
             WHERE id ",
            $in,
            "(SELECT id FROM events WHERE channel_id = $1
                AND position IN (SELECT CAST(value ->> 'position' AS BIGINT) FROM json_each($2))",
            $locking
        )
    };
}

/// Makes events pending again.
async fn replay_batch(
    tx: &mut Tx,
    channel_id: &ChannelId,
    found: &[(i64, Option<i64>)],
    now: DateTime<Utc>,
    deliver_until: DateTime<Utc>,
) -> Result<(), Error> {
    let positions = batch(found.iter().map(|(at, _)| json!({"position": at})));
    let replay = match &tx.side {
        Side::Postgres(_) => replay!("= ANY (ARRAY", " ORDER BY position FOR UPDATE))"),
        Side::Sqlite(_) => replay!("IN ", ")"),
    };
    on!(tx, |db| {
        sqlx::query(replay)
            .bind(channel_id.as_str())
            .bind(positions)
            .bind(deliver_until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
    });
    let mut users: Vec<_> = found.iter().map(|(_, user)| *user).collect();
    users.sort_unstable();
    users.dedup();
    fill_lanes(tx, channel_id, &users, now).await?;
    hurry_lanes(tx, channel_id, &users, now).await?;
    tx.ring(channel_id.clone());
    Ok(())
}

/// Lets lanes that wait after a failure be taken now; called with their rows held.
async fn hurry_lanes(
    tx: &mut Tx,
    channel_id: &ChannelId,
    users: &[Option<i64>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "UPDATE delivery_lanes SET due_at = $3, failures = 0
             WHERE channel_id = $1 AND due_at > $3 AND lease_id IS NULL
               AND COALESCE(user_ref, 0) IN
                   (SELECT COALESCE(CAST(value ->> 'user' AS BIGINT), 0) FROM json_each($2))",
        )
        .bind(channel_id.as_str())
        .bind(batch(users.iter().map(|user| json!({"user": user}))))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// A moment as the store keeps it.
pub(super) fn time(ms: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
        what: "time of an event",
    })
}

impl DeliveryState {
    /// The word that the store keeps.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    fn read(text: &str) -> Result<Self, Error> {
        let all = [Self::Pending, Self::Delivered, Self::Failed, Self::Dropped];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(Error::Unreadable {
                what: "state of a delivery",
            })
    }
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = Error;

    fn try_from(row: DeliveryRow) -> Result<Self, Error> {
        let unreadable = |what| move |_| Error::Unreadable { what };
        Ok(Self {
            position: row.position.unsigned_abs(),
            id: row.id.parse().map_err(unreadable("event's id"))?,
            kind: row.kind,
            user_id: row
                .user_id
                .map(UserId::try_from)
                .transpose()
                .map_err(unreadable("user's id"))?,
            created_at: time(row.created_at)?,
            deliver_until: row.deliver_until.map(time).transpose()?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            failure: row.failure,
        })
    }
}

impl TryFrom<AttemptRow> for Attempt {
    type Error = Error;

    fn try_from(row: AttemptRow) -> Result<Self, Error> {
        Ok(Self {
            number: u32::try_from(row.number).unwrap_or(u32::MAX),
            at: time(row.at)?,
            duration_ms: row.duration_ms.unsigned_abs(),
            status: row.status.and_then(|status| u16::try_from(status).ok()),
            error: row.error,
        })
    }
}
