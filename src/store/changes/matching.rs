//! Which changes are new, what had been kept for their places, and what is known of their conversations.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::announcement::{announced, time};
use super::{Arrival, Known, Turn};
use crate::store::log::batch;
use crate::store::parent::ParentRow;
use crate::store::tx::{Tx, on};
use crate::store::{Error, UserRef};

#[derive(sqlx::FromRow)]
pub(super) struct KeptRow {
    pub(super) id: i64,
    pub(super) account_id: String,
    pub(super) place: String,
    dialog_id: Option<String>,
    sequence: Option<i64>,
    state: Option<String>,
    pub(super) kind: String,
    pub(super) body: String,
    #[sqlx(flatten)]
    pub(super) parent: ParentRow,
}

impl KeptRow {
    /// Whether it is a change of the conversation's own state.
    pub(super) fn is_of_state(&self) -> bool {
        self.state.is_some()
    }

    pub(super) fn turn(&self) -> Option<Turn> {
        Some(Turn {
            dialog_id: self.dialog_id.clone()?,
            sequence: self.sequence?.unsigned_abs(),
        })
    }
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    account_id: String,
    place: String,
    id: String,
    channel_id: String,
    user_ref: i64,
    user_id: String,
    consumer_id: Option<String>,
    announced: Option<String>,
    updated_at: Option<i64>,
}

/// The places of the arrivals that had not come before; from now on they have.
pub(super) async fn see(
    tx: &mut Tx,
    arrivals: &[Arrival],
    now: DateTime<Utc>,
) -> Result<HashSet<usize>, Error> {
    let mut keys: Vec<_> = arrivals.iter().filter_map(|a| a.key.as_ref()).collect();
    // In one order everywhere, so that two transactions with the same keys never wait for each other.
    keys.sort_unstable();
    keys.dedup();
    let mut new = HashSet::new();
    if !keys.is_empty() {
        let rows: Vec<(String,)> = on!(tx, |db| {
            sqlx::query_as(
                "INSERT INTO seen_changes (key, seen_at) SELECT value ->> 'key', $2 FROM json_each($1)
                 ORDER BY value ->> 'key' ON CONFLICT DO NOTHING RETURNING key",
            )
            .bind(batch(keys.iter().map(|key| json!({"key": key}))))
            .bind(now.timestamp_millis())
            .fetch_all(db)
            .await?
        });
        new.extend(rows.into_iter().map(|(key,)| key));
    }
    let unseen = arrivals.iter().enumerate().filter(|(_, arrival)| {
        // Of two in one batch, the first is taken.
        arrival.key.as_ref().is_none_or(|key| new.remove(key))
    });
    Ok(unseen.map(|(index, _)| index).collect())
}

fn named(places: &HashSet<&String>) -> String {
    let mut places: Vec<_> = places.iter().collect();
    places.sort_unstable();
    batch(places.into_iter().map(|place| json!({"place": place})))
}

/// Takes out what was kept for places that are known by now, in the order in which it came.
pub(super) async fn take_kept(
    tx: &mut Tx,
    places: &HashSet<&String>,
) -> Result<Vec<KeptRow>, Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<KeptRow> = on!(tx, |db| {
        sqlx::query_as(
            "DELETE FROM early_changes
             WHERE place IN (SELECT value ->> 'place' FROM json_each($1))
               AND EXISTS (SELECT 1 FROM dialogs d WHERE d.id = early_changes.place)
             RETURNING id, account_id, place, dialog_id, sequence, state, kind, body, traceparent, tracestate",
        )
        .bind(named(places))
        .fetch_all(db)
        .await?
    });
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// By account and place, the conversation's id.
type Places = HashMap<(String, String), String>;

/// What is known of the conversations at these places.
pub(super) async fn look_up(
    tx: &mut Tx,
    places: &HashSet<&String>,
) -> Result<(KnownPlaces, HashMap<String, Known>), Error> {
    let mut by_place = KnownPlaces::default();
    let mut conversations = HashMap::new();
    if places.is_empty() {
        return Ok((by_place, conversations));
    }
    let rows: Vec<KnownRow> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT u.account_id, d.id AS place, c.id, c.channel_id, c.user_ref, u.user_id, u.consumer_id,
                    c.announced, c.updated_at
             FROM json_each($1) n
             -- the main dialog bears the conversation's id
             JOIN dialogs d ON d.id = n.value ->> 'place'
             JOIN conversations c ON c.id = d.conversation_id
             JOIN users u ON u.id = c.user_ref",
        )
        .bind(named(places))
        .fetch_all(db)
        .await?
    });
    for row in rows {
        let place = (row.account_id.clone(), row.place.clone());
        by_place.0.insert(place, row.id.clone());
        conversations.insert(row.id.clone(), Known::try_from(row)?);
    }
    Ok((by_place, conversations))
}

#[derive(Default)]
pub(super) struct KnownPlaces(Places);

impl KnownPlaces {
    pub(super) fn get(&self, account: &str, place: &str) -> Option<&str> {
        let key = (account.to_owned(), place.to_owned());
        self.0.get(&key).map(String::as_str)
    }
}

impl TryFrom<KnownRow> for Known {
    type Error = Error;

    fn try_from(row: KnownRow) -> Result<Self, Error> {
        let unreadable = |what| move |_| Error::Unreadable { what };
        Ok(Self {
            conversation_id: row.id.parse().map_err(unreadable("conversation id"))?,
            channel_id: row.channel_id.parse().map_err(unreadable("channel id"))?,
            user: UserRef(row.user_ref),
            user_id: row.user_id.parse().map_err(unreadable("user id"))?,
            consumer_id: row.consumer_id,
            announced: row.announced.as_deref().map(announced).transpose()?,
            updated_at: row.updated_at.map(time).transpose()?,
        })
    }
}
