//! The lane of a user. It is claimed for an opening or when its requests are due, processed from
//! its first request on, and released.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{DueLane, DueRow, InFlight, Request, RequestRow};
use crate::store::engine::batching::BatchedQuery;
use crate::store::engine::tx::{EngineTx, Tx, on};
use crate::store::rows::batch;
use crate::store::{Error, Lease, Store, UserRef, claiming, run};
use crate::types::ids::AccountId;
use crate::types::message::MessageId;

/// Extends the lease on the lane of user $1 until $3, unless the lease $2 was lost.
const RENEW_LANE: &str = "UPDATE users SET lease_until = $3 WHERE id = $1 AND lease_id = $2";

/// Releases the lane of user $1, unless the lease $2 was lost.
const RELEASE_LANE: &str =
    "UPDATE users SET lease_id = NULL, lease_until = NULL WHERE id = $1 AND lease_id = $2";

impl Store {
    /// Claims a user's lane. Returns false if another holder has it.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_lane(
        &self,
        user: UserRef,
        lease: &Lease,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let rows = run!(self, writer, |db| sqlx::query(
            "UPDATE users SET lease_id = $2, lease_until = $3
             WHERE id = $1 AND (lease_until IS NULL OR lease_until <= $4)",
        )
        .bind(user.0)
        .bind(&lease.id)
        .bind(lease.until.timestamp_millis())
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
        Ok(rows == 1)
    }

    /// Releases a user's lane. Does nothing if the lease was lost meanwhile.
    ///
    /// # Errors
    ///
    /// When the database does not answer. The lane is free once the lease has expired.
    pub async fn release_lane(&self, user: UserRef, lease: &Lease) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(RELEASE_LANE)
            .bind(user.0)
            .bind(&lease.id)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Claims lanes that are due and have no holder, at most `limit`, all under one lease.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_due_lanes(
        &self,
        lease: &Lease,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<DueLane>, Error> {
        let claim = claiming!(
            self,
            "UPDATE users SET lease_id = $1, lease_until = $2 WHERE id",
            "SELECT id FROM users WHERE send_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
             ORDER BY send_at LIMIT $4",
            // A lane to which a request is being added right now is skipped; a later claim finds
            // it.
            " FOR NO KEY UPDATE SKIP LOCKED",
            " RETURNING id, account_id, namespace, user_id"
        );
        let rows: Vec<DueRow> = run!(self, writer, |db| sqlx::query_as(claim)
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .bind(now.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?);
        rows.into_iter().map(DueLane::try_from).collect()
    }

    /// Makes lanes of an account due now if they wait because of one of these reasons, at most
    /// `limit`. The lanes that would be due first come first. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn make_lanes_due(
        &self,
        account_id: &AccountId,
        reasons: &[&str],
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let make_due = claiming!(
            self,
            "UPDATE users SET send_at = $2 WHERE id",
            "SELECT id FROM users u
             WHERE send_at > $2 AND account_id = $1 AND (lease_until IS NULL OR lease_until <= $2)
               -- the latest step of the first request; one that may have been sent waits for its echo
               AND (SELECT CASE WHEN r.state = 'waiting' THEN s.why END
                    FROM requests r JOIN request_steps s ON s.request_id = r.id
                    WHERE r.user_ref >= u.id AND r.user_ref <= u.id AND COALESCE(r.settled_at, 0) = 0
                    ORDER BY r.user_ref, r.ordinal, s.number DESC LIMIT 1)
                   IN (SELECT value ->> 'reason' FROM json_each($4))
             ORDER BY send_at LIMIT $3",
            " FOR NO KEY UPDATE SKIP LOCKED",
            ""
        );
        let reasons = batch(reasons.iter().map(|reason| json!({"reason": reason})));
        Ok(run!(self, writer, |db| sqlx::query(make_due)
            .bind(account_id.as_str())
            .bind(now.timestamp_millis())
            .bind(i64::from(limit))
            .bind(reasons)
            .execute(db)
            .await?
            .rows_affected()))
    }

    /// Extends the lease on a lane to its new end. Returns true if the lease was still held.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn renew_lane(&self, user: UserRef, lease: &Lease) -> Result<bool, Error> {
        let rows = run!(self, writer, |db| sqlx::query(RENEW_LANE)
            .bind(user.0)
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected());
        Ok(rows == 1)
    }

    /// Releases a lane. If requests are queued, it is due again at `due_at`.
    ///
    /// # Errors
    ///
    /// When the database does not answer. The lane is free once the lease has expired.
    pub async fn release_lane_until(
        &self,
        user: UserRef,
        lease: &Lease,
        due_at: DateTime<Utc>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
            "UPDATE users SET lease_id = NULL, lease_until = NULL, send_at = CASE WHEN waiting > 0 THEN $3 END
             WHERE id = $1 AND lease_id = $2",
        )
        .bind(user.0)
        .bind(&lease.id)
        .bind(due_at.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// Reads the first request of a user that is not settled.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn first_request(&self, user: UserRef) -> Result<Option<Request>, Error> {
        let row: Option<RequestRow> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT id, channel_id, body, content, state, created_at, expires_at, attempts, conversation_id, sequences,
                    dialog_id, digest, attempted_at, traceparent, tracestate
             FROM requests
             -- the expressions of the index requests_lane, in its order and without =, so that no other index fits
             WHERE user_ref >= $1 AND user_ref <= $1 AND COALESCE(settled_at, 0) = 0
             ORDER BY user_ref, ordinal LIMIT 1",
        )
        .bind(user.0)
        .fetch_optional(db)
        .await?
        });
        row.map(Request::try_from).transpose()
    }

    /// Writes the write-ahead record of a request that is about to be sent, with the facts that
    /// identify its echo. Returns true if the lane is still held.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing must be sent then.
    pub async fn begin_attempt(
        &self,
        user: UserRef,
        lease: &Lease,
        id: MessageId,
        body: &str,
        in_flight: &InFlight,
    ) -> Result<bool, Error> {
        self.run_batched(BeginAttempt {
            user,
            lease: lease.clone(),
            row: json!({
                "id": id.to_string(),
                "body": body,
                "conversation": in_flight.conversation_id.as_str(),
                "dialog": in_flight.dialog_id,
                "digest": in_flight.digest,
                "attempted_at": in_flight.begun_at.timestamp_millis(),
            }),
            bytes: body.len(),
        })
        .await
    }
}

/// A batched write-ahead record, written if the lane of its request is still held.
#[derive(Debug)]
pub(in crate::store) struct BeginAttempt {
    user: UserRef,
    lease: Lease,
    row: Value,
    bytes: usize,
}

impl BatchedQuery for BeginAttempt {
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.bytes
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<bool>, Error> {
        let mut tx = store.begin().await?;
        let users = lock_users(&mut tx, queries.iter().map(|it| it.user)).await?;
        let is_held = |it: &&&Self| {
            users
                .get(&it.user.0)
                .is_some_and(|row| row.is_of(&it.lease))
        };
        let held: Vec<_> = queries.iter().filter(is_held).collect();
        let leases = batch(
            held.iter()
                .map(|it| json!({"user": it.user.0, "until": it.lease.until.timestamp_millis()})),
        );
        on!(tx, |db| {
            sqlx::query(
                "UPDATE users SET lease_until = CAST(k.value ->> 'until' AS BIGINT) FROM json_each($1) AS k
                 WHERE users.id = CAST(k.value ->> 'user' AS BIGINT)",
            )
            .bind(leases)
            .execute(db)
            .await?
            .rows_affected()
        });
        on!(tx, |db| {
            sqlx::query(
                "UPDATE requests
                 SET state = 'sending', body = k.value ->> 'body', conversation_id = k.value ->> 'conversation',
                     dialog_id = k.value ->> 'dialog', digest = k.value ->> 'digest',
                     attempted_at = CAST(k.value ->> 'attempted_at' AS BIGINT), attempts = attempts + 1
                 FROM json_each($1) AS k
                 WHERE requests.id = k.value ->> 'id'
                   -- by settled_at, PostgreSQL would read all queued requests whenever it expects few
                   AND state NOT IN ('sent', 'failed')",
            )
            .bind(batch(held.iter().map(|it| &it.row)))
            .execute(db)
            .await?
            .rows_affected()
        });
        tx.commit().await?;
        Ok(queries.iter().map(|it| is_held(&it)).collect())
    }
}

/// The row of a user, locked until the commit.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LockedUser {
    id: i64,
    /// The lease on the lane; `None` if the lane is free.
    pub(super) lease_id: Option<String>,
    /// The number of queued requests.
    pub(super) waiting: i64,
}

impl LockedUser {
    /// True if the lane is held under this lease.
    pub(super) fn is_of(&self, lease: &Lease) -> bool {
        self.lease_id.as_ref() == Some(&lease.id)
    }
}

/// Locks the rows of these users until the commit, in one order everywhere, so that two
/// transactions do not deadlock. Erased users are missing from the result.
pub(super) async fn lock_users(
    tx: &mut Tx,
    users: impl Iterator<Item = UserRef>,
) -> Result<HashMap<i64, LockedUser>, Error> {
    let users = batch(users.map(|user| json!({"user": user.0})));
    // SQLite needs no locks, because it has only one writer.
    let statement = match tx.engine {
        EngineTx::Postgres(_) => {
            "SELECT id, lease_id, waiting FROM users
             WHERE id = ANY (ARRAY(SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1)))
             ORDER BY id FOR NO KEY UPDATE"
        }
        EngineTx::Sqlite(_) => {
            "SELECT id, lease_id, waiting FROM users
             WHERE id IN (SELECT CAST(value ->> 'user' AS BIGINT) FROM json_each($1))"
        }
    };
    let rows: Vec<LockedUser> = on!(tx, |db| sqlx::query_as(statement)
        .bind(users)
        .fetch_all(db)
        .await?);
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
