//! Everything within a conversation: the SEND endpoint, one request at a time.
//!
//! SEND has no idempotency key, so a request is made again only where nothing of it was sent or where a token was
//! refused. Features that a conversation was opened with go with every request.

use serde::Serialize;
use serde_json::{Map, Value};

use super::domains::Service;
use super::retry::Repeat;
use super::transport::{Body, Call, client_properties, on_behalf};
use super::wire::conversation::{
    Event, Field, PublishEvent, UpdateConversationField, chat_state, receipt_status,
};
use super::wire::profile::SetUserProfile;
use super::wire::request::Request;
use super::{Client, Consumer, Error, answer};
use crate::http::Answer;
use crate::types::conversation::Features;
use crate::types::ids::ConversationId;
use crate::types::message::{ChatState, Metadata, ReceiptStatus, Sequence};
use crate::types::profile::Profile;
use crate::types::rating::Rating;
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

/// What is said besides a text.
#[derive(Debug, Clone, Copy)]
pub enum Signal<'a> {
    /// What the consumer is doing. The number in the Cloud's answer is none of a message, so it is dropped.
    ChatState(ChatState),
    /// What became of the agent's messages with these numbers.
    Receipts(ReceiptStatus, &'a [Sequence]),
    /// The consumer used an element of the agent's message with this number.
    Choice(Sequence, &'a Metadata),
    /// What is to be known of the consumer.
    Profile(&'a Profile),
    /// What the consumer thinks of the conversation, which has been closed before.
    Rating(Rating),
    /// The conversation has ended; [`Error::ConversationClosed`] where somebody else was faster.
    Close,
}

/// A request of any type, for what this client has no words of its own for.
#[derive(Debug, Clone, Copy)]
pub struct RawRequest<'a> {
    /// The Cloud's name of the type, such as `ms.PublishEvent`.
    pub name: &'a str,
    /// The body.
    pub body: &'a Map<String, Value>,
    /// What stands beside the body.
    pub metadata: Option<&'a Metadata>,
}

const PUBLISH: &str = "ms.PublishEvent";
const UPDATE: &str = "cm.UpdateConversationField";
const SET_PROFILE: &str = "userprofile.SetUserProfile";

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
        metadata: Option<&Metadata>,
        trace: &Trace,
    ) -> Result<Sequence, Error> {
        let event = conversation.event(Event::Content {
            content_type: "text/plain",
            message: text,
        });
        let sent = conversation
            .request("cloud.publish_text", PUBLISH, event)
            .with_metadata(metadata);
        self.send(sent, trace, |body, _| {
            let sequence = body.get("sequence")?.as_u64()?;
            Sequence::try_from(sequence).ok()
        })
        .await
    }

    /// Says something besides a text.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn signal(
        &self,
        conversation: &Conversation<'_>,
        signal: Signal<'_>,
        trace: &Trace,
    ) -> Result<(), Error> {
        match signal {
            Signal::ChatState(state) => {
                let event = conversation.event(Event::ChatState {
                    chat_state: chat_state(state),
                });
                let sent = conversation.request("cloud.publish_chat_state", PUBLISH, event);
                self.send(sent, trace, done).await
            }
            Signal::Receipts(status, sequences) => {
                let event = conversation.event(Event::AcceptStatus {
                    status: receipt_status(status),
                    sequence_list: sequences,
                });
                let sent = conversation.request("cloud.publish_receipts", PUBLISH, event);
                self.send(sent, trace, done).await
            }
            Signal::Choice(sequence, metadata) => {
                let sequences = [sequence];
                let event = conversation.event(Event::AcceptStatus {
                    status: receipt_status(ReceiptStatus::Action),
                    sequence_list: &sequences,
                });
                let sent = conversation
                    .request("cloud.publish_choice", PUBLISH, event)
                    .with_metadata(Some(metadata));
                self.send(sent, trace, done).await
            }
            Signal::Profile(profile) => {
                let body = SetUserProfile::new(Some(profile));
                let sent = conversation.request("cloud.set_profile", SET_PROFILE, body);
                self.send(sent, trace, done).await
            }
            Signal::Rating(rating) => {
                let body = conversation.update(rating.into());
                let sent = conversation.request("cloud.rate", UPDATE, body);
                self.send(sent, trace, done).await
            }
            Signal::Close => {
                let body = conversation.update(Field::ConversationState {
                    conversation_state: "CLOSE",
                });
                let sent = conversation.request("cloud.close", UPDATE, body);
                self.send(sent, trace, done).await
            }
        }
    }

    /// Sends a request of any type; returns its answer.
    ///
    /// # Errors
    ///
    /// See [`Error`]; where the outcome is unknown the request may have been carried out.
    pub async fn send_raw(
        &self,
        conversation: &Conversation<'_>,
        request: &RawRequest<'_>,
        trace: &Trace,
    ) -> Result<Value, Error> {
        let sent = conversation
            .request("cloud.send_raw", request.name, request.body)
            .with_metadata(request.metadata);
        // The whole answer, as the Cloud wrote it.
        self.send(sent, trace, |_, answer| {
            serde_json::from_slice(&answer.body).ok()
        })
        .await
    }

    /// Makes one request; `read` takes what is wanted from its answer, whose body comes first.
    async fn send<T>(
        &self,
        sent: Sent<'_, impl Serialize>,
        trace: &Trace,
        read: impl Fn(&Value, &Answer) -> Option<T>,
    ) -> Result<T, Error> {
        let Consumer { account, token } = sent.conversation.consumer;
        let site = self.site(account)?;
        let id = site.request_id();
        let request = Request::new(&id, sent.name, sent.body).with_metadata(sent.metadata);
        let call = Call {
            operation: sent.operation,
            service: Service::Messaging,
            repeat: Repeat::Unsent,
            limit: site.transport.limits.send,
            path: format!("/api/account/{account}/messaging/consumer/conversation/send"),
            query: "v=3",
            body: Body::json(&request),
            on_behalf: Some(on_behalf(token)?),
            client_properties: client_properties(sent.conversation.features),
        };
        site.call(&call, trace, |answer, now| {
            let body = answer::outcome(answer, &id, None, now)?;
            read(&body, answer).ok_or_else(|| answer::undecodable(answer))
        })
        .await
    }
}

/// Where the Cloud's word that all went well is all there is to know.
#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several ways to read a body"
)]
fn done(_: &Value, _: &Answer) -> Option<()> {
    Some(())
}

/// One request in a conversation.
struct Sent<'a, B> {
    operation: &'static str,
    conversation: &'a Conversation<'a>,
    name: &'a str,
    body: B,
    metadata: Option<&'a Metadata>,
}

impl<'a, B> Sent<'a, B> {
    fn with_metadata(self, metadata: Option<&'a Metadata>) -> Self {
        Self { metadata, ..self }
    }
}

impl Conversation<'_> {
    fn request<'a, B>(&'a self, operation: &'static str, name: &'a str, body: B) -> Sent<'a, B> {
        Sent {
            operation,
            conversation: self,
            name,
            body,
            metadata: None,
        }
    }

    fn event<'a>(&'a self, event: Event<'a>) -> PublishEvent<'a> {
        PublishEvent {
            dialog_id: self.dialog_id,
            conversation_id: self.id.as_str(),
            event,
        }
    }

    fn update(&self, field: Field) -> UpdateConversationField<'_> {
        UpdateConversationField {
            conversation_id: self.id.as_str(),
            conversation_field: field,
        }
    }
}
