//! Settling of deliveries: the outcomes for many lanes are stored in one transaction. In PostgreSQL
//! it is a single statement, so no rows stay locked during a round trip.
//!
//! Rows are locked in the same order everywhere, so that replicas do not deadlock: lanes by channel
//! and user, then the events of these lanes.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{DueEvent, Lane};
use crate::store::engine::batching::BatchedQuery;
use crate::store::engine::tx::{Tx, on};
use crate::store::rows::column;
use crate::store::{Engine, Error, Store};
use crate::types::delivery::DeliveryState;
use crate::types::event::EventType;
use crate::types::ids::ChannelId;

/// The failure of an event that was not delivered in time.
pub(super) const TOO_OLD: &str = "too old";

/// An attempt to deliver an event, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// The start of the attempt.
    pub at: DateTime<Utc>,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// The status of the channel's response.
    pub status: Option<u16>,
    /// The reason why there was no response.
    pub error: Option<String>,
}

/// The outcome for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome<'a> {
    /// The channel has accepted it.
    Delivered,
    /// It is given up for this reason. If it is a message, the agent is notified.
    Failed(&'a str),
    /// It is not of interest any more.
    Dropped,
    /// It is sent again later.
    Pending,
}

/// The next state of a lane after one of its events was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneUpdate {
    /// The holder continues, with a lease until this time.
    Renewed(DateTime<Utc>),
    /// It is released as empty. If another event has arrived since it was claimed, it is due again.
    Emptied,
    /// It is released and due at this time. The number counts its failures in a row.
    Waiting(DateTime<Utc>, u32),
}

/// A batched settlement, written if the lane is still held.
#[derive(Debug)]
pub(in crate::store) struct SettleDelivery {
    channel_id: ChannelId,
    user: i64,
    lane_id: i64,
    lease_id: String,
    due_at: i64,
    failures: u32,
    /// The lease under which the holder continues; `None` to release the lane.
    next_lease_id: Option<String>,
    /// The known number of arrivals if the lane is released as empty.
    emptied_at: Option<i64>,
    /// `None` if only the lane is settled.
    event_id: Option<String>,
    state: DeliveryState,
    failure: Option<String>,
    now: i64,
    /// `None` if the event was not sent.
    attempt: Option<DeliveryAttempt>,
}

/// The assignments for the new state of an event. An event that was given up during the attempt
/// stays given up, unless it was delivered. `$message` is the event type of messages: if one fails,
/// the agent is notified. The attempt at `$at` that delivers an event is stored with it.
macro_rules! settled {
    ($state:literal, $failure:literal, $now:literal, $message:literal, $at:literal, $duration:literal, $status:literal) => {
        concat!(
            "attempts = e.attempts + CASE WHEN ",
            $at,
            " IS NULL THEN 0 ELSE 1 END,
             delivery = CASE WHEN ",
            $state,
            " = 'pending' THEN e.delivery ELSE ",
            $state,
            " END,
             failure = CASE WHEN ",
            $state,
            " = 'pending' THEN e.failure ELSE ",
            $failure,
            " END,
             nack_at = CASE WHEN ",
            $state,
            " = 'pending' THEN e.nack_at
                            WHEN ",
            $state,
            " = 'failed' AND e.kind = ",
            $message,
            " THEN ",
            $now,
            " END,
             attempted_at = CASE WHEN ",
            $state,
            " = 'delivered' THEN ",
            $at,
            " END, duration_ms = CASE WHEN ",
            $state,
            " = 'delivered' THEN ",
            $duration,
            " END, status = CASE WHEN ",
            $state,
            " = 'delivered' THEN ",
            $status,
            " END"
        )
    };
}

/// The statement that settles a whole batch in PostgreSQL.
///
/// The arrays are in the order in which lanes are locked. A locked lane shows the current lease; an
/// erasure deletes a user's lanes before the events. `OFFSET 0` keeps each lookup separate, so that
/// it uses the index, whatever the table statistics say. The inner `SELECT`s hide the array lengths
/// from the planner, which would otherwise make a plan for each length.
const IN_POSTGRES: &str = concat!(
    "WITH held AS MATERIALIZED (
         SELECT k.* FROM unnest((SELECT $1::bigint[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]),
                                (SELECT $5::text[]), (SELECT $6::bigint[]), (SELECT $7::text[]), (SELECT $8::text[]),
                                (SELECT $9::text[]), (SELECT $10::bigint[]), (SELECT $11::bigint[]),
                                (SELECT $12::bigint[]), (SELECT $13::bigint[]), (SELECT $14::text[]))
             AS k (lane_id, lease_id, due_at, failures, next_lease_id, emptied_at, event_id, state, failure, now,
                   attempted_at, duration_ms, status, error)
         CROSS JOIN LATERAL (SELECT lease_id FROM delivery_lanes WHERE id = k.lane_id OFFSET 0 FOR UPDATE) AS l
         WHERE l.lease_id = k.lease_id),
     settled AS (
         UPDATE events AS e SET ",
    settled!(
        "k.state",
        "k.failure",
        "k.now",
        "$15",
        "k.attempted_at",
        "k.duration_ms",
        "k.status"
    ),
    " FROM held AS k WHERE e.id = k.event_id
         RETURNING e.id, e.attempts, k.state, k.attempted_at, k.duration_ms, k.status, k.error),
     tries AS (
         INSERT INTO attempts (event_id, number, at, duration_ms, status, error)
         SELECT id, attempts, attempted_at, duration_ms, status, error FROM settled
         WHERE attempted_at IS NOT NULL AND state <> 'delivered')
     UPDATE delivery_lanes AS l
     SET due_at = CASE WHEN l.arrivals = k.emptied_at THEN NULL ELSE k.due_at END, failures = k.failures,
         lease_id = k.next_lease_id
     FROM held AS k WHERE l.id = k.lane_id
     RETURNING k.lane_id, k.lease_id"
);

/// Settles an event under the lease $5 of the lane $4.
const EVENT: &str = concat!(
    "UPDATE events AS e SET ",
    settled!("$2", "$3", "$6", "$7", "$8", "$9", "$10"),
    " WHERE id = $1 AND EXISTS (SELECT 1 FROM delivery_lanes WHERE id = $4 AND lease_id = $5) RETURNING attempts"
);

const ATTEMPT: &str = "INSERT INTO attempts (event_id, number, at, duration_ms, status, error)
     VALUES ($1, $2, $3, $4, $5, $6)";

const LANE: &str = "UPDATE delivery_lanes
     SET due_at = CASE WHEN arrivals = $6 THEN NULL ELSE $3 END, failures = $4, lease_id = $5
     WHERE id = $1 AND lease_id = $2";

impl Store {
    /// Settles an event and its lane. Returns `false` and changes nothing if the lease was lost or
    /// the user was erased.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn settle_delivery(
        &self,
        lane: &Lane,
        event: &DueEvent,
        attempt: Option<&DeliveryAttempt>,
        outcome: DeliveryOutcome<'_>,
        update: LaneUpdate,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let failure = match outcome {
            DeliveryOutcome::Failed(reason) => Some(reason.to_owned()),
            _ => None,
        };
        self.run_batched(SettleDelivery {
            event_id: Some(event.id.clone()),
            state: outcome.state(),
            failure,
            attempt: attempt.cloned(),
            ..SettleDelivery::lane(lane, update, now)
        })
        .await
    }

    /// Releases a lane that is empty. If an event has arrived since it was claimed, it is due
    /// again.
    ///
    /// # Errors
    ///
    /// When the database does not answer. The lane is free once the lease has expired.
    pub async fn release_emptied_lane(&self, lane: &Lane, now: DateTime<Utc>) -> Result<(), Error> {
        let settle = SettleDelivery::lane(lane, LaneUpdate::Emptied, now);
        self.run_batched(settle).await.map(|_is_held| ())
    }

    /// Releases a lane that still has events. It is due at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer. The lane is free once the lease has expired.
    pub async fn release_lane_due_now(&self, lane: &Lane, now: DateTime<Utc>) -> Result<(), Error> {
        let settle = SettleDelivery::lane(lane, LaneUpdate::Waiting(now, lane.failures), now);
        self.run_batched(settle).await.map(|_is_held| ())
    }
}

impl SettleDelivery {
    /// Settles a lane without an event.
    fn lane(lane: &Lane, update: LaneUpdate, now: DateTime<Utc>) -> Self {
        let (due_at, failures, next_lease_id, emptied_at) = match update {
            LaneUpdate::Renewed(until) => (until, 0, Some(lane.lease_id.clone()), None),
            LaneUpdate::Emptied => (now, 0, None, Some(lane.arrivals)),
            LaneUpdate::Waiting(until, failures) => (until, failures, None, None),
        };
        Self {
            channel_id: lane.channel_id.clone(),
            user: lane.user,
            lane_id: lane.id,
            lease_id: lane.lease_id.clone(),
            due_at: due_at.timestamp_millis(),
            failures,
            next_lease_id,
            emptied_at,
            event_id: None,
            state: DeliveryState::Pending,
            failure: None,
            now: now.timestamp_millis(),
            attempt: None,
        }
    }

    /// Writes the settlement in a transaction of SQLite, which has only one writer. Returns true if
    /// the lane was still held.
    async fn write(&self, tx: &mut Tx) -> Result<bool, Error> {
        if let Some(id) = &self.event_id {
            let attempt = self.attempt.as_ref();
            let number: Option<(i64,)> = on!(tx, |db| {
                sqlx::query_as(EVENT)
                    .bind(id)
                    .bind(self.state.as_str())
                    .bind(&self.failure)
                    .bind(self.lane_id)
                    .bind(&self.lease_id)
                    .bind(self.now)
                    .bind(EventType::MessageCreated.as_str())
                    .bind(attempt.map(DeliveryAttempt::start))
                    .bind(attempt.map(DeliveryAttempt::duration))
                    .bind(attempt.and_then(DeliveryAttempt::status_column))
                    .fetch_optional(db)
                    .await?
            });
            let Some((number,)) = number else {
                return Ok(false);
            };
            if let Some(attempt) = attempt.filter(|_| self.state != DeliveryState::Delivered) {
                on!(tx, |db| {
                    sqlx::query(ATTEMPT)
                        .bind(id)
                        .bind(number)
                        .bind(attempt.start())
                        .bind(attempt.duration())
                        .bind(attempt.status_column())
                        .bind(&attempt.error)
                        .execute(db)
                        .await?
                        .rows_affected()
                });
            }
        }
        let rows = on!(tx, |db| {
            sqlx::query(LANE)
                .bind(self.lane_id)
                .bind(&self.lease_id)
                .bind(self.due_at)
                .bind(i64::from(self.failures))
                .bind(&self.next_lease_id)
                .bind(self.emptied_at)
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(rows == 1)
    }
}

impl BatchedQuery for SettleDelivery {
    /// True if the lane was still held. Otherwise nothing was written.
    type Answer = bool;

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<bool>, Error> {
        let Engine::Postgres(postgres) = &store.engine else {
            let mut tx = store.begin().await?;
            let mut written = Vec::new();
            for it in queries {
                written.push(it.write(&mut tx).await?);
            }
            tx.commit().await?;
            return Ok(written);
        };
        let mut ordered = queries.to_vec();
        ordered.sort_by_key(|it| (&it.channel_id, it.user));
        let rows = sqlx::query_as(IN_POSTGRES)
            .bind(column(&ordered, |it| it.lane_id))
            .bind(column(&ordered, |it| it.lease_id.as_str()))
            .bind(column(&ordered, |it| it.due_at))
            .bind(column(&ordered, |it| i64::from(it.failures)))
            .bind(column(&ordered, |it| it.next_lease_id.as_deref()))
            .bind(column(&ordered, |it| it.emptied_at))
            .bind(column(&ordered, |it| it.event_id.as_deref()))
            .bind(column(&ordered, |it| it.state.as_str()))
            .bind(column(&ordered, |it| it.failure.as_deref()))
            .bind(column(&ordered, |it| it.now))
            .bind(column(&ordered, |it| {
                it.attempt.as_ref().map(DeliveryAttempt::start)
            }))
            .bind(column(&ordered, |it| {
                it.attempt.as_ref().map(DeliveryAttempt::duration)
            }))
            .bind(column(&ordered, |it| it.attempt.as_ref()?.status_column()))
            .bind(column(&ordered, |it| it.attempt.as_ref()?.error.as_deref()))
            .bind(EventType::MessageCreated.as_str());
        let rows = postgres.run(async |db| rows.fetch_all(db).await).await?;
        let written: HashSet<(i64, String)> = rows.into_iter().collect();
        let is_settled = |it: &&Self| written.contains(&(it.lane_id, it.lease_id.clone()));
        Ok(queries.iter().map(is_settled).collect())
    }
}

impl DeliveryAttempt {
    /// Returns the start in milliseconds.
    const fn start(&self) -> i64 {
        self.at.timestamp_millis()
    }

    fn duration(&self) -> i64 {
        i64::try_from(self.duration_ms).unwrap_or(i64::MAX)
    }

    fn status_column(&self) -> Option<i64> {
        self.status.map(i64::from)
    }
}

impl DeliveryOutcome<'_> {
    /// Returns the settlement of an event of this type that is too old.
    #[must_use]
    pub fn too_old(kind: &str) -> Self {
        if kind == EventType::TypingChanged.as_str() {
            Self::Dropped
        } else {
            Self::Failed(TOO_OLD)
        }
    }

    const fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Failed(_) => DeliveryState::Failed,
            Self::Dropped => DeliveryState::Dropped,
            Self::Pending => DeliveryState::Pending,
        }
    }
}
