//! The user's conversation.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::accepted::{Accepted, respond};
use crate::api::auth::AuthChannel;
use crate::api::extract::{OptionalJson, User};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::bridge::{Bridge, OpenOutcome};
use crate::outbox::Outbox;
use crate::types::conversation::{Conversation, Features, Opening, State as ConversationState};
use crate::types::ids::{ConversationId, UserId};

/// Returns a conversation as the examples show it.
pub(super) fn example() -> Value {
    json!({
        "id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
        "user_id": "alice",
        "state": "open",
        "opened_at": "2026-11-22T08:00:00.123Z",
        "closed_at": null,
        "close_reason": null,
        "features": ["AUTO_MESSAGES"],
        "queued": 0,
    })
}

/// A conversation with a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation, example = json!(example()))]
pub(super) struct ConversationView {
    /// The conversation's id in the Cloud.
    id: ConversationId,
    /// The user of the conversation.
    user_id: UserId,
    /// The state of the conversation.
    state: StateView,
    /// The time at which the conversation was opened.
    opened_at: DateTime<Utc>,
    /// The time at which the conversation was closed, as far as the bridge knows.
    closed_at: Option<DateTime<Utc>>,
    /// The cause of the close: `consumer`, `agent`, or another value of the Cloud's. Null while the
    /// conversation is open or the cause is unknown.
    close_reason: Option<String>,
    /// The client features with which the conversation was opened.
    features: Features,
    /// The number of the user's requests that wait to be sent to the Cloud.
    queued: u32,
}

/// The state of a conversation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConversationState)]
enum StateView {
    /// The conversation is open, and messages are sent to it.
    Open,
    /// The conversation has ended.
    Closed,
}

impl ConversationView {
    pub(super) fn new(user_id: UserId, conversation: Conversation) -> Self {
        let (state, closed_at, close_reason) = match conversation.state {
            ConversationState::Open => (StateView::Open, None, None),
            ConversationState::Closed { at, reason } => {
                (StateView::Closed, Some(at), reason.map(|reason| reason.0))
            }
        };
        Self {
            id: conversation.id,
            user_id,
            state,
            opened_at: conversation.opened_at,
            closed_at,
            close_reason,
            features: conversation.features,
            queued: conversation.queued,
        }
    }
}

/// The options of a close. Every member may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    /// Closes only the main dialog, so that the Cloud's survey can follow. The conversation stays
    /// open, and the user's messages go to the survey. This needs a conversation with a skill that
    /// has a survey, opened with the features `MULTI_DIALOG`, `RICH_CONTENT` and `QUICK_REPLIES`.
    #[schema(default = false)]
    survey: Option<bool>,
}

/// Opens a conversation for a user, unless one is open.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/conversation",
    tag = "conversation",
    operation_id = "openConversation",
    params(User),
    request_body(content = Opening, description = "The options for opening the conversation; optional", examples(
        ("basic" = (summary = "With the channel's defaults", value = json!({}))),
        ("campaign" = (
            summary = "Routed by campaign",
            value = json!({"routing": {"campaign_id": "880524023", "engagement_id": "880524123"}}),
        )),
        ("profile" = (
            summary = "With the user's profile and language, and an urgency",
            value = json!({
                "profile": {
                    "first_name": "Alice",
                    "last_name": "Moreau",
                    "contacts": [{"email": "alice@example.com", "phone": "+15551234567", "phone_type": "mobile"}],
                    "customer": {"type": "vip", "customer_id": "C-1042"},
                },
                "context": {"language": "fr-FR"},
                "urgency": "urgent",
            }),
        )),
        ("skill" = (
            summary = "Routed to a skill",
            value = json!({"routing": {"skill_id": "2736637412"}}),
        )),
        ("survey" = (
            summary = "Routed to a skill that has a survey",
            value = json!({
                "routing": {"skill_id": "2736637412"},
                "features": ["MULTI_DIALOG", "RICH_CONTENT", "QUICK_REPLIES"],
            }),
        )),
    )),
    responses(
        (status = 201, description = "A conversation was opened", body = ConversationView),
        (status = 200, description = "The conversation was already open", body = ConversationView),
    ),
)]
pub(super) async fn open(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    OptionalJson(opening): OptionalJson<Opening>,
) -> Result<(StatusCode, Body<ConversationView>), Problem> {
    let outcome = bridge
        .open_conversation(&caller, user_id.clone(), &opening)
        .await?;
    let (status, conversation) = match outcome {
        OpenOutcome::Opened(conversation) => (StatusCode::CREATED, conversation),
        OpenOutcome::AlreadyOpen(conversation) => (StatusCode::OK, conversation),
    };
    Ok((status, Body(ConversationView::new(user_id, conversation))))
}

/// Shows a user's latest conversation.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}/conversation",
    tag = "conversation",
    operation_id = "getConversation",
    params(User),
    responses((status = 200, description = "The latest conversation", body = ConversationView)),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
) -> Result<Body<ConversationView>, Problem> {
    let conversation = bridge.conversation(&caller, user_id.clone()).await?;
    Ok(Body(ConversationView::new(user_id, conversation)))
}

/// Closes a user's conversation, including a survey in it. A conversation that is already closed
/// stays closed.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/conversation/close",
    tag = "conversation",
    operation_id = "closeConversation",
    params(User, Prefer),
    request_body(content = Closing, description = "Optional", examples(
        ("basic" = (summary = "The whole conversation", value = json!({}))),
        ("survey" = (
            summary = "The main dialog only, so that a survey can follow",
            value = json!({"survey": true}),
        )),
    )),
    responses(
        (
            status = 200,
            description = "The closed conversation; with `survey` it stays open",
            body = ConversationView,
            example = json!({
                "id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
                "user_id": "alice",
                "state": "closed",
                "opened_at": "2026-11-22T08:00:00.123Z",
                "closed_at": "2026-11-22T08:12:40.456Z",
                "close_reason": "consumer",
                "features": ["AUTO_MESSAGES"],
                "queued": 0,
            }),
        ),
        Accepted,
    ),
)]
pub(super) async fn close(
    AuthChannel(caller): AuthChannel,
    State(outbox): State<Outbox>,
    User(user_id): User,
    prefer: Prefer,
    OptionalJson(Closing { survey }): OptionalJson<Closing>,
) -> Result<Response, Problem> {
    let wait = prefer.wait_preference();
    let closed = outbox
        .close_conversation(&caller, user_id.clone(), survey.unwrap_or_default(), wait)
        .await?;
    let view = |conversation| Body(ConversationView::new(user_id, conversation));
    Ok(respond(&prefer, closed.map(view)))
}
