//! The answer to what a channel asks of the Cloud: done, or 202 and queued.

use axum::Json as Body;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::prefer::Prefer;
use crate::outbox::{self, Queued};
use crate::types::file::FileType;
use crate::types::ids::{ConversationId, UserId};
use crate::types::links;
use crate::types::message::Sequence;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A message on its way to the Cloud.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    /// The bridge's name for it.
    #[schema(example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) id: String,
    /// Whose it is.
    pub(super) user_id: UserId,
    /// The conversation it went to, or was to go to; null for one that is queued while none is open.
    #[schema(required)]
    pub(super) conversation_id: Option<ConversationId>,
    /// Its number in the dialog, from 0; of a text in several messages the first one's. Null until the Cloud has it.
    #[schema(value_type = Option<u32>, required)]
    pub(super) sequence: Option<Sequence>,
    /// The numbers of all messages that a text was sent in, in order, where the request allowed several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    pub(super) sequences: Option<Vec<Sequence>>,
    /// How far it has come.
    pub(super) status: Status,
    /// When the bridge received it.
    pub(super) created_at: DateTime<Utc>,
    /// The file in it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<File>,
}

/// A file in a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct File {
    /// The bridge's name for it, by which it can be fetched.
    #[schema(example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) id: String,
    /// The Cloud's word for its kind.
    pub(super) file_type: FileType,
}

/// How far a message has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageStatus)]
pub(super) enum Status {
    /// The Cloud has it.
    Sent,
    /// It is kept, and sent as soon as the Cloud takes it.
    Queued,
    /// It will not reach the Cloud.
    Failed,
}

/// The answer where a request is done later, as the document describes it.
#[derive(IntoResponses)]
#[response(
    status = 202,
    description = "It is queued: the Cloud could not take it in time, or earlier requests of the user wait. `Location` tells where to ask for it",
    headers(("Location" = String, description = "`/v1/messages/` and its id")),
)]
#[expect(dead_code, reason = "the document reads its type")]
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
        }
    }
}

/// The answer to what was done, or to what is queued: 202, the message, and where to ask for it.
pub(super) fn answer<T: IntoResponse>(prefer: &Prefer, accepted: outbox::Accepted<T>) -> Response {
    let mut response = match accepted {
        outbox::Accepted::Done(done) => done.into_response(),
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
