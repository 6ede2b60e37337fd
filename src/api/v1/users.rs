//! The data about a user.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::conversation::{self, ConversationView};
use crate::api::auth::AuthChannel;
use crate::api::extract::User;
use crate::api::problem::Problem;
use crate::bridge::{Bridge, Remainder};
use crate::types::ids::UserId;
use crate::types::profile::Profile;

/// A user of the channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User, example = json!({
    "user_id": "alice",
    "profile": {"first_name": "Alice", "last_name": "Moreau", "customer": {"type": "vip"}},
    "consumer_id": "9f2c4b7a1d3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8",
    "conversation": conversation::example(),
}))]
pub(super) struct UserView {
    /// The channel's own id for the user.
    user_id: UserId,
    /// The profile that agents see.
    profile: Profile,
    /// The Cloud's own id of the user. Present from the first request to the Cloud on.
    consumer_id: Option<String>,
    /// The user's latest conversation.
    conversation: Option<ConversationView>,
}

/// Shows the stored data about a user.
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

/// Erases a user: removes all stored data about the user and closes the open conversation.
///
/// This works even if the Cloud cannot be reached. If the conversation cannot be closed at once,
/// the answer is 202: the user is erased all the same, and none of the user's data is shown or
/// delivered any more. The close is attempted for 24 hours.
#[utoipa::path(
    delete,
    path = "/v1/users/{user_id}",
    tag = "users",
    operation_id = "eraseUser",
    params(User),
    responses(
        (status = 204, description = "The user is erased"),
        (status = 202, description = "The user is erased, but the conversation is not closed yet. The close is retried in the background for at most 24 hours"),
    ),
)]
pub(super) async fn erase(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
) -> Result<StatusCode, Problem> {
    Ok(match bridge.erase(&caller, user_id).await? {
        Remainder::Nothing => StatusCode::NO_CONTENT,
        Remainder::Close => StatusCode::ACCEPTED,
    })
}
