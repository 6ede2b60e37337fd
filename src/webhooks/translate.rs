//! What a change of the Cloud's means: what channels hear of it, and what the mapping learns.
//!
//! A pure function of one change and of what is known of its conversation. It keeps nothing, so a change that waited in
//! the inbox means the same when it is read again. Repeats are for the caller to see, by
//! [`super::wire::Change::dedupe_key`], and whose a conversation is the caller has found out before.

use chrono::{DateTime, Utc};

use super::wire::{Change, Content};
use crate::types::conversation::{Announced, ConversationChange, OpenedBy};
use crate::types::event::data::{Data, Role};
use crate::types::event::{Draft, EventType};
use crate::types::file::FileId;
use crate::types::ids::ConversationId;

mod conversation;
mod message;

/// What is known of the conversation that a change is about.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// The Cloud's id of the user.
    pub consumer_id: Option<&'a str>,
    /// The side that opened the conversation.
    pub opened_by: OpenedBy,
    /// What channels were told last of the conversation's state.
    pub announced: Option<Announced>,
    /// When the newest state that was seen of it was made.
    pub updated_at: Option<DateTime<Utc>>,
    /// The fingerprint of that state, as [`ConversationChange`] has it.
    pub fingerprint: Option<&'a str>,
    /// How channels fetch the file that the change holds; wanted where [`Change::file`] names one.
    pub file: Option<FileLink>,
    /// The present moment, for what the Cloud does not date.
    pub now: DateTime<Utc>,
}

/// How a channel fetches a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileLink {
    /// The bridge's name for it.
    pub id: FileId,
    /// Where it is.
    pub url: String,
}

impl std::fmt::Debug for FileLink {
    /// Leaves out the URL, which names the user.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileLink").field(&self.id).finish()
    }
}

/// What comes of a change: the event, and what the mapping learns; both are to be stored together.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// What channels hear.
    pub event: Draft,
    /// What the mapping learns; of what happens in a dialog nothing.
    pub mapping: Option<ConversationChange>,
}

/// Why nothing comes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It is for agents and managers alone.
    #[error("it is not for the user")]
    Private,
    /// It is the user's own doing, of which the channel knows.
    #[error("it is the user's own doing")]
    Own,
    /// It comes from one who only looks on.
    #[error("it comes from one who only looks on")]
    Reader,
    /// A newer state of the conversation was seen.
    #[error("a newer state of the conversation is known")]
    Stale,
    /// Channels were told that the conversation was closed.
    #[error("the conversation's end has been told")]
    Ended,
    /// There is nothing in it that a channel can be told; the words say why.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl Ignored {
    /// One word for it, for a metric's label.
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
/// [`Ignored`] where nothing comes of it, which is usual and for a counter alone.
pub fn translate(change: &Change, known: &Known<'_>) -> Result<Translation, Ignored> {
    match change.content() {
        Content::Message(message) => message::translate(message, known).map(|event| Translation {
            event,
            mapping: None,
        }),
        Content::Conversation(conversation) => conversation::translate(conversation, known),
        Content::Unknown(why) => Err(Ignored::Unsupported(why)),
    }
}

/// What channels hear of a conversation whose place another has taken at the Cloud: a user has one at a time.
#[must_use]
pub fn replaced(id: &ConversationId, consumer_id: Option<&str>, at: DateTime<Utc>) -> Draft {
    Draft {
        kind: EventType::ConversationClosed,
        occurred_at: at,
        data: Data::Conversation(conversation::replaced(id, consumer_id)),
    }
}

/// What somebody is, by the Cloud's word. One whom the Cloud gives a new word or none is taken for an agent: a reply
/// that is styled wrong is better than a reply that a channel does not show.
fn role(word: Option<&str>) -> Role {
    match word.unwrap_or_default() {
        super::wire::CONSUMER => Role::Consumer,
        "READER" => Role::Reader,
        // Only the bot of a survey; a bot that serves a conversation is its ASSIGNED_AGENT.
        "AGENT" => Role::Bot,
        "MANAGER" | "AGENT_MANAGER" | "ASSIGNED_MANAGER" => Role::Manager,
        "CONTROLLER" => Role::System,
        _ => Role::Agent,
    }
}

#[cfg(test)]
mod tests;
