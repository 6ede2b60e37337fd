//! Translation of a change from the Cloud: the event for the channel, and the update of the
//! mapping.
//!
//! A pure function of one change and the known state of its conversation. It has no state, so a
//! change that waited in the inbox gives the same result when it is translated later. The caller
//! drops duplicates by [`super::wire::Change::dedupe_key`], and finds the user of the conversation
//! beforehand.

use chrono::{DateTime, Utc};

use super::wire::{Change, Content};
use crate::types::conversation::{Announced, ConversationChange, OpenedBy};
use crate::types::event::data::{Data, Role};
use crate::types::event::{EventType, UnaddressedEvent};
use crate::types::file::FileId;
use crate::types::ids::ConversationId;

mod conversation;
mod message;

/// The known state of the conversation that a change belongs to.
#[derive(Debug, Clone)]
pub struct KnownState<'a> {
    /// The Cloud's id of the user.
    pub consumer_id: Option<&'a str>,
    /// The side that opened the conversation.
    pub opened_by: OpenedBy,
    /// The state that the channel was last notified of.
    pub announced: Option<Announced>,
    /// The time of the newest state seen so far.
    pub updated_at: Option<DateTime<Utc>>,
    /// The fingerprint of that state, as in [`ConversationChange`].
    pub fingerprint: Option<&'a str>,
    /// The link to the file in the change; required if [`Change::file`] names one.
    pub file: Option<FileLink>,
    /// The current time, for changes that the Cloud does not date.
    pub now: DateTime<Utc>,
}

/// The link by which a channel fetches a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileLink {
    /// The bridge's id of the file.
    pub id: FileId,
    /// The URL.
    pub url: String,
}

impl std::fmt::Debug for FileLink {
    /// Omits the URL, which names the user or is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileLink").field(&self.id).finish()
    }
}

/// The result of a change: an event and an update of the mapping. Both must be stored in one
/// transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// The event for the channel.
    pub event: UnaddressedEvent,
    /// The update of the mapping; `None` for changes within a dialog.
    pub mapping: Option<ConversationChange>,
}

/// The reason why a change is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It is only for agents and managers.
    #[error("it is not visible to the user")]
    Private,
    /// It is the user's own action, which the channel already knows.
    #[error("it is the user's own action")]
    Own,
    /// It comes from a participant who only reads along.
    #[error("it comes from a participant who only reads along")]
    Reader,
    /// A newer state of the conversation is known.
    #[error("a newer state of the conversation is known")]
    Stale,
    /// The channel was already notified that the conversation is closed.
    #[error("the end of the conversation was already reported")]
    Ended,
    /// It has nothing to report to a channel. The text says why.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl Ignored {
    /// Returns the reason as one word, for a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Own => "own",
            Self::Reader => "reader",
            Self::Stale => "stale",
            Self::Ended => "ended",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

/// Translates one change.
///
/// # Errors
///
/// [`Ignored`] if the change is ignored. That is usual, and only counted.
pub fn translate(change: &Change, known: &KnownState<'_>) -> Result<Translation, Ignored> {
    match change.content() {
        Content::Message(message) => message::translate(message, known).map(|event| Translation {
            event,
            mapping: None,
        }),
        Content::Conversation(conversation) => conversation::translate(conversation, known),
        Content::Unknown(why) => Err(Ignored::Unsupported(why)),
    }
}

/// Creates the event for a conversation that the Cloud replaced by another one. A user has only one
/// at a time.
#[must_use]
pub fn replaced(
    id: &ConversationId,
    consumer_id: Option<&str>,
    at: DateTime<Utc>,
) -> UnaddressedEvent {
    UnaddressedEvent {
        kind: EventType::ConversationClosed,
        occurred_at: at,
        data: Data::Conversation(conversation::replaced(id, consumer_id)),
    }
}

/// Maps the Cloud's name of a role. A missing or unknown role counts as an agent: a reply with the
/// wrong style is better than a reply that a channel does not show.
fn role(name: Option<&str>) -> Role {
    match name.unwrap_or_default() {
        super::wire::CONSUMER => Role::Consumer,
        "READER" => Role::Reader,
        // Only the bot of a survey. A bot that serves a conversation has the role ASSIGNED_AGENT.
        "AGENT" => Role::Bot,
        "MANAGER" | "AGENT_MANAGER" | "ASSIGNED_MANAGER" => Role::Manager,
        "CONTROLLER" => Role::System,
        _ => Role::Agent,
    }
}

#[cfg(test)]
mod tests;
