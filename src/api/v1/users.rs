//! What is known of a user.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::conversation::ConversationView;
use crate::api::auth::AuthChannel;
use crate::api::extract::User;
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::ids::UserId;
use crate::types::profile::Profile;

/// A person on the channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    /// The channel's own name for the person.
    user_id: UserId,
    /// What agents are told.
    profile: Profile,
    /// The Cloud's own id of the person, from the first request to the Cloud on.
    consumer_id: Option<String>,
    /// The latest conversation.
    conversation: Option<ConversationView>,
}

/// Shows what is known of a user.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}",
    tag = "users",
    operation_id = "getUser",
    params(User),
    responses((status = 200, description = "The user", body = UserView)),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
) -> Result<Body<UserView>, Problem> {
    let user = bridge.user(&caller, user_id.clone()).await?;
    Ok(Body(UserView {
        profile: user.profile,
        consumer_id: user.consumer_id,
        conversation: user
            .conversation
            .map(|conversation| ConversationView::new(user_id.clone(), conversation)),
        user_id,
    }))
}

/// Forgets a user: closes the open conversation and removes all that is kept.
#[utoipa::path(
    delete,
    path = "/v1/users/{user_id}",
    tag = "users",
    operation_id = "eraseUser",
    params(User),
    responses((status = 204, description = "Nothing is kept of the user")),
)]
pub(super) async fn erase(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
) -> Result<StatusCode, Problem> {
    bridge.erase(&caller, user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
