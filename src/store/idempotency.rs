//! Requests with an idempotency key: the claim on a key, and the stored answer for retries.
//!
//! A key is claimed before any work is done, and the answer is stored after it. During the work the
//! claim has a lease, so that nothing stays locked when its replica dies. The next retry then takes
//! the claim over, with the message id of the first request. A write-ahead record of what is about
//! to be sent to the Cloud is stored first, usually with the claim, so that the retry knows what
//! may have arrived there.

mod batched;
mod postgres;
mod sqlite;
mod statements;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;

use super::engine::tx::{Tx, on};
use super::{Error, Lease, Store, UserRef, run};
use crate::types::idempotency::StoredResponse;
use crate::types::idempotency::{Fingerprint, KeyHash};
use crate::types::ids::{ChannelId, UserKey};
use crate::types::message::MessageId;
use statements::RECORD_SEND;
pub(super) use statements::{ClaimKey, RecordSend, StoreAnswer};

/// 24 hours: the time for which a key identifies its first request.
const KEY_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// 5: the number of attempts at a claim. Each fails only if the key was freed or expired meanwhile,
/// or if the user was erased.
const MAX_CLAIM_ATTEMPTS: u32 = 5;

/// Extends the lease on key $2 of channel $1 until $4, unless lease $3 was lost.
const RENEW_KEY: &str = "UPDATE idempotency_keys SET lease_until = $4
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3";

/// A request with an idempotency key.
#[derive(Debug, Clone)]
pub struct KeyedRequest {
    /// The channel that sent it.
    pub channel_id: ChannelId,
    /// The hash of the key and its owner.
    pub key: KeyHash,
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
}

/// The write-ahead record of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAheadRecord {
    /// The content to be sent, as JSON.
    pub body: String,
    /// The bytes of a file.
    pub content: Option<Vec<u8>>,
}

/// The write-ahead record that is stored together with a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The user of the request.
    pub user: UserRef,
    /// The content to be sent, as JSON.
    pub body: String,
}

/// The caller's claim on a request that is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClaim {
    /// The id of its message.
    pub message_id: MessageId,
    /// The time of the first request with this key.
    pub created_at: DateTime<Utc>,
    /// True if an earlier holder had begun it, and its lease has expired.
    pub resumed: bool,
    /// The last write-ahead record of the earlier holder.
    pub write_ahead: Option<WriteAheadRecord>,
    /// True if the write-ahead record was stored with the claim.
    pub is_recorded: bool,
}

/// The result of claiming a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller is to carry it out.
    Ours(HeldClaim),
    /// Another holder is processing it.
    Running,
    /// It was carried out, with this answer.
    Answered(StoredResponse),
    /// The key belongs to another request.
    Reused,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct ClaimedRow {
    /// The id of the current lease.
    pub(super) lease_id: String,
    message_id: String,
    created_at: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    fingerprint: Vec<u8>,
    status: Option<i64>,
    headers: Option<Json<Vec<(String, String)>>>,
    body: Option<String>,
    created_at: i64,
}

impl Store {
    /// Claims a request under `lease`, unless it is being processed, has been answered, or its key
    /// belongs to another request. `message_id` becomes the id of its message, unless an earlier
    /// holder has begun it under another. If none has, and the user still exists, `intent` is
    /// stored with the claim.
    ///
    /// # Errors
    ///
    /// When the database does not answer; [`Error::Contended`].
    pub async fn claim_key(
        &self,
        request: &KeyedRequest,
        message_id: MessageId,
        lease: &Lease,
        mut intent: Option<Intent>,
        now: DateTime<Utc>,
    ) -> Result<Claim, Error> {
        for _ in 0..MAX_CLAIM_ATTEMPTS {
            let is_recorded = intent.is_some();
            let query = ClaimKey {
                request: request.clone(),
                message_id,
                lease: lease.clone(),
                // Only at the first attempt: a claim with an intent fails if its user was erased.
                intent: intent.take(),
                now,
            };
            if let Some(claimed) = self.run_batched(query).await? {
                let held = claimed.into_claim(message_id, is_recorded)?;
                if !held.resumed {
                    return Ok(Claim::Ours(held));
                }
                // The row is deleted with its user, who may have been erased meanwhile.
                let Some(write_ahead) = self.write_ahead(request, lease).await? else {
                    continue;
                };
                return Ok(Claim::Ours(HeldClaim {
                    write_ahead,
                    ..held
                }));
            }
            // The holder may have freed the row meanwhile.
            let Some(row) = self.keyed_row(request).await? else {
                continue;
            };
            if row.created_at <= expiry_cutoff(now) {
                self.remove_expired_key(request, now).await?;
                continue;
            }
            if row.fingerprint != request.fingerprint.as_bytes() {
                return Ok(Claim::Reused);
            }
            return row.answer().map(|answer| match answer {
                Some(answer) => Claim::Answered(answer),
                None => Claim::Running,
            });
        }
        Err(Error::Contended)
    }

    /// Returns the write-ahead record of a request that was taken over; `None` if the claim was
    /// lost.
    async fn write_ahead(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
    ) -> Result<Option<Option<WriteAheadRecord>>, Error> {
        let row: Option<(Option<String>, Option<Vec<u8>>)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT write_ahead, content FROM idempotency_keys
                 WHERE channel_id = $1 AND key = $2 AND lease_id = $3",
            )
            .bind(request.channel_id.as_str())
            .bind(request.key.as_bytes())
            .bind(&lease.id)
            .fetch_optional(db)
            .await?
        });
        Ok(row.map(|(body, content)| body.map(|body| WriteAheadRecord { body, content })))
    }

    async fn keyed_row(&self, request: &KeyedRequest) -> Result<Option<Row>, Error> {
        let row: Option<Row> = run!(self, readers, |db| sqlx::query_as(
            "SELECT fingerprint, status, headers, body, created_at
             FROM idempotency_keys WHERE channel_id = $1 AND key = $2",
        )
        .bind(request.channel_id.as_str())
        .bind(request.key.as_bytes())
        .fetch_optional(db)
        .await?);
        Ok(row)
    }

    async fn remove_expired_key(
        &self,
        request: &KeyedRequest,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "DELETE FROM idempotency_keys WHERE channel_id = $1 AND key = $2 AND created_at <= $3",
        )
        .bind(request.channel_id.as_str())
        .bind(request.key.as_bytes())
        .bind(expiry_cutoff(now))
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Extends the claim on a request until the end of `lease`. Returns false if the claim was
    /// lost.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn renew_key_lease(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
    ) -> Result<bool, Error> {
        let rows = run!(self, writer, |db| sqlx::query(RENEW_KEY)
            .bind(request.channel_id.as_str())
            .bind(request.key.as_bytes())
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected());
        Ok(rows == 1)
    }

    /// Replaces the write-ahead record of a request that is still claimed, and extends the claim
    /// until the end of `lease`. Returns false if the claim was lost or the user was erased; then
    /// nothing may be sent.
    ///
    /// # Errors
    ///
    /// When the database does not answer; then nothing may be sent.
    pub async fn record_in_flight(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
        user: UserRef,
        body: &str,
        content: Option<&[u8]>,
    ) -> Result<bool, Error> {
        if content.is_none() {
            let query = RecordSend {
                request: request.clone(),
                lease: lease.clone(),
                user,
                body: body.to_owned(),
            };
            return self.run_batched(query).await;
        }
        let rows = run!(self, writer, |db| sqlx::query(RECORD_SEND)
            .bind(request.channel_id.as_str())
            .bind(request.key.as_bytes())
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .bind(user.0)
            .bind(body)
            .bind(content)
            .execute(db)
            .await?
            .rows_affected());
        Ok(rows == 1)
    }

    /// Stores the answer to a request that is still claimed, for its retries. An answer about a
    /// user is deleted with the user. `user` may be left out if a write-ahead record already names
    /// the user. Returns false if the answer was not stored, for example after the user's erasure.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn store_answer(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
        user: Option<&UserKey>,
        answer: &StoredResponse,
    ) -> Result<bool, Error> {
        self.run_batched(StoreAnswer {
            request: request.clone(),
            lease: lease.clone(),
            user: user.cloned(),
            answer: answer.clone(),
        })
        .await
    }

    /// Frees the key of a request that is still claimed, as if it had never been used.
    ///
    /// # Errors
    ///
    /// When the database does not answer; a retry can take the claim over once the lease has
    /// expired.
    pub async fn release_key(&self, request: &KeyedRequest, lease: &Lease) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "DELETE FROM idempotency_keys WHERE channel_id = $1 AND key = $2 AND lease_id = $3",
        )
        .bind(request.channel_id.as_str())
        .bind(request.key.as_bytes())
        .bind(&lease.id)
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Deletes keys that are older than 24 hours, `limit` at most, and returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_expired_keys(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, Error> {
        let rows = run!(self, writer, |db| sqlx::query(
            "DELETE FROM idempotency_keys WHERE (channel_id, key) IN (
                 SELECT channel_id, key FROM idempotency_keys
                 WHERE created_at <= $1 ORDER BY created_at LIMIT $2
             )",
        )
        .bind(expiry_cutoff(now))
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected());
        Ok(rows)
    }
}

/// Locks a claim until the commit and extends it until the end of the lease. Returns false if the
/// claim was lost.
pub(super) async fn lock_claim(
    tx: &mut Tx,
    request: &KeyedRequest,
    lease: &Lease,
) -> Result<bool, Error> {
    let rows = on!(tx, |db| {
        sqlx::query(RENEW_KEY)
            .bind(request.channel_id.as_str())
            .bind(request.key.as_bytes())
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
    });
    Ok(rows == 1)
}

/// Returns the time of creation up to which keys have expired.
fn expiry_cutoff(now: DateTime<Utc>) -> i64 {
    (now - KEY_LIFETIME).timestamp_millis()
}

impl ClaimedRow {
    /// Builds the caller's claim. It is a resumed one if the row has another message id than
    /// `message_id`. `is_recorded` is true if an intent was given.
    fn into_claim(self, message_id: MessageId, is_recorded: bool) -> Result<HeldClaim, Error> {
        let unreadable = |what| Error::Unreadable { what };
        let claimed_id = self.message_id.parse();
        let claimed_id: MessageId = claimed_id.map_err(|_| unreadable("message's id"))?;
        let resumed = claimed_id != message_id;
        Ok(HeldClaim {
            message_id: claimed_id,
            created_at: DateTime::from_timestamp_millis(self.created_at)
                .ok_or(unreadable("request's time"))?,
            resumed,
            write_ahead: None,
            is_recorded: is_recorded && !resumed,
        })
    }
}

impl Row {
    fn answer(self) -> Result<Option<StoredResponse>, Error> {
        let (Some(status), Some(headers), Some(body)) = (self.status, self.headers, self.body)
        else {
            return Ok(None);
        };
        Ok(Some(StoredResponse {
            status: status.try_into().map_err(|_| Error::Unreadable {
                what: "status of an answer",
            })?,
            headers: headers.0,
            body,
        }))
    }
}
