//! The lane of a user's requests: claimed when it is due, worked on from its first request, given back.

use chrono::{DateTime, Utc};

use super::{DueLane, DueRow, Flight, Request, RequestRow};
use crate::store::tx::{Tx, on};
use crate::store::{Error, Lease, Store, UserRef, run};
use crate::types::message::MessageId;

/// Notes until when user $1's lane is held, unless the lease $2 was lost; holds the row until the commit.
const RENEW_LANE: &str = "UPDATE users SET lease_until = $3 WHERE id = $1 AND lease_id = $2";

impl Store {
    /// Takes the lanes that are due and that nobody holds, `limit` at most, all under one lease.
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
        let rows: Vec<DueRow> = run!(self, writer, |db| {
            sqlx::query_as(
                "UPDATE users SET lease_id = $1, lease_until = $2
                 WHERE id IN (SELECT id FROM users
                              WHERE send_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
                              ORDER BY send_at LIMIT $4)
                   -- looked at again once the row is ours: another replica may have been faster
                   AND send_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
                 RETURNING id, account_id, namespace, user_id",
            )
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .bind(now.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(DueLane::try_from).collect()
    }

    /// Holds a lane until the lease's new end; says whether it is still ours.
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

    /// Gives a lane back, to be taken again at `due_at` where something waits.
    ///
    /// # Errors
    ///
    /// When the database does not answer; the lane is free once the lease has run out.
    pub async fn rest_lane(
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

    /// The first request of a user that is not settled.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn first_request(&self, user: UserRef) -> Result<Option<Request>, Error> {
        let row: Option<RequestRow> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT id, channel_id, body, content, state, created_at, expires_at, attempts, conversation_id, sequences,
                    dialog_id, digest, tried_at, traceparent, tracestate
             FROM requests WHERE user_ref = $1 AND settled_at IS NULL ORDER BY ordinal LIMIT 1",
        )
        .bind(user.0)
        .fetch_optional(db)
        .await?
        });
        row.map(Request::try_from).transpose()
    }

    /// Writes down that a request is about to be sent, and so what its echo will be known by; says whether the lane is
    /// still ours.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing must be sent then.
    pub async fn begin_try(
        &self,
        user: UserRef,
        lease: &Lease,
        id: MessageId,
        body: &str,
        flight: &Flight,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if !hold(&mut tx, user, lease).await? {
            return Ok(false);
        }
        on!(tx, |db| {
            sqlx::query(
                "UPDATE requests SET state = 'sending', body = $2, conversation_id = $3, dialog_id = $4, digest = $5,
                     tried_at = $6, attempts = attempts + 1
                 WHERE id = $1 AND settled_at IS NULL",
            )
            .bind(id.to_string())
            .bind(body)
            .bind(flight.conversation_id.as_str())
            .bind(&flight.dialog_id)
            .bind(&flight.digest)
            .bind(flight.begun_at.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
        });
        tx.commit().await?;
        Ok(true)
    }
}

/// Makes sure, until the commit, that the lane is ours, and renews the lease.
pub(super) async fn hold(tx: &mut Tx, user: UserRef, lease: &Lease) -> Result<bool, Error> {
    let rows = on!(tx, |db| {
        sqlx::query(RENEW_LANE)
            .bind(user.0)
            .bind(&lease.id)
            .bind(lease.until.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
    });
    Ok(rows == 1)
}
