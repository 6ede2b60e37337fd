//! Delivery lanes: one for each user of a channel, processed by the holder of its lease.
//!
//! A lane that is due is leased until a given time. Its events are sent one after the other, and
//! each outcome is settled under the lease. A holder that has lost the lease settles nothing. So a
//! user's events keep their order although any replica may deliver them.
//!
//! Each lane counts the events that arrive in it. A holder that finds the lane empty releases it,
//! and passes the count from the time of the claim. If another event has arrived meanwhile, the
//! counts differ and the lane becomes due again.

pub(super) mod direct;
mod due;
mod settling;

use chrono::{DateTime, Utc};

use sqlx::types::Json;
use sqlx::{PgConnection, SqliteConnection};

use super::engine::tx::{EngineTx, Tx, on, statement_limit};
use super::{Error, Store, claiming, run};
use crate::types::event::EventType;
use crate::types::ids::ChannelId;

use direct::Reservation;
pub use direct::{DirectLane, DirectLanes, DirectSwitch};
pub use due::DueEvent;
pub(super) use due::DueEventsQuery;
pub(super) use settling::SettleDelivery;
use settling::TOO_OLD;
pub use settling::{DeliveryAttempt, DeliveryOutcome, LaneUpdate};

/// The number of lanes that one statement makes due.
const WAKE_BATCH: i64 = 1000;

/// A leased delivery lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub(super) id: i64,
    pub(super) channel_id: ChannelId,
    /// The row of the user; 0 for the lane of test events.
    pub(super) user: i64,
    pub(super) arrivals: i64,
    pub(super) lease_id: String,
    /// The number of times in a row that its first event has failed.
    pub failures: u32,
}

#[derive(sqlx::FromRow)]
struct LaneRow {
    id: i64,
    user_ref: Option<i64>,
    arrivals: i64,
    failures: i64,
}

impl Store {
    /// Claims lanes of a channel that are due, at most `limit`. The lease ends at `until`;
    /// `lease_id` is unique to the holder.
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
        let lanes = rows
            .into_iter()
            .map(|row| row.into_lane(channel_id, lease_id));
        Ok(lanes.collect())
    }

    /// Makes all lanes of a channel due that wait after a failure.
    ///
    /// # Errors
    ///
    /// When the database does not answer. The remaining lanes keep the times at which they are due.
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
             -- locked by user, as everywhere, so that two transactions do not deadlock
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
            tx.wake(channel_id.clone());
            tx.commit().await?;
            match woken.iter().max() {
                Some((last,)) => after = *last,
                None => return Ok(()),
            }
        }
    }

    /// Gives up events with a delivery deadline before `before`, at most `limit`. Returns their
    /// number.
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
             SET delivery = CASE WHEN kind = $5 THEN 'dropped' ELSE 'failed' END,
                 failure = CASE WHEN kind <> $5 THEN $4 END,
                 nack_at = CASE WHEN kind = $6 THEN $2 END
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
            .bind(EventType::TypingChanged.as_str())
            .bind(EventType::MessageCreated.as_str())
            .execute(db)
            .await?
            .rows_affected()))
    }
}

/// The statement that counts the arrival of events in the lanes of the users in `$users`. An idle
/// lane of one of the first $5 users is claimed under the lease $6 until $4, unless the callback
/// has failures or is paused; `is_claimed` is 1 for these. Other idle lanes become due at $3.
macro_rules! arrivals {
    ($users:literal) => {
        concat!(
            "INSERT INTO delivery_lanes (channel_id, user_ref, due_at, lease_id)
             SELECT $1, user_ref, CASE WHEN lease_id IS NULL THEN $3 ELSE $4 END, lease_id
             FROM (SELECT user_ref,
                          CASE WHEN ordinal <= $5
                                    AND NOT EXISTS (SELECT 1 FROM callbacks
                                                    WHERE channel_id = $1 AND (failures > 0 OR paused_at IS NOT NULL))
                               THEN $6 END AS lease_id
                   FROM ",
            $users,
            ") AS users WHERE true
             ON CONFLICT (channel_id, COALESCE(user_ref, 0)) DO UPDATE
             SET arrivals = delivery_lanes.arrivals + 1,
                 -- a lane that is leased or waits after a failure keeps its time and its lease
                 due_at = COALESCE(delivery_lanes.due_at, excluded.due_at),
                 lease_id = CASE WHEN delivery_lanes.due_at IS NULL THEN excluded.lease_id ELSE delivery_lanes.lease_id END
             RETURNING id, user_ref, arrivals, failures, CAST(lease_id = $6 AS INTEGER) AS is_claimed"
        )
    };
}

#[derive(sqlx::FromRow)]
struct ArrivalRow {
    #[sqlx(flatten)]
    lane: LaneRow,
    /// 1: claimed by this statement.
    is_claimed: Option<i32>,
}

/// Makes the delivery lanes of these users due, and counts the arrival of an event in each.
pub(super) async fn mark_lanes_due(
    tx: &mut Tx,
    channel_id: &ChannelId,
    users: &[Option<i64>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let claimed = record_arrivals(tx, channel_id, users, now, None).await?;
    debug_assert!(claimed.is_empty(), "a claim without a lease");
    Ok(())
}

/// Does the same, but claims idle lanes if there is a reservation. Returns the claimed lanes.
/// `users` are in ascending order, in which their lanes are locked.
pub(super) async fn record_arrivals(
    tx: &mut Tx,
    channel_id: &ChannelId,
    users: &[Option<i64>],
    now: DateTime<Utc>,
    reservation: Option<&Reservation>,
) -> Result<Vec<Lane>, Error> {
    let slots = reservation.map_or(0, Reservation::slots);
    let slots = i64::try_from(slots).unwrap_or(i64::MAX);
    let lease_id = reservation.map(|it| it.lease_id.as_str());
    let until = reservation.map_or(now, |it| it.leased_until);
    // The engines differ only in the form of the users.
    macro_rules! query {
        ($users:literal, $bound:expr) => {
            sqlx::query_as(arrivals!($users))
                .bind(channel_id.as_str())
                .bind($bound)
                .bind(now.timestamp_millis())
                .bind(until.timestamp_millis())
                .bind(slots)
                .bind(lease_id)
        };
    }
    let rows: Vec<ArrivalRow> = match &mut tx.engine {
        EngineTx::Postgres(pooled) => {
            let limit = statement_limit(tx.deadline);
            let query = query!(
                "unnest((SELECT $2::bigint[])) WITH ORDINALITY AS u (user_ref, ordinal)",
                users
            );
            let rows = async |db: &mut PgConnection| query.fetch_all(db).await;
            pooled.run_in_tx(limit, rows).await?
        }
        EngineTx::Sqlite(write_tx) => {
            let query = query!(
                "(SELECT value AS user_ref, key + 1 AS ordinal FROM json_each($2)) AS u",
                Json(users)
            );
            let rows = async |db: &mut SqliteConnection| query.fetch_all(db).await;
            write_tx.run(rows).await?
        }
    };
    let claimed = rows.into_iter().filter(|row| row.is_claimed == Some(1));
    let lane = |row: ArrivalRow| row.lane.into_lane(channel_id, lease_id.unwrap_or_default());
    Ok(claimed.map(lane).collect())
}

impl LaneRow {
    fn into_lane(self, channel_id: &ChannelId, lease_id: &str) -> Lane {
        Lane {
            id: self.id,
            channel_id: channel_id.clone(),
            user: self.user_ref.unwrap_or_default(),
            arrivals: self.arrivals,
            lease_id: lease_id.to_owned(),
            failures: u32::try_from(self.failures).unwrap_or(u32::MAX),
        }
    }
}
