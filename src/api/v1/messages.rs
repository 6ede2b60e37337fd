//! A user's messages.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::bridge::{self, Bridge};
use crate::types::conversation::Opening;
use crate::types::file::FileType;
use crate::types::ids::{ConversationId, UserId};
use crate::types::message::{Metadata, Sequence, Text};

/// A message to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// What the user wrote.
    text: Text,
    /// How to open a conversation where none is open; left out, the channel's defaults say so.
    #[serde(default)]
    open: Option<Opening>,
    /// The choice of structured content that the text stands for.
    reply_to: Option<ReplyTo>,
    /// Whether a text that the Cloud does not take in one message is sent in several, cut between words.
    #[serde(default)]
    split: bool,
}

/// An element of an agent's message that the user used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplyTo {
    /// The number of the agent's message.
    #[schema(value_type = u32)]
    sequence: Sequence,
    /// What the Cloud tied to the element.
    metadata: Metadata,
}

/// A message on its way to the Cloud.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    /// The bridge's name for it.
    #[schema(example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    id: String,
    /// Whose it is.
    user_id: UserId,
    /// The conversation it went to.
    conversation_id: ConversationId,
    /// Its number in the dialog, from 0; of a text in several messages the first one's.
    #[schema(value_type = u32)]
    sequence: Sequence,
    /// The numbers of all messages that a text was sent in, in order, where the request allowed several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    sequences: Option<Vec<Sequence>>,
    /// How far it has come.
    status: Status,
    /// When the bridge received it.
    created_at: DateTime<Utc>,
    /// The file in it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File>,
}

/// A file in a message.
#[derive(Debug, Serialize, ToSchema)]
struct File {
    /// The bridge's name for it, by which it can be fetched.
    #[schema(example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    id: String,
    /// The Cloud's word for its kind.
    file_type: FileType,
}

/// How far a message has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageStatus)]
enum Status {
    /// The Cloud has it.
    Sent,
}

impl From<bridge::Message> for Message {
    fn from(message: bridge::Message) -> Self {
        Self {
            id: message.id.to_string(),
            user_id: message.user_id,
            conversation_id: message.conversation_id,
            sequence: message.sequence,
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

/// Sends a user's message, opening a conversation where none is open.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/messages",
    tag = "messages",
    operation_id = "sendMessage",
    params(User),
    request_body = NewMessage,
    responses((status = 201, description = "The Cloud has the message", body = Message)),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    Json(NewMessage {
        text,
        open,
        reply_to,
        split,
    }): Json<NewMessage>,
) -> Result<(StatusCode, Body<Message>), Problem> {
    let message = bridge::NewMessage {
        text,
        open,
        reply_to: reply_to
            .map(|ReplyTo { sequence, metadata }| bridge::Choice { sequence, metadata }),
        split,
    };
    let sent = bridge.send_text(&caller, user_id, &message).await?;
    let sequences = split.then(|| sent.sequences());
    let sent = Message {
        sequences,
        ..sent.into()
    };
    Ok((StatusCode::CREATED, Body(sent)))
}
