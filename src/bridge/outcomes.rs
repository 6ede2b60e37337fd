//! What a failed try means for a request that may be kept, and what the channel is told in the end.

use std::time::Duration;

use super::dispatch::Lane;
use super::requests::Job;
use crate::bridge::{Bridge, Error};
use crate::cloud;
use crate::store::NewEvent;
use crate::types::event::data::{Data, Failure, Outcome, OutcomeStatus, UpstreamFailure};
use crate::types::event::{Draft, EventId, EventType};
use crate::types::problem::{BLOCKED, Code, SEQUENCE_UNKNOWN};

/// The word for a try of which nobody knows whether it reached the Cloud.
pub(super) const OUTCOME_UNKNOWN: &str = Code::CloudOutcomeUnknown.as_str();

/// That a request is to be tried later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Later {
    /// Why, in a word of the table of problems.
    pub(super) why: &'static str,
    /// Whether the Cloud may have taken it.
    pub(super) is_unknown: bool,
    pub(super) is_throttled: bool,
    /// True if a gateway answered in place of the Cloud to what was published: perhaps it never lets this through.
    pub(super) is_blocked: bool,
    /// How long the Cloud wants to be left alone.
    pub(super) after: Option<Duration>,
}

impl Later {
    /// Later, once it is known whether the Cloud has it.
    pub(super) fn unknown() -> Self {
        Self {
            why: word(&Error::OutOfTime { is_sent: true }),
            is_unknown: true,
            is_throttled: false,
            is_blocked: false,
            after: None,
        }
    }

    /// Whether and how a request that failed so can be done later; `is_in_flight` says whether something was on its way
    /// that must not be repeated blindly.
    pub(super) fn of(error: &Error, is_in_flight: bool) -> Option<Self> {
        let (is_unknown, is_throttled, after) = match error {
            Error::Cloud(error) if error.is_transient() => (
                error.outcome_unknown(),
                matches!(error, cloud::Error::Throttled { .. }),
                error.retry_after(),
            ),
            Error::OutOfTime { is_sent } => (*is_sent, false, None),
            Error::OpeningPending { .. } | Error::ConversationLost | Error::SurveyPending => {
                (false, false, None)
            }
            _ => return None,
        };
        let is_blocked =
            is_in_flight && matches!(error, Error::Cloud(cloud::Error::Blocked { .. }));
        Some(Self {
            why: if is_blocked { BLOCKED } else { word(error) },
            is_unknown: is_unknown && is_in_flight,
            is_throttled,
            is_blocked,
            after,
        })
    }

    /// The same for a request that is kept: there, trouble of the bridge's own passes as well, or an operator mends it.
    pub(super) fn of_kept(error: &Error, is_in_flight: bool) -> Option<Self> {
        let is_ours = match error {
            Error::Cloud(error) => is_about_credentials(error),
            Error::Store(_) | Error::Seal(_) | Error::Interrupted => true,
            _ => false,
        };
        let ours = is_ours.then(|| Self {
            why: word(error),
            is_unknown: false,
            is_throttled: false,
            is_blocked: false,
            after: None,
        });
        Self::of(error, is_in_flight).or(ours)
    }
}

fn is_about_credentials(error: &cloud::Error) -> bool {
    match error {
        cloud::Error::NotBegun(cause) => is_about_credentials(cause),
        cloud::Error::CredentialsRefused { .. }
        | cloud::Error::AppTokenRefused
        | cloud::Error::ConsumerTokenRefused
        | cloud::Error::Unauthorized { .. } => true,
        _ => false,
    }
}

/// Why a try failed, in one word.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Cloud(cloud::Error::Unnumbered) => SEQUENCE_UNKNOWN,
        error => error.code().as_str(),
    }
}

/// Why a request failed for good.
pub(super) fn failure(error: &Error) -> Failure {
    if let Error::Cloud(cloud::Error::Blocked { status }) = error {
        let upstream = UpstreamFailure {
            status: *status,
            code: None,
            title: None,
        };
        return failure_named(Code::CloudRefused.as_str(), Some(upstream));
    }
    let upstream = match error {
        Error::Cloud(cloud::Error::Refused {
            status,
            code,
            title,
        }) => Some(UpstreamFailure {
            status: *status,
            code: code.clone(),
            title: Some(title.clone()),
        }),
        _ => None,
    };
    failure_named(word(error), upstream)
}

pub(super) fn failure_named(code: &str, upstream: Option<UpstreamFailure>) -> Failure {
    Failure {
        code: code.to_owned(),
        upstream,
    }
}

impl Bridge {
    /// What a channel is told of the end of a request that it was answered 202 for; nothing where it does not want to know.
    pub(super) fn outcome_event(
        &self,
        lane: &Lane<'_>,
        job: &Job,
        failure: Option<&Failure>,
    ) -> Option<NewEvent> {
        let kind = match failure {
            None => EventType::MessageSent,
            Some(_) => EventType::MessageFailed,
        };
        let channel_id = &lane.request.channel_id;
        let listener = self.parts.listeners.get(channel_id)?;
        if !listener.events.contains(&kind) {
            return None;
        }
        let now = self.parts.clock.now();
        let id = EventId::new(self.parts.clock.uuid());
        let outcome = Outcome {
            id: job.id,
            user_id: lane.due.key.user_id.clone(),
            conversation_id: job.conversation_id.clone(),
            sequence: job.sent.first().copied(),
            status: match failure {
                None => OutcomeStatus::Sent,
                Some(_) => OutcomeStatus::Failed,
            },
            failure: failure.cloned(),
            created_at: job.created_at,
        };
        let draft = Draft {
            kind,
            occurred_at: now,
            data: Data::Outcome(outcome),
        };
        let user_id = lane.due.key.user_id.clone();
        let event = draft.addressed(id, channel_id.clone(), user_id, job.conversation_id.clone());
        Some(NewEvent {
            id,
            channel_id: channel_id.clone(),
            user: Some(lane.due.user),
            kind,
            body: event.to_json(),
            parent: lane.request.parent.clone(),
            deliver_until: listener.max_age.map(|max_age| now + max_age),
        })
    }
}
