//! The event logs, one for each channel.
//!
//! The positions of a log count from 1 without a gap. A transaction that appends locks the log's
//! row until its commit, so positions become visible in order, and no event ever appears behind a
//! cursor. An erasure and the retention remove events; the others keep their positions.

mod postgres;
mod sqlite;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::audit::record;
use super::delivery_lanes::direct::DirectClaims;
use super::delivery_lanes::record_arrivals;
use super::engine::tx::{EngineTx, Tx, statement_limit};
use super::new_event::NewEvent;
use super::{Error, Store, run};
use crate::types::audit::Entry;
use crate::types::event::LoggedEvent;
use crate::types::ids::{ChannelId, UserKey};

/// A page of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events after the requested position, in order.
    pub events: Vec<LoggedEvent>,
    /// The position of the newest removed event; 0 if none was removed.
    pub floor: u64,
    /// The position of the newest event; 0 if the log never had one.
    pub head: u64,
}

#[derive(sqlx::FromRow)]
struct EventRow {
    position: i64,
    id: String,
    kind: String,
    body: String,
    user_id: Option<String>,
}

/// The size limits of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSize {
    /// The largest number of events.
    pub events: u32,
    /// The size of event bodies, in bytes, after which the page ends. The first event is included
    /// whatever its size.
    pub bytes: u32,
}

impl PageSize {
    /// Limits a page to this number of events, whatever their size.
    #[must_use]
    pub const fn events(events: u32) -> Self {
        Self {
            events,
            bytes: u32::MAX,
        }
    }
}

/// The statement that reads a page of a channel's events that meet a condition, in order. The
/// macro's arguments are the names of the parameters. The lengths of bodies are added up first,
/// because reading a length does not read the body.
macro_rules! page_of_events {
    ($channel:literal, $condition:literal, $events:literal, $bytes:literal) => {
        concat!(
            "SELECT e.position, e.id, e.kind, e.body, u.user_id FROM (
                 SELECT position, bytes, SUM(bytes) OVER (ORDER BY position) AS total FROM (
                     SELECT position, octet_length(body) AS bytes FROM events WHERE channel_id = ",
            $channel,
            " AND ",
            $condition,
            " ORDER BY position LIMIT ",
            $events,
            ") lengths
             ) totals
             JOIN events e ON e.channel_id = ",
            $channel,
            " AND e.position = totals.position
             LEFT JOIN users u ON u.id = e.user_ref
             WHERE totals.total - totals.bytes < ",
            $bytes,
            " ORDER BY e.position"
        )
    };
}

/// Reads the head and the floor of a log. It runs after the page was read, so both can only be
/// newer than the page. It uses the same connection, so that no task holds a page while it waits
/// for a connection.
macro_rules! head_and_floor {
    ($db:ident, $channel_id:ident) => {
        sqlx::query_as("SELECT head, floor FROM logs WHERE channel_id = $1")
            .bind($channel_id.as_str())
            .fetch_optional($db)
            .await?
    };
}

impl Store {
    /// Appends a test event to a channel's log, and records that in the audit log.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is appended then.
    pub async fn append_test_event(
        &self,
        event: NewEvent,
        now: DateTime<Utc>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        append(&mut tx, &self.direct_claims, &[event], now).await?;
        record(&mut tx, entry).await?;
        tx.commit().await
    }

    /// Reads a page of events after a position of a channel's log.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn events_after(
        &self,
        channel_id: &ChannelId,
        after: u64,
        size: PageSize,
    ) -> Result<Page, Error> {
        Ok(run!(self, readers, |db| {
            let rows = sqlx::query_as(page_of_events!("$1", "position > $2", "$3", "$4"))
                .bind(channel_id.as_str())
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(i64::from(size.events))
                .bind(i64::from(size.bytes))
                .fetch_all(&mut *db)
                .await?;
            page(rows, head_and_floor!(db, channel_id))
        }))
    }

    /// Reads a page of one user's events after a position of a channel's log.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn events_of_user_after(
        &self,
        channel_id: &ChannelId,
        user: &UserKey,
        after: u64,
        size: PageSize,
    ) -> Result<Page, Error> {
        Ok(run!(self, readers, |db| {
            let rows = sqlx::query_as(page_of_events!(
                "$4",
                "user_ref = (SELECT id FROM users WHERE account_id = $1 AND namespace = $2 AND user_id = $3)
                     AND position > $5",
                "$6",
                "$7"
            ))
            .bind(user.account_id.as_str())
            .bind(user.namespace.as_str())
            .bind(user.user_id.as_str())
            .bind(channel_id.as_str())
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(size.events))
            .bind(i64::from(size.bytes))
            .fetch_all(&mut *db)
            .await?;
            page(rows, head_and_floor!(db, channel_id))
        }))
    }
}

/// Builds a page from its events, and from the head and floor of the log.
fn page(rows: Vec<EventRow>, ends: Option<(i64, i64)>) -> Page {
    let (head, floor) = ends.unwrap_or_default();
    Page {
        events: rows.into_iter().map(LoggedEvent::from).collect(),
        floor: floor.unsigned_abs(),
        head: head.unsigned_abs(),
    }
}

/// Appends events within a transaction, which locks their logs until it ends. Idle lanes are
/// claimed directly if this process delivers them.
pub(super) async fn append(
    tx: &mut Tx,
    direct_claims: &DirectClaims,
    events: &[NewEvent],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    // Logs are locked in the same order everywhere, so that two transactions do not deadlock.
    let mut logs = BTreeMap::<_, Vec<&NewEvent>>::new();
    for event in events {
        logs.entry(&event.channel_id).or_default().push(event);
    }
    if logs.is_empty() {
        return Ok(());
    }
    match &mut tx.engine {
        EngineTx::Postgres(pooled) => {
            let append = async |db: &mut PgConnection| postgres::append(db, &logs, now).await;
            pooled
                .run_in_tx(statement_limit(tx.deadline), append)
                .await?;
        }
        EngineTx::Sqlite(_) => sqlite::append(tx, &logs, now).await?,
    }
    for (channel_id, events) in logs {
        tx.wake(channel_id.clone());
        let mut users: Vec<_> = events
            .iter()
            .filter(|event| event.deliver_until.is_some())
            .map(|event| event.user.map(|user| user.0))
            .collect();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            continue;
        }
        let reservation = direct_claims.reserve(channel_id, users.len(), now);
        let lanes = record_arrivals(tx, channel_id, &users, now, reservation.as_ref()).await?;
        if let Some(reservation) = reservation {
            let claimed = reservation.claimed(lanes, &events, now);
            tx.after_commit(|| claimed.deliver());
        }
    }
    Ok(())
}

/// The events to append, by log and in order.
type Logs<'a> = BTreeMap<&'a ChannelId, Vec<&'a NewEvent>>;

impl From<EventRow> for LoggedEvent {
    fn from(row: EventRow) -> Self {
        Self {
            position: row.position.unsigned_abs(),
            id: row.id,
            kind: row.kind,
            body: row.body,
            user_id: row.user_id,
        }
    }
}
