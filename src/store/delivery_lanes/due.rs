//! The pending events of delivery lanes, read for many lanes at once.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Lane;
use crate::store::engine::batching::{BatchedQuery, by_index};
use crate::store::rows::time;
use crate::store::trace_context::ParentRow;
use crate::store::{Engine, Error, NewEvent, Store};
use crate::types::ids::ChannelId;
use crate::types::trace::TraceContext;

/// 2 KiB: the estimated size of an event.
const BYTES_OF_EVENT: usize = 2048;

/// The statement that reads the first `$limit` events in the lane of a user of a channel.
macro_rules! due_in {
    ($channel:literal, $user:literal, $limit:literal) => {
        concat!(
            "SELECT position, id, kind, body, traceparent, tracestate, created_at, attempts, deliver_until FROM events
             WHERE channel_id = ",
            $channel,
            " AND delivery = 'pending'
               -- with =, an index ordered by position would fit as well, and all users' events might be read
               AND COALESCE(user_ref, 0) >= ",
            $user,
            " AND COALESCE(user_ref, 0) <= ",
            $user,
            " ORDER BY COALESCE(user_ref, 0), position LIMIT ",
            $limit
        )
    };
}

/// The inner `SELECT`s hide the array lengths from the PostgreSQL planner. Otherwise it would make
/// a plan for each length.
const IN_POSTGRES: &str = concat!(
    "SELECT k.ordinal - 1 AS ordinal, e.*
     FROM unnest((SELECT $1::text[]), (SELECT $2::bigint[])) WITH ORDINALITY AS k (channel_id, user_ref, ordinal)
     CROSS JOIN LATERAL (",
    due_in!("k.channel_id", "k.user_ref", "$3"),
    ") e ORDER BY k.ordinal, e.position"
);

const IN_SQLITE: &str = concat!(
    "SELECT 0 AS ordinal, e.* FROM (",
    due_in!("$1", "$2", "$3"),
    ") e ORDER BY e.position"
);

/// A pending event of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    /// The public id.
    pub id: String,
    /// Its type, such as `typing.changed`.
    pub kind: String,
    /// The event as it is delivered.
    pub body: String,
    /// The trace context of its cause.
    pub parent: Option<TraceContext>,
    /// The time when it was stored.
    pub created_at: DateTime<Utc>,
    /// The number of delivery attempts.
    pub attempts: u32,
    /// The time from which it is too old to be delivered.
    pub deliver_until: DateTime<Utc>,
}

/// A batched query for the first events of a lane.
#[derive(Debug)]
pub(in crate::store) struct DueEventsQuery {
    channel_id: ChannelId,
    user: i64,
    limit: u32,
}

#[derive(Debug, sqlx::FromRow)]
pub(in crate::store) struct DueRow {
    ordinal: i64,
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
    /// Reads the next events of a lane, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn due_events(&self, lane: &Lane, limit: u32) -> Result<Vec<DueEvent>, Error> {
        let due = DueEventsQuery {
            channel_id: lane.channel_id.clone(),
            user: lane.user,
            limit,
        };
        let rows = self.run_batched(due).await?;
        rows.into_iter().map(DueEvent::try_from).collect()
    }
}

impl BatchedQuery for DueEventsQuery {
    type Answer = Vec<DueRow>;

    /// The estimated size of the answer, so that a batch does not read too many events of users
    /// with long lanes.
    fn bytes(&self) -> usize {
        usize::try_from(self.limit).map_or(usize::MAX, |limit| limit * BYTES_OF_EVENT)
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let postgres = match &store.engine {
            Engine::Postgres(postgres) => postgres,
            Engine::Sqlite(sqlite) => {
                let mut found = Vec::new();
                for it in queries {
                    let rows = sqlx::query_as(IN_SQLITE)
                        .bind(it.channel_id.as_str())
                        .bind(it.user)
                        .bind(i64::from(it.limit));
                    let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
                    found.push(sqlite.readers().run(rows).await?);
                }
                return Ok(found);
            }
        };
        let channels: Vec<_> = queries.iter().map(|it| it.channel_id.as_str()).collect();
        let users: Vec<_> = queries.iter().map(|it| it.user).collect();
        let longest = queries.iter().map(|it| it.limit).max();
        let rows = sqlx::query_as(IN_POSTGRES)
            .bind(channels)
            .bind(users)
            .bind(i64::from(longest.unwrap_or_default()));
        let rows = postgres.run(async |db| rows.fetch_all(db).await);
        let rows: Vec<DueRow> = rows.await?;
        let rows = rows.into_iter().map(|row| (row.ordinal, row));
        let mut found = by_index(queries.len(), rows, |found: &mut Vec<_>, row| {
            found.push(row);
        });
        for (rows, query) in found.iter_mut().zip(queries) {
            rows.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        }
        Ok(found)
    }
}

impl DueEvent {
    /// Returns an event that was stored just now; `None` if it is not to be delivered.
    pub(super) fn stored(event: &NewEvent, now: DateTime<Utc>) -> Option<Self> {
        Some(Self {
            id: event.id.to_string(),
            kind: event.kind.as_str().to_owned(),
            body: event.body.clone(),
            parent: event.parent.clone(),
            created_at: now,
            attempts: 0,
            deliver_until: event.deliver_until?,
        })
    }
}

impl TryFrom<DueRow> for DueEvent {
    type Error = Error;

    fn try_from(row: DueRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id,
            kind: row.kind,
            body: row.body,
            parent: row.parent.0,
            created_at: time(row.created_at)?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            // A pending event always has a deadline. If one had none, it would be sent forever; 0
            // makes it too old at once.
            deliver_until: time(row.deliver_until.unwrap_or_default())?,
        })
    }
}
