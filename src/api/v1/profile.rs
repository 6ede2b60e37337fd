//! The profile of a user, which agents see.

use axum::Json as Body;
use axum::extract::State;

use crate::api::auth::AuthChannel;
use crate::api::extract::{Json, User};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::profile::Profile;

/// Replaces the profile of a user.
///
/// If a conversation is open, the agent sees the new profile at once. It is also sent with every
/// later opening.
#[utoipa::path(
    put,
    path = "/v1/users/{user_id}/profile",
    tag = "users",
    operation_id = "setProfile",
    params(User),
    request_body = Profile,
    responses((status = 200, description = "The stored profile", body = Profile)),
)]
pub(super) async fn set(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    Json(profile): Json<Profile>,
) -> Result<Body<Profile>, Problem> {
    Ok(Body(bridge.set_profile(&caller, user_id, profile).await?))
}
