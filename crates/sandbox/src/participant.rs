//! Those who take part in a conversation, and who is to read what they say.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Builder;

/// Someone who takes part in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// The Cloud's id of the participant.
    pub id: String,
    /// In which part.
    pub role: Role,
}

/// The part that a participant has, as the Cloud's notifications name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// The person on the channel.
    Consumer,
    /// The agent who has the conversation.
    AssignedAgent,
    /// A bot, such as the one that asks a survey.
    Agent,
    /// An agents' manager, who need not have joined.
    Manager,
    /// The Cloud itself, with its automatic messages.
    Controller,
}

/// Who is to read a message. Source: vendor's Webhooks documentation, `messageAudience`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Audience {
    /// Everybody.
    All,
    /// Everybody but the consumer.
    AgentsAndManagers,
}

impl Participant {
    /// A person on a channel.
    pub(super) fn consumer(lp_consumer_id: &str) -> Self {
        Self {
            id: lp_consumer_id.to_owned(),
            role: Role::Consumer,
        }
    }

    /// Someone of the brand: always the same for one role and one skill of an account.
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
