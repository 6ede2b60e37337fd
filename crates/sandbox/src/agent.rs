//! The brand's side of a conversation: the actions of agents, bots and managers.

mod action;
pub(super) mod control;
mod opening;
mod script;
mod script_choice;

pub use action::{AcceptStatus, Action, Attachment, ChatState, Choice, Rich, SenderRole, Text};
pub use opening::AgentOpening;
pub use script::Script;

pub(super) use script::{AnswerQueues, queue_for_answer};

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::conversations::{Conversation, Dialog, NewEvent, Stage};
use super::files::{self, File, Files};
use super::participant::{Audience, Participant, Role};
use super::{Sandbox, Shared, State};

/// The close reason of a conversation that an agent closes.
const CLOSED_BY: &str = "AGENT";

/// The reason that an action of the brand's side is refused.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// There is no such conversation.
    #[error("there is no conversation `{0}`")]
    Unknown(String),
    /// The conversation has ended.
    #[error("conversation `{0}` is closed")]
    Closed(String),
    /// The consumer has an open conversation, and cannot have another one.
    #[error("the consumer already has an open conversation, `{0}`; close it first")]
    AlreadyOpen(String),
    /// The Cloud would not allow the action.
    #[error("{0}")]
    Invalid(String),
}

impl Sandbox {
    /// Sets the script by which the agent answers from now on; `None` turns it off. An answer in
    /// progress by the former script is abandoned.
    pub fn set_script(&self, script: Option<Script>) {
        self.state().script = script.map(Arc::new);
    }

    /// Performs an action of the brand's side in a conversation. Returns the sequence of the
    /// published event, if it has one.
    ///
    /// If the agent publishes an event and has not joined yet, the agent joins first.
    ///
    /// # Errors
    ///
    /// When the action is impossible. Nothing has changed then.
    pub fn act(&self, conversation: &str, action: Action) -> Result<Option<usize>, ActionError> {
        self.state().perform(self, conversation, action)
    }
}

impl State {
    /// Performs an action of the brand's side in a conversation.
    fn perform(
        &mut self,
        sandbox: &Sandbox,
        conversation: &str,
        action: Action,
    ) -> Result<Option<usize>, ActionError> {
        let unknown = || ActionError::Unknown(conversation.to_owned());
        let context = ActionContext {
            conversation: self.conversations.get(conversation).ok_or_else(unknown)?,
            files: &mut self.files,
            shared: &sandbox.0,
            now: sandbox.0.clock.now(),
        };
        context.perform(action)
    }
}

/// An action in progress, with the state that it may change.
struct ActionContext<'a> {
    conversation: &'a mut Conversation,
    files: &'a mut Files,
    shared: &'a Shared,
    now: DateTime<Utc>,
}

impl ActionContext<'_> {
    fn perform(mut self, action: Action) -> Result<Option<usize>, ActionError> {
        action.check(self.dialog()?).map_err(ActionError::Invalid)?;
        match action {
            Action::Join {} => {
                self.agent();
                Ok(None)
            }
            Action::Text(text) => {
                let event = json!({
                    "type": "ContentEvent",
                    "contentType": "text/plain",
                    "message": text.text,
                });
                let originator = self.sender(text.role);
                let new_event = NewEvent {
                    originator,
                    audience: if text.private {
                        Audience::AgentsAndManagers
                    } else {
                        Audience::All
                    },
                    event: action::with_choices(event, &text.quick_replies),
                    metadata: action::metadata(text.metadata),
                    request_id: None,
                };
                self.publish(new_event).map(Some)
            }
            Action::Rich(rich) => {
                let event = json!({"type": "RichContentEvent", "content": rich.content});
                let event = action::with_choices(event, &rich.quick_replies);
                self.publish_as_agent(event, action::metadata(rich.metadata))
                    .map(Some)
            }
            Action::File(attachment) => {
                let event = self.store(attachment);
                self.publish_as_agent(event, None).map(Some)
            }
            Action::SecureForm { title, form_id } => {
                let event = json!({
                    "type": "ContentEvent",
                    "contentType": "forms/secure-invitation",
                    "message": {
                        "invitationId": self.shared.clock.uuid().to_string(),
                        "title": title,
                        "formId": form_id,
                    },
                });
                self.publish_as_agent(event, None).map(Some)
            }
            Action::Typing { state } => {
                let event = json!({"type": "ChatStateEvent", "chatState": state});
                let (new_event, now) = (self.agent_event(event, None), self.now);
                self.dialog()?.publish_unsequenced(new_event, now);
                Ok(None)
            }
            Action::Receipt { status, sequences } => {
                let event = json!({
                    "type": "AcceptStatusEvent",
                    "status": status,
                    "sequenceList": sequences,
                });
                self.publish_as_agent(event, None).map(Some)
            }
            Action::Transfer { skill } => {
                let participants = &mut self.conversation.participants;
                participants.retain(|participant| participant.role != Role::AssignedAgent);
                self.conversation.skill_id = skill;
                Ok(None)
            }
            Action::Close {} => {
                self.conversation.close(CLOSED_BY);
                Ok(None)
            }
        }
    }

    /// Returns the dialog in which actions happen: the latest open one, which is the survey during
    /// a survey.
    fn dialog(&mut self) -> Result<&mut Dialog, ActionError> {
        let mut dialogs = self.conversation.dialogs.iter_mut().rev();
        dialogs
            .find(|dialog| dialog.state == Stage::Open)
            .ok_or_else(|| ActionError::Closed(self.conversation.id.clone()))
    }

    /// Returns the assigned agent. An agent joins if there is none.
    fn agent(&mut self) -> Participant {
        let conversation = &mut *self.conversation;
        let mut participants = conversation.participants.iter();
        if let Some(agent) = participants.find(|p| p.role == Role::AssignedAgent) {
            return agent.clone();
        }
        let (account, skill) = (&conversation.consumer.account, &conversation.skill_id);
        let agent = Participant::of_brand(account, Role::AssignedAgent, skill);
        conversation.participants.push(agent.clone());
        agent
    }

    fn sender(&mut self, sender: SenderRole) -> Participant {
        let role = match sender {
            SenderRole::Agent => return self.agent(),
            SenderRole::Bot => Role::Agent,
            SenderRole::Manager => Role::Manager,
            SenderRole::Controller => Role::Controller,
        };
        Participant::of_brand(&self.conversation.consumer.account, role, "")
    }

    /// Publishes an event of the agent for all participants.
    fn publish_as_agent(
        &mut self,
        event: Value,
        metadata: Option<Value>,
    ) -> Result<usize, ActionError> {
        let new_event = self.agent_event(event, metadata);
        self.publish(new_event)
    }

    fn agent_event(&mut self, event: Value, metadata: Option<Value>) -> NewEvent {
        NewEvent {
            originator: self.agent(),
            audience: Audience::All,
            event,
            metadata,
            request_id: None,
        }
    }

    fn publish(&mut self, new_event: NewEvent) -> Result<usize, ActionError> {
        let now = self.now;
        Ok(self.dialog()?.publish(new_event, now))
    }

    /// Stores a file for the consumer to download. Returns the event that announces it.
    fn store(&mut self, attachment: Attachment) -> Value {
        let agent = self.agent();
        let kind = attachment.file_type.to_ascii_uppercase();
        let account = self.conversation.consumer.account.clone();
        let uuid = self.shared.clock.uuid();
        let path = files::path(&account, &agent.id, uuid, self.now, &kind);
        let file = File {
            account,
            owner: agent.id,
            media_type: files::media_type(&kind),
            size: attachment.content.len(),
            content: None,
        };
        self.files.announce(path.clone(), file);
        self.files.fill(&path, attachment.content);
        let mut message =
            json!({"caption": attachment.caption, "relativePath": path, "fileType": kind});
        if let (Some(preview), Some(members)) = (attachment.preview, message.as_object_mut()) {
            members.insert("preview".to_owned(), preview.into());
        }
        json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message})
    }
}
