//! The chat state of a user, such as typing.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::message::ChatState;

/// The chat state of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Typing {
    state: ChatState,
}

/// Shows the user's chat state to the agent.
///
/// After the main dialog of a conversation the agent is gone, so nothing is sent during a survey.
#[utoipa::path(
    put,
    path = "/v1/users/{user_id}/typing",
    tag = "messages",
    operation_id = "setTyping",
    params(User),
    request_body(content = Typing, examples(
        ("composing" = (summary = "Typing", value = json!({"state": "composing"}))),
        ("pause" = (summary = "Stopped typing", value = json!({"state": "pause"}))),
    )),
    responses((status = 204, description = "The Cloud has accepted it, or no agent is there to see it")),
)]
pub(super) async fn set(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    Json(Typing { state }): Json<Typing>,
) -> Result<StatusCode, Problem> {
    bridge.set_typing(&caller, user_id, state).await?;
    Ok(StatusCode::NO_CONTENT)
}
