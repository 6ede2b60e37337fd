//! Passthrough of requests of any type that the Cloud accepts.

use serde_json::{Map, Value};

use super::Outbox;
use crate::bridge::{Caller, Error};
use crate::cloud::{self, RawRequest};
use crate::types::ids::UserId;
use crate::types::message::Metadata;

/// A request of any type that the Cloud's Send API accepts.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The Cloud's name of the type, such as `cm.UpdateConversationField`.
    pub name: String,
    /// The body.
    pub body: Map<String, Value>,
    /// The metadata beside the body.
    pub metadata: Option<Metadata>,
}

impl Outbox {
    /// Sends a request of any type in the user's open conversation, and returns the Cloud's answer.
    /// Fills in the conversation's ids if the type has them and the body lacks them.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; if the Cloud refuses, or the Cloud or the storage is
    /// unavailable.
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

/// Returns the members of the body that contain ids of the conversation, for a type of request.
fn ids_of(name: &str) -> &'static [&'static str] {
    match name {
        "ms.PublishEvent" => &[DIALOG_ID, CONVERSATION_ID],
        "cm.UpdateConversationField" => &[CONVERSATION_ID],
        _ => &[],
    }
}
