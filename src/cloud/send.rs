//! Everything within a conversation: the SEND endpoint, one request at a time.
//!
//! SEND has no idempotency key, so a request is made again only where nothing of it was sent or where a token was
//! refused. Features that a conversation was opened with go with every request.

use serde::Serialize;
use serde_json::Value;

use super::domains::Service;
use super::retry::Repeat;
use super::transport::{Body, Call, client_properties, on_behalf};
use super::wire::conversation::{
    Event, Field, PublishEvent, UpdateConversationField, chat_state, receipt_status,
};
use super::wire::request::Request;
use super::{Client, Consumer, Error, answer};
use crate::types::conversation::Features;
use crate::types::ids::ConversationId;
use crate::types::message::{ChatState, ReceiptStatus, Sequence};
use crate::types::trace::Trace;

/// A conversation, or rather one dialog of it, as one of its participants sees it.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// Whose it is.
    pub consumer: Consumer<'a>,
    /// The conversation's id.
    pub id: &'a ConversationId,
    /// The dialog's id; the main dialog bears the conversation's.
    pub dialog_id: &'a str,
    /// What the conversation was opened with.
    pub features: &'a Features,
}

impl Client {
    /// Publishes a text; returns its number within the dialog.
    ///
    /// # Errors
    ///
    /// See [`Error`]; where the outcome is unknown the text may have been published.
    pub async fn publish_text(
        &self,
        conversation: &Conversation<'_>,
        text: &str,
        trace: &Trace,
    ) -> Result<Sequence, Error> {
        let event = Event::Content {
            content_type: "text/plain",
            message: text,
        };
        let read = |body: &Value| {
            let sequence = body.get("sequence")?.as_u64()?;
            Sequence::try_from(sequence).ok()
        };
        let operation = "cloud.publish_text";
        self.publish(operation, conversation, event, trace, read)
            .await
    }

    /// Says what the consumer is doing. The number in the Cloud's answer is none of a message, so it is dropped.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn publish_chat_state(
        &self,
        conversation: &Conversation<'_>,
        state: ChatState,
        trace: &Trace,
    ) -> Result<(), Error> {
        let event = Event::ChatState {
            chat_state: chat_state(state),
        };
        let operation = "cloud.publish_chat_state";
        self.publish(operation, conversation, event, trace, |_| Some(()))
            .await
    }

    /// Says what became of the agent's messages with these numbers.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn publish_receipts(
        &self,
        conversation: &Conversation<'_>,
        status: ReceiptStatus,
        sequences: &[Sequence],
        trace: &Trace,
    ) -> Result<(), Error> {
        let event = Event::AcceptStatus {
            status: receipt_status(status),
            sequence_list: sequences,
        };
        let operation = "cloud.publish_receipts";
        self.publish(operation, conversation, event, trace, |_| Some(()))
            .await
    }

    /// Closes the conversation.
    ///
    /// # Errors
    ///
    /// See [`Error`]; [`Error::ConversationClosed`] where somebody else was faster.
    pub async fn close(&self, conversation: &Conversation<'_>, trace: &Trace) -> Result<(), Error> {
        let body = UpdateConversationField {
            conversation_id: conversation.id.as_str(),
            conversation_field: Field::ConversationState {
                conversation_state: "CLOSE",
            },
        };
        let name = "cm.UpdateConversationField";
        self.send("cloud.close", conversation, name, body, trace, |_| Some(()))
            .await
    }

    async fn publish<T>(
        &self,
        operation: &'static str,
        conversation: &Conversation<'_>,
        event: Event<'_>,
        trace: &Trace,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        let body = PublishEvent {
            dialog_id: conversation.dialog_id,
            conversation_id: conversation.id.as_str(),
            event,
        };
        let name = "ms.PublishEvent";
        self.send(operation, conversation, name, body, trace, read)
            .await
    }

    /// Makes one request; `read` takes what is wanted from the body of its answer.
    async fn send<T>(
        &self,
        operation: &'static str,
        conversation: &Conversation<'_>,
        name: &'static str,
        body: impl Serialize,
        trace: &Trace,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        let account = conversation.consumer.account;
        let site = self.site(account)?;
        let id = site.request_id();
        let call = Call {
            operation,
            service: Service::Messaging,
            repeat: Repeat::Unsent,
            limit: site.transport.limits.send,
            path: format!("/api/account/{account}/messaging/consumer/conversation/send"),
            query: "v=3",
            body: Body::json(&Request::new(&id, name, body)),
            on_behalf: Some(on_behalf(conversation.consumer.token)?),
            client_properties: client_properties(conversation.features),
        };
        site.call(&call, trace, |answer, now| {
            let body = answer::outcome(answer, &id, None, now)?;
            read(&body).ok_or_else(|| answer::undecodable(answer))
        })
        .await
    }
}
