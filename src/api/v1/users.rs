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
use crate::bridge::{Bridge, Remainder};
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

/// Forgets a user: removes all that is kept and closes the open conversation.
///
/// It needs no reachable Cloud. Where the conversation cannot be closed at once, the answer is 202: the user is gone all the same,
/// and nothing of them is shown or delivered any more. The close is tried again for 24 hours.
#[utoipa::path(
    delete,
    path = "/v1/users/{user_id}",
    tag = "users",
    operation_id = "eraseUser",
    params(User),
    responses(
        (status = 204, description = "Nothing is kept of the user"),
        (status = 202, description = "The user is gone, and the close of the conversation is left to do. It is tried again in the background, for 24 hours at most"),
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
