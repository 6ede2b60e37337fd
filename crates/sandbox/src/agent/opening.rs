//! Conversations that an agent opens. The Cloud calls that resuming, but it always creates a new
//! conversation, and only for a consumer without an open one.
//!
//! Source: vendor's Connector API overview, "On the agent side: Resume a conversation", and its
//! agent SDK, whose `agentRequestConversation` returns a new conversation id.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Action, ActionError, Text};
use crate::conversations::{Consumer, Conversation};
use crate::{Sandbox, idp};

/// A request for an agent to open a conversation.
///
/// As JSON: `{"account_id": "12345678", "ext_consumer_id": "sms:ada", "text": "Hello again"}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentOpening {
    /// The account id.
    pub account_id: String,
    /// The connector's id of the consumer. The Cloud's id follows from it, also for a consumer who
    /// has not logged in yet.
    pub ext_consumer_id: String,
    /// The agent's first text; `None` for no text.
    #[serde(default)]
    pub text: Option<String>,
    /// The agent's skill.
    #[serde(default)]
    pub skill: Option<String>,
    /// The connector's app installation, as the conversation is to name it; `None` for no
    /// installation.
    #[serde(default)]
    pub app_install_id: Option<String>,
}

impl Sandbox {
    /// Has an agent open a conversation with a consumer. Returns the conversation id and the
    /// sequence of the agent's first text.
    ///
    /// # Errors
    ///
    /// When the consumer has an open conversation, or a text is empty. Nothing has changed then.
    pub fn open_as_agent(
        &self,
        opening: AgentOpening,
    ) -> Result<(String, Option<usize>), ActionError> {
        let members = [
            ("account_id", Some(&opening.account_id)),
            ("ext_consumer_id", Some(&opening.ext_consumer_id)),
            ("text", opening.text.as_ref()),
            ("skill", opening.skill.as_ref()),
            ("app_install_id", opening.app_install_id.as_ref()),
        ];
        for (member, text) in members {
            if text.is_some_and(String::is_empty) {
                return Err(ActionError::Invalid(format!(
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
        // One lock covers the check and the opening, so that no other conversation of the consumer
        // can be opened between them.
        let mut state = self.state();
        if let Some(open) = state.conversations.open_of(&consumer) {
            return Err(ActionError::AlreadyOpen(open.id.clone()));
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

/// Returns the answer to the control request.
pub(super) fn answer(id: &str, sequence: Option<usize>) -> Value {
    match sequence {
        Some(sequence) => json!({"id": id, "sequence": sequence}),
        None => json!({"id": id}),
    }
}
