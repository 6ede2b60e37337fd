//! Queued requests, as channels and operators see them.

use chrono::{DateTime, Utc};

use super::event::data::Failure;
use super::file::{FileId, FileType};
use super::ids::{ConversationId, UserId};
use super::message::{MessageId, Sequence};

/// The progress of a queued request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// It is waiting to be sent.
    Waiting,
    /// An attempt has begun. If another replica now holds the lane's lease, that attempt has
    /// stopped.
    Sending,
    /// An attempt ended with an unknown outcome: the Cloud may have accepted the request.
    Unknown,
    /// The Cloud has it.
    Sent,
    /// It will not reach the Cloud.
    Failed,
}

/// A queued request as its channel sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: MessageId,
    /// The user.
    pub user_id: UserId,
    /// The conversation to which it was sent or will be sent.
    pub conversation_id: Option<ConversationId>,
    /// The Cloud's sequences of the parts that were sent.
    pub sequences: Vec<Sequence>,
    /// Its progress.
    pub state: RequestState,
    /// The reason for its failure.
    pub failure: Option<Failure>,
    /// The time at which it arrived.
    pub created_at: DateTime<Utc>,
    /// The id and the type of the file that it sends, if it sends one.
    pub file: Option<(FileId, FileType)>,
    /// The steps that it has taken so far.
    pub timeline: Vec<Step>,
}

/// A step of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The time of the step.
    pub at: DateTime<Utc>,
    /// The name of the step: `accepted`, `postponed`, `unknown`, `sent` or `failed`.
    pub what: String,
    /// The reason for the step: a code from the table of problems.
    pub why: Option<String>,
}
