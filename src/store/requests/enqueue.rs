//! Queueing of requests, batched with those of other callers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_util::bytes::Bytes;

use super::lane::lock_users;
use super::{InFlight, RequestKind, echoes, sequences_text, step, steps};
use crate::store::engine::batching::BatchedQuery;
use crate::store::engine::tx::{Tx, on};
use crate::store::rows::batch;
use crate::store::{Error, KeyedRequest, Lease, Store, UserRef, idempotency};
use crate::types::ids::{ChannelId, ConversationId};
use crate::types::message::{MessageId, Sequence};
use crate::types::trace::TraceContext;

/// The total size of the stored files of user $1, in bytes.
const FILE_SIZE_OF_USER: &str =
    "SELECT CAST(COALESCE(SUM(content_size), 0) AS BIGINT) FROM requests
     WHERE user_ref = $1 AND content_size > 0";

/// The total size of the stored files of channel $1, in bytes.
const FILE_SIZE_OF_CHANNEL: &str =
    "SELECT CAST(COALESCE(SUM(content_size), 0) AS BIGINT) FROM requests
     WHERE channel_id = $1 AND content_size > 0";

/// A request to queue.
#[derive(Debug)]
pub struct NewRequest<'a> {
    /// Its id.
    pub id: MessageId,
    /// The channel that it came from.
    pub channel_id: &'a ChannelId,
    /// The kind of the request.
    pub kind: RequestKind,
    /// The request itself, as JSON.
    pub body: &'a str,
    /// The bytes of a file.
    pub content: Option<&'a Bytes>,
    /// The largest total size of the channel's stored files, in bytes.
    pub max_content: usize,
    /// The largest total size of the user's stored files, in bytes.
    pub max_content_of_user: usize,
    /// The largest number of queued requests of the user.
    pub max_waiting: u32,
    /// The time of arrival.
    pub created_at: DateTime<Utc>,
    /// The time after which it is not sent any more.
    pub expires_at: DateTime<Utc>,
    /// The conversation that it is meant for, if known.
    pub conversation_id: Option<&'a ConversationId>,
    /// The sequences of the messages that were sent for it.
    pub sequences: &'a [Sequence],
    /// The attempt with an unknown outcome.
    pub in_flight: Option<&'a InFlight>,
    /// The reason why it was not sent at once; `None` if that was not attempted.
    pub why: Option<&'a str>,
    /// The time when it is due.
    pub due_at: DateTime<Utc>,
    /// The trace context that the request came with.
    pub parent: Option<&'a TraceContext>,
    /// The sequences that are known to belong to other messages of the user, in the dialog of
    /// `in_flight`.
    pub attributed: &'a [Sequence],
    /// The idempotency key of the request, with the lease on its claim.
    pub key: Option<(&'a KeyedRequest, &'a Lease)>,
}

/// The outcome of queueing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueOutcome {
    /// The request is queued.
    Queued,
    /// The user has the largest allowed number of queued requests.
    QueueFull,
    /// The file exceeds the total size that stored files of the channel or the user may have.
    FileStorageFull {
        /// True for the user's limit, false for the channel's.
        of_user: bool,
    },
    /// Another caller has the claim on the idempotency key by now.
    ClaimLost,
    /// The user was erased meanwhile.
    UserErased,
}

/// A batched insertion of a request, if its limits leave room.
#[derive(Debug)]
pub(in crate::store) struct Enqueue {
    user: UserRef,
    channel_id: ChannelId,
    key: Option<(KeyedRequest, Lease)>,
    max_waiting: i64,
    max_content: i64,
    max_content_of_user: i64,
    due_at: i64,
    id: String,
    row: Value,
    content: Option<Bytes>,
    steps: Vec<Value>,
    echoes: Vec<Value>,
    bytes: usize,
}

impl Store {
    /// Queues a request behind the user's other requests, if there is room for it and the claim on
    /// its key was not lost.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is queued then.
    pub async fn insert_request(
        &self,
        user: UserRef,
        new: &NewRequest<'_>,
        now: DateTime<Utc>,
    ) -> Result<EnqueueOutcome, Error> {
        self.run_batched(Enqueue::new(user, new, now)).await
    }
}

impl Enqueue {
    fn new(user: UserRef, new: &NewRequest<'_>, now: DateTime<Utc>) -> Self {
        let in_flight = new.in_flight;
        let conversation_id = in_flight
            .map(|in_flight| &in_flight.conversation_id)
            .or(new.conversation_id);
        let row = json!({
            "id": new.id.to_string(),
            "user": user.0,
            "channel": new.channel_id,
            "kind": new.kind.as_str(),
            "body": new.body,
            "size": new.content.map_or(0, Bytes::len),
            "state": in_flight.map_or("waiting", |_| "unknown"),
            "created_at": new.created_at.timestamp_millis(),
            "expires_at": new.expires_at.timestamp_millis(),
            "attempts": i64::from(new.why.is_some()),
            "conversation": conversation_id.map(ConversationId::as_str),
            "sequences": sequences_text(new.sequences),
            "dialog": in_flight.map(|in_flight| &in_flight.dialog_id),
            "digest": in_flight.map(|in_flight| &in_flight.digest),
            "attempted_at": in_flight.map(|in_flight| in_flight.begun_at.timestamp_millis()),
            "traceparent": new.parent.map(|parent| &parent.traceparent),
            "tracestate": new.parent.and_then(|parent| parent.tracestate.as_ref()),
        });
        let outcome = in_flight.map_or("postponed", |_| "unknown");
        let accepted = step(new.id, new.created_at, "accepted", None);
        let attempted = new.why.map(|why| step(new.id, now, outcome, Some(why)));
        let attributed = in_flight.into_iter().flat_map(|in_flight| {
            let numbers = new.attributed.iter();
            numbers.map(|number| echoes::attributed(user, &in_flight.dialog_id, *number, now))
        });
        Self {
            user,
            channel_id: new.channel_id.clone(),
            key: new.key.map(|(key, lease)| (key.clone(), lease.clone())),
            max_waiting: new.max_waiting.into(),
            max_content: i64::try_from(new.max_content).unwrap_or(i64::MAX),
            max_content_of_user: i64::try_from(new.max_content_of_user).unwrap_or(i64::MAX),
            due_at: new.due_at.timestamp_millis(),
            id: new.id.to_string(),
            row,
            content: new.content.filter(|content| !content.is_empty()).cloned(),
            steps: std::iter::once(accepted).chain(attempted).collect(),
            echoes: attributed.collect(),
            bytes: new.body.len() + new.content.map_or(0, Bytes::len),
        }
    }

    fn size(&self) -> i64 {
        let size = self.content.as_ref().map_or(0, Bytes::len);
        i64::try_from(size).unwrap_or(i64::MAX)
    }
}

impl BatchedQuery for Enqueue {
    type Answer = EnqueueOutcome;

    fn bytes(&self) -> usize {
        self.bytes
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<EnqueueOutcome>, Error> {
        let mut tx = store.begin().await?;
        // The rows are locked until the commit, so that requests get their ordinals in the order in
        // which they become visible.
        let mut users = lock_users(&mut tx, queries.iter().map(|it| it.user)).await?;
        let keys = lock_claims(&mut tx, queries).await?;
        let mut sizes = ContentSizes::default();
        let mut outcomes = Vec::new();
        for (it, is_valid) in queries.iter().zip(keys) {
            let user = users.get_mut(&it.user.0);
            outcomes.push(match user {
                None => EnqueueOutcome::UserErased,
                Some(_) if !is_valid => EnqueueOutcome::ClaimLost,
                Some(user) if user.waiting >= it.max_waiting => EnqueueOutcome::QueueFull,
                Some(user) => {
                    let outcome = sizes.reserve(&mut tx, it).await?;
                    user.waiting += i64::from(outcome == EnqueueOutcome::Queued);
                    outcome
                }
            });
        }
        let queued: Vec<_> = queries.iter().zip(&outcomes).collect();
        let queued = queued
            .into_iter()
            .filter(|(_, outcome)| **outcome == EnqueueOutcome::Queued);
        let queued: Vec<_> = queued.map(|(it, _)| *it).collect();
        if !queued.is_empty() {
            insert(&mut tx, &queued).await?;
            steps(&mut tx, queued.iter().flat_map(|it| &it.steps)).await?;
            echoes::attribute(&mut tx, queued.iter().flat_map(|it| &it.echoes)).await?;
        }
        tx.commit().await?;
        Ok(outcomes)
    }
}

/// Renews the claims on the idempotency keys of requests, and so locks them until the commit.
/// Returns true for each claim that is still valid, and for each request without a key.
async fn lock_claims(tx: &mut Tx, queries: &[&Enqueue]) -> Result<Vec<bool>, Error> {
    let mut are_valid = vec![true; queries.len()];
    let mut keyed: Vec<_> = queries
        .iter()
        .zip(&mut are_valid)
        .filter_map(|(it, is_valid)| Some((it.key.as_ref()?, is_valid)))
        .collect();
    // In the order in which keys are claimed, so that two transactions do not deadlock.
    keyed.sort_by_cached_key(|((request, _), _)| (request.channel_id.clone(), request.key));
    for ((request, lease), is_valid) in keyed {
        *is_valid = idempotency::lock_claim(tx, request, lease).await?;
    }
    Ok(are_valid)
}

/// The total sizes of the stored files of users and channels, each read once in a transaction.
#[derive(Default)]
struct ContentSizes {
    of_users: HashMap<i64, i64>,
    of_channels: HashMap<ChannelId, i64>,
}

impl ContentSizes {
    /// Checks the limits of the user and the channel for the file of this request, and adds its
    /// size to both totals if it fits.
    async fn reserve(&mut self, tx: &mut Tx, it: &Enqueue) -> Result<EnqueueOutcome, Error> {
        let size = it.size();
        if size == 0 {
            return Ok(EnqueueOutcome::Queued);
        }
        let of_user = match self.of_users.entry(it.user.0) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (total,): (i64,) = on!(tx, |db| sqlx::query_as(FILE_SIZE_OF_USER)
                    .bind(it.user.0)
                    .fetch_one(db)
                    .await?);
                unknown.insert(total)
            }
        };
        let of_channel = match self.of_channels.entry(it.channel_id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (total,): (i64,) = on!(tx, |db| sqlx::query_as(FILE_SIZE_OF_CHANNEL)
                    .bind(it.channel_id.as_str())
                    .fetch_one(db)
                    .await?);
                unknown.insert(total)
            }
        };
        if of_user.saturating_add(size) > it.max_content_of_user {
            return Ok(EnqueueOutcome::FileStorageFull { of_user: true });
        }
        if of_channel.saturating_add(size) > it.max_content {
            return Ok(EnqueueOutcome::FileStorageFull { of_user: false });
        }
        *of_user += size;
        *of_channel += size;
        Ok(EnqueueOutcome::Queued)
    }
}

/// Inserts requests behind the queued ones, in their order.
async fn insert(tx: &mut Tx, queued: &[&Enqueue]) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO requests (id, user_ref, channel_id, kind, body, content_size, state, created_at, expires_at,
                 attempts, conversation_id, sequences, dialog_id, digest, attempted_at, traceparent, tracestate)
             SELECT value ->> 'id', CAST(value ->> 'user' AS BIGINT), value ->> 'channel', value ->> 'kind',
                    value ->> 'body', CAST(value ->> 'size' AS BIGINT), value ->> 'state',
                    CAST(value ->> 'created_at' AS BIGINT), CAST(value ->> 'expires_at' AS BIGINT),
                    CAST(value ->> 'attempts' AS BIGINT), value ->> 'conversation', value ->> 'sequences',
                    value ->> 'dialog', value ->> 'digest', CAST(value ->> 'attempted_at' AS BIGINT),
                    value ->> 'traceparent', value ->> 'tracestate'
             FROM json_each($1)",
        )
        .bind(batch(queued.iter().map(|it| &it.row)))
        .execute(db)
        .await?
        .rows_affected()
    });
    for it in queued {
        if let Some(content) = &it.content {
            on!(tx, |db| sqlx::query(
                "UPDATE requests SET content = $2 WHERE id = $1"
            )
            .bind(&it.id)
            .bind(&content[..])
            .execute(db)
            .await?
            .rows_affected());
        }
    }
    // The number of added requests for each user, and the time when the first of them is due.
    let mut lanes = BTreeMap::new();
    for it in queued {
        let (count, _) = lanes.entry(it.user.0).or_insert((0_i64, it.due_at));
        *count += 1;
    }
    let lanes = lanes.into_iter();
    let lanes = batch(
        lanes
            .map(|(user, (count, due_at))| json!({"user": user, "count": count, "due_at": due_at})),
    );
    on!(tx, |db| {
        sqlx::query(
            "UPDATE users
             SET waiting = waiting + CAST(k.value ->> 'count' AS BIGINT),
                 send_at = COALESCE(send_at, CAST(k.value ->> 'due_at' AS BIGINT))
             FROM json_each($1) AS k WHERE users.id = CAST(k.value ->> 'user' AS BIGINT)",
        )
        .bind(lanes)
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}
