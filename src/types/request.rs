//! Requests that were answered before the Cloud had them, as channels and operators see them.

use chrono::{DateTime, Utc};

use super::event::data::Failure;
use super::file::{FileId, FileType};
use super::ids::{ConversationId, UserId};
use super::message::{MessageId, Sequence};

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// It is to be tried.
    Waiting,
    /// Somebody is trying; nobody is, where the lane has a new holder.
    Sending,
    /// It was tried, and the Cloud may have taken it.
    Unknown,
    /// The Cloud has it.
    Sent,
    /// It will not reach the Cloud.
    Failed,
}

/// A request as its channel sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: MessageId,
    /// The user.
    pub user_id: UserId,
    /// The conversation that it went or is to go to.
    pub conversation_id: Option<ConversationId>,
    /// The Cloud's numbers of what was sent of it.
    pub sequences: Vec<Sequence>,
    /// How far it has come.
    pub state: RequestState,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it came.
    pub created_at: DateTime<Utc>,
    /// The file that was sent.
    pub file: Option<(FileId, FileType)>,
    /// How it came so far.
    pub timeline: Vec<Step>,
}

/// A step of a request's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: DateTime<Utc>,
    /// `accepted`, `postponed`, `unknown`, `sent` or `failed`.
    pub what: String,
    /// A word of the table of problems.
    pub why: Option<String>,
}
