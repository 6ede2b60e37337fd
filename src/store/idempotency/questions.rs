//! The statements that requests with a key share: the claim, mostly with what is about to be sent, else that by itself, and the
//! answer.

use chrono::{DateTime, Utc};

use super::{ClaimedRow, Intent, KeyedRequest, postgres, sqlite};
use crate::store::engine::batching::{Question, by_place};
use crate::store::{Engine, Error, Lease, Store, UserRef};
use crate::types::idempotency::Answer;
use crate::types::idempotency::KeyHash;
use crate::types::ids::UserKey;
use crate::types::message::MessageId;

/// The text of a statement that claims keys, whose columns `$values` gives. Somebody's whose lease has run out is taken over for
/// the same request, with all that was noted for it; an answered one has no lease, so it is not taken.
macro_rules! begin {
    ($values:literal) => {
        concat!(
            "INSERT INTO idempotency_keys AS known
                 (channel_id, key, fingerprint, message_id, lease_id, lease_until, created_at, user_ref, begun) ",
            $values,
            " ON CONFLICT (channel_id, key) DO UPDATE
             SET lease_id = excluded.lease_id, lease_until = excluded.lease_until
             WHERE known.lease_until <= excluded.created_at AND known.fingerprint = excluded.fingerprint
             RETURNING lease_id, message_id, created_at"
        )
    };
}

pub(super) use begin;

/// Notes that $6 with the bytes $7 is about to be sent for user $5, and holds the key until $4.
pub(super) const NOTE: &str =
    "UPDATE idempotency_keys SET lease_until = $4, user_ref = $5, begun = $6, content = $7
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3
       AND EXISTS (SELECT 1 FROM users WHERE id = $5)";

/// Is this key free, or its lease over? Nothing is claimed for a user who is gone.
#[derive(Debug)]
pub(in crate::store) struct Begin {
    pub(super) request: KeyedRequest,
    pub(super) message_id: MessageId,
    pub(super) lease: Lease,
    pub(super) intent: Option<Intent>,
    pub(super) now: DateTime<Utc>,
}

/// Is this key still held, for this to be sent for it?
#[derive(Debug)]
pub(in crate::store) struct Note {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: UserRef,
    pub(super) body: String,
}

/// Is this key still held, for this to be its answer?
#[derive(Debug)]
pub(in crate::store) struct Finish {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: Option<UserKey>,
    pub(super) answer: Answer,
}

/// A question, and the hash of the key that it is about.
pub(super) struct Hashed<'a, Q> {
    pub(super) hash: KeyHash,
    pub(super) question: &'a Q,
}

impl<'a, Q> Hashed<'a, Q> {
    fn all(questions: &[&'a Q], request: impl Fn(&Q) -> &KeyedRequest) -> Vec<Self> {
        let hashed = questions.iter().map(|question| Self {
            hash: request(question).key,
            question,
        });
        hashed.collect()
    }
}

impl Question for Begin {
    /// The row, where it is the one's who asks.
    type Answer = Option<ClaimedRow>;

    fn bytes(&self) -> usize {
        self.intent.as_ref().map_or(0, |intent| intent.body.len())
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let firsts = firsts(questions);
        let mut claimed = match &store.engine {
            Engine::Postgres(connections) => postgres::begin(connections, &firsts).await?,
            Engine::Sqlite(sqlite) => sqlite::begin(sqlite, &firsts).await?,
        };
        let answers = questions.iter().map(|question| {
            let is_own = |row: &ClaimedRow| row.lease_id == question.lease.id;
            let place = claimed.iter().position(is_own)?;
            Some(claimed.swap_remove(place))
        });
        Ok(answers.collect())
    }
}

/// Who comes first under each key: one statement takes a row once, and who comes second finds it taken.
fn firsts<'a>(questions: &[&'a Begin]) -> Vec<Hashed<'a, Begin>> {
    let mut hashed = Hashed::all(questions, |it| &it.request);
    // In one order everywhere, so that two replicas do not wait for each other.
    hashed.sort_by(|a, b| {
        let (first, second) = (&a.question.request, &b.question.request);
        let channels = first.channel_id.cmp(&second.channel_id);
        channels.then_with(|| a.hash.cmp(&b.hash))
    });
    hashed.dedup_by(|b, a| {
        a.question.request.channel_id == b.question.request.channel_id && a.hash == b.hash
    });
    hashed
}

impl Question for Note {
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.body.len()
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<bool>, Error> {
        let hashed = Hashed::all(questions, |it| &it.request);
        let places = match &store.engine {
            Engine::Postgres(connections) => postgres::note(connections, &hashed).await?,
            Engine::Sqlite(sqlite) => sqlite::note(sqlite, &hashed).await?,
        };
        Ok(at_places(places, questions.len()))
    }
}

impl Question for Finish {
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.answer.body.len()
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<bool>, Error> {
        let hashed = Hashed::all(questions, |it| &it.request);
        let places = match &store.engine {
            Engine::Postgres(connections) => postgres::finish(connections, &hashed).await?,
            Engine::Sqlite(sqlite) => sqlite::finish(sqlite, &hashed).await?,
        };
        Ok(at_places(places, questions.len()))
    }
}

/// Which of so many are at one of these places.
fn at_places(places: Vec<i64>, count: usize) -> Vec<bool> {
    let places = places.into_iter().map(|place| (place, ()));
    by_place(count, places, |is_there, ()| *is_there = true)
}
