//! Conversations that an agent opens, or resumes as the Cloud calls it: always a new one, with a consumer who has none open.
//!
//! Source: vendor's Connector API overview, "On the agent side: Resume a conversation", and its agent SDK, whose
//! `agentRequestConversation` answers a new conversation id.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Action, Refused, Text};
use crate::conversations::{Consumer, Conversation};
use crate::{Sandbox, idp};

/// How an agent opens a conversation.
///
/// As JSON: `{"account_id": "12345678", "ext_consumer_id": "sms:ada", "text": "Hello again"}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentOpening {
    /// Account id.
    pub account_id: String,
    /// The connector's id of the consumer; one whom the Cloud has not met yet will have the same id there.
    pub ext_consumer_id: String,
    /// What the agent says first; nothing unless given.
    #[serde(default)]
    pub text: Option<String>,
    /// The skill of the agent.
    #[serde(default)]
    pub skill: Option<String>,
    /// The app installation that the conversation names as its connector's; none unless given.
    #[serde(default)]
    pub app_install_id: Option<String>,
}

impl Sandbox {
    /// Has an agent open a conversation with a consumer; its id, and the sequence of what the agent said.
    ///
    /// # Errors
    ///
    /// When the consumer has one open, or something is empty; then nothing has changed.
    pub fn open_as_agent(&self, opening: AgentOpening) -> Result<(String, Option<usize>), Refused> {
        let given = [
            ("account_id", Some(&opening.account_id)),
            ("ext_consumer_id", Some(&opening.ext_consumer_id)),
            ("text", opening.text.as_ref()),
            ("skill", opening.skill.as_ref()),
            ("app_install_id", opening.app_install_id.as_ref()),
        ];
        for (member, text) in given {
            if text.is_some_and(String::is_empty) {
                return Err(Refused::Invalid(format!(
                    "{member}: empty, expected a text"
                )));
            }
        }
        let consumer = Consumer {
            lp_consumer_id: idp::lp_consumer_id(&opening.account_id, &opening.ext_consumer_id),
            account: opening.account_id,
            ext_consumer_id: opening.ext_consumer_id,
        };
        let clock = &self.0.clock;
        let id = clock.uuid().to_string();
        // Both under one lock, so that nothing of the consumer's comes between.
        let mut state = self.state();
        if let Some(open) = state.conversations.open_of(&consumer) {
            return Err(Refused::AlreadyOpen(open.id.clone()));
        }
        let profile = state.conversations.profile_of(&consumer);
        let (skill, now) = (opening.skill, clock.now());
        let mut conversation = Conversation::by_agent(id.clone(), consumer, profile, skill, now);
        conversation.app_install_id = opening.app_install_id;
        state.conversations.open(conversation);
        let sequence = match opening.text {
            Some(text) => state.perform(self, &id, Action::Text(Text::new(text)))?,
            None => None,
        };
        Ok((id, sequence))
    }
}

/// What a control request is answered.
pub(super) fn answer(id: &str, sequence: Option<usize>) -> Value {
    match sequence {
        Some(sequence) => json!({"id": id, "sequence": sequence}),
        None => json!({"id": id}),
    }
}
