//! What agents are told about a user.

use axum::Json as Body;
use axum::extract::State;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::profile::Profile;

/// Keeps what is known of a user in place of what was known before.
///
/// The agent is told at once where a conversation is open, and with every later opening.
#[utoipa::path(
    put,
    path = "/v1/users/{user_id}/profile",
    tag = "users",
    operation_id = "setProfile",
    params(User),
    request_body = Profile,
    responses((status = 200, description = "The profile as it is kept", body = Profile)),
)]
pub(super) async fn set(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    Json(profile): Json<Profile>,
) -> Result<Body<Profile>, Problem> {
    Ok(Body(bridge.set_profile(&caller, user_id, profile).await?))
}
