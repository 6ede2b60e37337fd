//! Storage of requests that are sent later.

use chrono::TimeDelta;

use super::Outbox;
use super::accepted::Queued;
use super::job::Job;
use crate::bounds::LimitReached;
use crate::bridge::retry::Pause;
use crate::bridge::{Caller, Error, KeyClaim};
use crate::store::{self, EnqueueOutcome, InFlight, NewRequest, UserRef};
use crate::types::ids::UserKey;

/// 24 h: the age at which a request is given up.
const MAX_AGE: TimeDelta = TimeDelta::hours(24);

/// 256 MiB: the limit on the size of all stored files of one channel.
const MAX_CONTENT: usize = 256 * 1024 * 1024;

/// 32 MiB: the same for one user.
const MAX_CONTENT_OF_USER: usize = 32 * 1024 * 1024;

/// The reason that a request is queued.
pub(super) enum QueueReason {
    /// Other requests that wait before it, or a caller that asked to queue it.
    Order,
    /// A failed attempt. The Cloud does not have the request.
    Pause(Pause),
    /// An attempt of unknown outcome. The Cloud may have the request.
    Unknown {
        why: &'static str,
        in_flight: InFlight,
    },
}

impl QueueReason {
    /// Returns the reason as a code of the table of problems.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            Self::Order => None,
            Self::Pause(pause) => Some(pause.why),
            Self::Unknown { why, .. } => Some(why),
        }
    }

    fn in_flight(&self) -> Option<&InFlight> {
        match self {
            Self::Unknown { in_flight, .. } => Some(in_flight),
            Self::Order | Self::Pause(_) => None,
        }
    }
}

/// The outcome of storing a request.
pub(super) enum Stored {
    /// A request that is queued now.
    Queued(Queued),
    /// No room for the request, with the error to return.
    NoRoom(Error),
}

impl Outbox {
    /// Stores a request of a user. The user is looked up or created if `known_user` is `None`.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable; the request may be stored all the same. [`Error::KeyInUse`]
    /// if another task holds its key.
    pub(super) async fn enqueue(
        &self,
        caller: &Caller,
        key: &UserKey,
        mut known_user: Option<UserRef>,
        job: &Job,
        reason: QueueReason,
    ) -> Result<Stored, Error> {
        let parts = &self.bridge.parts;
        let progress = &job.progress;
        if !self.has_room(&caller.channel).await? {
            return Ok(Stored::NoRoom(Error::QueueFull { of_user: false }));
        }
        let now = parts.clock.now();
        let wait = match &reason {
            QueueReason::Pause(pause) => pause.after(1),
            QueueReason::Order | QueueReason::Unknown { .. } => TimeDelta::zero(),
        };
        let in_flight = reason.in_flight();
        let claim = caller.claim.as_deref();
        let lease = claim.map(|claim| claim.lease(now));
        let outcome = loop {
            let was_known = known_user.is_some();
            let user = match known_user.take() {
                Some(user) => user,
                None => parts.store.ensure_user(key, now).await?,
            };
            let attributed = in_flight.map(|it| self.recent.sequences(user, &it.dialog_id));
            let attributed = attributed.unwrap_or_default();
            let new = NewRequest {
                id: progress.id,
                channel_id: &caller.channel.id,
                kind: job.work.kind(),
                body: &job.work.to_json(),
                content: job.work.content(),
                max_content: MAX_CONTENT,
                max_content_of_user: MAX_CONTENT_OF_USER,
                max_waiting: caller.channel.max_queued_per_user,
                created_at: progress.created_at,
                expires_at: progress.created_at + MAX_AGE,
                conversation_id: progress.conversation_id.as_ref(),
                sequences: &progress.sent,
                in_flight,
                why: reason.code(),
                due_at: now + wait,
                parent: Some(&caller.trace.parent()),
                attributed: &attributed,
                key: claim.map(KeyClaim::request).zip(lease.as_ref()),
            };
            let inserted = parts.store.insert_request(user, &new, now).await;
            // The request may be stored although the database's answer was lost.
            let outcome = inserted.map_err(|error| Error::from(error).unsettled())?;
            // A user who was erased meanwhile and comes back has another row, which the next pass
            // finds or creates.
            if outcome != EnqueueOutcome::UserErased || !was_known {
                break outcome;
            }
            // The messages that were sent are gone with the erased user's conversation.
            if in_flight.is_some() || !progress.sent.is_empty() {
                return Ok(Stored::NoRoom(Error::OutOfTime { is_sent: true }));
            }
        };
        match outcome {
            EnqueueOutcome::Queued => {}
            EnqueueOutcome::QueueFull => {
                return Ok(Stored::NoRoom(Error::QueueFull { of_user: true }));
            }
            EnqueueOutcome::FileStorageFull { of_user } => {
                let exhausted = if of_user {
                    LimitReached::User
                } else {
                    LimitReached::Channel
                };
                return Ok(Stored::NoRoom(Error::TooManyFiles(exhausted)));
            }
            EnqueueOutcome::ClaimLost => return Err(Error::KeyInUse),
            EnqueueOutcome::UserErased => return Err(store::Error::Contended.into()),
        }
        self.count_queued(&caller.channel);
        self.due.notify_one();
        Ok(Stored::Queued(Queued {
            id: progress.id,
            user_id: key.user_id.clone(),
            conversation_id: progress.conversation_id.clone(),
            created_at: progress.created_at,
            choice: job.work.choice().cloned(),
        }))
    }
}
