//! Raw requests of any type that the Cloud's SEND operation takes.

use axum::Json as Body;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::outbox::{self, Outbox};
use crate::types::message::Metadata;

/// A raw request of any type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequest {
    /// The Cloud's name of the type.
    #[serde(rename = "type")]
    #[schema(min_length = 1, example = "cm.UpdateConversationField")]
    name: String,
    /// The body of the request. `dialogId` and `conversationId` are filled in if the type has them
    /// and the body leaves them out.
    #[schema(value_type = Object)]
    body: Map<String, Value>,
    /// The metadata that is sent beside the body.
    metadata: Option<Metadata>,
}

/// Sends a raw request in a user's open conversation, and returns the Cloud's answer.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/send",
    tag = "messages",
    operation_id = "sendRaw",
    params(User),
    request_body(content = RawRequest, examples(
        ("text" = (
            summary = "A text with metadata",
            value = json!({
                "type": "ms.PublishEvent",
                "body": {"event": {"type": "ContentEvent", "contentType": "text/plain", "message": "Hello"}},
                "metadata": [{"type": "ExternalId", "id": "Y1"}],
            }),
        )),
        ("urgency" = (
            summary = "A higher urgency",
            value = json!({
                "type": "cm.UpdateConversationField",
                "body": {"conversationField": {"field": "TTRField", "ttrType": "URGENT", "value": 300}},
            }),
        )),
    )),
    responses((
        status = 200,
        description = "The Cloud's response",
        body = Object,
        example = json!({"code": "OK", "body": {"sequence": 4}, "reqId": "0193540a-7c2b-7c3e-9d1f-2a3b4c5d6e7f"}),
    )),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(outbox): State<Outbox>,
    User(user_id): User,
    Json(RawRequest {
        name,
        body,
        metadata,
    }): Json<RawRequest>,
) -> Result<Body<Value>, Problem> {
    let raw = outbox::Raw {
        name,
        body,
        metadata,
    };
    Ok(Body(outbox.send_raw(&caller, user_id, raw).await?))
}
