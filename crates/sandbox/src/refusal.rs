//! Refusals: the Cloud's error answers, with a text that tells a developer what is wrong with the request.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A request that the Cloud does not accept.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// What is wrong, for the log; never holds a token.
    pub(super) complaint: String,
}

/// The errors of the Send API that have a number.
///
/// Source: vendor's Send API page "Authorization and Authentication". Its table gives 40105 for a missing AppJWT,
/// its example 40104; the table is followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum ErrorCode {
    MissingParameter,
    InvalidAppToken,
    InvalidConsumerToken,
    MissingConsumerToken,
    MissingAppToken,
}

impl ErrorCode {
    fn parts(self) -> (u32, StatusCode, &'static str, &'static str) {
        let unauthorized = StatusCode::UNAUTHORIZED;
        match self {
            Self::MissingParameter => (
                40001,
                StatusCode::BAD_REQUEST,
                "Missing parameter",
                "Brand Id is missing",
            ),
            Self::InvalidAppToken => (
                40102,
                unauthorized,
                "Invalid AppJWT",
                "AppJWT has expired or is invalid",
            ),
            Self::InvalidConsumerToken => (
                40103,
                unauthorized,
                "Invalid ConsumerJWS",
                "ConsumerJWS is invalid",
            ),
            Self::MissingConsumerToken => (
                40104,
                unauthorized,
                "ConsumerJWS is missing",
                "X_ON_BEHALF_HEADER is not present",
            ),
            Self::MissingAppToken => (
                40105,
                unauthorized,
                "AppJWT is missing",
                "AUTHORIZATION header is not present",
            ),
        }
    }
}

impl Refusal {
    /// An error of the Send API that has a number; `reason` is added to the Cloud's own text.
    pub(super) fn numbered(error: ErrorCode, reason: &str) -> Self {
        let (error_code, status, title, details) = error.parts();
        let complaint = format!("{details}: {reason}");
        Self {
            status,
            body: json!({
                "kind": "resp",
                "code": status.as_u16(),
                "body": {"title": title, "details": complaint, "errorCode": error_code},
                "type": ".ReqBody$ErrorResp",
            }),
            complaint,
        }
    }

    /// An error in the form of OAuth 2.0, since the vendor documents none for Sentinel.
    pub(super) fn oauth(status: StatusCode, error: &str, complaint: impl Into<String>) -> Self {
        let complaint = complaint.into();
        Self {
            status,
            body: json!({"error": error, "error_description": complaint}),
            complaint,
        }
    }

    /// An order to the sandbox itself that cannot be followed.
    pub(super) fn unprocessable(complaint: impl Into<String>) -> Self {
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, complaint)
    }

    /// An error for which the vendor documents no form.
    pub(super) fn plain(status: StatusCode, complaint: impl Into<String>) -> Self {
        let complaint = complaint.into();
        Self {
            status,
            body: json!({"error": complaint}),
            complaint,
        }
    }
}

/// Signing a token is all that can fail inside the sandbox itself.
impl From<jsonwebtoken::errors::Error> for Refusal {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        let complaint = format!("the sandbox could not sign the token: {error}");
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, complaint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
