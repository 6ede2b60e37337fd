//! Errors of calls to the Cloud, grouped by the action that each allows the caller.

use std::sync::Arc;
use std::time::Duration;

use crate::http;
use crate::types::ids::AccountId;

/// The reason that a call to the Cloud failed.
///
/// No variant holds a token or a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The account is not configured.
    #[error("account {0} is not configured")]
    UnknownAccount(AccountId),
    /// No connection could be made: nothing was sent.
    #[error("the Cloud cannot be reached")]
    Unreachable(#[source] http::Error),
    /// The call was not made, because a domain or token that it needs could not be obtained.
    ///
    /// It is also the error of a call that can be repeated without harm, such as one for a token,
    /// if its last attempt got no usable answer.
    #[error("a domain or token for the call could not be obtained")]
    NotAttempted(#[source] Arc<Error>),
    /// The request was sent, and no complete answer arrived.
    #[error("the Cloud did not answer")]
    NoAnswer(#[source] http::Error),
    /// The Cloud wants fewer requests.
    #[error("the Cloud is throttling requests")]
    Throttled {
        /// The pause that the Cloud asks for.
        retry_after: Option<Duration>,
    },
    /// The Cloud, or a gateway before it, cannot serve now.
    #[error("the Cloud is unavailable (status {status})")]
    Unavailable {
        /// The answer's status.
        status: u16,
        /// The pause that the Cloud asks for.
        retry_after: Option<Duration>,
    },
    /// The account's client id or secret is wrong.
    #[error("the Cloud refused the account's client id and secret (status {status})")]
    CredentialsRefused {
        /// Sentinel's status.
        status: u16,
    },
    /// The account's AppJWT was refused, and so was the one that replaced it.
    #[error("the Cloud refused the AppJWT")]
    AppTokenRefused,
    /// The consumer's ConsumerJWS was refused. The caller has to obtain a new one.
    #[error("the Cloud refused the ConsumerJWS")]
    ConsumerTokenRefused,
    /// A 401 that does not say which token it refuses, even with a new `AppJWT`.
    #[error("the Cloud answered 401 without saying which token it refuses: {title}")]
    Unauthorized {
        /// True if a gateway answered in place of the Cloud, as an HTML page or an empty body
        /// shows.
        is_from_gateway: bool,
        /// The Cloud's `code`.
        code: Option<String>,
        /// The Cloud's error text: one line of at most 200 characters.
        title: String,
    },
    /// A gateway answered in place of the Cloud, with a redirect or a 4xx status. That is an outage
    /// of the host and says nothing about the request.
    #[error("a gateway answered in place of the Cloud (status {status})")]
    Blocked {
        /// The gateway's status.
        status: u16,
    },
    /// The Cloud accepted the message, and its answer lacks the message's sequence.
    #[error("the Cloud accepted the message but returned no sequence")]
    MissingSequence,
    /// The consumer has an open conversation, and the Cloud does not say which.
    #[error("the consumer already has an open conversation")]
    AlreadyOpen,
    /// The conversation is closed, or the Cloud does not know it.
    #[error("the conversation is closed")]
    ConversationClosed,
    /// The Cloud refused the request, and would refuse it again.
    #[error("the Cloud refused the request (status {status}): {title}")]
    Refused {
        /// The status of the answer, or of the part of it that failed.
        status: u16,
        /// The Cloud's `errorCode`, or else its `code`.
        code: Option<String>,
        /// The Cloud's error text: one line of at most 200 characters.
        title: String,
    },
    /// The domain API, called over TLS, names a host without TLS. Nothing was sent to that host.
    #[error(
        "the domain API, called over https, returned http for {service} at {host}, so secrets and messages would be sent in clear text; if this is intended, add the host to the account's allow_http_hosts"
    )]
    WithoutTls {
        /// The service's name at the domain API.
        service: &'static str,
        /// The host.
        host: String,
    },
    /// The answer does not report a failure, but lacks what it should contain.
    #[error("the Cloud's answer (status {status}) is not in the expected format")]
    Undecodable {
        /// The answer's status.
        status: u16,
    },
}

impl Error {
    /// Returns the error's name, for a metric's label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnknownAccount(_) => "unknown_account",
            Self::Unreachable(_) => "unreachable",
            Self::NotAttempted(_) => "not_begun",
            Self::NoAnswer(_) => "no_answer",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::AppTokenRefused => "app_token_refused",
            Self::ConsumerTokenRefused => "consumer_token_refused",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Blocked { .. } => "blocked",
            Self::MissingSequence => "unnumbered",
            Self::AlreadyOpen => "already_open",
            Self::ConversationClosed => "conversation_closed",
            Self::Refused { .. } => "refused",
            Self::WithoutTls { .. } => "without_tls",
            Self::Undecodable { .. } => "undecodable",
        }
    }

    /// True if the same call can succeed later without any change to the configuration or the
    /// request.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotAttempted(cause) => cause.is_transient(),
            Self::Unreachable(_)
            | Self::NoAnswer(_)
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Blocked { .. }
            | Self::MissingSequence
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

    /// True if the call may have taken effect nevertheless, so that a repeat could do it twice.
    ///
    /// With 502 and 504, a gateway reports that it passed the request on and got no proper answer.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer(_)
                | Self::Undecodable { .. }
                | Self::MissingSequence
                | Self::Unavailable {
                    status: 502 | 504,
                    ..
                }
        )
    }

    /// Returns the pause that the Cloud asks for, if any. The pause is not limited.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotAttempted(cause) => cause.retry_after(),
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// True if a new `ConsumerJWS` may resolve the error.
    #[must_use]
    pub fn may_be_consumer_token(&self) -> bool {
        matches!(self, Self::ConsumerTokenRefused | Self::Unauthorized { .. })
    }

    /// Converts an error that occurred again after both tokens were renewed. The Cloud's own 401 is
    /// then a refusal of the request, for instance because the conversation belongs to another
    /// consumer. Source: vendor's Send API pages.
    #[must_use]
    pub fn after_token_renewal(self) -> Self {
        match self {
            Self::Unauthorized {
                is_from_gateway: false,
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

    /// Converts an error of a service that does not handle messages. Such a service cannot refuse a
    /// request, so a refusal is a fault of the service or of a gateway before it.
    pub(super) fn into_outage(self) -> Self {
        match self {
            Self::Refused { status, .. } => Self::Blocked { status },
            Self::Unauthorized { .. } => Self::Blocked { status: 401 },
            error => error,
        }
    }

    /// Creates the error of a call that was not made because of this error.
    pub(super) fn into_not_attempted(self) -> Self {
        match self {
            Self::NotAttempted(_) => self,
            cause => Self::NotAttempted(Arc::new(cause)),
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
