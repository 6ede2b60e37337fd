//! The answer to a request that was accepted, and the time that its caller waits for it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::types::ids::{ConversationId, UserId};
use crate::types::message::MessageId;

/// 5 s: how long a channel waits for the Cloud unless it says otherwise.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// The time that a channel waits for the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After this the request is queued.
    pub wait: Duration,
    /// True if the request is queued at once.
    pub at_once: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            wait: USUAL_WAIT,
            at_once: false,
        }
    }
}

/// A request that was accepted.
#[derive(Debug, Clone)]
pub enum Accepted<T> {
    /// The Cloud has done it.
    Done(T),
    /// It is queued, and done as soon as it can be.
    Queued(Queued),
}

impl<T> Accepted<T> {
    /// The same with something else in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Accepted<U> {
        match self {
            Self::Done(done) => Accepted::Done(change(done)),
            Self::Queued(queued) => Accepted::Queued(queued),
        }
    }
}

/// A request that is queued.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The bridge's name for it.
    pub id: MessageId,
    /// Its user.
    pub user_id: UserId,
    /// The conversation that it is for; `None` while none is open.
    pub conversation_id: Option<ConversationId>,
    /// When the bridge received it.
    pub created_at: DateTime<Utc>,
}
