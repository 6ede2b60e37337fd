//! Error responses: problem details as in RFC 9457.
//!
//! The codes are in `types::problem`, and the bridge's errors map to them. This module adds the
//! details of the occurrence. The request log renders a problem, since it knows the request id and
//! logs the cause once.

use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::bounds::LimitReached;
use crate::bridge::{self, CloudFailure, CloudFailureKind};
use crate::types::event::data::UpstreamFailure;
use crate::types::file::ImageType;

pub use crate::types::problem::Code;

/// 5 s: the `Retry-After` if the Cloud does not send one. The vendor's own first retry comes after
/// the same time.
const CLOUD_RETRY_SECONDS: u64 = 5;

/// 1 s: the `Retry-After` while the storage is unavailable. A failover takes a few seconds.
const STORAGE_RETRY_SECONDS: u64 = 1;

/// 1 s: the `Retry-After` if a bound on requests or notifications is reached. Most are answered
/// within that time.
const LOAD_RETRY_SECONDS: u64 = 1;

/// 30 s: the `Retry-After` if the queue is full. A full queue is long, and it gets shorter only
/// when the Cloud is available again.
const QUEUE_RETRY_SECONDS: u64 = 30;

/// 1 s: the `Retry-After` if all permits for files are taken. Most files are sent within that time.
const FILES_RETRY_SECONDS: u64 = 1;

/// 5 s: the `Retry-After` if all permits for readers are taken. Readers come and go every half
/// minute.
const READERS_RETRY_SECONDS: u64 = 5;

/// The detail of a problem with a parameter.
const PARAMETER: &str = "A parameter is invalid; see errors for its name.";

/// The error for a cursor beyond the end of the event log.
pub(super) const CURSOR_UNKNOWN: &str =
    "expected a cursor of this channel's events; this one was never issued";

/// 1 s: the `Retry-After` for a repeat while its first request is still being processed.
const KEY_RETRY_SECONDS: u64 = 1;

/// The detail of a problem if it is unknown whether the Cloud has processed the request.
const OUTCOME_UNKNOWN: &str = "The Cloud did not confirm the request, but may have processed it; sending it again may do it twice.";

/// An error that one request caused.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Violation>,
    upstream: Option<Box<Upstream>>,
    retry_after_seconds: Option<u64>,
    /// True if the outcome is unknown and a repeat with the same idempotency key has to
    /// determine it.
    is_unsettled: bool,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// A member of the body, or a parameter, that breaks a rule.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Violation {
    /// The JSON pointer (RFC 6901) to the member. For a parameter it is `/` and the parameter's
    /// name.
    #[schema(example = "/open/routing/skill_id")]
    pub pointer: String,
    /// A description of the expected value.
    pub detail: String,
}

/// The answer of the Cloud.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Upstream {
    /// The HTTP status that the Cloud answered.
    #[schema(example = 400)]
    pub status: u16,
    /// The Cloud's own error code, as text.
    pub code: Option<String>,
    /// The Cloud's own error message.
    pub title: Option<String>,
}

impl From<UpstreamFailure> for Upstream {
    fn from(failure: UpstreamFailure) -> Self {
        let UpstreamFailure {
            status,
            code,
            title,
        } = failure;
        Self {
            status,
            code,
            title,
        }
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails<'a> {
    /// The URN of the code: `urn:liveperson-bridge:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:liveperson-bridge:problem:no-open-conversation")]
    kind: String,
    /// The meaning of the code.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// The description of this occurrence.
    detail: &'a str,
    /// The kind of problem.
    #[schema(example = "no-open-conversation")]
    code: &'static str,
    /// True if the same request may succeed when it is sent again.
    retryable: bool,
    /// The request id, to be given to the operator.
    request_id: &'a str,
    /// The members and parameters that break a rule.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Violation],
    /// The answer of the Cloud, if it sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a Upstream>,
}

impl Problem {
    /// Creates a problem with a code and the detail of this occurrence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            upstream: None,
            retry_after_seconds: None,
            is_unsettled: false,
            cause: None,
        }
    }

    /// Creates the problem for a member of the body that breaks a rule.
    #[must_use]
    pub fn violation(pointer: String, detail: String) -> Self {
        Self {
            errors: vec![Violation { pointer, detail }],
            ..Self::new(
                Code::InvalidRequest,
                "The body is invalid; see errors for the member.",
            )
        }
    }

    /// Creates the problem for a query parameter or header that breaks a rule.
    #[must_use]
    pub fn parameter(name: &str, detail: String) -> Self {
        Self {
            errors: vec![Violation {
                pointer: pointer_to(name),
                detail,
            }],
            ..Self::new(Code::InvalidRequest, PARAMETER)
        }
    }

    /// Turns an error about a member of the body into one about a parameter.
    #[must_use]
    pub(super) fn for_parameter(mut self) -> Self {
        for error in &mut self.errors {
            error.detail = error.detail.replacen("member", "parameter", 1);
        }
        Self {
            detail: PARAMETER.to_owned(),
            ..self
        }
    }

    /// Creates the problem for a bare status that a lower layer answered.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => Code::Unauthorized,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::URI_TOO_LONG => Code::UriTooLong,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::HeadersTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidRequest,
            status if status.is_client_error() => Code::MalformedRequest,
            _ => Code::InternalError,
        };
        Self::new(code, format!("{}.", code.title()))
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let status = StatusCode::from_u16(self.code.status());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// True if the outcome is unknown and a repeat with the same idempotency key has to
    /// determine it.
    pub(super) fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }

    /// Returns the underlying error, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }

    /// Renders the response. Its body names the request id.
    #[must_use]
    pub fn render(&self, request_id: &str) -> Response {
        // Strings, numbers and lists of them always serialize.
        let body = serde_json::to_vec(&self.details(request_id)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if matches!(self.code, Code::Unauthorized | Code::OperatorKeyRefused) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::RequestTimeout {
            // The rest of the request may arrive at any time (RFC 9110, section 15.5.9).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Returns the body of the response.
    fn details<'a>(&'a self, request_id: &'a str) -> ProblemDetails<'a> {
        ProblemDetails {
            kind: format!("urn:liveperson-bridge:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            code: self.code.as_str(),
            retryable: self.code.retryable(),
            request_id,
            errors: &self.errors,
            upstream: self.upstream.as_deref(),
        }
    }

    /// Returns the body of a response with this code, as an example for the OpenAPI document.
    pub(super) fn example(code: Code) -> Option<Value> {
        let problem = Self::new(code, format!("{}.", code.title()));
        let problem = match code {
            Code::InvalidRequest => Self::violation(
                "/open/routing/skill_id".to_owned(),
                "expected 1 to 64 printable ASCII characters".to_owned(),
            ),
            Code::CloudRefused => Self {
                upstream: Some(Box::new(Upstream {
                    status: 400,
                    code: Some("BAD_REQUEST".to_owned()),
                    title: Some("The conversation field is unknown".to_owned()),
                })),
                ..problem
            },
            _ => problem,
        };
        serde_json::to_value(problem.details("req_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")).ok()
    }

    /// Creates the problem for a failure of the Cloud.
    fn from_cloud(failure: CloudFailure) -> Self {
        use CloudFailureKind as Kind;
        let refused = failure.upstream.as_ref().and_then(|it| it.title.as_deref());
        let detail = match failure.kind {
            Kind::NotSent => "The Cloud did not answer a preparatory request; nothing was sent.",
            Kind::Unreachable => "The Cloud cannot be reached.",
            Kind::Throttled => "The Cloud accepts no more requests for now.",
            Kind::Blocked => "A gateway answered in place of the Cloud.",
            Kind::WithoutTls => {
                "The Cloud names a host without TLS; nothing was sent there. The bridge's log has details."
            }
            Kind::Unavailable => "The Cloud is unavailable.",
            Kind::OutcomeUnknown => OUTCOME_UNKNOWN,
            Kind::ClientRefused => "The Cloud refused the account's client id and secret.",
            Kind::AppTokenRefused => {
                "The Cloud refused the account's AppJWT, even after it was renewed."
            }
            Kind::Unauthorized => {
                "The Cloud answered 401, even after the account's AppJWT and the user's ConsumerJWS were renewed."
            }
            Kind::ConsumerTokenRefused => {
                "The Cloud refused the user's ConsumerJWS, even after it was renewed."
            }
            Kind::Refused => &format!(
                "The Cloud refused the request: {}",
                refused.unwrap_or_default()
            ),
            Kind::ConversationClosed => "The Cloud says that this conversation is closed.",
            Kind::Internal => return Self::internal(),
        };
        let problem = Self {
            upstream: failure.upstream.map(Upstream::from).map(Box::new),
            ..Self::new(failure.kind.code(), detail)
        };
        match failure.kind {
            Kind::NotSent
            | Kind::Unreachable
            | Kind::Throttled
            | Kind::Blocked
            | Kind::WithoutTls
            | Kind::Unavailable => {
                let requested = failure.retry_after;
                let seconds = requested.map_or(CLOUD_RETRY_SECONDS, |after| after.as_secs().max(1));
                problem.retry_after(seconds)
            }
            _ => problem,
        }
    }

    /// Creates the problem for a bound that is reached.
    pub(super) fn overloaded(detail: &str) -> Self {
        Self::new(Code::Overloaded, detail).retry_after(LOAD_RETRY_SECONDS)
    }

    /// Creates the problem for a notification that finds no room or arrives while the service is
    /// stopping.
    pub(super) fn too_many_notifications() -> Self {
        Self::new(
            Code::TooManyNotifications,
            "The bridge accepts no more notifications for now.",
        )
        .retry_after(LOAD_RETRY_SECONDS)
    }

    fn outcome_unknown() -> Self {
        Self::new(Code::CloudOutcomeUnknown, OUTCOME_UNKNOWN)
    }

    fn file_type_refused(allowed: &[ImageType]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(|kind| kind.as_str()).collect();
        Self::new(
            Code::UnsupportedMediaType,
            format!(
                "The file's content is not of a type that may be sent; allowed types: {}.",
                if allowed.is_empty() {
                    "none".to_owned()
                } else {
                    allowed.join(", ")
                }
            ),
        )
    }

    fn internal() -> Self {
        Self::new(
            Code::InternalError,
            "The bridge failed; its log has details under this request's id.",
        )
    }

    fn caused_by(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(Arc::new(cause)),
            ..self
        }
    }

    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }
}

/// Returns the JSON pointer to a member of the outermost object.
pub(super) fn pointer_to(member: &str) -> String {
    format!("/{}", member.replace('~', "~0").replace('/', "~1"))
}

impl IntoResponse for Problem {
    /// Makes a response without a body. It carries the problem to the request log, which renders
    /// it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<bridge::Error> for Problem {
    fn from(error: bridge::Error) -> Self {
        use bridge::Error;
        let code = error.code();
        let problem = match &error {
            Error::UserNotFound => Self::new(code, "This channel has no such user."),
            Error::ConversationNotFound => Self::new(code, "This user never had a conversation.",
            ),
            Error::FileNotFound => Self::new(code, "This user has no such file."),
            Error::FileGone(_) => Self::new(code, "The Cloud no longer has this file.",
            ),
            Error::FileTypeRefused { allowed } => Self::file_type_refused(allowed),
            Error::TooManyFiles(limit) => Self::new(code, match limit {
                    LimitReached::All => "Too many files are being sent to the Cloud; this one was not sent.",
                    LimitReached::Channel => "Too many files of this channel are being sent to the Cloud or are queued; this one was not sent.",
                    LimitReached::User => "Too many files are being sent with tokens for this user, or are queued for this user; this one was not sent.",
                },
            )
            .retry_after(FILES_RETRY_SECONDS),
            Error::TooManyOpenings => Self::overloaded(
                "Too many conversations are being opened; nothing was done.",
            ),
            Error::QueueFull { of_user } => Self::new(code, if *of_user {
                    "Too many requests of this user are queued; nothing was accepted."
                } else {
                    "Too many requests of this channel are queued; nothing was accepted."
                },
            )
            .retry_after(QUEUE_RETRY_SECONDS),
            Error::EventNotFound => Self::new(code, "This channel has no such event, or it is no longer stored.",
            ),
            Error::TransientEvent => Self::new(code, "Typing events are not sent again.",
            ),
            Error::NoCallback => Self::new(code, "This channel has no callback URL, so nothing is delivered to it.",
            ),
            Error::CursorUnknown => Self::parameter("after", CURSOR_UNKNOWN.to_owned()),
            Error::TooManyReaders(limit) => Self::new(code, match limit {
                    LimitReached::All => "Too many readers are waiting for events; reading without waiting is possible.",
                    LimitReached::Channel => "Too many readers of this channel are waiting for events; reading without waiting is possible.",
                    LimitReached::User => "Too many readers with tokens for this user are waiting for events; reading without waiting is possible.",
                },
            )
            .retry_after(READERS_RETRY_SECONDS),
            Error::NoOpenConversation => Self::new(code, "This user has no open conversation; a message opens one.",
            ),
            Error::MessageNotFound => Self::new(code, "No message of this channel that was answered 202 has this id; messages that were sent at once are not recorded.",
            ),
            Error::OutOfTime { is_sent: true } => Self::outcome_unknown(),
            Error::OutOfTime { is_sent: false } => {
                Self::new(code, "The Cloud did not answer in time.")
                    .retry_after(CLOUD_RETRY_SECONDS)
            }
            Error::ConversationOpen => Self::new(code, "This user's conversation is still open; the Cloud accepts ratings only after the close.",
            ),
            Error::SurveyPending => Self::new(code, "The main dialog of this user's conversation has ended, and no survey is open for messages; nothing was sent.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::ConversationLost => Self::new(code, "The Cloud has an open conversation of this user that the bridge could not find; retry after an agent has closed it or the Cloud has sent a notification of it.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::OpeningPending { .. } => Self::new(code, "This user's conversation could not be opened in time.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::KeyInUse => Self::new(code, "The first request with this Idempotency-Key has not been answered yet.",
            )
            .retry_after(KEY_RETRY_SECONDS),
            Error::KeyReused => Self::new(code, "This Idempotency-Key was used before with another method, path or body; each request needs its own key.",
            ),
            Error::TextTooLong { chars, limit } => Self::violation(
                "/text".to_owned(),
                format!(
                    "expected a text whose request to the Cloud has at most {limit} characters, this one has {chars}; with \"split\": true it is sent in several messages"
                ),
            ),
            Error::PartlySent { sent, total, cause } => {
                let cause = Self::from(Error::clone(cause));
                let count = sent.len();
                Self {
                    upstream: cause.upstream,
                    ..Self::new(code, format!(
                            "{count} of {total} messages were sent, with the sequences {sent:?}; the next was not: {}",
                            cause.detail
                        ),
                    )
                }
            }
            Error::Unsettled(cause) => {
                return Self {
                    is_unsettled: true,
                    ..Self::from(Error::clone(cause))
                };
            }
            Error::Cloud(error) => Self::from_cloud(CloudFailure::of(error)),
            Error::Store(cause) if cause.is_transient() => Self::new(code, "The bridge's storage is unavailable; nothing was accepted.",
            )
            .retry_after(STORAGE_RETRY_SECONDS),
            Error::Store(_) | Error::Seal(_) | Error::Interrupted | Error::LaneLost => Self::internal(),
        };
        problem.caused_by(error)
    }
}
