//! Submission of a request, which is done at once if possible, else queued.
//!
//! If the user has no queued requests, a request is attempted at once, with nothing stored unless
//! it has a key. It is queued only if the Cloud cannot accept it in time, or if the outcome is
//! unknown. An error that another attempt cannot change is returned to the caller.

use tokio::time::Instant;

use super::Outbox;
use super::accepted::{Accepted, Queued, WaitPreference};
use super::attempt::{Attempt, SendMode};
use super::enqueue::{QueueReason, Stored};
use super::job::{Job, Progress, Work};
use super::prepare::{Prepared, Target};
use super::record::{Recorded, read_record};
use super::send::{Attempted, SendResult};
use crate::bridge::retry::OUTCOME_UNKNOWN;
use crate::bridge::{Caller, Error};
use crate::store::{HeldClaim, UserRef, UserState};
use crate::types::ids::{ConversationId, UserKey};
use crate::types::message::MessageId;

/// A request whose key is claimed.
#[expect(
    clippy::large_enum_variant,
    reason = "a value is short-lived, and nearly all are new"
)]
enum Begun {
    /// A request that is to be done.
    New {
        work: Work,
        progress: Progress,
        target: Target,
        recorded: Option<Recorded>,
    },
    /// The retry of a request whose replica died. The request is queued now.
    TakenOver(Queued),
}

impl Outbox {
    /// Attempts a request at once, or queues it.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        key: &UserKey,
        user_state: Option<UserState>,
        work: Work,
        preference: WaitPreference,
    ) -> Result<Accepted<Job>, Error> {
        let user = user_state.as_ref().map(|it| it.user);
        let open = user_state.as_ref().and_then(|it| it.open.as_ref());
        let conversation_id = open.map(|open| open.id.clone());
        let has_waiting = user_state.as_ref().is_some_and(|it| it.waiting > 0);
        let is_queued = preference.at_once || has_waiting;
        let prepared = if is_queued || caller.claim.is_none() {
            Prepared::from_lookup(user_state)
        } else {
            self.prepare(key, user_state, &work)
        };
        // The key is claimed before anything is changed or sent.
        let begun = self.begin(caller, key, user, conversation_id, prepared, work);
        let (job, target, recorded) = match begun.await? {
            Begun::New {
                work,
                progress,
                target,
                recorded,
            } => (Job { work, progress }, target, recorded),
            Begun::TakenOver(queued) => return Ok(Accepted::Queued(queued)),
        };
        if is_queued {
            let enqueued = self.enqueue(caller, key, user, &job, QueueReason::Order);
            return match Box::pin(enqueued).await? {
                Stored::Queued(queued) => Ok(Accepted::Queued(queued)),
                Stored::NoRoom(error) => Err(error),
            };
        }
        let attempt = Attempt {
            caller,
            key,
            deadline: Instant::now() + preference.wait,
            mode: SendMode::at_once(caller),
        };
        let Attempted { job, result } = self.send(&attempt, target, recorded, job).await;
        let (error, reason) = match result {
            SendResult::Sent { .. } => return Ok(Accepted::Done(job)),
            SendResult::Refused { error, .. } => return Err(job.partly_sent(error)),
            SendResult::NotSent { error, pause, .. } => (error, QueueReason::Pause(pause)),
            SendResult::Unknown {
                error,
                why,
                in_flight,
            } => (error, QueueReason::Unknown { why, in_flight }),
        };
        Box::pin(self.enqueue_failed(caller, key, user, job, error, reason)).await
    }

    /// Claims the key of a request, if it has one, and gives the request its id.
    async fn begin(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: Option<UserRef>,
        conversation_id: Option<ConversationId>,
        prepared: Prepared,
        mut work: Work,
    ) -> Result<Begun, Error> {
        let (id, created_at, target, recorded) = if let Some(claim) = caller.claim.as_deref() {
            let Prepared { target, record } = prepared.with_choice(user, &work);
            let (recorded, intent) = record.map(|it| (it.recorded, it.intent)).unzip();
            let held_claim = self.bridge.claim(claim, intent).await?;
            if held_claim.resumed {
                let open = conversation_id.as_ref();
                let taken_over = self.take_over(caller, &held_claim, key, open);
                if let Some(queued) = Box::pin(taken_over).await? {
                    return Ok(Begun::TakenOver(queued));
                }
                // The claim has no record, so the first request was not to be sent as a choice.
                work = work.without_choice();
            } else if !held_claim.is_recorded
                && work.choice().is_some()
                && let Some(user) = user
            {
                Box::pin(self.record_decision(claim, user, &work)).await?;
            }
            let recorded = recorded.flatten().filter(|_| held_claim.is_recorded);
            (
                held_claim.message_id,
                held_claim.created_at,
                target,
                recorded,
            )
        } else {
            let clock = &self.bridge.parts.clock;
            let id = MessageId::new(clock.uuid());
            (id, clock.now(), prepared.target, None)
        };
        Ok(Begun::New {
            work,
            progress: Progress {
                id,
                created_at,
                sent: Vec::new(),
                conversation_id,
                file: None,
            },
            target,
            recorded,
        })
    }

    /// Queues a request that a dead replica may have sent in part, or that is sent as a choice;
    /// `None` if there is no record of it.
    async fn take_over(
        &self,
        caller: &Caller,
        held_claim: &HeldClaim,
        key: &UserKey,
        open: Option<&ConversationId>,
    ) -> Result<Option<Queued>, Error> {
        let store = &self.bridge.parts.store;
        let report = store
            .request(&caller.channel.id, held_claim.message_id)
            .await?;
        let record = held_claim.write_ahead.as_ref().map(read_record);
        if let Some(report) = report {
            let work = record.and_then(Result::ok).map(|(work, ..)| work);
            return Ok(Some(Queued {
                id: held_claim.message_id,
                user_id: key.user_id.clone(),
                conversation_id: report.conversation_id,
                created_at: report.created_at,
                choice: work.as_ref().and_then(Work::choice).cloned(),
            }));
        }
        let Some((work, sent, in_flight)) = record.transpose()? else {
            return Ok(None);
        };
        let conversation_id = in_flight.as_ref().map(|it| &it.conversation_id).or(open);
        let job = Job {
            work,
            progress: Progress {
                id: held_claim.message_id,
                created_at: held_claim.created_at,
                sent,
                conversation_id: conversation_id.cloned(),
                file: None,
            },
        };
        let reason = match in_flight {
            Some(in_flight) => QueueReason::Unknown {
                why: OUTCOME_UNKNOWN,
                in_flight,
            },
            None => QueueReason::Order,
        };
        match self.enqueue(caller, key, None, &job, reason).await? {
            Stored::Queued(queued) => Ok(Some(queued)),
            Stored::NoRoom(error) => Err(error),
        }
    }

    /// Queues a request whose first attempt has failed.
    async fn enqueue_failed(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: Option<UserRef>,
        job: Job,
        error: Error,
        reason: QueueReason,
    ) -> Result<Accepted<Job>, Error> {
        let why = reason.code();
        let may_be_sent =
            matches!(reason, QueueReason::Unknown { .. }) || !job.progress.sent.is_empty();
        match self.enqueue(caller, key, user, &job, reason).await {
            Ok(Stored::Queued(queued)) => {
                tracing::info!(
                    account.id = %key.account_id,
                    request_id = caller.trace.request_id(),
                    why,
                    error = &error as &dyn std::error::Error,
                    "a request was queued"
                );
                Ok(Accepted::Queued(queued))
            }
            Ok(Stored::NoRoom(_)) => Err(job.partly_sent(error)),
            // Only a caller with a key may retry a request that may have been sent.
            Err(Error::Store(_) | Error::Unsettled(_)) if may_be_sent => {
                Err(job.partly_sent(error).unsettled())
            }
            Err(error) => Err(error),
        }
    }
}
