//! A user's messages.

use axum::Json as Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::accepted::{Accepted, File, Message, Status, respond};
use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::bridge::{self, Bridge};
use crate::outbox::{self, Outbox};
use crate::types::conversation::Opening;
use crate::types::event::data::Failure;
use crate::types::message::{DescribedSequence, Metadata, Sequence, Text};
use crate::types::request::{Report, RequestState};

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// The text that the user wrote.
    text: Text,
    /// The options for opening a conversation if none is open. If they are left out, the channel's
    /// defaults apply.
    open: Option<Box<Opening>>,
    /// The element of structured content that the user chose, if the text stands for such a choice.
    reply_to: Option<ReplyTo>,
    /// True if a text that is too long for one message of the Cloud may be sent in several. It is
    /// cut between sentences or words.
    #[schema(default = false)]
    split: Option<bool>,
    /// True if the text may name one of the choices that the latest message to the user offers. It
    /// names a choice by its number or its title: white space around it and the case of letters do
    /// not count, and one `.` or `)` may follow a number. A title takes precedence over a number,
    /// and the first of two equal titles counts. The text that the choice publishes is then sent
    /// instead, as with `reply_to`, and `choice` in the answer says which it is. If the choice has
    /// no metadata, only that text is sent. A text that names no choice is sent as it is.
    ///
    /// If left out, the channel's `match_choices` applies. A `reply_to` already names the choice,
    /// so it takes precedence. A repeat under the same `Idempotency-Key` is the same choice.
    #[schema(example = true)]
    match_choice: Option<bool>,
}

/// An element of an agent's message that the user chose.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplyTo {
    /// The number of the agent's message in its dialog.
    #[schema(value_type = DescribedSequence)]
    sequence: Sequence,
    /// The metadata that the Cloud attached to the element.
    metadata: Metadata,
}

/// A message that was answered with 202, with its timeline.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageReport {
    #[serde(flatten)]
    message: Message,
    /// The reason for the failure, if the message failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<Failure>,
    /// The steps so far, oldest first.
    timeline: Vec<Step>,
}

/// A step in the timeline of a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageStep)]
struct Step {
    /// The time of the step.
    at: DateTime<Utc>,
    /// The kind of the step: `accepted`; `postponed`, if another attempt follows; `unknown`, if the
    /// Cloud may or may not have the message; `sent`; `failed`.
    #[schema(example = "postponed")]
    what: String,
    /// The reason for the step: a problem code, or `expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "cloud-unavailable")]
    why: Option<String>,
}

impl From<Report> for MessageReport {
    fn from(report: Report) -> Self {
        let sequence = report.sequences.first().copied();
        let steps = report.timeline.into_iter().map(|step| Step {
            at: step.at,
            what: step.what,
            why: step.why,
        });
        Self {
            message: Message {
                id: report.id.to_string(),
                user_id: report.user_id,
                conversation_id: report.conversation_id,
                sequence,
                sequences: (report.sequences.len() > 1).then_some(report.sequences),
                status: match report.state {
                    RequestState::Sent => Status::Sent,
                    RequestState::Failed => Status::Failed,
                    RequestState::Waiting | RequestState::Sending | RequestState::Unknown => {
                        Status::Queued
                    }
                },
                created_at: report.created_at,
                file: report.file.map(|(id, file_type)| File {
                    id: id.to_string(),
                    file_type,
                }),
                choice: None,
            },
            failure: report.failure,
            timeline: steps.collect(),
        }
    }
}

/// Shows a message or another request that was answered with 202.
///
/// A request that the Cloud accepts at once is not stored. The outcome of a queued request is
/// stored as long as events are: 7 days by default.
#[utoipa::path(
    get,
    path = "/v1/messages/{message_id}",
    tag = "messages",
    operation_id = "getMessage",
    params((
        "message_id" = String,
        Path,
        description = "The id that the bridge gave the message",
        example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
    )),
    responses((status = 200, description = "The message", body = MessageReport, example = json!({
        "id": "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        "user_id": "alice",
        "conversation_id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
        "sequence": 4,
        "status": "sent",
        "created_at": "2026-11-22T08:00:00.123Z",
        "timeline": [
            {"at": "2026-11-22T08:00:00.123Z", "what": "accepted"},
            {"at": "2026-11-22T08:00:05.130Z", "what": "postponed", "why": "cloud-unavailable"},
            {"at": "2026-11-22T08:00:07.210Z", "what": "sent"},
        ],
    }))),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Path(id): Path<String>,
) -> Result<Body<MessageReport>, Problem> {
    // An id is opaque: a malformed one is treated as unknown.
    let id = id.parse().map_err(|_| bridge::Error::MessageNotFound)?;
    let report = bridge.request(&caller, id).await?;
    Ok(Body(report.into()))
}

/// Sends a user's message. Opens a conversation if none is open.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/messages",
    tag = "messages",
    operation_id = "sendMessage",
    params(User, Prefer),
    request_body(content = NewMessage, examples(
        ("basic" = (summary = "A text", value = json!({"text": "Hello"}))),
        ("choice" = (
            summary = "A choice, by the metadata that the Cloud attached to it",
            value = json!({
                "text": "yes",
                "reply_to": {"sequence": 3, "metadata": [{"type": "ExternalId", "id": "Y1"}]},
            }),
        )),
        ("match_choice" = (
            summary = "A choice, by its number or title",
            value = json!({"text": "1", "match_choice": true}),
        )),
        ("profile" = (
            summary = "A text, with the user's profile if it opens a conversation",
            value = json!({
                "text": "Hello",
                "open": {"profile": {"first_name": "Alice", "last_name": "Moreau", "customer": {"type": "vip"}}},
            }),
        )),
        ("skill" = (
            summary = "A text, for a skill if it opens a conversation",
            value = json!({"text": "Hello", "open": {"routing": {"skill_id": "2736637412"}}}),
        )),
        ("split" = (
            summary = "A text that may be sent in several messages",
            value = json!({"text": "This text could be much longer.", "split": true}),
        )),
    )),
    responses(
        (status = 201, description = "The Cloud has accepted the message", body = Message),
        Accepted,
    ),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(outbox): State<Outbox>,
    User(user_id): User,
    prefer: Prefer,
    Json(NewMessage {
        text,
        open,
        reply_to,
        split,
        match_choice,
    }): Json<NewMessage>,
) -> Result<Response, Problem> {
    let split = split.unwrap_or_default();
    let match_choice = match_choice.unwrap_or(caller.channel.match_choices);
    let message = outbox::NewMessage {
        match_choice: match_choice && reply_to.is_none(),
        text,
        open,
        reply_to: reply_to.map(|ReplyTo { sequence, metadata }| outbox::Choice {
            sequence,
            metadata,
            dialog_id: None,
        }),
        split,
    };
    let wait = prefer.wait_preference();
    let sent = outbox.send_text(&caller, user_id, message, wait).await?;
    let view = |sent: outbox::Message| {
        let sequences = split.then(|| sent.sequences());
        let sent = Message {
            sequences,
            ..sent.into()
        };
        (StatusCode::CREATED, Body(sent))
    };
    Ok(respond(&prefer, sent.map(view)))
}
