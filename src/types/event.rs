//! What happened, as a channel hears of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::Invalid;

/// The bridge's own name for an event: `evt_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId(Uuid);

impl EventId {
    /// The id for an event that happens now, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", self.0.simple())
    }
}

impl FromStr for EventId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let uuid = text.strip_prefix("evt_").and_then(|uuid| uuid.parse().ok());
        // Read back, since a UUID can be written in several ways and an id cannot.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "evt_ and 32 hexadecimal digits",
            })
    }
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// An agent, bot, manager or the system wrote.
    #[serde(rename = "message.created")]
    MessageCreated,
    /// The user's own message came back from the Cloud.
    #[serde(rename = "message.echoed")]
    MessageEchoed,
    /// Somebody started or stopped typing.
    #[serde(rename = "typing.changed")]
    TypingChanged,
    /// Messages were delivered, read or refused.
    #[serde(rename = "receipt.changed")]
    ReceiptChanged,
    /// A conversation was opened.
    #[serde(rename = "conversation.opened")]
    ConversationOpened,
    /// A conversation changed hands or skill.
    #[serde(rename = "conversation.updated")]
    ConversationUpdated,
    /// A conversation was closed.
    #[serde(rename = "conversation.closed")]
    ConversationClosed,
    /// A request that had been queued reached the Cloud.
    #[serde(rename = "message.sent")]
    MessageSent,
    /// A request that had been queued could not be brought to the Cloud.
    #[serde(rename = "message.failed")]
    MessageFailed,
}

impl EventType {
    /// Every kind of event.
    pub const ALL: [Self; 9] = [
        Self::MessageCreated,
        Self::MessageEchoed,
        Self::TypingChanged,
        Self::ReceiptChanged,
        Self::ConversationOpened,
        Self::ConversationUpdated,
        Self::ConversationClosed,
        Self::MessageSent,
        Self::MessageFailed,
    ];

    /// Its name, as channels see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessageCreated => "message.created",
            Self::MessageEchoed => "message.echoed",
            Self::TypingChanged => "typing.changed",
            Self::ReceiptChanged => "receipt.changed",
            Self::ConversationOpened => "conversation.opened",
            Self::ConversationUpdated => "conversation.updated",
            Self::ConversationClosed => "conversation.closed",
            Self::MessageSent => "message.sent",
            Self::MessageFailed => "message.failed",
        }
    }
}
