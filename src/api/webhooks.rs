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
        ("account_id" = String, Path, description = "The account that the notification is about", example = "12345678"),
        ("x-liveperson-account-id" = String, Header, description = "The account again", example = "12345678"),
        (
            "x-liveperson-client-id" = String,
            Header,
            description = "The app installation whose secret signed it",
            example = "75588e18-0213-4e33-8174-883acac7e3c4",
        ),
        (
            "x-liveperson-signature" = String,
            Header,
            description = "`sha1=` or `sha256=` and the HMAC of the body in base64 or hex",
            example = "sha256=NqIC/NDhbm1iH7IfbMcCJvayvyfFCxVfL3CDHWIlhC4=",
        ),
    ),
    request_body(
        content = serde_json::Value,
        description = "A notification, as the Cloud documents it. The example is signed with the client secret of `demo`",
        content_type = "application/json",
        example = json!({
            "kind": "notification",
            "type": "ms.MessagingEventNotification",
            "body": {
                "changes": [{
                    "sequence": 3,
                    "originatorId": "2b8f6c1d-3e4a-5b6c-8d7e-9f0a1b2c3d4e",
                    "originatorMetadata": {"id": "2b8f6c1d-3e4a-5b6c-8d7e-9f0a1b2c3d4e", "role": "ASSIGNED_AGENT"},
                    "serverTimestamp": 1_795_334_430_250_u64,
                    "event": {
                        "type": "ContentEvent",
                        "message": "Your parcel is on its way.",
                        "contentType": "text/plain",
                    },
                    "conversationId": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
                    "dialogId": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
                    "messageAudience": "ALL",
                }],
            },
        }),
    ),
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::webhooks::signature;

    /// The client secret of `demo`.
    const SECRET: &[u8] = b"demo-secret";

    #[test]
    fn the_example_is_signed_with_the_secret_of_the_demo() {
        let document = serde_json::to_value(crate::api::document()).unwrap();
        let operation = &document["paths"]["/webhooks/{account_id}"]["post"];
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        let parameters = operation["parameters"].as_array().unwrap();
        let header = parameters
            .iter()
            .find(|parameter| parameter["name"] == "x-liveperson-signature");

        // The page of the documentation sends the example in this form.
        let body = serde_json::to_string_pretty(example).unwrap();
        let header = header.and_then(|header| header["example"].as_str());

        let verified = signature::verify(header.unwrap(), body.as_bytes(), SECRET);
        assert_eq!(verified, Ok(()), "{body}");
        assert_ne!(example, &Value::Null);
    }
}
