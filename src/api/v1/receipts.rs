//! The receipts for messages that a user was sent.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::accepted::{Accepted, respond};
use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::outbox::Outbox;
use crate::types::message::{ReceiptStatus, Sequences};

/// A receipt for messages that the user was sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipts {
    /// The new state of the messages.
    status: ReceiptStatus,
    /// The numbers of the messages in the dialog.
    sequences: Sequences,
}

/// Sends receipts for messages to the agent.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/receipts",
    tag = "messages",
    operation_id = "sendReceipts",
    params(User, Prefer),
    request_body(content = Receipts, examples(
        ("accept" = (summary = "Delivered", value = json!({"status": "accept", "sequences": [3]}))),
        ("read" = (summary = "Read", value = json!({"status": "read", "sequences": [2, 3]}))),
    )),
    responses(
        (status = 204, description = "The Cloud has accepted the receipts"),
        Accepted,
    ),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(outbox): State<Outbox>,
    User(user_id): User,
    prefer: Prefer,
    Json(Receipts { status, sequences }): Json<Receipts>,
) -> Result<Response, Problem> {
    let sequences = sequences.as_slice();
    let wait = prefer.wait_preference();
    let sent = outbox
        .send_receipts(&caller, user_id, status, sequences, wait)
        .await?;
    Ok(respond(&prefer, sent.map(|()| StatusCode::NO_CONTENT)))
}
