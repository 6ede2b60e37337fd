//! The statements for PostgreSQL. Their parameters are one array per column, which costs PostgreSQL
//! less than parsing JSON.
//!
//! `(SELECT $1)` hides the length of an array from the planner, which would otherwise make a plan
//! for each length.

use sqlx::types::Json;

use super::ClaimedRow;
use super::statements::{ClaimKey, Hashed, RecordSend, StoreAnswer, claim_keys};
use crate::store::Error;
use crate::store::engine::postgres::Postgres;
use crate::types::ids::UserKey;

/// Locks the users until the commit, so that no row refers to a user who is being erased. As
/// everywhere, users are locked before keys.
const CLAIM_KEYS: &str = claim_keys!(
    "SELECT k.* FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::bytea[]), (SELECT $4::text[]),
                            (SELECT $5::text[]), (SELECT $6::bigint[]), (SELECT $7::bigint[]), (SELECT $8::bigint[]),
                            (SELECT $9::text[]))
          AS k (channel_id, key, fingerprint, message_id, lease_id, lease_until, created_at, user_ref, write_ahead)
     WHERE k.user_ref = ANY (ARRAY(SELECT id FROM users WHERE id = ANY (ARRAY(SELECT unnest($8::bigint[])))
                                   ORDER BY id FOR KEY SHARE))
        OR k.user_ref IS NULL"
);

/// Each user is looked up separately (`OFFSET 0`), so PostgreSQL uses the index, whatever size it
/// expects the tables to have.
const RECORD_SENDS: &str =
    "UPDATE idempotency_keys AS known
     SET lease_until = k.lease_until, user_ref = k.user_ref, write_ahead = k.write_ahead, content = NULL
     FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::text[]), (SELECT $4::bigint[]),
                 (SELECT $5::bigint[]), (SELECT $6::text[]))
          WITH ORDINALITY AS k (channel_id, key, lease_id, lease_until, user_ref, write_ahead, ordinal)
     CROSS JOIN LATERAL (SELECT 1 FROM users WHERE id = k.user_ref OFFSET 0) AS u
     WHERE known.channel_id = k.channel_id AND known.key = k.key AND known.lease_id = k.lease_id
     RETURNING k.ordinal - 1";

const STORE_ANSWERS: &str =
    "UPDATE idempotency_keys AS known
     SET status = k.status, headers = k.headers, body = k.body, lease_id = NULL, lease_until = NULL, write_ahead = NULL,
         content = NULL, user_ref = COALESCE(u.id, known.user_ref)
     FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::text[]), (SELECT $4::bigint[]),
                 (SELECT $5::jsonb[]), (SELECT $6::text[]), (SELECT $7::text[]), (SELECT $8::text[]),
                 (SELECT $9::text[]))
          WITH ORDINALITY AS k (channel_id, key, lease_id, status, headers, body, account_id, namespace, user_id, ordinal)
     LEFT JOIN LATERAL (SELECT id FROM users
                        WHERE account_id = k.account_id AND namespace = k.namespace AND user_id = k.user_id
                        OFFSET 0) AS u ON TRUE
     WHERE known.channel_id = k.channel_id AND known.key = k.key AND known.lease_id = k.lease_id
       AND (k.account_id IS NULL OR u.id IS NOT NULL)
     RETURNING k.ordinal - 1";

/// Returns one value of each operation, as the parameter for a column.
fn column<'a, Q, T>(queries: &'a [Hashed<'_, Q>], of: impl Fn(&'a Q) -> T) -> Vec<T> {
    queries.iter().map(|it| of(it.query)).collect()
}

/// Returns the hashes of the keys, as the parameter for a column.
fn hashes<'a, Q>(queries: &'a [Hashed<'_, Q>]) -> Vec<&'a [u8]> {
    queries.iter().map(|it| it.hash.as_bytes()).collect()
}

pub(super) async fn claim_keys(
    postgres: &Postgres,
    queries: &[Hashed<'_, ClaimKey>],
) -> Result<Vec<ClaimedRow>, Error> {
    let rows = sqlx::query_as(CLAIM_KEYS)
        .bind(column(queries, |it| it.request.channel_id.as_str()))
        .bind(hashes(queries))
        .bind(column(queries, |it| it.request.fingerprint.as_bytes()))
        .bind(column(queries, |it| it.message_id.to_string()))
        .bind(column(queries, |it| it.lease.id.as_str()))
        .bind(column(queries, |it| it.lease.until.timestamp_millis()))
        .bind(column(queries, |it| it.now.timestamp_millis()))
        .bind(column(queries, |it| {
            it.intent.as_ref().map(|intent| intent.user.0)
        }))
        .bind(column(queries, |it| {
            it.intent.as_ref().map(|intent| intent.body.as_str())
        }));
    postgres.run(async |db| rows.fetch_all(db).await).await
}

/// Returns the indexes of the operations whose claims are still held.
pub(super) async fn record_sends(
    postgres: &Postgres,
    queries: &[Hashed<'_, RecordSend>],
) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query_scalar(RECORD_SENDS)
        .bind(column(queries, |it| it.request.channel_id.as_str()))
        .bind(hashes(queries))
        .bind(column(queries, |it| it.lease.id.as_str()))
        .bind(column(queries, |it| it.lease.until.timestamp_millis()))
        .bind(column(queries, |it| it.user.0))
        .bind(column(queries, |it| it.body.as_str()));
    postgres.run(async |db| rows.fetch_all(db).await).await
}

/// Returns the indexes of the operations whose answers were stored.
pub(super) async fn store_answers(
    postgres: &Postgres,
    queries: &[Hashed<'_, StoreAnswer>],
) -> Result<Vec<i64>, Error> {
    let user = |of: fn(&UserKey) -> &str| column(queries, |it| it.user.as_ref().map(of));
    let rows = sqlx::query_scalar(STORE_ANSWERS)
        .bind(column(queries, |it| it.request.channel_id.as_str()))
        .bind(hashes(queries))
        .bind(column(queries, |it| it.lease.id.as_str()))
        .bind(column(queries, |it| i64::from(it.answer.status)))
        .bind(column(queries, |it| Json(&it.answer.headers)))
        .bind(column(queries, |it| it.answer.body.as_str()))
        .bind(user(|user| user.account_id.as_str()))
        .bind(user(|user| user.namespace.as_str()))
        .bind(user(|user| user.user_id.as_str()));
    postgres.run(async |db| rows.fetch_all(db).await).await
}
