//! The statements for SQLite: one per batch, since each costs a switch to another thread and back.
//!
//! A statement gets its operations as one JSON array of arrays. JSON has no bytes, so the hashes
//! are a separate parameter, concatenated in the same order.

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::ClaimedRow;
use super::statements::{ClaimKey, Hashed, RecordSend, StoreAnswer, begin};
use crate::store::Error;
use crate::store::engine::sqlite::Sqlite;
use crate::types::ids::UserKey;

const BEGIN: &str = begin!(
    "SELECT value ->> 0, substr($2, 1 + 32 * key, 32), substr($3, 1 + 32 * key, 32), value ->> 1, value ->> 2,
            value ->> 3, value ->> 4, value ->> 5, value ->> 6
     FROM json_each($1)
     WHERE value ->> 5 IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = value ->> 5)"
);

const RECORD_SEND: &str = "UPDATE idempotency_keys AS known
     SET lease_until = k.value ->> 2, user_ref = u.id, write_ahead = k.value ->> 4, content = NULL
     FROM json_each($1) AS k JOIN users AS u ON u.id = k.value ->> 3
     WHERE known.channel_id = k.value ->> 0 AND known.key = substr($2, 1 + 32 * k.key, 32)
       AND known.lease_id = k.value ->> 1
     RETURNING lease_id";

const FINISH: &str =
    "UPDATE idempotency_keys AS known
     SET status = k.value ->> 2, headers = k.value ->> 3, body = k.value ->> 4, lease_id = NULL, lease_until = NULL,
         write_ahead = NULL, content = NULL, user_ref = COALESCE(u.id, known.user_ref)
     FROM json_each($1) AS k
     LEFT JOIN users AS u
       ON u.account_id = k.value ->> 5 AND u.namespace = k.value ->> 6 AND u.user_id = k.value ->> 7
     WHERE known.channel_id = k.value ->> 0 AND known.key = substr($2, 1 + 32 * k.key, 32)
       AND known.lease_id = k.value ->> 1 AND (k.value ->> 5 IS NULL OR u.id IS NOT NULL)
     RETURNING channel_id, key";

/// Returns the operations as a JSON array, with one array for each.
fn rows<Q>(questions: &[Hashed<'_, Q>], row: impl Fn(&Q) -> Value) -> String {
    let rows: Value = questions.iter().map(|it| row(it.question)).collect();
    rows.to_string()
}

/// Returns the concatenated hashes of the keys.
fn hashes<Q>(questions: &[Hashed<'_, Q>]) -> Vec<u8> {
    let hashes = questions.iter().flat_map(|it| it.hash.as_bytes());
    hashes.copied().collect()
}

pub(super) async fn begin(
    sqlite: &Sqlite,
    questions: &[Hashed<'_, ClaimKey>],
) -> Result<Vec<ClaimedRow>, Error> {
    let fingerprints = questions
        .iter()
        .flat_map(|it| it.question.request.fingerprint.as_bytes());
    let fingerprints: Vec<_> = fingerprints.copied().collect();
    let questions_as_rows = rows(questions, |it| {
        let intent = it.intent.as_ref();
        json!([
            it.request.channel_id,
            it.message_id.to_string(),
            it.lease.id,
            it.lease.until.timestamp_millis(),
            it.now.timestamp_millis(),
            intent.map(|intent| intent.user.0),
            intent.map(|intent| &intent.body),
        ])
    });
    let rows = sqlx::query_as(BEGIN)
        .bind(questions_as_rows)
        .bind(hashes(questions))
        .bind(fingerprints);
    let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
    sqlite.writer().run(rows).await
}

/// Returns the indexes of the operations whose claims are still held.
pub(super) async fn note(
    sqlite: &Sqlite,
    questions: &[Hashed<'_, RecordSend>],
) -> Result<Vec<i64>, Error> {
    let questions_as_rows = rows(questions, |it| {
        json!([
            it.request.channel_id,
            it.lease.id,
            it.lease.until.timestamp_millis(),
            it.user.0,
            it.body,
        ])
    });
    let is_recorded = sqlx::query_scalar(RECORD_SEND)
        .bind(questions_as_rows)
        .bind(hashes(questions));
    let is_recorded = async |db: &mut SqliteConnection| is_recorded.fetch_all(db).await;
    let is_recorded: Vec<String> = sqlite.writer().run(is_recorded).await?;
    let is_recorded: HashSet<_> = is_recorded.into_iter().collect();
    let places = (0..).zip(questions);
    let held = places.filter(|(_, it)| is_recorded.contains(&it.question.lease.id));
    Ok(held.map(|(place, _)| place).collect())
}

/// Returns the indexes of the operations whose answers were stored.
pub(super) async fn finish(
    sqlite: &Sqlite,
    questions: &[Hashed<'_, StoreAnswer>],
) -> Result<Vec<i64>, Error> {
    let keys: HashSet<_> = questions.iter().map(key).collect();
    // An answered row no longer has a lease id. So if two operations answer under one key, each
    // runs in a statement of its own.
    let at_once = if keys.len() == questions.len() {
        questions.len()
    } else {
        1
    };
    let mut places = Vec::new();
    for (first, some) in (0..).step_by(at_once).zip(questions.chunks(at_once)) {
        let kept = finish_some(sqlite, some).await?;
        let some = (first..).zip(some);
        let kept = some.filter(|(_, it)| kept.contains(&key(it)));
        places.extend(kept.map(|(place, _)| place));
    }
    Ok(places)
}

/// Runs operations with distinct keys, and returns the keys of those whose answers were stored.
async fn finish_some(
    sqlite: &Sqlite,
    questions: &[Hashed<'_, StoreAnswer>],
) -> Result<HashSet<Key>, Error> {
    let user =
        |it: &StoreAnswer, of: fn(&UserKey) -> &str| it.user.as_ref().map(of).map(str::to_owned);
    let questions_as_rows = rows(questions, |it| {
        json!([
            it.request.channel_id,
            it.lease.id,
            it.answer.status,
            json!(it.answer.headers).to_string(),
            it.answer.body,
            user(it, |user| user.account_id.as_str()),
            user(it, |user| user.namespace.as_str()),
            user(it, |user| user.user_id.as_str()),
        ])
    });
    let kept = sqlx::query_as(FINISH)
        .bind(questions_as_rows)
        .bind(hashes(questions));
    let kept = async |db: &mut SqliteConnection| kept.fetch_all(db).await;
    let kept: Vec<Key> = sqlite.writer().run(kept).await?;
    Ok(kept.into_iter().collect())
}

/// A channel and the hash of one of its keys.
type Key = (String, Vec<u8>);

fn key(finish: &Hashed<'_, StoreAnswer>) -> Key {
    let channel_id = finish.question.request.channel_id.as_str().to_owned();
    (channel_id, finish.hash.as_bytes().to_vec())
}
