//! What became of messages that a user was sent.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::message::{ReceiptStatus, Sequences};

/// What became of messages that a user was sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipts {
    /// What became of them.
    status: ReceiptStatus,
    /// Which messages of the dialog.
    sequences: Sequences,
}

/// Tells the agent what became of messages.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/receipts",
    tag = "messages",
    operation_id = "sendReceipts",
    params(User),
    request_body = Receipts,
    responses((status = 204, description = "The Cloud knows")),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    Json(Receipts { status, sequences }): Json<Receipts>,
) -> Result<StatusCode, Problem> {
    bridge
        .send_receipts(&caller, user_id, status, sequences.as_slice())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
