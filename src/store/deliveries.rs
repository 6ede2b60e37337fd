//! Operators' view of deliveries, and the actions on them: retry, replay, and resuming a callback.
//!
//! A delivery has no row of its own: it is an event with its delivery state. A transaction that
//! makes events pending again also makes their lanes due. It locks rows in the same order as all
//! other transactions: lanes, then events.
//!
//! The attempt that delivered an event is stored in the event's row, all others in `attempts`.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::audit::record;
use super::delivery_lanes::mark_lanes_due;
use super::engine::tx::{Tx, on};
use super::locks::lock_events;
use super::rows::{batch, time};
use super::{Error, Store, run};
use crate::types::audit::Entry;
use crate::types::delivery::{Attempt, Delivery, DeliveryState, EventRecord, ReplaySelection};
use crate::types::event::{EventId, EventType};
use crate::types::ids::{ChannelId, UserId};

/// The number of events that a replay handles in one transaction. It is large enough to be fast,
/// and small enough not to block a lane for long.
const REPLAY_BATCH: i64 = 500;

/// The statement that moves the attempts that delivered events to the table of attempts, before the
/// events become pending again. A row may exist already if a version that does not know the columns
/// has delivered the event again.
macro_rules! keep_attempts {
    ($condition:expr) => {
        concat!(
            "INSERT INTO attempts (event_id, number, at, duration_ms, status)
             SELECT id, attempts, attempted_at, duration_ms, status FROM events
             WHERE attempted_at IS NOT NULL AND ",
            $condition,
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// The statement that makes events pending again, with a new deadline.
macro_rules! make_pending {
    ($deliver_until:literal, $condition:expr) => {
        concat!(
            "UPDATE events SET delivery = 'pending', deliver_until = ",
            $deliver_until,
            ", failure = NULL, nack_at = NULL, attempted_at = NULL, duration_ms = NULL, status = NULL
             WHERE ",
            $condition
        )
    };
}

/// The progress of a replay through its events.
struct ReplayProgress<'a> {
    channel_id: &'a ChannelId,
    replay: &'a ReplaySelection,
    /// The row of the user; `None` for all users.
    user: Option<i64>,
    /// The position of the last event so far.
    after: i64,
    /// The number of events so far.
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
    /// Lists events of a channel with this delivery state, at most `limit`, in the order of the
    /// log. With `after`, only events after that position are listed.
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
        // One statement for each state: a partial index is used only if the query repeats its
        // condition literally.
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

    /// Reads an event of a channel with all its delivery attempts.
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
                "SELECT number, at, duration_ms, status, error FROM attempts WHERE event_id = $1
                 UNION ALL
                 SELECT attempts, attempted_at, duration_ms, status, NULL FROM events
                 WHERE id = $1 AND attempted_at IS NOT NULL
                 ORDER BY number",
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

    /// Makes an event pending again, whatever its delivery state, and records that in the audit
    /// log. It is delivered after the pending events before it in its lane.
    ///
    /// Returns true if it will be delivered; a typing event is never delivered again. Returns
    /// `None` if the channel has no such event.
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
        mark_lanes_due(&mut tx, channel_id, &[user], now).await?;
        end_back_off(&mut tx, channel_id, &[user], now).await?;
        lock_events!(tx, "SELECT id FROM events WHERE id = $1", id.to_string());
        on!(tx, |db| {
            sqlx::query(keep_attempts!("id = $1"))
                .bind(id.to_string())
                .execute(db)
                .await?
                .rows_affected()
        });
        on!(tx, |db| {
            sqlx::query(make_pending!("$2", "id = $1"))
                .bind(id.to_string())
                .bind(deliver_until.timestamp_millis())
                .execute(db)
                .await?
                .rows_affected()
        });
        record(&mut tx, entry).await?;
        tx.wake(channel_id.clone());
        tx.commit().await?;
        Ok(Some(true))
    }

    /// Delivers events again, in the order of each user's events. Returns their number. `entry`
    /// builds the audit entry from the number of events. If there are none, nothing is recorded.
    ///
    /// Typing events are not replayed. Pending events are replayed only if the replay asks for
    /// them; they become due at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Events that were replayed before the error stay replayed,
    /// and are recorded.
    pub async fn replay_deliveries(
        &self,
        channel_id: &ChannelId,
        replay: &ReplaySelection,
        now: DateTime<Utc>,
        deliver_until: DateTime<Utc>,
        entry: impl Fn(u64) -> Entry + Send + Sync,
    ) -> Result<u64, Error> {
        let Some(mut progress) = self.begin_replay(channel_id, replay).await? else {
            return Ok(0);
        };
        while let Some(found) = self.next_replay_batch(&mut progress).await? {
            let mut tx = self.begin().await?;
            replay_batch(&mut tx, channel_id, &found, now, deliver_until).await?;
            record(&mut tx, &entry(progress.count)).await?;
            tx.commit().await?;
        }
        Ok(progress.count)
    }

    /// Counts the events of a replay.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_replayable(
        &self,
        channel_id: &ChannelId,
        replay: &ReplaySelection,
    ) -> Result<u64, Error> {
        let Some(mut progress) = self.begin_replay(channel_id, replay).await? else {
            return Ok(0);
        };
        while self.next_replay_batch(&mut progress).await?.is_some() {}
        Ok(progress.count)
    }

    /// Begins a replay; `None` if its user is unknown.
    async fn begin_replay<'a>(
        &self,
        channel_id: &'a ChannelId,
        replay: &'a ReplaySelection,
    ) -> Result<Option<ReplayProgress<'a>>, Error> {
        let user = match &replay.user {
            Some(key) => match self.user_state(key).await? {
                Some(user_state) => Some(user_state.user.0),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(Some(ReplayProgress {
            channel_id,
            replay,
            user,
            after: 0,
            count: 0,
        }))
    }

    /// Resumes a channel's callback that was paused or probed, makes all pending events due at
    /// once, and records that in the audit log.
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
            "UPDATE callbacks SET failures = 0, paused_at = NULL, operator_paused_at = NULL, probe_at = NULL WHERE channel_id = $1",
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

    /// Reads the positions and users of the next events of a replay; `None` at the end.
    async fn next_replay_batch(
        &self,
        progress: &mut ReplayProgress<'_>,
    ) -> Result<Option<Vec<(i64, Option<i64>)>>, Error> {
        let replay = progress.replay;
        macro_rules! select {
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
        let select = match replay.state {
            Some(DeliveryState::Pending) => select!("delivery = 'pending'"),
            Some(DeliveryState::Delivered) => select!("delivery = 'delivered'"),
            Some(DeliveryState::Failed) => select!("delivery = 'failed'"),
            Some(DeliveryState::Dropped) => select!("delivery = 'dropped'"),
            None => select!("delivery IS DISTINCT FROM 'pending'"),
        };
        let until = replay.until.map_or(i64::MAX, |at| at.timestamp_millis());
        let found: Vec<(i64, Option<i64>)> = run!(self, readers, |db| {
            sqlx::query_as(select)
                .bind(progress.channel_id.as_str())
                .bind(progress.after)
                .bind(replay.since.timestamp_millis())
                .bind(until)
                .bind(progress.user)
                .bind(REPLAY_BATCH)
                .bind(EventType::TypingChanged.as_str())
                .fetch_all(db)
                .await?
        });
        let Some((last, _)) = found.last() else {
            return Ok(None);
        };
        progress.after = *last;
        progress.count += u64::try_from(found.len()).unwrap_or(u64::MAX);
        Ok(Some(found))
    }
}

/// The condition for events at the positions of the batch $2 in the log of channel $1.
macro_rules! at_positions {
    () => {
        "channel_id = $1 AND position IN (SELECT CAST(value ->> 'position' AS BIGINT) FROM json_each($2))"
    };
}

/// Makes events pending again, and their lanes due.
async fn replay_batch(
    tx: &mut Tx,
    channel_id: &ChannelId,
    found: &[(i64, Option<i64>)],
    now: DateTime<Utc>,
    deliver_until: DateTime<Utc>,
) -> Result<(), Error> {
    let mut users: Vec<_> = found.iter().map(|(_, user)| *user).collect();
    users.sort_unstable();
    users.dedup();
    mark_lanes_due(tx, channel_id, &users, now).await?;
    end_back_off(tx, channel_id, &users, now).await?;
    let positions = batch(found.iter().map(|(at, _)| json!({"position": at})));
    // In the order in which retention removes events.
    lock_events!(
        tx,
        concat!(
            "SELECT id FROM events WHERE ",
            at_positions!(),
            " ORDER BY position"
        ),
        channel_id.as_str(),
        &positions
    );
    on!(tx, |db| {
        sqlx::query(keep_attempts!(at_positions!()))
            .bind(channel_id.as_str())
            .bind(&positions)
            .execute(db)
            .await?
            .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(make_pending!("$3", at_positions!()))
            .bind(channel_id.as_str())
            .bind(&positions)
            .bind(deliver_until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
    });
    tx.wake(channel_id.clone());
    Ok(())
}

/// Ends the back-off of lanes, so that they are due. The caller has locked their rows.
async fn end_back_off(
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

impl DeliveryState {
    /// Returns the value that the database stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    pub(super) fn read(text: &str) -> Result<Self, Error> {
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
