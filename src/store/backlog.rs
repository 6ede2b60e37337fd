//! The backlog of each channel, and the use of database connections: numbers for operators, not for
//! decisions.
//!
//! One statement reads everything by index, and counts up to a limit. Dashboards poll it every few
//! seconds, most of all when the backlog is large.

use chrono::DateTime;
use serde_json::json;

use super::engine::sqlite;
use super::rows::batch;
use super::{Engine, Error, Store, run};
use crate::types::delivery::Pause;
use crate::types::ids::ChannelId;
use crate::types::status::{Backlog, Connections, EngineKind};

/// 100,000: counting ends at this number.
const MAX_COUNT: i64 = 100_000;

#[derive(sqlx::FromRow)]
struct BacklogRow {
    channel_id: String,
    requests: i64,
    oldest_request: Option<i64>,
    delivery_lanes: i64,
    oldest_event: Option<i64>,
    failures: Option<i64>,
    paused_at: Option<i64>,
    operator_paused_at: Option<i64>,
}

impl Store {
    /// Reads the backlogs of these channels.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn backlogs(
        &self,
        channels: impl Iterator<Item = &ChannelId>,
    ) -> Result<Vec<Backlog>, Error> {
        let channels = batch(channels.map(|id| json!({"id": id.as_str()})));
        let rows: Vec<BacklogRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT c.channel_id,
                     (SELECT COUNT(*) FROM (SELECT 1 FROM requests r
                          WHERE r.channel_id = c.channel_id AND r.settled_at IS NULL LIMIT $2) w) AS requests,
                     -- with MIN, PostgreSQL would read all requests until it has statistics
                     (SELECT r.created_at FROM requests r
                          WHERE r.channel_id = c.channel_id AND r.settled_at IS NULL
                          ORDER BY r.created_at LIMIT 1) AS oldest_request,
                     (SELECT COUNT(*) FROM (SELECT 1 FROM delivery_lanes l
                          WHERE l.channel_id = c.channel_id AND l.due_at IS NOT NULL LIMIT $2) w) AS delivery_lanes,
                     (SELECT e.created_at FROM events e
                          WHERE e.channel_id = c.channel_id AND e.delivery = 'pending'
                          ORDER BY e.position LIMIT 1) AS oldest_event,
                     k.failures, k.paused_at, k.operator_paused_at
                 FROM (SELECT value ->> 'id' AS channel_id FROM json_each($1)) c
                 LEFT JOIN callbacks k ON k.channel_id = c.channel_id",
            )
            .bind(channels)
            .bind(MAX_COUNT)
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(Backlog::try_from).collect()
    }

    /// Counts the users with queued requests, up to 100,000.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn request_lanes(&self) -> Result<u32, Error> {
        let (count,): (i64,) = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT COUNT(*) FROM (SELECT 1 FROM users WHERE send_at IS NOT NULL LIMIT $1) AS waiting",
            )
            .bind(MAX_COUNT)
            .fetch_one(db)
            .await?
        });
        Ok(number(count))
    }

    /// Returns the engine of the database.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        match &self.engine {
            Engine::Postgres(_) => EngineKind::Postgres,
            Engine::Sqlite(_) => EngineKind::Sqlite,
        }
    }

    /// Returns the largest number of connections that read events.
    #[must_use]
    pub fn reading_connections(&self) -> u32 {
        match &self.engine {
            Engine::Postgres(postgres) => postgres.max_connections(),
            Engine::Sqlite(_) => sqlite::READERS,
        }
    }

    /// Returns the connections of this replica.
    #[must_use]
    pub fn connections(&self) -> Vec<Connections> {
        let usage = |pool, size: u32, idle: usize| {
            // The two numbers are not read at the same moment.
            let idle = u32::try_from(idle).unwrap_or(size).min(size);
            Connections {
                pool,
                in_use: size - idle,
                idle,
            }
        };
        match &self.engine {
            Engine::Postgres(postgres) => vec![usage("main", postgres.size(), postgres.idle())],
            Engine::Sqlite(sqlite) => {
                let (size, idle) = sqlite.lookup_connections();
                let pools = [("readers", sqlite.readers()), ("writer", sqlite.writer())];
                let pools = pools.map(|(name, pool)| {
                    let pool = pool.pool();
                    usage(name, pool.size(), pool.num_idle())
                });
                std::iter::once(usage("look_ups", size, idle))
                    .chain(pools)
                    .collect()
            }
        }
    }
}

impl TryFrom<BacklogRow> for Backlog {
    type Error = Error;

    fn try_from(row: BacklogRow) -> Result<Self, Error> {
        let unreadable = || Error::Unreadable {
            what: "backlog of a channel",
        };
        let time = |ms| DateTime::from_timestamp_millis(ms).ok_or_else(unreadable);
        Ok(Self {
            channel_id: row.channel_id.parse().map_err(|_| unreadable())?,
            requests: number(row.requests),
            oldest_request: row.oldest_request.map(time).transpose()?,
            delivery_lanes: number(row.delivery_lanes),
            oldest_event: row.oldest_event.map(time).transpose()?,
            callback_failures: number(row.failures.unwrap_or_default()),
            callback_pause: Pause::read(row.paused_at, row.operator_paused_at)?,
        })
    }
}

fn number(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
