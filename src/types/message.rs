//! Messages and the smaller signs that go with them: typing and receipts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The bridge's own name for a message: `msg_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(Uuid);

impl MessageId {
    /// The id for a message that begins now, from a UUID of [`crate::clock::Clock::uuid`].
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "msg_{}", self.0.simple())
    }
}

/// What a person in the chat is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// Typing.
    Composing,
    /// Stopped typing.
    Pause,
    /// In the chat.
    Active,
    /// Away, but the app is open.
    Inactive,
    /// The app was closed.
    Gone,
}

/// What became of messages that the user was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// Delivered.
    Accept,
    /// Read.
    Read,
    /// A file was opened.
    Access,
    /// Not received.
    Nack,
    /// An element of structured content was used.
    Action,
}

/// The number of an event within its dialog, from 0.
pub type Sequence = u32;
