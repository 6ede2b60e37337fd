//! Lanes of deliveries: one per user of a channel, worked on by whoever holds its lease.
//!
//! A lane is taken (due, and from then on leased until a moment), its events are tried one after the other, and what
//! became of each is settled under the lease: who has lost it settles nothing. So a user's events keep their order
//! although any replica may deliver them. A lane that has been emptied is given back with the number of arrivals that
//! were known when it was taken; if another has come meanwhile, the lane is due again rather than empty.

use chrono::{DateTime, Utc};

use super::deliveries::time;
use super::parent::ParentRow;
use super::tx::on;
use super::{DeliveryState, Error, Store, claiming, run};
use crate::types::event::EventType;
use crate::types::ids::ChannelId;
use crate::types::trace::Parent;

/// Lanes that are woken by one statement.
const WAKE_BATCH: i64 = 1000;

/// Why an event failed that was not delivered in time.
const TOO_OLD: &str = "too old";

/// A lane that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub(super) id: i64,
    pub(super) channel_id: ChannelId,
    /// 0 for the lane of events to try the callback with.
    pub(super) user: i64,
    pub(super) arrivals: i64,
    pub(super) lease_id: String,
    /// How often in a row its first event has failed.
    pub failures: u32,
}

/// An event that waits in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    pub(super) position: i64,
    /// Its id, as it is shown.
    pub id: String,
    /// Its type, such as `typing.changed`.
    pub kind: String,
    /// The event as channels get it.
    pub body: String,
    /// What it came about by.
    pub parent: Option<Parent>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// From when on it is too old to be delivered.
    pub deliver_until: DateTime<Utc>,
}

/// One try to deliver an event, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The status that the channel answered with.
    pub status: Option<u16>,
    /// Why it did not answer.
    pub error: Option<String>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement<'a> {
    /// The channel has it.
    Delivered,
    /// It is not delivered, for this reason; the agent is told where it is a message.
    Failed(&'a str),
    /// It is of no interest any more.
    Dropped,
    /// It is to be tried again.
    Pending,
}

/// What becomes of the lane of an event that is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneFate {
    /// It goes on, and is held until this moment.
    Held(DateTime<Utc>),
    /// It is given back, empty as far as is known: if another event has arrived since it was taken, it is due again.
    Emptied,
    /// It is given back and may be taken again from this moment on, after so many failures in a row.
    Waiting(DateTime<Utc>, u32),
}

#[derive(sqlx::FromRow)]
struct LaneRow {
    id: i64,
    user_ref: Option<i64>,
    arrivals: i64,
    failures: i64,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    position: i64,
    id: String,
    kind: String,
    body: String,
    #[sqlx(flatten)]
    parent: ParentRow,
    created_at: i64,
    attempts: i64,
    deliver_until: Option<i64>,
}

impl Store {
    /// Takes lanes of a channel that are due, `limit` at most, and holds them until a moment; `lease_id` is the holder's own.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_delivery_lanes(
        &self,
        channel_id: &ChannelId,
        lease_id: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Lane>, Error> {
        let claim = claiming!(
            self,
            "UPDATE delivery_lanes SET due_at = $3, lease_id = $4 WHERE id",
            "SELECT id FROM delivery_lanes WHERE channel_id = $1 AND due_at <= $2 ORDER BY due_at LIMIT $5",
            " RETURNING id, user_ref, arrivals, failures"
        );
        let rows: Vec<LaneRow> = run!(self, writer, |db| {
            sqlx::query_as(claim)
                .bind(channel_id.as_str())
                .bind(now.timestamp_millis())
                .bind(until.timestamp_millis())
                .bind(lease_id)
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        let lanes = rows.into_iter().map(|row| Lane {
            id: row.id,
            channel_id: channel_id.clone(),
            user: row.user_ref.unwrap_or_default(),
            arrivals: row.arrivals,
            lease_id: lease_id.to_owned(),
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        });
        Ok(lanes.collect())
    }

    /// The next events of a lane, `limit` at most.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn due_events(&self, lane: &Lane, limit: u32) -> Result<Vec<DueEvent>, Error> {
        let rows: Vec<DueRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT position, id, kind, body, traceparent, tracestate, created_at, attempts, deliver_until FROM events
                 WHERE channel_id = $1 AND delivery = 'pending'
                   -- not =, after which whatever index is ordered by position would serve, and all users' events be read
                   AND COALESCE(user_ref, 0) >= $2 AND COALESCE(user_ref, 0) <= $2
                 ORDER BY COALESCE(user_ref, 0), position LIMIT $3",
            )
            .bind(lane.channel_id.as_str())
            .bind(lane.user)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(DueEvent::try_from).collect()
    }

    /// Keeps what became of an event and its lane; `false` and nothing of it if the lease was lost or the user erased.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn settle_delivery(
        &self,
        lane: &Lane,
        event: &DueEvent,
        tried: Option<&Tried>,
        settlement: Settlement<'_>,
        fate: LaneFate,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let failure = match settlement {
            Settlement::Failed(reason) => Some(reason),
            _ => None,
        };
        let number: Option<(i64,)> = on!(tx, |db| {
            sqlx::query_as(
                "UPDATE events
                 SET attempts = attempts + $3,
                     -- what was given up while it was tried stays so, unless it arrived
                     delivery = CASE WHEN $4 = 'pending' THEN delivery ELSE $4 END,
                     failure = CASE WHEN $4 = 'pending' THEN failure ELSE $5 END,
                     nack_at = CASE WHEN $4 = 'pending' THEN nack_at
                                    WHEN $4 = 'failed' AND kind = 'message.created' THEN $6 END
                 WHERE channel_id = $1 AND position = $2 RETURNING attempts",
            )
            .bind(lane.channel_id.as_str())
            .bind(event.position)
            .bind(i64::from(tried.is_some()))
            .bind(settlement.state().as_str())
            .bind(failure)
            .bind(now.timestamp_millis())
            .fetch_optional(db)
            .await?
        });
        let Some((number,)) = number else {
            return Ok(false);
        };
        if let Some(tried) = tried {
            on!(tx, |db| {
                sqlx::query(
                    "INSERT INTO attempts (event_id, number, at, duration_ms, status, error)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(&event.id)
                .bind(number)
                .bind(tried.at.timestamp_millis())
                .bind(i64::try_from(tried.duration_ms).unwrap_or(i64::MAX))
                .bind(tried.status.map(i64::from))
                .bind(&tried.error)
                .execute(db)
                .await?
                .rows_affected()
            });
        }
        let (due_at, failures, lease_id, emptied_at) = match fate {
            LaneFate::Held(until) => (until, 0, Some(&lane.lease_id), None),
            LaneFate::Emptied => (now, 0, None, Some(lane.arrivals)),
            LaneFate::Waiting(until, failures) => (until, failures, None, None),
        };
        let held = on!(tx, |db| {
            sqlx::query(
                "UPDATE delivery_lanes
                 SET due_at = CASE WHEN arrivals = $6 THEN NULL ELSE $3 END, failures = $4, lease_id = $5
                 WHERE id = $1 AND lease_id = $2",
            )
            .bind(lane.id)
            .bind(&lane.lease_id)
            .bind(due_at.timestamp_millis())
            .bind(i64::from(failures))
            .bind(lease_id)
            .bind(emptied_at)
            .execute(db)
            .await?
            .rows_affected()
        });
        if held == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Gives back a lane that has been emptied. One in which an event has arrived since it was taken is due again.
    ///
    /// # Errors
    ///
    /// When the database does not answer; the lane is free once the lease has run out.
    pub async fn release_emptied_lane(&self, lane: &Lane, now: DateTime<Utc>) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
            "UPDATE delivery_lanes
             SET due_at = CASE WHEN arrivals = $3 THEN NULL ELSE $4 END, failures = 0, lease_id = NULL
             WHERE id = $1 AND lease_id = $2",
        )
        .bind(lane.id)
        .bind(&lane.lease_id)
        .bind(lane.arrivals)
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// Gives back a lane that still has events, for anybody to take at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer; the lane is free once the lease has run out.
    pub async fn hand_back_lane(&self, lane: &Lane, now: DateTime<Utc>) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
            "UPDATE delivery_lanes SET due_at = $3, lease_id = NULL WHERE id = $1 AND lease_id = $2",
        )
        .bind(lane.id)
        .bind(&lane.lease_id)
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// Lets every lane of a channel that waits after a failure be taken at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer; lanes that are not woken are due when they were.
    pub(super) async fn wake_lanes(
        &self,
        channel_id: &ChannelId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let wake = claiming!(
            self,
            "UPDATE delivery_lanes SET due_at = $2 WHERE id",
            "SELECT id FROM delivery_lanes
             WHERE channel_id = $1 AND due_at > $2 AND lease_id IS NULL AND COALESCE(user_ref, 0) > $3
             -- rows are held in the order of those who fill lanes, so that nobody waits for the other
             ORDER BY COALESCE(user_ref, 0) LIMIT $4",
            " FOR UPDATE",
            " RETURNING COALESCE(user_ref, 0)"
        );
        let mut after = -1;
        loop {
            let mut tx = self.begin().await?;
            let woken: Vec<(i64,)> = on!(tx, |db| {
                sqlx::query_as(wake)
                    .bind(channel_id.as_str())
                    .bind(now.timestamp_millis())
                    .bind(after)
                    .bind(WAKE_BATCH)
                    .fetch_all(db)
                    .await?
            });
            tx.ring(channel_id.clone());
            tx.commit().await?;
            match woken.iter().max() {
                Some((last,)) => after = *last,
                None => return Ok(()),
            }
        }
    }

    /// Gives up events whose time to be delivered ended before a moment, `limit` at most; says how many there were.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn give_up_old_events(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let give_up = claiming!(
            self,
            "UPDATE events
             SET delivery = CASE WHEN kind = 'typing.changed' THEN 'dropped' ELSE 'failed' END,
                 failure = CASE WHEN kind <> 'typing.changed' THEN $4 END,
                 nack_at = CASE WHEN kind = 'message.created' THEN $2 END
             WHERE id",
            "SELECT id FROM events WHERE delivery = 'pending' AND deliver_until < $1
             ORDER BY deliver_until LIMIT $3",
            ""
        );
        Ok(run!(self, writer, |db| sqlx::query(give_up)
            .bind(before.timestamp_millis())
            .bind(now.timestamp_millis())
            .bind(i64::from(limit))
            .bind(TOO_OLD)
            .execute(db)
            .await?
            .rows_affected()))
    }
}

impl Settlement<'_> {
    /// What becomes of an event that has grown too old.
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

impl TryFrom<DueRow> for DueEvent {
    type Error = Error;

    fn try_from(row: DueRow) -> Result<Self, Error> {
        Ok(Self {
            position: row.position,
            id: row.id,
            kind: row.kind,
            body: row.body,
            parent: row.parent.0,
            created_at: time(row.created_at)?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            // What is pending always has an end; without one it would be tried for ever.
            deliver_until: time(row.deliver_until.unwrap_or_default())?,
        })
    }
}
