//! The user's rating of a conversation that has ended.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::accepted::{Accepted, respond};
use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::outbox::Outbox;
use crate::types::rating::{Rating, RatingMembers};

/// Rates a user's latest conversation. The conversation must be closed, including its survey if it
/// has one.
#[utoipa::path(
    put,
    path = "/v1/users/{user_id}/conversation/rating",
    tag = "conversation",
    operation_id = "rateConversation",
    params(User, Prefer),
    request_body(content = RatingMembers, examples(
        ("complete" = (summary = "Score and resolution", value = json!({"csat": 5, "fcr": "yes"}))),
        ("score" = (summary = "Score alone", value = json!({"csat": 4}))),
        ("skipped" = (summary = "The user gave no rating", value = json!({"status": "skipped"}))),
    )),
    responses(
        (status = 204, description = "The Cloud has accepted the rating"),
        Accepted,
    ),
)]
pub(super) async fn set(
    AuthChannel(caller): AuthChannel,
    State(outbox): State<Outbox>,
    User(user_id): User,
    prefer: Prefer,
    Json(rating): Json<Rating>,
) -> Result<Response, Problem> {
    let wait = prefer.wait_preference();
    let rated = outbox.rate(&caller, user_id, rating, wait).await?;
    Ok(respond(&prefer, rated.map(|()| StatusCode::NO_CONTENT)))
}
