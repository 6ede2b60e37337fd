//! Everything that becomes an error response: RFC 9457 problem details.
//!
//! The codes are those of `types::problem`, and the bridge's errors know theirs. This module adds what happened. A problem is
//! rendered by the envelope, which knows the request's id and logs the cause once.

use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::bounds::Exhausted;
use crate::bridge::{self, CloudFailure, CloudFailureKind};
use crate::types::event::data::UpstreamFailure;
use crate::types::file::ImageType;

pub use crate::types::problem::Code;

/// 5 s: how soon to try again where the Cloud does not say; the vendor's first retry comes after as long.
const CLOUD_RETRY_SECONDS: u64 = 5;

/// 1 s: how soon to try again when the storage is away; a failover takes a few of these.
const STORAGE_RETRY_SECONDS: u64 = 1;

/// 1 s: how soon to try again when as many requests or notifications as fit are under way; most are answered within that.
const LOAD_RETRY_SECONDS: u64 = 1;

/// 30 s: how soon to try again when the queue is full; it is long, and gets shorter only when the Cloud is back.
const QUEUE_RETRY_SECONDS: u64 = 30;

/// 1 s: how soon to try again when as many files as fit are on their way; most are through within that.
const FILES_RETRY_SECONDS: u64 = 1;

/// 5 s: how soon to try again when as many readers as fit wait for events; readers come and go by the half minute.
const READERS_RETRY_SECONDS: u64 = 5;

/// What happened where a parameter breaks a rule.
const PARAMETER: &str = "A parameter breaks a rule; see errors for its name.";

/// What a cursor beyond the end of a log is told.
pub(super) const CURSOR_UNKNOWN: &str =
    "expected a cursor of this channel's events; this one was never given out here";

/// 1 s: how soon to ask again for the answer to a request that is being worked on.
const KEY_RETRY_SECONDS: u64 = 1;

/// What a caller is told who cannot know whether the Cloud did what was asked.
const OUTCOME_UNKNOWN: &str =
    "The Cloud did not say whether it did what was asked; sending it again may do it twice.";

/// One thing that went wrong with one request.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Violation>,
    upstream: Option<Box<Upstream>>,
    retry_after_seconds: Option<u64>,
    /// True if a repeat under the request's idempotency key is to find out what became of it.
    is_unsettled: bool,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// One member of a body, or one parameter, that breaks a rule.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the member; of a parameter `/` and its name.
    #[schema(example = "/open/routing/skill_id")]
    pub pointer: String,
    /// What was expected.
    pub detail: String,
}

/// What the Cloud answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Upstream {
    /// The Cloud's HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// The Cloud's own code, as text.
    pub code: Option<String>,
    /// The Cloud's own words.
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
    /// `urn:liveperson-bridge:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:liveperson-bridge:problem:no-open-conversation")]
    kind: String,
    /// What the kind of problem means.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// What happened this time.
    detail: &'a str,
    /// The kind of problem.
    #[schema(example = "no-open-conversation")]
    code: &'static str,
    /// Whether the same request may succeed when it is sent again.
    retryable: bool,
    /// The request's id, to be named to the operator.
    request_id: &'a str,
    /// The members that break a rule.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Violation],
    /// What the Cloud answered, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a Upstream>,
}

impl Problem {
    /// A problem of a kind, with what happened this time.
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

    /// A member of the body that breaks a rule.
    #[must_use]
    pub fn violation(pointer: String, detail: String) -> Self {
        Self {
            errors: vec![Violation { pointer, detail }],
            ..Self::new(
                Code::InvalidRequest,
                "The body breaks a rule; see errors for the member.",
            )
        }
    }

    /// A parameter of the query, or a header, that breaks a rule.
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

    /// The same of a parameter where it was said of a member.
    #[must_use]
    pub(super) fn of_parameter(mut self) -> Self {
        for error in &mut self.errors {
            error.detail = error.detail.replacen("member", "parameter", 1);
        }
        Self {
            detail: PARAMETER.to_owned(),
            ..self
        }
    }

    /// The problem that a bare status stands for: what a layer below us answered without our words.
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

    /// The kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let status = StatusCode::from_u16(self.code.status());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// True if a repeat under the request's idempotency key is to find out what became of it.
    pub(super) fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }

    /// The error behind it, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }

    /// The response, whose body names the request.
    #[must_use]
    pub fn render(&self, request_id: &str) -> Response {
        let details = ProblemDetails {
            kind: format!("urn:liveperson-bridge:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            code: self.code.as_str(),
            retryable: self.code.retryable(),
            request_id,
            errors: &self.errors,
            upstream: self.upstream.as_deref(),
        };
        // Strings, numbers and lists of them always serialize.
        let body = serde_json::to_vec(&details).unwrap_or_default();
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
            // The rest of the request may come at any time (RFC 9110, section 15.5.9).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The problem that a failure at the Cloud is to the channel.
    fn from_cloud(failure: CloudFailure) -> Self {
        use CloudFailureKind as Kind;
        let refused = failure.upstream.as_ref().and_then(|it| it.title.as_deref());
        let detail = match failure.kind {
            Kind::NotAsked => {
                "The Cloud did not answer what had to be asked first; nothing was sent."
            }
            Kind::Unreachable => "The Cloud cannot be reached.",
            Kind::Throttled => "The Cloud takes no more requests for now.",
            Kind::Blocked => "Something in front of the Cloud answered in its place.",
            Kind::WithoutTls => {
                "The Cloud names a host that is reached without TLS; nothing was sent there. The bridge's log tells more."
            }
            Kind::Unavailable => "The Cloud cannot serve now.",
            Kind::OutcomeUnknown => OUTCOME_UNKNOWN,
            Kind::ClientRefused => "The Cloud refused the account's client id and secret.",
            Kind::AppTokenRefused => {
                "The Cloud refused the account's AppJWT, also when it was made anew."
            }
            Kind::Unauthorized => {
                "The Cloud answered 401, also when the account's AppJWT and the user's ConsumerJWS were made anew."
            }
            Kind::ConsumerTokenRefused => {
                "The Cloud refused the user's ConsumerJWS, also when it was made anew."
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
            Kind::NotAsked
            | Kind::Unreachable
            | Kind::Throttled
            | Kind::Blocked
            | Kind::WithoutTls
            | Kind::Unavailable => {
                let asked = failure.retry_after;
                let seconds = asked.map_or(CLOUD_RETRY_SECONDS, |after| after.as_secs().max(1));
                problem.retry_after(seconds)
            }
            _ => problem,
        }
    }

    /// That as much as fits is under way.
    pub(super) fn overloaded(detail: &str) -> Self {
        Self::new(Code::Overloaded, detail).retry_after(LOAD_RETRY_SECONDS)
    }

    /// That as many notifications as fit are under way, or that the service is stopping.
    pub(super) fn too_many_notifications() -> Self {
        Self::new(
            Code::TooManyNotifications,
            "The bridge takes no more notifications for now.",
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
                "The file's first bytes are those of no kind that may be sent; these may: {}.",
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
            "The bridge failed; its log tells more under this request's id.",
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

/// The pointer to a member of the outermost object.
pub(super) fn pointer_to(member: &str) -> String {
    format!("/{}", member.replace('~', "~0").replace('/', "~1"))
}

impl IntoResponse for Problem {
    /// A bare status that carries the problem to the envelope, which renders it.
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
            Error::FileGone(_) => Self::new(code, "The Cloud does not have this file any more.",
            ),
            Error::FileTypeRefused { allowed } => Self::file_type_refused(allowed),
            Error::TooManyFiles(exhausted) => Self::new(code, match exhausted {
                    Exhausted::All => "As many files as fit are on their way to the Cloud; nothing of this one was sent.",
                    Exhausted::Channel => "As many files of this channel are on their way to the Cloud, or wait for it, as one channel may have; nothing of this one was sent.",
                    Exhausted::User => "As many files with tokens for this user are on their way to the Cloud, or of this user wait for it, as one user may have; nothing of this one was sent.",
                },
            )
            .retry_after(FILES_RETRY_SECONDS),
            Error::TooManyOpenings => Self::overloaded(
                "As many conversations as fit are being opened; nothing was done.",
            ),
            Error::QueueFull { of_user } => Self::new(code, if *of_user {
                    "As many requests of this user as may wait for the Cloud are waiting; nothing was accepted."
                } else {
                    "As many requests of this channel as may wait for the Cloud are waiting; nothing was accepted."
                },
            )
            .retry_after(QUEUE_RETRY_SECONDS),
            Error::EventNotFound => Self::new(code, "This channel has no such event, or it is not kept any more.",
            ),
            Error::EventOfTheMoment => Self::new(code, "What somebody was typing is not sent again.",
            ),
            Error::NoCallback => Self::new(code, "This channel has no callback URL, so nothing is delivered to it.",
            ),
            Error::CursorUnknown => Self::parameter("after", CURSOR_UNKNOWN.to_owned()),
            Error::TooManyReaders(exhausted) => Self::new(code, match exhausted {
                    Exhausted::All => "As many readers as fit wait for events; reading without waiting is possible.",
                    Exhausted::Channel => "As many readers of this channel wait for events as one channel may have; reading without waiting is possible.",
                    Exhausted::User => "As many readers with tokens for this user wait for events as one user may have; reading without waiting is possible.",
                },
            )
            .retry_after(READERS_RETRY_SECONDS),
            Error::NoOpenConversation => Self::new(code, "This user has no open conversation; a message opens one.",
            ),
            Error::MessageNotFound => Self::new(code, "No message of this channel that was answered 202 has this id; one that the Cloud had at once leaves no trace.",
            ),
            Error::OutOfTime { is_sent: true } => Self::outcome_unknown(),
            Error::OutOfTime { is_sent: false } => {
                Self::new(code, "The Cloud did not answer in time.")
                    .retry_after(CLOUD_RETRY_SECONDS)
            }
            Error::ConversationOpen => Self::new(code, "This user's conversation is still open; the Cloud takes ratings after the close.",
            ),
            Error::SurveyPending => Self::new(code, "The main dialog of this user's conversation has ended, and no survey is open that a message could go to; nothing was sent.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::ConversationLost => Self::new(code, "The Cloud has a conversation open for this user that could not be found again; it can be as soon as the Cloud tells of it or an agent closes it.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::OpeningPending { .. } => Self::new(code, "This user's conversation could not be opened in time.",
            )
            .retry_after(CLOUD_RETRY_SECONDS),
            Error::KeyInUse => Self::new(code, "The first request with this Idempotency-Key has not been answered yet.",
            )
            .retry_after(KEY_RETRY_SECONDS),
            Error::KeyReused => Self::new(code, "This Idempotency-Key came before with another method, path or body; each request needs a key of its own.",
            ),
            Error::TextTooLong { chars, limit } => Self::violation(
                "/text".to_owned(),
                format!(
                    "expected a text whose request to the Cloud has {limit} characters at most, this one has {chars}; with \"split\": true it is sent in several messages"
                ),
            ),
            Error::PartlySent { sent, of, cause } => {
                let cause = Self::from(Error::clone(cause));
                let count = sent.len();
                Self {
                    upstream: cause.upstream,
                    ..Self::new(code, format!(
                            "{count} of {of} messages were sent, with the sequences {sent:?}; the next was not: {}",
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
            Error::Store(cause) if cause.is_transient() => Self::new(code, "The bridge's storage is away; nothing was accepted.",
            )
            .retry_after(STORAGE_RETRY_SECONDS),
            Error::Store(_) | Error::Seal(_) | Error::Interrupted | Error::LaneLost => Self::internal(),
        };
        problem.caused_by(error)
    }
}
