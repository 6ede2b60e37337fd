//! Refusals: the Cloud's error answers, with a text that describes the mistake in the request.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The refusal of a request.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// The mistake, for the log; never holds a token.
    pub(super) complaint: String,
}

/// The errors of the Send API that have a number.
///
/// Source: vendor's Send API page "Authorization and Authentication". Its table gives 40105 for a
/// missing AppJWT, but its example gives 40104. The code follows the table.
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
    /// Creates a numbered error of the Send API. `reason` is added to the Cloud's own text.
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

    /// Creates an error in the form of OAuth 2.0, since the vendor documents none for Sentinel.
    pub(super) fn oauth(status: StatusCode, error: &str, complaint: impl Into<String>) -> Self {
        let complaint = complaint.into();
        Self {
            status,
            body: json!({"error": error, "error_description": complaint}),
            complaint,
        }
    }

    /// Creates the refusal of a control request that cannot be carried out.
    pub(super) fn unprocessable(complaint: impl Into<String>) -> Self {
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, complaint)
    }

    /// Creates an error for which the vendor documents no form.
    pub(super) fn plain(status: StatusCode, complaint: impl Into<String>) -> Self {
        let complaint = complaint.into();
        Self {
            status,
            body: json!({"error": complaint}),
            complaint,
        }
    }
}

/// Converts a signing error, the only error that can arise inside the sandbox itself.
impl From<jsonwebtoken::errors::Error> for Refusal {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        let complaint = format!("the sandbox cannot sign the token: {error}");
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, complaint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
