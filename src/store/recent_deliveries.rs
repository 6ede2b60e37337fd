//! The newest deliveries of a channel, for operators: their numbers, and the last attempt of each.
//!
//! Dashboards poll this every few seconds, so no query reads more than a fixed number of rows.

use serde_json::json;

use super::deliveries::DeliveryRow;
use super::rows::batch;
use super::rows::time;
use super::{Error, Store, run};
use crate::types::delivery::{DeliveryCounts, DeliveryState, LastAttempt, RecentDelivery};
use crate::types::ids::ChannelId;

#[derive(sqlx::FromRow)]
struct CountsRow {
    channel_id: String,
    pending: i64,
    failed: i64,
    delivered: i64,
    recent: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    delivery: DeliveryRow,
    attempted_at: Option<i64>,
    status: Option<i64>,
    error: Option<String>,
}

impl Store {
    /// Counts the deliveries of these channels by state.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delivery_counts(
        &self,
        channels: impl Iterator<Item = &ChannelId>,
    ) -> Result<Vec<DeliveryCounts>, Error> {
        let channels = batch(channels.map(|id| json!({"id": id.as_str()})));
        let rows: Vec<CountsRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT c.channel_id,
                     (SELECT COUNT(*) FROM (SELECT 1 FROM events e
                          WHERE e.channel_id = c.channel_id AND e.delivery = 'pending' LIMIT $2) w) AS pending,
                     (SELECT COUNT(*) FROM (SELECT 1 FROM events e
                          WHERE e.channel_id = c.channel_id AND e.delivery = 'failed' LIMIT $2) w) AS failed,
                     -- no index covers delivered events, which are the majority
                     (SELECT COUNT(*) FROM (SELECT e.delivery FROM events e WHERE e.channel_id = c.channel_id
                          ORDER BY e.position DESC LIMIT $2) w WHERE w.delivery = 'delivered') AS delivered,
                     (SELECT COUNT(*) FROM (SELECT 1 FROM events e WHERE e.channel_id = c.channel_id
                          ORDER BY e.position DESC LIMIT $2) w) AS recent
                 FROM (SELECT value ->> 'id' AS channel_id FROM json_each($1)) c",
            )
            .bind(channels)
            .bind(i64::from(DeliveryCounts::MAX))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(DeliveryCounts::try_from).collect()
    }

    /// Lists events of a channel with this delivery state, newest first, at most `limit`. With
    /// `before`, only events before that position of the log are listed.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn newest_deliveries(
        &self,
        channel_id: &ChannelId,
        state: DeliveryState,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RecentDelivery>, Error> {
        // One statement for each state: a partial index is used only if the query repeats its
        // condition literally.
        macro_rules! list {
            ($condition:literal) => {
                concat!(
                    "SELECT e.position, e.id, e.kind, u.user_id, e.created_at, e.deliver_until, e.attempts, e.failure,
                            COALESCE(e.attempted_at, a.at) AS attempted_at,
                            CASE WHEN e.attempted_at IS NULL THEN a.status ELSE e.status END AS status,
                            CASE WHEN e.attempted_at IS NULL THEN a.error END AS error
                     FROM events e LEFT JOIN users u ON u.id = e.user_ref
                     LEFT JOIN attempts a ON a.event_id = e.id
                          AND a.number = (SELECT MAX(l.number) FROM attempts l WHERE l.event_id = e.id)
                     WHERE e.channel_id = $1 AND e.position < $2 AND ",
                    $condition,
                    " ORDER BY e.position DESC LIMIT $3"
                )
            };
        }
        let list = match state {
            DeliveryState::Pending => list!("e.delivery = 'pending'"),
            DeliveryState::Delivered => list!("e.delivery = 'delivered'"),
            DeliveryState::Failed => list!("e.delivery = 'failed'"),
            DeliveryState::Dropped => list!("e.delivery = 'dropped'"),
        };
        let before = before.and_then(|position| i64::try_from(position).ok());
        let rows: Vec<Row> = run!(self, readers, |db| {
            sqlx::query_as(list)
                .bind(channel_id.as_str())
                .bind(before.unwrap_or(i64::MAX))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        rows.into_iter().map(RecentDelivery::try_from).collect()
    }
}

impl TryFrom<CountsRow> for DeliveryCounts {
    type Error = Error;

    fn try_from(row: CountsRow) -> Result<Self, Error> {
        let number = |count| u32::try_from(count).unwrap_or(Self::MAX);
        Ok(Self {
            channel_id: row
                .channel_id
                .parse()
                .map_err(|_| Error::Unreadable { what: "channel id" })?,
            pending: number(row.pending),
            failed: number(row.failed),
            delivered: number(row.delivered),
            recent: number(row.recent),
        })
    }
}

impl TryFrom<Row> for RecentDelivery {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let last_attempt = row.attempted_at.map(|at| {
            Ok::<_, Error>(LastAttempt {
                at: time(at)?,
                status: row.status.and_then(|status| u16::try_from(status).ok()),
                error: row.error,
            })
        });
        Ok(Self {
            delivery: row.delivery.try_into()?,
            last_attempt: last_attempt.transpose()?,
        })
    }
}
