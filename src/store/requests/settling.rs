//! Settling of attempts: the outcome is stored in one transaction with the event that reports it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::lane::{LockedUser, lock_users};
use super::{InFlight, echoes, sequences_text, step, steps};
use crate::store::engine::batching::BatchedQuery;
use crate::store::engine::tx::{Tx, on};
use crate::store::log::append;
use crate::store::rows::batch;
use crate::store::{Error, Lease, NewEvent, Store, UserRef};
use crate::types::event::data::Failure;
use crate::types::file::{FileId, FileType};
use crate::types::ids::ConversationId;
use crate::types::message::{MessageId, Sequence};

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy)]
pub enum AttemptOutcome<'a> {
    /// The Cloud has not accepted the request. It is sent again later.
    Postponed {
        /// The reason, as the code of a problem.
        why: &'a str,
    },
    /// The Cloud may have accepted it.
    Unknown {
        /// The reason why the outcome is unknown.
        why: &'a str,
    },
    /// The Cloud has accepted a part of it, and more parts follow.
    Advanced,
    /// The Cloud has accepted it.
    Sent,
    /// It will never reach the Cloud.
    Failed(&'a Failure),
}

/// The result of an attempt to send a request.
#[derive(Debug, Clone, Copy)]
pub struct SettledAttempt<'a> {
    /// The user.
    pub user: UserRef,
    /// The request.
    pub id: MessageId,
    /// The outcome of the attempt.
    pub outcome: AttemptOutcome<'a>,
    /// The conversation that it was sent to.
    pub conversation_id: Option<&'a ConversationId>,
    /// The sequences of all messages that were sent for it so far.
    pub sequences: &'a [Sequence],
    /// The attempt that the last of these sequences comes from.
    pub in_flight: Option<&'a InFlight>,
    /// The file that was sent.
    pub file: Option<(FileId, &'a FileType)>,
    /// The event for the channel.
    pub event: Option<&'a NewEvent>,
}

/// The holder of a lane after an attempt was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneHolder {
    /// Another holder has the lane, and nothing was written.
    Lost,
    /// The caller still holds the lane.
    Kept,
    /// The lane was released because nothing is queued any more.
    Released,
}

/// A batched settlement of an attempt, written if the lane is still held.
#[derive(Debug)]
pub(in crate::store) struct SettleAttempt {
    user: UserRef,
    lease: Lease,
    id: String,
    is_final: bool,
    row: Value,
    echo: Option<Value>,
    step: Option<Value>,
    event: Option<NewEvent>,
    now: DateTime<Utc>,
}

impl Store {
    /// Stores the outcome of an attempt with its event, and releases the lane if nothing else is
    /// queued.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is written then.
    pub async fn settle_request(
        &self,
        lease: &Lease,
        settled: &SettledAttempt<'_>,
        now: DateTime<Utc>,
    ) -> Result<LaneHolder, Error> {
        self.run_batched(SettleAttempt::new(lease, settled, now))
            .await
    }
}

impl SettleAttempt {
    fn new(lease: &Lease, settled: &SettledAttempt<'_>, now: DateTime<Utc>) -> Self {
        let SettledAttempt {
            user, id, outcome, ..
        } = *settled;
        let (state, step_parts) = match outcome {
            AttemptOutcome::Postponed { why } => ("waiting", Some(("postponed", Some(why)))),
            AttemptOutcome::Unknown { why } => ("unknown", Some(("unknown", Some(why)))),
            AttemptOutcome::Advanced => ("waiting", None),
            AttemptOutcome::Sent => ("sent", Some(("sent", None))),
            AttemptOutcome::Failed(failure) => {
                ("failed", Some(("failed", Some(&failure.code[..]))))
            }
        };
        let is_final = matches!(state, "sent" | "failed");
        let failure = match outcome {
            AttemptOutcome::Failed(failure) => serde_json::to_string(failure).ok(),
            _ => None,
        };
        // The write-ahead record counts an attempt. An attempt that ended before that is counted
        // here.
        let is_counted =
            !matches!(outcome, AttemptOutcome::Postponed { .. }) || settled.in_flight.is_some();
        let row = json!({
            "id": id.to_string(),
            "state": state,
            "sequences": sequences_text(settled.sequences),
            "conversation": settled.conversation_id.map(ConversationId::as_str),
            "failure": failure,
            "settled_at": is_final.then(|| now.timestamp_millis()),
            "file": settled.file.map(|(id, _)| id.to_string()),
            "file_type": settled.file.map(|(_, kind)| kind.as_str()),
            "tries": i64::from(!is_counted),
        });
        let is_accepted = matches!(outcome, AttemptOutcome::Sent | AttemptOutcome::Advanced);
        let position = settled.in_flight.zip(settled.sequences.last());
        let echo = position
            .filter(|_| is_accepted)
            .map(|(in_flight, sequence)| {
                echoes::attributed(user, &in_flight.dialog_id, *sequence, now)
            });
        Self {
            user,
            lease: lease.clone(),
            id: id.to_string(),
            is_final,
            row,
            echo,
            step: step_parts.map(|(what, why)| step(id, now, what, why)),
            event: settled.event.cloned(),
            now,
        }
    }
}

impl BatchedQuery for SettleAttempt {
    type Answer = LaneHolder;

    fn bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |event| event.body.len())
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<LaneHolder>, Error> {
        let mut tx = store.begin().await?;
        let mut users = lock_users(&mut tx, queries.iter().map(|it| it.user)).await?;
        let mut holders = vec![LaneHolder::Lost; queries.len()];
        let mut written = Vec::new();
        let mut remaining: Vec<_> = queries.iter().zip(&mut holders).collect();
        while !remaining.is_empty() {
            // One settlement of each user at a time, in their order: a settlement may release the
            // lane that the next one needs.
            let mut seen = HashSet::new();
            let (round, later) = remaining
                .into_iter()
                .partition(|(it, _)| seen.insert(it.user.0));
            written.extend(write(&mut tx, &mut users, round).await?);
            remaining = later;
        }
        echoes::attribute(&mut tx, written.iter().filter_map(|it| it.echo.as_ref())).await?;
        steps(&mut tx, written.iter().filter_map(|it| it.step.as_ref())).await?;
        let events: Vec<_> = written.iter().filter_map(|it| it.event.clone()).collect();
        if let Some(now) = written.iter().map(|it| it.now).max() {
            // The log comes last, because its row stays locked until the commit and all writers to
            // the channel's log wait for it.
            append(&mut tx, &store.direct_claims, &events, now).await?;
        }
        tx.commit().await?;
        Ok(holders)
    }
}

/// Stores the outcomes of requests, at most one for each user, if their lanes are still held.
/// Releases the lanes that are empty then.
async fn write<'a>(
    tx: &mut Tx,
    users: &mut HashMap<i64, LockedUser>,
    round: Vec<(&&'a SettleAttempt, &mut LaneHolder)>,
) -> Result<Vec<&'a SettleAttempt>, Error> {
    let is_held = |it: &SettleAttempt| {
        users
            .get(&it.user.0)
            .is_some_and(|row| row.is_of(&it.lease))
    };
    let held: Vec<_> = round.into_iter().filter(|(it, _)| is_held(it)).collect();
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let rows = batch(held.iter().map(|(it, _)| &it.row));
    let changed: Vec<(String,)> = on!(tx, |db| {
        sqlx::query_as(
            "UPDATE requests
             SET state = k.value ->> 'state', sequences = k.value ->> 'sequences',
                 conversation_id = COALESCE(k.value ->> 'conversation', conversation_id),
                 failure = k.value ->> 'failure', settled_at = CAST(k.value ->> 'settled_at' AS BIGINT),
                 file_id = k.value ->> 'file', file_type = k.value ->> 'file_type',
                 -- the content is not needed once the request is settled
                 body = CASE WHEN k.value ->> 'settled_at' IS NULL THEN body ELSE '' END,
                 content = CASE WHEN k.value ->> 'settled_at' IS NULL THEN content END,
                 content_size = CASE WHEN k.value ->> 'settled_at' IS NULL THEN content_size ELSE 0 END,
                 attempts = attempts + CAST(k.value ->> 'tries' AS BIGINT)
             FROM json_each($1) AS k
             WHERE requests.id = k.value ->> 'id'
               -- by settled_at, PostgreSQL would read all queued requests whenever it expects few
               AND state NOT IN ('sent', 'failed')
             RETURNING requests.id",
        )
        .bind(rows)
        .fetch_all(db)
        .await?
    });
    let changed: HashSet<_> = changed.into_iter().map(|(id,)| id).collect();
    let (mut written, mut lanes) = (Vec::new(), Vec::new());
    for (it, holder) in held {
        let row = users
            .get_mut(&it.user.0)
            .filter(|_| changed.contains(&it.id));
        let Some(row) = row else {
            continue;
        };
        row.waiting -= i64::from(it.is_final);
        *holder = LaneHolder::Kept;
        if it.is_final && row.waiting <= 0 {
            *holder = LaneHolder::Released;
            row.lease_id = None;
        }
        let until = it.lease.until.timestamp_millis();
        lanes.push(json!({
            "user": it.user.0,
            "waiting": row.waiting,
            "until": (*holder == LaneHolder::Kept).then_some(until),
        }));
        written.push(*it);
    }
    on!(tx, |db| {
        sqlx::query(
            "UPDATE users
             SET waiting = CAST(k.value ->> 'waiting' AS BIGINT), lease_until = CAST(k.value ->> 'until' AS BIGINT),
                 lease_id = CASE WHEN k.value ->> 'until' IS NOT NULL THEN lease_id END,
                 send_at = CASE WHEN k.value ->> 'until' IS NOT NULL THEN send_at END
             FROM json_each($1) AS k WHERE users.id = CAST(k.value ->> 'user' AS BIGINT)",
        )
        .bind(batch(lanes.into_iter()))
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(written)
}
