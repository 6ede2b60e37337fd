//! The SEND endpoint: all requests within a conversation, one at a time.
//!
//! SEND has no idempotency key. So a request that changes something is repeated only if none of it
//! was sent or if a token was refused. The features that a conversation was opened with go with
//! every request.

use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::account_client::AccountClient;
use super::answer::Subject;
use super::host::Endpoint;
use super::retry::RetryPolicy;
use super::transport::{Body, Call, client_properties, json};
use super::wire::conversation::{
    ClosedDialog, Event, Field, Message, PublishEvent, Published, UpdateConversationField,
    chat_state, receipt_status,
};
use super::wire::file::HostedFile;
use super::wire::profile::SetUserProfile;
use super::wire::request::Request;
use super::{Client, Consumer, Error, answer};
use crate::http::Answer;
use crate::types::conversation::Features;
use crate::types::file::ImageType;
use crate::types::ids::ConversationId;
use crate::types::message::{ChatState, Metadata, ReceiptStatus, Sequence};
use crate::types::profile::Profile;
use crate::types::rating::Rating;
use crate::types::trace::Trace;

/// A conversation, and the dialog in it that the consumer writes in.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// The consumer, with their token.
    pub consumer: Consumer<'a>,
    /// The conversation's id.
    pub id: &'a ConversationId,
    /// The dialog's id. That of the main dialog is the conversation's id.
    pub dialog_id: &'a str,
    /// The features that the conversation was opened with.
    pub features: &'a Features,
    /// The time limit of one attempt; `None` for the usual one.
    pub time_limit: Option<Duration>,
}

/// The content of a message.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// A text.
    Text(&'a str),
    /// A file that was stored for the consumer before.
    File(File<'a>),
}

/// A file in a message.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// The path that names it.
    pub relative_path: &'a str,
    /// Its kind.
    pub kind: ImageType,
    /// The consumer's text about it.
    pub caption: Option<&'a str>,
    /// A small image of it as a data URI.
    pub preview: Option<&'a str>,
}

/// A request in a conversation, other than a message.
#[derive(Debug, Clone, Copy)]
pub enum Signal<'a> {
    /// The consumer's chat state. The sequence in the Cloud's answer is not that of a message, so
    /// it is dropped.
    ChatState(ChatState),
    /// Receipts for the agent's messages with these sequences.
    Receipts(ReceiptStatus, &'a [Sequence]),
    /// The consumer's use of an element in the agent's message with this sequence.
    Choice(Sequence, &'a Metadata),
    /// The consumer's profile.
    Profile(&'a Profile),
    /// The consumer's rating of the conversation, which must be closed already.
    Rating(Rating),
    /// The end of the conversation. [`Error::ConversationClosed`] if it was closed before.
    Close,
    /// The end of the conversation and of its survey, even if the survey has not begun.
    CloseEverything,
    /// The end of the main dialog only, so that a survey can follow.
    CloseMainDialog,
}

/// A request of any type, for those that the client does not support itself.
#[derive(Debug, Clone, Copy)]
pub struct RawRequest<'a> {
    /// The Cloud's name of the type, such as `ms.PublishEvent`.
    pub name: &'a str,
    /// The body.
    pub body: &'a Map<String, Value>,
    /// The metadata, which goes beside the body.
    pub metadata: Option<&'a Metadata>,
}

/// Returns the number of characters (UTF-16 code units) around the text in the JSON of a request.
/// `id_chars` is the total length of the ids of conversation and dialog.
#[must_use]
pub fn envelope_chars(id_chars: usize, metadata: Option<&Metadata>) -> usize {
    let event = PublishEvent {
        dialog_id: "",
        conversation_id: &"0".repeat(id_chars),
        event: Event::Content {
            content_type: "text/plain",
            message: Message::Text(""),
        },
    };
    // A request's id is a UUID.
    let id = "0".repeat(36);
    let request = Request::new(&id, PUBLISH, event).with_metadata(metadata);
    String::from_utf8_lossy(&json(&request))
        .encode_utf16()
        .count()
}

const PUBLISH: &str = "ms.PublishEvent";
const UPDATE: &str = "cm.UpdateConversationField";
const CLOSE: &str = "CLOSE";
const SET_PROFILE: &str = "userprofile.SetUserProfile";

impl Client {
    /// Sends a message into a conversation; returns its sequence within the dialog.
    ///
    /// # Errors
    ///
    /// See [`Error`]. If the outcome is unknown, the message may have been published.
    pub async fn publish(
        &self,
        conversation: &Conversation<'_>,
        content: Content<'_>,
        metadata: Option<&Metadata>,
        trace: &Trace,
    ) -> Result<Sequence, Error> {
        let (operation, content_type, message) = match content {
            Content::Text(text) => ("cloud.publish_text", "text/plain", Message::Text(text)),
            Content::File(file) => {
                let message = Message::File(HostedFile {
                    caption: file.caption.unwrap_or_default(),
                    relative_path: file.relative_path,
                    file_type: file.kind.as_str(),
                    preview: file.preview,
                });
                ("cloud.publish_file", "hosted/file", message)
            }
        };
        let event = conversation.event(Event::Content {
            content_type,
            message,
        });
        let request = conversation
            .publish_request(operation, event)
            .with_metadata(metadata);
        let sequence = self
            .send(request, trace, |published: Published, _| {
                Some(published.sequence())
            })
            .await?;
        sequence.ok_or(Error::MissingSequence)
    }

    /// Sends a request other than a message.
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
                let request = conversation.publish_request("cloud.publish_chat_state", event);
                self.send(request, trace, ignore_body).await
            }
            Signal::Receipts(status, sequences) => {
                let event = conversation.event(Event::AcceptStatus {
                    status: receipt_status(status),
                    sequence_list: sequences,
                });
                let request = conversation.publish_request("cloud.publish_receipts", event);
                self.send(request, trace, ignore_body).await
            }
            Signal::Choice(sequence, metadata) => {
                let sequences = [sequence];
                let event = conversation.event(Event::AcceptStatus {
                    status: receipt_status(ReceiptStatus::Action),
                    sequence_list: &sequences,
                });
                let request = conversation
                    .publish_request("cloud.publish_choice", event)
                    .with_metadata(Some(metadata));
                self.send(request, trace, ignore_body).await
            }
            Signal::Profile(profile) => {
                let body = SetUserProfile::new(Some(profile));
                let request = conversation.request("cloud.set_profile", SET_PROFILE, body);
                self.send(request, trace, ignore_body).await
            }
            Signal::Rating(rating) => {
                let request = conversation.update_request("cloud.rate", rating.into());
                self.send(request, trace, ignore_body).await
            }
            Signal::Close => {
                let field = Field::ConversationState {
                    conversation_state: CLOSE,
                };
                let request = conversation.update_request("cloud.close", field);
                self.send(request, trace, ignore_body).await
            }
            Signal::CloseEverything => {
                let field = Field::Stage {
                    conversation_state: CLOSE,
                };
                let request = conversation.update_request("cloud.close_everything", field);
                self.send(request, trace, ignore_body).await
            }
            Signal::CloseMainDialog => {
                let field = Field::DialogChange {
                    change: "UPDATE",
                    dialog: ClosedDialog {
                        // The main dialog has the conversation's id.
                        dialog_id: conversation.id.as_str(),
                        state: CLOSE,
                        closed_cause: "Closed by consumer",
                    },
                };
                let request = conversation.update_request("cloud.close_main_dialog", field);
                self.send(request, trace, ignore_body).await
            }
        }
    }

    /// Sends a request of any type; returns its answer.
    ///
    /// # Errors
    ///
    /// See [`Error`]. If the outcome is unknown, the request may have been carried out.
    pub async fn send_raw(
        &self,
        conversation: &Conversation<'_>,
        request: &RawRequest<'_>,
        trace: &Trace,
    ) -> Result<Value, Error> {
        let subject = conversation.subject_of(request);
        let send_request = conversation
            .request("cloud.send_raw", request.name, request.body)
            .with_subject(subject)
            .with_metadata(request.metadata);
        // The whole answer, as the Cloud wrote it.
        self.send(send_request, trace, |_: IgnoredAny, answer| {
            serde_json::from_slice(&answer.body).ok()
        })
        .await
    }

    /// Sends one request. `read` extracts the result from the answer's body, its first argument.
    pub(super) fn send<B: DeserializeOwned, T>(
        &self,
        request: SendRequest<'_, impl Serialize>,
        trace: &Trace,
        read: impl Fn(B, &Answer) -> Option<T>,
    ) -> impl Future<Output = Result<T, Error>> {
        // Serialized before the first `await`, so that the future holds only the bytes.
        let subject = request.subject;
        let prepared = self.prepare(request);
        async move {
            let (client, id, call) = prepared?;
            client
                .call(&call, trace, |answer, now| {
                    let body = answer::outcome(answer, &id, None, subject, now)?;
                    read(body, answer).ok_or_else(|| answer::undecodable(answer))
                })
                .await
        }
    }

    /// Builds the call of a request; returns it with the account's client and the request's id.
    fn prepare(
        &self,
        request: SendRequest<'_, impl Serialize>,
    ) -> Result<(&AccountClient, String, Call), Error> {
        let Consumer { account, token } = request.consumer;
        let client = self.client_of(account)?;
        let id = client.request_id();
        let envelope =
            Request::new(&id, request.name, request.body).with_metadata(request.metadata);
        let call = Call {
            operation: request.operation,
            endpoint: Endpoint::Send,
            retry: request.retry,
            limit: request.time_limit.unwrap_or(client.transport.limits.send),
            body: Body::json(&envelope),
            on_behalf: Some(token.header()),
            client_properties: client_properties(request.features),
        };
        Ok((client, id, call))
    }
}

/// Ignores the body of a successful answer.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature is that of the other functions that read a body"
)]
fn ignore_body(_: IgnoredAny, _: &Answer) -> Option<()> {
    Some(())
}

/// One request to SEND for a consumer.
pub(super) struct SendRequest<'a, B> {
    operation: &'static str,
    consumer: Consumer<'a>,
    features: &'a Features,
    retry: RetryPolicy,
    name: &'a str,
    body: B,
    metadata: Option<&'a Metadata>,
    time_limit: Option<Duration>,
    subject: Subject,
}

impl<'a, B> SendRequest<'a, B> {
    pub(super) fn new(
        operation: &'static str,
        consumer: Consumer<'a>,
        features: &'a Features,
        name: &'a str,
        body: B,
    ) -> Self {
        Self {
            operation,
            consumer,
            features,
            retry: RetryPolicy::Unsent,
            name,
            body,
            metadata: None,
            time_limit: None,
            subject: Subject::Other,
        }
    }

    /// Sets the subject, if it is not [`Subject::Other`].
    fn with_subject(self, subject: Subject) -> Self {
        Self { subject, ..self }
    }

    pub(super) fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    fn with_metadata(self, metadata: Option<&'a Metadata>) -> Self {
        Self { metadata, ..self }
    }
}

impl Conversation<'_> {
    pub(super) fn request<'a, B>(
        &'a self,
        operation: &'static str,
        name: &'a str,
        body: B,
    ) -> SendRequest<'a, B> {
        SendRequest {
            time_limit: self.time_limit,
            ..SendRequest::new(operation, self.consumer, self.features, name, body)
        }
    }

    fn publish_request<'a>(
        &'a self,
        operation: &'static str,
        event: PublishEvent<'a>,
    ) -> SendRequest<'a, PublishEvent<'a>> {
        self.request(operation, PUBLISH, event)
            .with_subject(Subject::Conversation)
    }

    fn event<'a>(&'a self, event: Event<'a>) -> PublishEvent<'a> {
        PublishEvent {
            dialog_id: self.dialog_id,
            conversation_id: self.id.as_str(),
            event,
        }
    }

    /// Returns the subject of a request of any type. It is this conversation only if the body names
    /// it.
    fn subject_of(&self, request: &RawRequest<'_>) -> Subject {
        let named = ["dialogId", "conversationId"].map(|member| request.body.get(member));
        let is_this = |id: &Value| {
            id.as_str()
                .is_some_and(|id| id == self.dialog_id || id == self.id.as_str())
        };
        let mut named = named.into_iter().flatten().peekable();
        if named.peek().is_some() && named.all(is_this) {
            Subject::Conversation
        } else {
            Subject::Other
        }
    }

    fn update_request<'a>(
        &'a self,
        operation: &'static str,
        field: Field<'a>,
    ) -> SendRequest<'a, UpdateConversationField<'a>> {
        let body = UpdateConversationField {
            conversation_id: self.id.as_str(),
            conversation_field: field,
        };
        self.request(operation, UPDATE, body)
            .with_subject(Subject::Conversation)
    }
}
