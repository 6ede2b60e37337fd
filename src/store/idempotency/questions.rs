//! The statements that requests with a key share: the claim, mostly with what is about to be sent, else that by itself, and the
//! answer.

use chrono::{DateTime, Utc};

use super::{Intent, KeyedRequest};
use crate::store::{Lease, UserRef};
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
    pub(super) fn all(questions: &[&'a Q], request: impl Fn(&Q) -> &KeyedRequest) -> Vec<Self> {
        let hashed = questions.iter().map(|question| Self {
            hash: request(question).key,
            question,
        });
        hashed.collect()
    }
}
