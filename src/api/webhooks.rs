//! The Cloud's webhooks: the one endpoint that is not for channels.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, FromRef, Path, State};
use axum::http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Code, Problem};
use crate::bridge;
use crate::types::trace::Trace;
use crate::webhooks::{Error, Origin, Receiver};

/// 4 MiB: a hundred changes, each with a preview of 30 KB, and room. A larger body is refused again and again, so the limit is far
/// beyond what the Cloud was seen to send.
pub(super) const BODY_LIMIT: usize = 4 * 1024 * 1024;

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Receiver: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(receive))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Takes a notification of the Cloud.
///
/// The signature is checked over the bytes as they came. The answer is given once everything in the notification is
/// stored. What is signed and cannot be used is passed over and answered in the same way.
#[utoipa::path(
    post,
    path = "/webhooks/{account_id}",
    tag = "webhooks",
    operation_id = "receiveNotification",
    params(
        ("account_id" = String, Path, description = "The account that the notification is about"),
        ("x-liveperson-account-id" = String, Header, description = "The account again"),
        ("x-liveperson-client-id" = String, Header, description = "The app installation whose secret signed it"),
        ("x-liveperson-signature" = String, Header, description = "`sha1=` or `sha256=` and the HMAC of the body in base64 or hex"),
    ),
    request_body(content = serde_json::Value, description = "A notification, as the Cloud documents them", content_type = "application/json"),
    responses((status = 200, description = "Everything in it that can be used is stored")),
    security(()),
)]
async fn receive(
    State(receiver): State<Receiver>,
    Extension(trace): Extension<Arc<Trace>>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(|rejection| too_large_or_cut(&receiver, &account_id, &rejection))?;
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let origin = Origin {
        account_id: &account_id,
        account_header: header("x-liveperson-account-id"),
        client_id: header("x-liveperson-client-id"),
        signature: header("x-liveperson-signature"),
    };
    receiver.receive(origin, &body, &trace).await?;
    Ok(StatusCode::OK)
}

/// The problem of a body that was not read to its end.
fn too_large_or_cut(receiver: &Receiver, account_id: &str, rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    if status != StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::of_status(status);
    }
    receiver.refuse_size(account_id);
    Problem::new(
        Code::BodyTooLarge,
        format!("A notification may have {BODY_LIMIT} bytes at most."),
    )
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsigned => Self::new(
                Code::SignatureRefused,
                "The account, the client id and the signature of the body do not belong together.",
            ),
            Error::Full | Error::Stopping => Self::too_many_notifications(),
            Error::Store(error) => bridge::Error::Store(error).into(),
        }
    }
}
