//! Requests of any type that the Cloud's SEND takes.

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

/// A request of any type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequest {
    /// The Cloud's name of the type.
    #[serde(rename = "type")]
    #[schema(min_length = 1, example = "cm.UpdateConversationField")]
    name: String,
    /// The body; `dialogId` and `conversationId` are filled in where the type has them and they are left out.
    #[schema(value_type = Object)]
    body: Map<String, Value>,
    /// What stands beside the body.
    metadata: Option<Metadata>,
}

/// Sends a request of any type in a user's open conversation, and answers what the Cloud answers.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/send",
    tag = "messages",
    operation_id = "sendRaw",
    params(User),
    request_body = RawRequest,
    responses((status = 200, description = "What the Cloud answered", body = Object)),
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
