//! What someone orders in the body of a control request, and the answer where it cannot be read.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// The body of a control request, read as JSON; what is wrong with another is answered as JSON, too.
pub(crate) struct Order<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Order<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let axum::Json(order) = axum::Json::from_request(request, state).await?;
        Ok(Self(order))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::plain(rejection.status(), rejection.body_text())
    }
}
