//! What happened, as a channel hears of it.

use serde::{Deserialize, Serialize};

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
}
