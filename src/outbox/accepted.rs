//! The answer to a request that was accepted, and the time that its caller waits for it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::types::ids::{ConversationId, UserId};
use crate::types::message::MessageId;
use crate::types::offer::NamedChoice;

/// 5 s: the time that a channel waits for the Cloud by default.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The time that a channel waits for the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitPreference {
    /// The time after which the request is queued.
    pub wait: Duration,
    /// True if the request is queued at once.
    pub at_once: bool,
}

impl Default for WaitPreference {
    fn default() -> Self {
        Self {
            wait: DEFAULT_WAIT,
            at_once: false,
        }
    }
}

/// A request that was accepted.
#[derive(Debug, Clone)]
pub enum Accepted<T> {
    /// The result of a request that the Cloud has carried out.
    Done(T),
    /// A request that is queued, and sent as soon as possible.
    Queued(Queued),
}

impl<T> Accepted<T> {
    /// Converts the result of a completed request.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Accepted<U> {
        match self {
            Self::Done(done) => Accepted::Done(convert(done)),
            Self::Queued(queued) => Accepted::Queued(queued),
        }
    }
}

/// A request that is queued.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The bridge's id for it.
    pub id: MessageId,
    /// The user.
    pub user_id: UserId,
    /// The conversation that it is for; `None` while none is open.
    pub conversation_id: Option<ConversationId>,
    /// The time at which the bridge received it.
    pub created_at: DateTime<Utc>,
    /// The choice as which a text is sent because the user named it.
    pub choice: Option<NamedChoice>,
}
