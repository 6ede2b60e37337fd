//! The lookups of a batch: new changes, unmatched changes for their conversations, and the
//! conversations themselves.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, SqliteConnection};

use super::announcement::{announced, time};
use super::{Arrival, DialogPosition, KnownConversation};
use crate::store::conversations::opened_by;
use crate::store::engine::tx::{EngineTx, Tx, on, statement_limit};
use crate::store::rows::batch;
use crate::store::trace_context::ParentRow;
use crate::store::{Error, UserRef};

#[derive(sqlx::FromRow)]
pub(super) struct UnmatchedRow {
    pub(super) id: i64,
    pub(super) account_id: String,
    pub(super) subject: String,
    consumer_id: Option<String>,
    dialog_id: Option<String>,
    sequence: Option<i64>,
    state: Option<String>,
    pub(super) kind: String,
    pub(super) body: String,
    #[sqlx(flatten)]
    pub(super) parent: ParentRow,
}

impl UnmatchedRow {
    /// True if it says that the conversation is open.
    pub(super) fn opens(&self) -> bool {
        self.state.as_deref() == Some("open")
    }

    /// Returns the dialog that the change names in addition to the conversation. `None` if the user
    /// wrote the change.
    pub(super) fn named_dialog(&self) -> Option<&str> {
        let dialog = self.dialog_id.as_deref();
        dialog.filter(|_| self.consumer_id.is_none())
    }

    pub(super) fn position(&self) -> Option<DialogPosition> {
        Some(DialogPosition {
            dialog_id: self.dialog_id.clone()?,
            sequence: self.sequence?.unsigned_abs(),
        })
    }
}

/// The conversation of a dialog; the last column is true if there are unmatched changes for the
/// dialog. Columns are read by index, which is faster than by name.
type KnownRow = (
    String,
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
    bool,
    i64,
    bool,
);

/// The columns of the lookup. With `EXISTS`, PostgreSQL would build a hash of all unmatched
/// changes. With a subquery that has a `LIMIT`, it does not.
macro_rules! columns {
    () => {
        "p.subject, u.account_id, c.id, c.channel_id, c.user_ref, u.user_id, u.consumer_id, c.opened_by, c.announced,
         c.updated_at,
         c.fingerprint, c.offer IS NOT NULL, d.is_private,
         (SELECT e.id FROM unmatched_changes e WHERE e.subject = p.subject LIMIT 1) IS NOT NULL"
    };
}

/// Each id is looked up separately (`OFFSET 0`), so PostgreSQL uses the index, whatever size it
/// expects the tables to have.
macro_rules! in_postgres {
    ($dialogs:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM unnest((SELECT $1::text[])) AS p (subject)
      CROSS JOIN LATERAL (SELECT conversation_id AS id, ",
            $dialogs,
            " WHERE id = p.subject OFFSET 0) AS d
      CROSS JOIN LATERAL (SELECT * FROM conversations WHERE id = d.id OFFSET 0) AS c
      CROSS JOIN LATERAL (SELECT * FROM users WHERE id = c.user_ref OFFSET 0) AS u"
        )
    };
}

macro_rules! in_sqlite {
    ($dialogs:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM (SELECT value AS subject FROM json_each($1)) AS p
      CROSS JOIN (SELECT id, conversation_id, ",
            $dialogs,
            ") AS d ON d.id = p.subject
      JOIN conversations AS c ON c.id = d.conversation_id
      JOIN users AS u ON u.id = c.user_ref"
        )
    };
}

/// The lookup in PostgreSQL and in SQLite: first among the dialogs in which users write, then among
/// all other dialogs.
const IN_DIALOGS: [&str; 2] = [
    in_postgres!("CAST(0 AS BIGINT) AS is_private FROM dialogs"),
    in_sqlite!("0 AS is_private FROM dialogs"),
];
const IN_SIDE_DIALOGS: [&str; 2] = [
    in_postgres!("is_private FROM side_dialogs"),
    in_sqlite!("is_private FROM side_dialogs"),
];

const RECORD_SEEN_IN_POSTGRES: &str = "INSERT INTO seen_changes (key, seen_at)
     SELECT key, $2 FROM unnest((SELECT $1::text[])) AS k (key) ORDER BY key ON CONFLICT DO NOTHING RETURNING key";

const RECORD_SEEN_IN_SQLITE: &str =
    "INSERT INTO seen_changes (key, seen_at) SELECT value, $2 FROM json_each($1) WHERE true
     ON CONFLICT DO NOTHING RETURNING key";

/// Records the keys of the arrivals as seen, and returns the indexes of the arrivals that are new.
pub(super) async fn record_seen(
    tx: &mut Tx,
    arrivals: &[Arrival],
    now: DateTime<Utc>,
) -> Result<HashSet<usize>, Error> {
    let mut keys: Vec<_> = arrivals.iter().filter_map(|a| a.key.as_ref()).collect();
    // Sorted, so that two transactions with the same keys never deadlock.
    keys.sort_unstable();
    keys.dedup();
    let mut new = HashSet::new();
    if !keys.is_empty() {
        let seen_at = now.timestamp_millis();
        let rows: Vec<String> = match &mut tx.engine {
            EngineTx::Postgres(pooled) => {
                let rows = sqlx::query_scalar(RECORD_SEEN_IN_POSTGRES)
                    .bind(keys)
                    .bind(seen_at);
                let rows = async |db: &mut PgConnection| rows.fetch_all(db).await;
                pooled.run_in_tx(statement_limit(tx.deadline), rows).await?
            }
            EngineTx::Sqlite(write_tx) => {
                let rows = sqlx::query_scalar(RECORD_SEEN_IN_SQLITE)
                    .bind(Json(keys))
                    .bind(seen_at);
                let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
                write_tx.run(rows).await?
            }
        };
        new.extend(rows);
    }
    let unseen = arrivals.iter().enumerate().filter(|(_, arrival)| {
        // Of two equal keys in one batch, the first counts as new.
        arrival.key.as_ref().is_none_or(|key| new.remove(key))
    });
    Ok(unseen.map(|(index, _)| index).collect())
}

/// Deletes and returns the unmatched changes of known conversations and dialogs, in the order of
/// their arrival.
pub(super) async fn take_unmatched(
    tx: &mut Tx,
    subjects: &[String],
) -> Result<Vec<UnmatchedRow>, Error> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<UnmatchedRow> = on!(tx, |db| {
        sqlx::query_as(
            "DELETE FROM unmatched_changes WHERE subject IN (SELECT value ->> 'subject' FROM json_each($1))
             RETURNING id, account_id, subject, consumer_id, dialog_id, sequence, state, kind, body, traceparent, tracestate",
        )
        .bind(batch(subjects.iter().map(|subject| json!({"subject": subject}))))
        .fetch_all(db)
        .await?
    });
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// The conversations and dialogs that are known.
#[derive(Default)]
pub(super) struct KnownSubjects {
    /// The account and the conversation by dialog id. A dialog belongs to one account.
    conversations: HashMap<String, (String, String)>,
    /// The dialogs among agents.
    private: HashSet<String>,
    /// The ids with unmatched changes.
    pub(super) with_unmatched: Vec<String>,
}

/// Looks up the conversations of these ids and their state.
pub(super) async fn look_up(
    tx: &mut Tx,
    subjects: &HashSet<&String>,
) -> Result<(KnownSubjects, HashMap<String, KnownConversation>), Error> {
    let (mut known, mut conversations) = (KnownSubjects::default(), HashMap::new());
    if subjects.is_empty() {
        return Ok((known, conversations));
    }
    let mut subjects: Vec<_> = subjects.iter().map(|subject| subject.as_str()).collect();
    let mut rows = rows_of(tx, IN_DIALOGS, &subjects).await?;
    // A change in a side dialog is rare, and so is an unknown conversation; so the second lookup is
    // rare.
    let found: HashSet<_> = rows.iter().map(|row| row.0.clone()).collect();
    subjects.retain(|subject| !found.contains(*subject));
    if !subjects.is_empty() {
        rows.extend(rows_of(tx, IN_SIDE_DIALOGS, &subjects).await?);
    }
    for row in rows {
        let (
            subject,
            account_id,
            id,
            channel_id,
            user_ref,
            user_id,
            consumer_id,
            opener,
            announced_text,
            updated_at,
            fingerprint,
            has_offer,
            is_private,
            has_unmatched,
        ) = row;
        let unreadable = |what| move |_| Error::Unreadable { what };
        let conversation = KnownConversation {
            conversation_id: id.parse().map_err(unreadable("conversation id"))?,
            channel_id: channel_id.parse().map_err(unreadable("channel id"))?,
            user: UserRef(user_ref),
            user_id: user_id.parse().map_err(unreadable("user id"))?,
            consumer_id,
            opened_by: opened_by(opener.as_deref()),
            announced: announced_text.as_deref().map(announced).transpose()?,
            updated_at: updated_at.map(time).transpose()?,
            fingerprint,
            has_offer,
        };
        conversations.insert(id.clone(), conversation);
        known
            .private
            .extend((is_private != 0).then(|| subject.clone()));
        known
            .with_unmatched
            .extend(has_unmatched.then(|| subject.clone()));
        known.conversations.insert(subject, (account_id, id));
    }
    Ok((known, conversations))
}

async fn rows_of(
    tx: &mut Tx,
    [in_postgres, in_sqlite]: [&'static str; 2],
    subjects: &[&str],
) -> Result<Vec<KnownRow>, Error> {
    match &mut tx.engine {
        EngineTx::Postgres(pooled) => {
            let rows = sqlx::query_as(in_postgres).bind(subjects);
            let rows = async |db: &mut PgConnection| rows.fetch_all(db).await;
            pooled.run_in_tx(statement_limit(tx.deadline), rows).await
        }
        EngineTx::Sqlite(write_tx) => {
            let rows = sqlx::query_as(in_sqlite).bind(Json(subjects));
            let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
            write_tx.run(rows).await
        }
    }
}

impl KnownSubjects {
    /// Returns the dialogs among agents.
    pub(super) fn private(&self) -> &HashSet<String> {
        &self.private
    }

    /// True if the id belongs to a conversation of any account.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.conversations.contains_key(subject)
    }

    /// Returns the conversation of an id; `None` if it belongs to another account.
    pub(super) fn get(&self, account: &str, subject: &str) -> Option<&str> {
        let (owner, id) = self.conversations.get(subject)?;
        (owner == account).then_some(id)
    }
}
