//! The three steps of a request that bears an idempotency key, each together with those of others: claimed, about to be sent,
//! answered. What they mean is `idempotency`'s.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::types::Json;

use super::idempotency::{Answer, ClaimedRow, KeyedRequest};
use super::postgres::Lent;
use super::together::{AllTogether, Question, Together, by_place};
use super::tx::on;
use super::{Engine, Error, Lease, Store, UserRef};
use crate::types::ids::UserKey;
use crate::types::message::MessageId;

/// The text of a statement that claims keys, whose columns `$values` gives. Somebody's whose lease has run out is taken over for
/// the same request; an answered one has no lease, so it is not taken.
macro_rules! begin {
    ($values:literal) => {
        concat!(
            "INSERT INTO idempotency_keys AS known
                 (channel_id, key, fingerprint, message_id, lease_id, lease_until, created_at) ",
            $values,
            " ON CONFLICT (channel_id, key) DO UPDATE
             SET lease_id = excluded.lease_id, lease_until = excluded.lease_until
             WHERE known.lease_until <= excluded.created_at AND known.fingerprint = excluded.fingerprint
             RETURNING lease_id, message_id, created_at, begun, content"
        )
    };
}

/// How long the arrays are is hidden from PostgreSQL (`SELECT`), here and below: it would make a plan for each length.
const BEGIN_ALL: &str = begin!(
    "SELECT * FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::bytea[]), (SELECT $4::text[]),
                          (SELECT $5::text[]), (SELECT $6::bigint[]), (SELECT $7::bigint[]))"
);
const BEGIN: &str = begin!("VALUES ($1, $2, $3, $4, $5, $6, $7)");

/// Users are found one by one (`OFFSET 0`), so by index whatever PostgreSQL expects of the tables.
const NOTE_ALL: &str =
    "UPDATE idempotency_keys AS known
     SET lease_until = k.lease_until, user_ref = k.user_ref, begun = k.begun, content = NULL
     FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::text[]), (SELECT $4::bigint[]),
                 (SELECT $5::bigint[]), (SELECT $6::text[]))
          WITH ORDINALITY AS k (channel_id, key, lease_id, lease_until, user_ref, begun, place)
     CROSS JOIN LATERAL (SELECT 1 FROM users WHERE id = k.user_ref OFFSET 0) AS u
     WHERE known.channel_id = k.channel_id AND known.key = k.key AND known.lease_id = k.lease_id
     RETURNING k.place - 1";

/// Notes that $6 with the bytes $7 is about to be sent for user $5, and holds the key until $4.
pub(super) const NOTE: &str =
    "UPDATE idempotency_keys SET lease_until = $4, user_ref = $5, begun = $6, content = $7
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3
       AND EXISTS (SELECT 1 FROM users WHERE id = $5)";

const FINISH_ALL: &str =
    "UPDATE idempotency_keys AS known
     SET status = k.status, headers = k.headers, body = k.body, lease_id = NULL, lease_until = NULL, begun = NULL,
         content = NULL, user_ref = u.id
     FROM unnest((SELECT $1::text[]), (SELECT $2::bytea[]), (SELECT $3::text[]), (SELECT $4::bigint[]),
                 (SELECT $5::jsonb[]), (SELECT $6::text[]), (SELECT $7::text[]), (SELECT $8::text[]),
                 (SELECT $9::text[]))
          WITH ORDINALITY AS k (channel_id, key, lease_id, status, headers, body, account_id, namespace, user_id, place)
     LEFT JOIN LATERAL (SELECT id FROM users
                        WHERE account_id = k.account_id AND namespace = k.namespace AND user_id = k.user_id
                        OFFSET 0) AS u ON TRUE
     WHERE known.channel_id = k.channel_id AND known.key = k.key AND known.lease_id = k.lease_id
       AND (k.account_id IS NULL OR u.id IS NOT NULL)
     RETURNING k.place - 1";
const FINISH: &str =
    "UPDATE idempotency_keys
     SET status = $4, headers = $5, body = $6, lease_id = NULL, lease_until = NULL, begun = NULL, content = NULL,
         user_ref = (SELECT id FROM users WHERE account_id = $7 AND namespace = $8 AND user_id = $9)
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3
       AND ($7 IS NULL
            OR EXISTS (SELECT 1 FROM users WHERE account_id = $7 AND namespace = $8 AND user_id = $9))";

/// Is this key free, or its lease over?
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) request: KeyedRequest,
    pub(super) message_id: MessageId,
    pub(super) lease: Lease,
    pub(super) now: DateTime<Utc>,
}

/// Is this key still held, for this to be sent for it?
#[derive(Debug)]
pub(super) struct Note {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: UserRef,
    pub(super) body: String,
}

/// Is this key still held, for this to be its answer?
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: Option<UserKey>,
    pub(super) answer: Answer,
}

/// The names of the keys of questions, for the columns of a statement.
struct Keys<'a> {
    channels: Vec<&'a str>,
    hashes: Vec<Vec<u8>>,
    leases: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(questions: impl Iterator<Item = (&'a KeyedRequest, &'a Lease)>) -> Self {
        Self::of_hashed(questions.map(|(request, lease)| (request.key.hash(), request, lease)))
    }

    /// The same where the keys are hashed already.
    fn of_hashed(questions: impl Iterator<Item = ([u8; 32], &'a KeyedRequest, &'a Lease)>) -> Self {
        let (mut channels, mut hashes, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for (hash, request, lease) in questions {
            channels.push(request.channel_id.as_str());
            hashes.push(hash.to_vec());
            leases.push(lease.id.as_str());
        }
        Self {
            channels,
            hashes,
            leases,
        }
    }
}

impl Question for Begin {
    /// The row, where it is the one's who asks.
    type Answer = Option<ClaimedRow>;

    fn together(all: &AllTogether) -> &Together<Self> {
        &all.begins
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let Engine::Postgres(pool) = &store.engine else {
            let mut tx = store.begin().await?;
            let mut claimed = Vec::new();
            for it in questions {
                claimed.push(on!(tx, |db| sqlx::query_as(BEGIN)
                    .bind(it.request.channel_id.as_str())
                    .bind(&it.request.key.hash()[..])
                    .bind(it.request.fingerprint.as_bytes())
                    .bind(it.message_id.to_string())
                    .bind(&it.lease.id)
                    .bind(it.lease.until.timestamp_millis())
                    .bind(it.now.timestamp_millis())
                    .fetch_optional(db)
                    .await?));
            }
            tx.commit().await?;
            return Ok(claimed);
        };
        let mut claimed = begin_all(store, pool, questions).await?;
        let answers = questions.iter().map(|question| {
            let is_own = |row: &ClaimedRow| row.lease_id == question.lease.id;
            let place = claimed.iter().position(is_own)?;
            Some(claimed.swap_remove(place))
        });
        Ok(answers.collect())
    }
}

async fn begin_all(
    store: &Store,
    pool: &PgPool,
    questions: &[&Begin],
) -> Result<Vec<ClaimedRow>, Error> {
    let hashed = questions.iter().map(|it| (it.request.key.hash(), *it));
    let mut sorted: Vec<_> = hashed.collect();
    // In one order everywhere, so that two replicas do not wait for each other.
    sorted.sort_by(|(a, first), (b, second)| {
        let channels = first.request.channel_id.cmp(&second.request.channel_id);
        channels.then_with(|| a.cmp(b))
    });
    // One statement takes a row once; who comes second finds it taken.
    sorted.dedup_by(|(a, second), (b, first)| {
        first.request.channel_id == second.request.channel_id && a == b
    });
    let column = |of: fn(&Begin) -> i64| -> Vec<i64> {
        sorted.iter().map(|(_, question)| of(question)).collect()
    };
    let hashed = sorted.iter();
    let keys = Keys::of_hashed(hashed.map(|(hash, it)| (*hash, &it.request, &it.lease)));
    let fingerprints: Vec<_> = sorted
        .iter()
        .map(|(_, it)| it.request.fingerprint.as_bytes())
        .collect();
    let messages: Vec<_> = sorted
        .iter()
        .map(|(_, it)| it.message_id.to_string())
        .collect();
    let rows = sqlx::query_as(BEGIN_ALL)
        .bind(keys.channels)
        .bind(keys.hashes)
        .bind(fingerprints)
        .bind(messages)
        .bind(keys.leases)
        .bind(column(|it| it.lease.until.timestamp_millis()))
        .bind(column(|it| it.now.timestamp_millis()));
    Lent::run(pool, &store.health, async |db| rows.fetch_all(db).await).await
}

impl Question for Note {
    type Answer = bool;

    fn together(all: &AllTogether) -> &Together<Self> {
        &all.notes
    }

    fn bytes(&self) -> usize {
        self.body.len()
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<bool>, Error> {
        let Engine::Postgres(pool) = &store.engine else {
            let mut tx = store.begin().await?;
            let mut noted = Vec::new();
            for it in questions {
                let rows = on!(tx, |db| sqlx::query(NOTE)
                    .bind(it.request.channel_id.as_str())
                    .bind(&it.request.key.hash()[..])
                    .bind(&it.lease.id)
                    .bind(it.lease.until.timestamp_millis())
                    .bind(it.user.0)
                    .bind(&it.body)
                    .bind(None::<&[u8]>)
                    .execute(db)
                    .await?
                    .rows_affected());
                noted.push(rows == 1);
            }
            tx.commit().await?;
            return Ok(noted);
        };
        let keys = Keys::of(questions.iter().map(|it| (&it.request, &it.lease)));
        let column =
            |of: fn(&Self) -> i64| -> Vec<i64> { questions.iter().map(|it| of(it)).collect() };
        let bodies: Vec<_> = questions.iter().map(|it| it.body.as_str()).collect();
        let rows = sqlx::query_scalar(NOTE_ALL)
            .bind(keys.channels)
            .bind(keys.hashes)
            .bind(keys.leases)
            .bind(column(|it| it.lease.until.timestamp_millis()))
            .bind(column(|it| it.user.0))
            .bind(bodies);
        let rows = Lent::run(pool, &store.health, async |db| rows.fetch_all(db).await).await?;
        Ok(at_places(rows, questions.len()))
    }
}

impl Question for Finish {
    type Answer = bool;

    fn together(all: &AllTogether) -> &Together<Self> {
        &all.finishes
    }

    fn bytes(&self) -> usize {
        self.answer.body.len()
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<bool>, Error> {
        let Engine::Postgres(pool) = &store.engine else {
            let mut tx = store.begin().await?;
            let mut finished = Vec::new();
            for it in questions {
                let user = it.user.as_ref();
                let rows = on!(tx, |db| sqlx::query(FINISH)
                    .bind(it.request.channel_id.as_str())
                    .bind(&it.request.key.hash()[..])
                    .bind(&it.lease.id)
                    .bind(i64::from(it.answer.status))
                    .bind(Json(&it.answer.headers))
                    .bind(&it.answer.body)
                    .bind(user.map(|user| user.account_id.as_str()))
                    .bind(user.map(|user| user.namespace.as_str()))
                    .bind(user.map(|user| user.user_id.as_str()))
                    .execute(db)
                    .await?
                    .rows_affected());
                finished.push(rows == 1);
            }
            tx.commit().await?;
            return Ok(finished);
        };
        let keys = Keys::of(questions.iter().map(|it| (&it.request, &it.lease)));
        let statuses: Vec<_> = questions
            .iter()
            .map(|it| i64::from(it.answer.status))
            .collect();
        let headers: Vec<_> = questions
            .iter()
            .map(|it| Json(&it.answer.headers))
            .collect();
        let bodies: Vec<_> = questions.iter().map(|it| it.answer.body.as_str()).collect();
        let user = |of: fn(&UserKey) -> &str| -> Vec<Option<&str>> {
            questions
                .iter()
                .map(|it| it.user.as_ref().map(of))
                .collect()
        };
        let rows = sqlx::query_scalar(FINISH_ALL)
            .bind(keys.channels)
            .bind(keys.hashes)
            .bind(keys.leases)
            .bind(statuses)
            .bind(headers)
            .bind(bodies)
            .bind(user(|user| user.account_id.as_str()))
            .bind(user(|user| user.namespace.as_str()))
            .bind(user(|user| user.user_id.as_str()));
        let rows = Lent::run(pool, &store.health, async |db| rows.fetch_all(db).await).await?;
        Ok(at_places(rows, questions.len()))
    }
}

/// Which of so many are at one of these places.
fn at_places(places: Vec<i64>, count: usize) -> Vec<bool> {
    let places = places.into_iter().map(|place| (place, ()));
    by_place(count, places, |is_there, ()| *is_there = true)
}
