//! What can go wrong in a call to the Cloud, by what the caller can do about it.

use std::sync::Arc;
use std::time::Duration;

use crate::http;
use crate::types::ids::AccountId;

/// Why a call to the Cloud did not do what was asked.
///
/// No variant holds a token or a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The account is not configured.
    #[error("account {0} is not configured")]
    UnknownAccount(AccountId),
    /// No connection: nothing was sent.
    #[error("the Cloud cannot be reached")]
    Unreachable(#[source] http::Error),
    /// A domain or token that the call needs could not be had: the call itself was not made.
    ///
    /// Also the error of a call that only asks for such things, where it got no usable answer.
    #[error("a domain or token that the call needs could not be had")]
    NotBegun(#[source] Arc<Error>),
    /// The request went out and no whole answer came.
    #[error("the Cloud did not answer")]
    NoAnswer(#[source] http::Error),
    /// The Cloud wants fewer requests.
    #[error("the Cloud is throttling")]
    Throttled {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The Cloud, or a gateway before it, cannot serve now.
    #[error("the Cloud is unavailable (status {status})")]
    Unavailable {
        /// The status that says so.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The account's client id or secret is wrong.
    #[error("the Cloud refused the account's client id and secret (status {status})")]
    CredentialsRefused {
        /// Sentinel's status.
        status: u16,
    },
    /// The account's AppJWT was refused, and so was the one that was made in its place.
    #[error("the Cloud refused the AppJWT")]
    AppTokenRefused,
    /// The consumer's ConsumerJWS was refused: a new one is to be made.
    #[error("the Cloud refused the ConsumerJWS")]
    ConsumerTokenRefused,
    /// A 401 that blames neither token by number, also under an `AppJWT` that was made anew.
    #[error("the Cloud answered 401 and did not say which token it refuses: {title}")]
    Unauthorized {
        /// True if the Cloud itself did not answer, as a gateway's page or an empty body shows.
        is_bare: bool,
        /// The Cloud's `code`.
        code: Option<String>,
        /// The Cloud's words: one line, at most 200 characters.
        title: String,
    },
    /// Something in front of the Cloud answered in its place, with a redirect or a 4xx status. That is
    /// an outage of the host, and no verdict on the request.
    #[error("a gateway answered in place of the Cloud (status {status})")]
    Blocked {
        /// The gateway's status.
        status: u16,
    },
    /// The Cloud took the message, and its answer lacks the message's sequence.
    #[error("the Cloud took the message and did not say its sequence")]
    Unnumbered,
    /// The consumer has an open conversation; the Cloud does not say which.
    #[error("the consumer already has an open conversation")]
    AlreadyOpen,
    /// The conversation is closed, or the Cloud does not know it.
    #[error("the conversation is closed")]
    ConversationClosed,
    /// The Cloud refused the request, and would refuse it again.
    #[error("the Cloud refused the request (status {status}): {title}")]
    Refused {
        /// The status, of the answer or of the part of it that failed.
        status: u16,
        /// The Cloud's `errorCode`, or else its `code`.
        code: Option<String>,
        /// The Cloud's words: one line, at most 200 characters.
        title: String,
    },
    /// The domain API, asked by TLS, names a host to be reached without TLS: nothing was sent there.
    #[error(
        "the domain API, asked over https, names http for {service} at {host}, where secrets and messages would go in clear text; \
         if that is right, list the host in allow_http_hosts of the account"
    )]
    WithoutTls {
        /// The domain API's name of the service.
        service: &'static str,
        /// The host.
        host: String,
    },
    /// The answer says that all went well, or nothing, and lacks what it should hold.
    #[error("the Cloud's answer (status {status}) is not what was asked for")]
    Undecodable {
        /// The answer's status.
        status: u16,
    },
}

impl Error {
    /// One word for it, for a metric's label.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::UnknownAccount(_) => "unknown_account",
            Self::Unreachable(_) => "unreachable",
            Self::NotBegun(_) => "not_begun",
            Self::NoAnswer(_) => "no_answer",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::AppTokenRefused => "app_token_refused",
            Self::ConsumerTokenRefused => "consumer_token_refused",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Blocked { .. } => "blocked",
            Self::Unnumbered => "unnumbered",
            Self::AlreadyOpen => "already_open",
            Self::ConversationClosed => "conversation_closed",
            Self::Refused { .. } => "refused",
            Self::WithoutTls { .. } => "without_tls",
            Self::Undecodable { .. } => "undecodable",
        }
    }

    /// Whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotBegun(cause) => cause.is_transient(),
            Self::Unreachable(_)
            | Self::NoAnswer(_)
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Blocked { .. }
            | Self::Unnumbered
            | Self::WithoutTls { .. }
            | Self::Undecodable { .. } => true,
            Self::UnknownAccount(_)
            | Self::CredentialsRefused { .. }
            | Self::AppTokenRefused
            | Self::ConsumerTokenRefused
            | Self::Unauthorized { .. }
            | Self::AlreadyOpen
            | Self::ConversationClosed
            | Self::Refused { .. } => false,
        }
    }

    /// Whether the call may have taken effect all the same, so that a repeat could do it twice.
    ///
    /// 502 and 504 are a gateway's words for having passed the request on and not having got a proper answer.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer(_)
                | Self::Undecodable { .. }
                | Self::Unnumbered
                | Self::Unavailable {
                    status: 502 | 504,
                    ..
                }
        )
    }

    /// How long the Cloud wants to be left alone, where it said so; not limited in any way.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotBegun(cause) => cause.retry_after(),
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// True if another `ConsumerJWS` may mend it.
    #[must_use]
    pub fn blames_consumer_token(&self) -> bool {
        matches!(self, Self::ConsumerTokenRefused | Self::Unauthorized { .. })
    }

    /// The error where both tokens have been made anew: the Cloud's own 401 is then a refusal of the
    /// request, as for the conversation of another consumer. Source: vendor's Send API pages.
    #[must_use]
    pub fn under_new_tokens(self) -> Self {
        match self {
            Self::Unauthorized {
                is_bare: false,
                code,
                title,
            } => Self::Refused {
                status: 401,
                code,
                title,
            },
            error => error,
        }
    }

    /// The error of a service that knows nothing of a message and so can refuse none: a status that is a verdict elsewhere
    /// is trouble of its own, or of a gateway before it.
    pub(super) fn into_outage(self) -> Self {
        match self {
            Self::Refused { status, .. } => Self::Blocked { status },
            Self::Unauthorized { .. } => Self::Blocked { status: 401 },
            error => error,
        }
    }

    /// The error of a call whose preparation failed with this one.
    pub(super) fn not_begun(self) -> Self {
        match self {
            Self::NotBegun(_) => self,
            cause => Self::NotBegun(Arc::new(cause)),
        }
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        match error {
            http::Error::NotSent(_) => Self::Unreachable(error),
            http::Error::NoAnswer(_) => Self::NoAnswer(error),
        }
    }
}
