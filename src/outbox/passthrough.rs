//! Requests of any type that the Cloud takes, passed through.

use serde_json::{Map, Value};

use super::Outbox;
use crate::bridge::{Caller, Error};
use crate::cloud::{self, RawRequest};
use crate::types::ids::UserId;
use crate::types::message::Metadata;

/// A request of any type that SEND takes.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The Cloud's name of the type, such as `cm.UpdateConversationField`.
    pub name: String,
    /// The body.
    pub body: Map<String, Value>,
    /// What stands beside the body.
    pub metadata: Option<Metadata>,
}

impl Outbox {
    /// Sends a request of any type in the user's open conversation, whose ids are filled in where the type has them and
    /// the body lacks them; returns the Cloud's answer.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; when the Cloud refuses or is away.
    pub async fn send_raw(
        &self,
        caller: &Caller,
        user_id: UserId,
        mut raw: Raw,
    ) -> Result<Value, Error> {
        let key = caller.key(user_id);
        let session = self.bridge.session(&caller.trace, &key).await?;
        let mut session = session.ok_or(Error::NoOpenConversation)?;
        let conversation = &session.conversation;
        for member in ids_of(&raw.name) {
            let id = match *member {
                DIALOG_ID => conversation.dialog_id(),
                _ => conversation.id.as_str(),
            };
            raw.body.entry(*member).or_insert_with(|| id.into());
        }
        let request = RawRequest {
            name: &raw.name,
            body: &raw.body,
            metadata: raw.metadata.as_ref(),
        };
        self.record_passthrough(caller, session.user).await?;
        let forwarded = self.bridge.forward(&caller.trace, &mut session, &request);
        match forwarded.await {
            Err(Error::Cloud(cloud::Error::ConversationClosed)) => Err(Error::NoOpenConversation),
            outcome => outcome,
        }
    }
}

const DIALOG_ID: &str = "dialogId";
const CONVERSATION_ID: &str = "conversationId";

/// The members by which requests of a type say what they are about.
fn ids_of(name: &str) -> &'static [&'static str] {
    match name {
        "ms.PublishEvent" => &[DIALOG_ID, CONVERSATION_ID],
        "cm.UpdateConversationField" => &[CONVERSATION_ID],
        _ => &[],
    }
}
