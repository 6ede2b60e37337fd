//! Delivery lanes: one for each user of a channel, processed by the holder of its lease.
//!
//! A lane that is due is leased until a given time. Its events are sent one after the other, and
//! each outcome is settled under the lease. A holder that has lost the lease settles nothing. So a
//! user's events keep their order although any replica may deliver them.
//!
//! Each lane counts the events that arrive in it. A holder that finds the lane empty releases it,
//! and passes the count from the time of the claim. If another event has arrived meanwhile, the
//! counts differ and the lane becomes due again.

mod due;
mod settling;

use chrono::{DateTime, Utc};

use super::engine::tx::on;
use super::{Error, Store, claiming, run};
use crate::types::event::EventType;
use crate::types::ids::ChannelId;

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
             -- locked in the order of mark_lanes_due, so that two transactions do not deadlock
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
