//! The events that wait in lanes, read for many lanes at once.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Lane;
use crate::store::deliveries::time;
use crate::store::engine::batching::{Question, by_place};
use crate::store::parent::ParentRow;
use crate::store::{Engine, Error, Store};
use crate::types::ids::ChannelId;
use crate::types::trace::Parent;

/// 2 KiB: about what an event that is read weighs.
const BYTES_OF_EVENT: usize = 2048;

/// The text that reads the first $`limit` events of the lane of a user of a channel.
macro_rules! due_in {
    ($channel:literal, $user:literal, $limit:literal) => {
        concat!(
            "SELECT position, id, kind, body, traceparent, tracestate, created_at, attempts, deliver_until FROM events
             WHERE channel_id = ",
            $channel,
            " AND delivery = 'pending'
               -- not =, after which whatever index is ordered by position would serve, and all users' events be read
               AND COALESCE(user_ref, 0) >= ",
            $user,
            " AND COALESCE(user_ref, 0) <= ",
            $user,
            " ORDER BY COALESCE(user_ref, 0), position LIMIT ",
            $limit
        )
    };
}

/// How long the arrays are is hidden from PostgreSQL (`SELECT`): it would make a plan for each length.
const IN_POSTGRES: &str = concat!(
    "SELECT k.place - 1 AS place, e.*
     FROM unnest((SELECT $1::text[]), (SELECT $2::bigint[])) WITH ORDINALITY AS k (channel_id, user_ref, place)
     CROSS JOIN LATERAL (",
    due_in!("k.channel_id", "k.user_ref", "$3"),
    ") e ORDER BY k.place, e.position"
);

const IN_SQLITE: &str = concat!(
    "SELECT 0 AS place, e.* FROM (",
    due_in!("$1", "$2", "$3"),
    ") e ORDER BY e.position"
);

/// An event that waits in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    pub(in crate::store) position: i64,
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

/// What waits in this lane?
#[derive(Debug)]
pub(in crate::store) struct Due {
    channel_id: ChannelId,
    user: i64,
    limit: u32,
}

#[derive(Debug, sqlx::FromRow)]
pub(in crate::store) struct DueRow {
    place: i64,
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
    /// The next events of a lane, `limit` at most.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn due_events(&self, lane: &Lane, limit: u32) -> Result<Vec<DueEvent>, Error> {
        let due = Due {
            channel_id: lane.channel_id.clone(),
            user: lane.user,
            limit,
        };
        let rows = self.ask(due).await?;
        rows.into_iter().map(DueEvent::try_from).collect()
    }
}

impl Question for Due {
    type Answer = Vec<DueRow>;

    /// What it is answered with, so that many users of whom much waits are not read at once.
    fn bytes(&self) -> usize {
        usize::try_from(self.limit).map_or(usize::MAX, |limit| limit * BYTES_OF_EVENT)
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let postgres = match &store.engine {
            Engine::Postgres(postgres) => postgres,
            Engine::Sqlite(sqlite) => {
                let mut found = Vec::new();
                for it in questions {
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
        let channels: Vec<_> = questions.iter().map(|it| it.channel_id.as_str()).collect();
        let users: Vec<_> = questions.iter().map(|it| it.user).collect();
        let longest = questions.iter().map(|it| it.limit).max();
        let rows = sqlx::query_as(IN_POSTGRES)
            .bind(channels)
            .bind(users)
            .bind(i64::from(longest.unwrap_or_default()));
        let rows = postgres.run(async |db| rows.fetch_all(db).await);
        let rows: Vec<DueRow> = rows.await?;
        let rows = rows.into_iter().map(|row| (row.place, row));
        let mut found = by_place(questions.len(), rows, |found: &mut Vec<_>, row| {
            found.push(row);
        });
        for (rows, question) in found.iter_mut().zip(questions) {
            rows.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
        }
        Ok(found)
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
