//! Requests that bear an idempotency key: who works on one, and what a repeat is answered with.
//!
//! A row is claimed before anything is done and settled after it. While a request is worked on, its row is leased, so that
//! nothing stays locked when its replica dies; the next repeat then takes it over, under the message's id that the first one
//! had. What is about to be sent to the Cloud is written into the row first, mostly as it is claimed, so the repeat knows what
//! may have arrived there.

mod asking;
mod postgres;
mod questions;
mod sqlite;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;

use super::engine::tx::{Tx, on};
use super::{Error, Lease, Store, UserRef, run};
use crate::types::idempotency::Answer;
use crate::types::idempotency::{Fingerprint, KeyHash};
use crate::types::ids::{ChannelId, UserKey};
use crate::types::message::MessageId;
use questions::NOTE;
pub(super) use questions::{Begin, Finish, Note};

/// 24 hours: how long a key stands for its first request.
const KEPT: TimeDelta = TimeDelta::hours(24);

/// How often a key may be freed by somebody else between two looks before that counts as an error.
const LOOKS: u32 = 5;

/// Notes until when key $2 of channel $1 is held, unless the lease $3 was lost.
const RENEW_KEY: &str = "UPDATE idempotency_keys SET lease_until = $4
     WHERE channel_id = $1 AND key = $2 AND lease_id = $3";

/// A request that bears a key.
#[derive(Debug, Clone)]
pub struct KeyedRequest {
    /// The channel that it came by.
    pub channel_id: ChannelId,
    /// The key, and whose it is.
    pub key: KeyHash,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
}

/// What was about to be sent for a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// What that is, as JSON.
    pub body: String,
    /// A file's bytes.
    pub content: Option<Vec<u8>>,
}

/// What is about to be sent for a request whose key is being claimed, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Whose message it is.
    pub user: UserRef,
    /// What that is, as JSON.
    pub body: String,
}

/// A request with a key that is to be done, by who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What a message of it is called.
    pub message_id: MessageId,
    /// When it first came.
    pub created_at: DateTime<Utc>,
    /// Whether somebody had begun it, whose lease has run out.
    pub resumed: bool,
    /// What that one was last about to send.
    pub begun: Option<Begun>,
    /// Whether the intent that it was claimed with is written down.
    pub noted: bool,
}

/// What becomes of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is to be done, by who asks.
    Ours(Holding),
    /// Somebody is doing it.
    Running,
    /// It was done, and this was the answer.
    Answered(Answer),
    /// The key stands for another request.
    Reused,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct ClaimedRow {
    /// Who holds it now.
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
    /// Claims a request under `lease`, unless it is being done, has been done, or its key stands for another one.
    /// `message_id` is what a message of it is called, unless somebody has begun it under another. Where nobody has, and the
    /// user is still there, what is about to be sent is written down with it.
    ///
    /// # Errors
    ///
    /// When the database does not answer; [`Error::Contended`].
    pub async fn begin_keyed(
        &self,
        request: &KeyedRequest,
        message_id: MessageId,
        lease: &Lease,
        mut intent: Option<Intent>,
        now: DateTime<Utc>,
    ) -> Result<Claim, Error> {
        for _ in 0..LOOKS {
            let noted = intent.is_some();
            let asked = Begin {
                request: request.clone(),
                message_id,
                lease: lease.clone(),
                // The first time alone: where its user is gone, nothing is claimed with it.
                intent: intent.take(),
                now,
            };
            if let Some(claimed) = self.ask(asked).await? {
                let holding = claimed.holding(message_id, noted)?;
                if !holding.resumed {
                    return Ok(Claim::Ours(holding));
                }
                // It goes with its user, who may have been erased meanwhile.
                let Some(begun) = self.begun(request, lease).await? else {
                    continue;
                };
                return Ok(Claim::Ours(Holding { begun, ..holding }));
            }
            // Whose row it was may have freed it meanwhile.
            let Some(row) = self.keyed_row(request).await? else {
                continue;
            };
            if row.created_at <= forgotten_at(now) {
                self.forget_key(request, now).await?;
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

    /// What was about to be sent for a request that was taken over; none where that is not held.
    async fn begun(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
    ) -> Result<Option<Option<Begun>>, Error> {
        let row: Option<(Option<String>, Option<Vec<u8>>)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT begun, content FROM idempotency_keys
                 WHERE channel_id = $1 AND key = $2 AND lease_id = $3",
            )
            .bind(request.channel_id.as_str())
            .bind(request.key.as_bytes())
            .bind(&lease.id)
            .fetch_optional(db)
            .await?
        });
        Ok(row.map(|(body, content)| body.map(|body| Begun { body, content })))
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

    async fn forget_key(&self, request: &KeyedRequest, now: DateTime<Utc>) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "DELETE FROM idempotency_keys WHERE channel_id = $1 AND key = $2 AND created_at <= $3",
        )
        .bind(request.channel_id.as_str())
        .bind(request.key.as_bytes())
        .bind(forgotten_at(now))
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Holds a request longer, until the end of `lease`; says whether it was still held.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn renew_keyed(&self, request: &KeyedRequest, lease: &Lease) -> Result<bool, Error> {
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

    /// Writes down what is about to be sent for a request that is still held, in place of what was before it, and holds it
    /// until the end of `lease`. Says whether it was still held and its user is still there; else nothing must be sent.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing must be sent then.
    pub async fn note_begun(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
        user: UserRef,
        body: &str,
        content: Option<&[u8]>,
    ) -> Result<bool, Error> {
        if content.is_none() {
            let note = Note {
                request: request.clone(),
                lease: lease.clone(),
                user,
                body: body.to_owned(),
            };
            return self.ask(note).await;
        }
        let rows = run!(self, writer, |db| sqlx::query(NOTE)
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

    /// Keeps the answer to a request that is still held, to be given to its repeats. An answer that is about a user goes
    /// when the user goes, who need not be named where what was about to be sent is noted for them; says whether it is kept,
    /// which it is not where the user has gone already.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn finish_keyed(
        &self,
        request: &KeyedRequest,
        lease: &Lease,
        user: Option<&UserKey>,
        answer: &Answer,
    ) -> Result<bool, Error> {
        self.ask(Finish {
            request: request.clone(),
            lease: lease.clone(),
            user: user.cloned(),
            answer: answer.clone(),
        })
        .await
    }

    /// Frees the key of a request that is still held, as if it had never come.
    ///
    /// # Errors
    ///
    /// When the database does not answer; a repeat may take it over once the lease has run out.
    pub async fn abandon_keyed(&self, request: &KeyedRequest, lease: &Lease) -> Result<(), Error> {
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

    /// Removes keys that have been kept for 24 hours, `limit` at most; says how many.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn forget_keyed(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, Error> {
        let rows = run!(self, writer, |db| sqlx::query(
            "DELETE FROM idempotency_keys WHERE (channel_id, key) IN (
                 SELECT channel_id, key FROM idempotency_keys
                 WHERE created_at <= $1 ORDER BY created_at LIMIT $2
             )",
        )
        .bind(forgotten_at(now))
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected());
        Ok(rows)
    }
}

/// Makes sure, until the commit, that a request is still held, and holds it until the end of the lease.
pub(super) async fn hold(
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

/// Keys that came at this moment or before stand for nothing any more.
fn forgotten_at(now: DateTime<Utc>) -> i64 {
    (now - KEPT).timestamp_millis()
}

impl ClaimedRow {
    /// What is held by who came with this id for a message, and perhaps with an intent.
    fn holding(self, message_id: MessageId, noted: bool) -> Result<Holding, Error> {
        let unreadable = |what| Error::Unreadable { what };
        let named = self.message_id.parse();
        let named: MessageId = named.map_err(|_| unreadable("message's id"))?;
        let resumed = named != message_id;
        Ok(Holding {
            message_id: named,
            created_at: DateTime::from_timestamp_millis(self.created_at)
                .ok_or(unreadable("request's time"))?,
            resumed,
            begun: None,
            noted: noted && !resumed,
        })
    }
}

impl Row {
    fn answer(self) -> Result<Option<Answer>, Error> {
        let (Some(status), Some(headers), Some(body)) = (self.status, self.headers, self.body)
        else {
            return Ok(None);
        };
        Ok(Some(Answer {
            status: status.try_into().map_err(|_| Error::Unreadable {
                what: "status of an answer",
            })?,
            headers: headers.0,
            body,
        }))
    }
}
