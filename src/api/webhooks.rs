//! The Cloud's webhooks, the only endpoint that is not for channels.

use std::sync::Arc;

use axum::extract::{Extension, FromRef, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bounds::NOTIFICATION_LIMIT;
use super::extract::{self, ReadError};
use super::load::Load;
use super::problem::{Code, Problem};
use crate::bridge;
use crate::types::rejection::Rejection;
use crate::types::trace::Trace;
use crate::webhooks::{Error, Origin, Receiver};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Receiver: FromRef<S>,
    Load: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(receive))
}

/// Receives a notification of the Cloud.
///
/// The path and the headers are checked before the body is read, and the signature is verified over
/// the raw bytes. The response is sent once everything in the notification is stored. A signed
/// notification that cannot be used is skipped and gets the same response.
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
    request_body(content = serde_json::Value, description = "A notification, as the Cloud documents it", content_type = "application/json"),
    responses((status = 200, description = "All usable changes in it are stored")),
    security(()),
)]
async fn receive(
    State(receiver): State<Receiver>,
    State(load): State<Load>,
    Extension(trace): Extension<Arc<Trace>>,
    Path(account_id): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name)?.to_str().ok();
    let head = receiver.check_head(Origin {
        account_id: &account_id,
        account_header: header("x-liveperson-account-id"),
        client_id: header("x-liveperson-client-id"),
        signature: header("x-liveperson-signature"),
    })?;
    let too_large = || {
        receiver.record_refused_body(&account_id, Rejection::TooLarge);
        let detail = format!("A notification may have at most {NOTIFICATION_LIMIT} bytes.");
        Problem::new(Code::BodyTooLarge, detail)
    };
    let length = header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > NOTIFICATION_LIMIT as u64) {
        return Err(too_large());
    }
    let permit = load.notification_body(&account_id)?;
    let body = extract::read_to_end(permit.limit_body(body), NOTIFICATION_LIMIT).await;
    let body = body.map_err(|error| match error {
        ReadError::TooLarge => too_large(),
        ReadError::Broken => {
            let problem = permit
                .cut()
                .unwrap_or_else(|| Problem::of_status(StatusCode::BAD_REQUEST));
            // A body that is cut because the service stops or has no room is not the sender's
            // fault.
            if problem.status().is_client_error() {
                receiver.record_refused_body(&account_id, Rejection::Incomplete);
            }
            problem
        }
    })?;
    let signed = receiver.verify(head, &body)?;
    let _permit = load.notification(&account_id)?;
    receiver.receive(signed, &trace).await?;
    Ok(StatusCode::OK)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsigned => Self::new(
                Code::SignatureRefused,
                "The account, the client id and the signature of the body do not match.",
            ),
            Error::Full | Error::Stopping => Self::too_many_notifications(),
            Error::Store(error) => bridge::Error::Store(error).into(),
        }
    }
}
