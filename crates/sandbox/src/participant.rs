//! The participants of a conversation, and the audience of their messages.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Builder;

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// The Cloud's id of the participant.
    pub id: String,
    /// The role of the participant.
    pub role: Role,
}

/// The role of a participant, as the Cloud's notifications name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// The person on the channel.
    Consumer,
    /// The assigned agent.
    AssignedAgent,
    /// A bot, such as the one that asks a survey.
    Agent,
    /// A manager of agents, who need not have joined.
    Manager,
    /// The Cloud itself, with its automatic messages.
    Controller,
}

/// The audience of a message. Source: vendor's Webhooks documentation, `messageAudience`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Audience {
    /// All participants.
    All,
    /// All participants except the consumer.
    AgentsAndManagers,
}

impl Participant {
    /// Creates the participant for a person on a channel.
    pub(super) fn consumer(lp_consumer_id: &str) -> Self {
        Self {
            id: lp_consumer_id.to_owned(),
            role: Role::Consumer,
        }
    }

    /// Creates a participant of the brand. The id is always the same for one role and one skill of
    /// an account.
    pub(super) fn of_brand(account: &str, role: Role, skill: &str) -> Self {
        let digest = Sha256::new()
            .chain_update("sandbox participant\0")
            .chain_update(account)
            .chain_update(format!("\0{role:?}\0{skill}"))
            .finalize();
        let mut bytes = [0; 16];
        for (byte, digit) in bytes.iter_mut().zip(digest) {
            *byte = digit;
        }
        Self {
            id: Builder::from_random_bytes(bytes).into_uuid().to_string(),
            role,
        }
    }
}
