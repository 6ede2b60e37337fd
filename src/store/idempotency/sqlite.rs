//! The statements for SQLite: one per batch, since each costs a switch to another thread and back.
//!
//! A statement gets its operations as one JSON array of arrays. JSON has no bytes, so the hashes
//! are a separate parameter, concatenated in the same order.

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::ClaimedRow;
use super::statements::{ClaimKey, Hashed, RecordSend, StoreAnswer, claim_keys};
use crate::store::Error;
use crate::store::engine::sqlite::Sqlite;
use crate::types::ids::UserKey;

const CLAIM_KEYS: &str = claim_keys!(
    "SELECT value ->> 0, substr($2, 1 + 32 * key, 32), substr($3, 1 + 32 * key, 32), value ->> 1, value ->> 2,
            value ->> 3, value ->> 4, value ->> 5, value ->> 6
     FROM json_each($1)
     WHERE value ->> 5 IS NULL OR EXISTS (SELECT 1 FROM users WHERE id = value ->> 5)"
);

const RECORD_SENDS: &str = "UPDATE idempotency_keys AS known
     SET lease_until = k.value ->> 2, user_ref = u.id, write_ahead = k.value ->> 4, content = NULL
     FROM json_each($1) AS k JOIN users AS u ON u.id = k.value ->> 3
     WHERE known.channel_id = k.value ->> 0 AND known.key = substr($2, 1 + 32 * k.key, 32)
       AND known.lease_id = k.value ->> 1
     RETURNING lease_id";

const STORE_ANSWERS: &str =
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
fn rows<Q>(queries: &[Hashed<'_, Q>], row: impl Fn(&Q) -> Value) -> String {
    let rows: Value = queries.iter().map(|it| row(it.query)).collect();
    rows.to_string()
}

/// Returns the concatenated hashes of the keys.
fn hashes<Q>(queries: &[Hashed<'_, Q>]) -> Vec<u8> {
    let hashes = queries.iter().flat_map(|it| it.hash.as_bytes());
    hashes.copied().collect()
}

pub(super) async fn claim_keys(
    sqlite: &Sqlite,
    queries: &[Hashed<'_, ClaimKey>],
) -> Result<Vec<ClaimedRow>, Error> {
    let fingerprints = queries
        .iter()
        .flat_map(|it| it.query.request.fingerprint.as_bytes());
    let fingerprints: Vec<_> = fingerprints.copied().collect();
    let rows_json = rows(queries, |it| {
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
    let rows = sqlx::query_as(CLAIM_KEYS)
        .bind(rows_json)
        .bind(hashes(queries))
        .bind(fingerprints);
    let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
    sqlite.writer().run(rows).await
}

/// Returns the indexes of the operations whose claims are still held.
pub(super) async fn record_sends(
    sqlite: &Sqlite,
    queries: &[Hashed<'_, RecordSend>],
) -> Result<Vec<i64>, Error> {
    let rows_json = rows(queries, |it| {
        json!([
            it.request.channel_id,
            it.lease.id,
            it.lease.until.timestamp_millis(),
            it.user.0,
            it.body,
        ])
    });
    let lease_ids = sqlx::query_scalar(RECORD_SENDS)
        .bind(rows_json)
        .bind(hashes(queries));
    let lease_ids = async |db: &mut SqliteConnection| lease_ids.fetch_all(db).await;
    let lease_ids: Vec<String> = sqlite.writer().run(lease_ids).await?;
    let lease_ids: HashSet<_> = lease_ids.into_iter().collect();
    let indexed = (0..).zip(queries);
    let held = indexed.filter(|(_, it)| lease_ids.contains(&it.query.lease.id));
    Ok(held.map(|(index, _)| index).collect())
}

/// Returns the indexes of the operations whose answers were stored.
pub(super) async fn store_answers(
    sqlite: &Sqlite,
    queries: &[Hashed<'_, StoreAnswer>],
) -> Result<Vec<i64>, Error> {
    let keys: HashSet<_> = queries.iter().map(key).collect();
    // An answered row no longer has a lease id. So if two operations answer under one key, each
    // runs in a statement of its own.
    let chunk_size = if keys.len() == queries.len() {
        queries.len()
    } else {
        1
    };
    let mut indexes = Vec::new();
    for (first, chunk) in (0..).step_by(chunk_size).zip(queries.chunks(chunk_size)) {
        let stored = store_distinct_answers(sqlite, chunk).await?;
        let numbered = (first..).zip(chunk);
        let stored = numbered.filter(|(_, it)| stored.contains(&key(it)));
        indexes.extend(stored.map(|(index, _)| index));
    }
    Ok(indexes)
}

/// Runs operations with distinct keys, and returns the keys of those whose answers were stored.
async fn store_distinct_answers(
    sqlite: &Sqlite,
    queries: &[Hashed<'_, StoreAnswer>],
) -> Result<HashSet<Key>, Error> {
    let user =
        |it: &StoreAnswer, of: fn(&UserKey) -> &str| it.user.as_ref().map(of).map(str::to_owned);
    let rows_json = rows(queries, |it| {
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
    let stored = sqlx::query_as(STORE_ANSWERS)
        .bind(rows_json)
        .bind(hashes(queries));
    let stored = async |db: &mut SqliteConnection| stored.fetch_all(db).await;
    let stored: Vec<Key> = sqlite.writer().run(stored).await?;
    Ok(stored.into_iter().collect())
}

/// A channel and the hash of one of its keys.
type Key = (String, Vec<u8>);

fn key(answer: &Hashed<'_, StoreAnswer>) -> Key {
    let channel_id = answer.query.request.channel_id.as_str().to_owned();
    (channel_id, answer.hash.as_bytes().to_vec())
}
