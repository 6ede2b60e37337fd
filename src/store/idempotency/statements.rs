//! The operations on idempotency keys that are batched: the claim (usually with its write-ahead
//! record), a later write-ahead record, and the answer.

use chrono::{DateTime, Utc};

use super::{Intent, KeyedRequest};
use crate::store::{Lease, UserRef};
use crate::types::idempotency::KeyHash;
use crate::types::idempotency::StoredResponse;
use crate::types::ids::UserKey;
use crate::types::message::MessageId;

/// Builds the text of a statement that claims keys; `$values` supplies the columns. A claim whose
/// lease has expired is taken over by the same request, with its write-ahead record. An answered
/// request has no lease, so it is not taken over.
macro_rules! claim_keys {
    ($values:literal) => {
        concat!(
            "INSERT INTO idempotency_keys AS known
                 (channel_id, key, fingerprint, message_id, lease_id, lease_until, created_at, user_ref, write_ahead) ",
            $values,
            " ON CONFLICT (channel_id, key) DO UPDATE
             SET lease_id = excluded.lease_id, lease_until = excluded.lease_until
             WHERE known.lease_until <= excluded.created_at AND known.fingerprint = excluded.fingerprint
             RETURNING lease_id, message_id, created_at"
        )
    };
}

pub(super) use claim_keys;

/// Records that $6, with the bytes $7, is about to be sent for user $5, and extends the claim until
/// $4.
pub(super) const RECORD_SEND: &str =
    "UPDATE idempotency_keys SET lease_until = $4, user_ref = $5, write_ahead = $6, content = $7
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3
       AND EXISTS (SELECT 1 FROM users WHERE id = $5)";

/// Claims a free or expired key. Never claims for an erased user.
#[derive(Debug)]
pub(in crate::store) struct ClaimKey {
    pub(super) request: KeyedRequest,
    pub(super) message_id: MessageId,
    pub(super) lease: Lease,
    pub(super) intent: Option<Intent>,
    pub(super) now: DateTime<Utc>,
}

/// Stores a write-ahead record if the key is still claimed.
#[derive(Debug)]
pub(in crate::store) struct RecordSend {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: UserRef,
    pub(super) body: String,
}

/// Stores the answer if the key is still claimed.
#[derive(Debug)]
pub(in crate::store) struct StoreAnswer {
    pub(super) request: KeyedRequest,
    pub(super) lease: Lease,
    pub(super) user: Option<UserKey>,
    pub(super) answer: StoredResponse,
}

/// An operation with the hash of its key.
pub(super) struct Hashed<'a, Q> {
    pub(super) hash: KeyHash,
    pub(super) query: &'a Q,
}

impl<'a, Q> Hashed<'a, Q> {
    pub(super) fn all(queries: &[&'a Q], request: impl Fn(&Q) -> &KeyedRequest) -> Vec<Self> {
        let hashed = queries.iter().map(|query| Self {
            hash: request(query).key,
            query,
        });
        hashed.collect()
    }
}
