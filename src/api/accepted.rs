//! The response to a request that is sent to the Cloud: its result, or 202 if it is queued.

use axum::Json as Body;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoResponses, ToSchema};

use super::prefer::Prefer;
use crate::outbox::{self, Queued};
use crate::types::file::FileType;
use crate::types::ids::{ConversationId, UserId};
use crate::types::links;
use crate::types::message::Sequence;
use crate::types::offer::NamedChoice;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Returns a message as the examples show it.
fn example(sequence: Option<u32>, status: &str) -> Value {
    json!({
        "id": "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        "user_id": "alice",
        "conversation_id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
        "sequence": sequence,
        "status": status,
        "created_at": "2026-11-22T08:00:00.123Z",
    })
}

/// A message, or another request, to the Cloud.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!(example(Some(0), "sent")))]
pub(super) struct Message {
    /// The id that the bridge gave to the message.
    #[schema(example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) id: String,
    /// The user of the message.
    pub(super) user_id: UserId,
    /// The conversation of the message; null for a message that is queued while no conversation is
    /// open.
    #[schema(required)]
    pub(super) conversation_id: Option<ConversationId>,
    /// The number of the message in its dialog, from 0. For a text in several messages it is the
    /// number of the first one. Null until the Cloud has the message.
    #[schema(value_type = Option<u32>, required)]
    pub(super) sequence: Option<Sequence>,
    /// The numbers of all messages in which a text was sent, in order. Present if the request
    /// allowed several messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) sequences: Option<Vec<Sequence>>,
    /// The status of the message.
    pub(super) status: Status,
    /// The time at which the bridge received the message.
    pub(super) created_at: DateTime<Utc>,
    /// The file in the message, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<File>,
    /// The choice as which the text is sent, if it named one. Only the answer to the request with
    /// the text has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) choice: Option<NamedChoice>,
}

/// A file in a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct File {
    /// The id that the bridge gave to the file. The file can be downloaded with it.
    #[schema(example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) id: String,
    /// The Cloud's name for the type of the file.
    pub(super) file_type: FileType,
}

/// The status of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageStatus)]
pub(super) enum Status {
    /// The Cloud has the message.
    Sent,
    /// The message is stored and is sent as soon as the Cloud takes it.
    Queued,
    /// The message will not reach the Cloud.
    Failed,
}

/// The 202 response to a queued request, as the OpenAPI document describes it.
#[derive(IntoResponses)]
#[response(
    status = 202,
    description = "The request is queued: the Cloud could not accept it in time, or earlier requests of the user are waiting. `Location` is the URL of its status",
    headers(("Location" = String, description = "`/v1/messages/` followed by the id")),
    example = json!(example(None, "queued")),
)]
#[expect(dead_code, reason = "only its type is used, for the OpenAPI document")]
pub(super) struct Accepted(Message);

impl From<outbox::Message> for Message {
    fn from(message: outbox::Message) -> Self {
        Self {
            id: message.id.to_string(),
            user_id: message.user_id,
            conversation_id: Some(message.conversation_id),
            sequence: Some(message.sequence),
            sequences: None,
            status: Status::Sent,
            created_at: message.created_at,
            file: message.file.map(|file| File {
                id: file.id.to_string(),
                file_type: file.file_type,
            }),
            choice: message.choice,
        }
    }
}

impl From<Queued> for Message {
    fn from(queued: Queued) -> Self {
        Self {
            id: queued.id.to_string(),
            user_id: queued.user_id,
            conversation_id: queued.conversation_id,
            sequence: None,
            sequences: None,
            status: Status::Queued,
            created_at: queued.created_at,
            file: None,
            choice: queued.choice,
        }
    }
}

/// Makes the response to a request that is completed or queued. A queued request gets 202, its
/// message, and `Location`.
pub(super) fn respond<T: IntoResponse>(prefer: &Prefer, accepted: outbox::Accepted<T>) -> Response {
    let mut response = match accepted {
        outbox::Accepted::Done(result) => result.into_response(),
        outbox::Accepted::Queued(queued) => {
            let headers = [(header::LOCATION, links::message(queued.id))];
            (StatusCode::ACCEPTED, headers, Body(Message::from(queued))).into_response()
        }
    };
    if let Some(applied) = prefer.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response
}
