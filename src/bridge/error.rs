//! The errors of use cases, distinguished by what a channel can do about them.

use std::sync::Arc;
use std::time::Duration;

use crate::bounds::LimitReached;
use crate::types::event::data::UpstreamFailure;
use crate::types::file::ImageType;
use crate::types::message::Sequence;
use crate::types::problem::Code;
use crate::worker::PollError;
use crate::{cloud, crypto, store};

/// The failure of a use case. It can be cloned, since all callers that wait for one opening share
/// its outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A user that was never seen.
    #[error("the user is unknown")]
    UserNotFound,
    /// A user that never had a conversation.
    #[error("the user never had a conversation")]
    ConversationNotFound,
    /// A file that the user neither sent nor received.
    #[error("the user has no such file")]
    FileNotFound,
    /// A file that the Cloud no longer has.
    #[error("the Cloud no longer has the file")]
    FileGone(#[source] cloud::Error),
    /// A file of a type that may not be sent.
    #[error("files of this type may not be sent")]
    FileTypeRefused {
        /// The allowed types.
        allowed: Vec<ImageType>,
    },
    /// No free permit for another file.
    #[error("too many files are being sent")]
    TooManyFiles(LimitReached),
    /// No free permit for another opening.
    #[error("too many conversations are being opened")]
    TooManyOpenings,
    /// No room for another queued request.
    #[error("the queue of requests to the Cloud is full")]
    QueueFull {
        /// True if the user's bound is reached, false if the channel's is.
        of_user: bool,
    },
    /// An event that the channel does not have, or no longer has.
    #[error("the channel has no such event")]
    EventNotFound,
    /// An event of momentary interest, such as typing, which is not replayed.
    #[error("short-lived events are not sent again")]
    TransientEvent,
    /// A channel without a callback URL.
    #[error("the channel has no callback URL")]
    NoCallback,
    /// A cursor after an event that the channel's log never had.
    #[error("the cursor was never issued")]
    CursorUnknown,
    /// No free permit for another reader that waits for events.
    #[error("too many readers are waiting for events")]
    TooManyReaders(LimitReached),
    /// An id without a request that was answered 202.
    #[error("no queued message has this id")]
    MessageNotFound,
    /// The end of the time that the channel waits for the Cloud.
    #[error("the Cloud did not answer within the time that the channel waits")]
    OutOfTime {
        /// True if a message or other request was in flight by then.
        is_sent: bool,
    },
    /// A lane that another replica holds by now.
    #[error("another replica has taken over the user's requests")]
    LaneLost,
    /// A user without the open conversation that the request needs.
    #[error("the user has no open conversation")]
    NoOpenConversation,
    /// A conversation without an open dialog. The main dialog has ended, and the survey has not
    /// begun or has ended too, but the Cloud says that the conversation goes on.
    #[error("no dialog of the user's conversation is open")]
    SurveyPending,
    /// A conversation that is still open, for a request that needs an ended one.
    #[error("the user's conversation is still open")]
    ConversationOpen,
    /// A conversation that the Cloud has open for the user, but does not name.
    #[error("the Cloud has an open conversation of this user that could not be found")]
    ConversationLost,
    /// An opening, here or on another replica, that has not finished in time.
    #[error("the user's conversation could not be opened in time")]
    OpeningPending {
        /// The error of the Cloud's answer, if the Cloud was asked. Another attempt does no harm: a
        /// conversation that was opened all the same is found.
        #[source]
        cause: Option<cloud::Error>,
    },
    /// An idempotency key whose request is being processed.
    #[error("the request with this idempotency key is in progress")]
    KeyInUse,
    /// An idempotency key that belongs to another request.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// A text that is longer than the Cloud accepts in one message.
    #[error("the request would have {chars} characters, but the Cloud accepts at most {limit}")]
    TextTooLong {
        /// The number of characters that the request would have as JSON.
        chars: usize,
        /// The number of characters that the Cloud accepts.
        limit: usize,
    },
    /// A text in several messages of which only some were sent.
    #[error("{} of {total} messages were sent", sent.len())]
    PartlySent {
        /// The sequences of the messages that were sent.
        sent: Vec<Sequence>,
        /// The number of messages that the text was split into.
        total: usize,
        /// The reason that the next message could not be sent.
        #[source]
        cause: Box<Error>,
    },
    /// A refusal or a missing answer of the Cloud.
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    /// A failed or unavailable database.
    #[error("the storage failed")]
    Store(#[source] Arc<store::Error>),
    /// A token that could not be sealed.
    #[error("the consumer's token could not be sealed")]
    Seal(#[from] crypto::Error),
    /// The error of a request of unknown outcome. A retry with its idempotency key determines it.
    #[error(transparent)]
    Unsettled(Box<Error>),
    /// A task that ended without an outcome.
    #[error("the task ended without an outcome")]
    Interrupted,
}

impl Error {
    /// Returns the problem code that a channel gets.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UserNotFound => Code::UserNotFound,
            Self::ConversationNotFound => Code::ConversationNotFound,
            Self::FileNotFound | Self::FileGone(_) => Code::FileNotFound,
            Self::FileTypeRefused { .. } => Code::UnsupportedMediaType,
            Self::TooManyFiles(_) => Code::TooManyFiles,
            Self::TooManyOpenings => Code::Overloaded,
            Self::QueueFull { .. } => Code::QueueFull,
            Self::EventNotFound => Code::EventNotFound,
            Self::TransientEvent => Code::TransientEvent,
            Self::NoCallback => Code::NoCallback,
            Self::CursorUnknown | Self::TextTooLong { .. } => Code::InvalidRequest,
            Self::TooManyReaders(_) => Code::TooManyReaders,
            Self::MessageNotFound => Code::MessageNotFound,
            Self::OutOfTime { is_sent: false } => Code::CloudUnavailable,
            Self::OutOfTime { is_sent: true } | Self::PartlySent { .. } => {
                Code::CloudOutcomeUnknown
            }
            Self::NoOpenConversation => Code::NoOpenConversation,
            Self::SurveyPending => Code::SurveyPending,
            Self::ConversationOpen => Code::ConversationOpen,
            Self::ConversationLost => Code::ConversationLost,
            Self::OpeningPending { .. } => Code::ConversationPending,
            Self::KeyInUse => Code::IdempotencyKeyInUse,
            Self::KeyReused => Code::IdempotencyKeyReused,
            Self::Cloud(error) => CloudFailure::of(error).kind.code(),
            Self::Unsettled(error) => error.code(),
            Self::Store(error) if error.is_transient() => Code::StorageUnavailable,
            Self::Store(_) | Self::Seal(_) | Self::Interrupted | Self::LaneLost => {
                Code::InternalError
            }
        }
    }

    /// True if the storage is unavailable, which is logged separately.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            Self::Unsettled(error) => error.is_outage(),
            _ => false,
        }
    }

    /// Wraps the error so that its answer is not stored for the idempotency key.
    pub(crate) fn unsettled(self) -> Self {
        match self {
            Self::Unsettled(_) => self,
            error => Self::Unsettled(Box::new(error)),
        }
    }
}

/// A failure at the Cloud, in the form that a channel gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudFailure {
    /// The kind.
    pub kind: CloudFailureKind,
    /// The Cloud's answer, if there was one.
    pub upstream: Option<UpstreamFailure>,
    /// The pause that the Cloud asks for before another request.
    pub retry_after: Option<Duration>,
}

/// The kinds of failures at the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudFailureKind {
    /// A preceding request without an answer. The request itself was not sent.
    NotSent,
    /// An unreachable Cloud.
    Unreachable,
    /// A Cloud that accepts no more requests for now.
    Throttled,
    /// An answer of a gateway in front of the Cloud.
    Blocked,
    /// A host without TLS that the Cloud named.
    WithoutTls,
    /// A Cloud that cannot serve requests now.
    Unavailable,
    /// A request that the Cloud may or may not have carried out.
    OutcomeUnknown,
    /// A refusal of the account's client id and secret.
    ClientRefused,
    /// A refusal of the account's AppJWT.
    AppTokenRefused,
    /// A refusal that either token may have caused.
    Unauthorized,
    /// A refusal of the user's ConsumerJWS.
    ConsumerTokenRefused,
    /// A refusal of the request.
    Refused,
    /// A closed conversation.
    ConversationClosed,
    /// A mistake of the bridge.
    Internal,
}

impl CloudFailureKind {
    /// Returns the problem code that a channel gets.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NotSent
            | Self::Unreachable
            | Self::Blocked
            | Self::WithoutTls
            | Self::Unavailable => Code::CloudUnavailable,
            Self::Throttled => Code::CloudThrottled,
            Self::OutcomeUnknown => Code::CloudOutcomeUnknown,
            Self::ClientRefused
            | Self::AppTokenRefused
            | Self::Unauthorized
            | Self::ConsumerTokenRefused => Code::CloudCredentialsRefused,
            Self::Refused | Self::ConversationClosed => Code::CloudRefused,
            Self::Internal => Code::InternalError,
        }
    }
}

impl CloudFailure {
    /// Classifies an error of the Cloud's client.
    #[must_use]
    pub fn of(error: &cloud::Error) -> Self {
        use CloudFailureKind as Kind;
        let upstream = |status: u16| UpstreamFailure {
            status,
            code: None,
            title: None,
        };
        let (kind, upstream) = match error {
            cloud::Error::NotAttempted(cause) if cause.outcome_unknown() => (Kind::NotSent, None),
            cloud::Error::NotAttempted(cause) => return Self::of(cause),
            cloud::Error::Unreachable(_) => (Kind::Unreachable, None),
            cloud::Error::Throttled { .. } => (Kind::Throttled, Some(upstream(429))),
            cloud::Error::Blocked { status } => (Kind::Blocked, Some(upstream(*status))),
            cloud::Error::WithoutTls { .. } => (Kind::WithoutTls, None),
            cloud::Error::Unavailable { status, .. } if !error.outcome_unknown() => {
                (Kind::Unavailable, Some(upstream(*status)))
            }
            cloud::Error::Unavailable { status, .. } | cloud::Error::Undecodable { status } => {
                (Kind::OutcomeUnknown, Some(upstream(*status)))
            }
            cloud::Error::NoAnswer(_) | cloud::Error::MissingSequence => {
                (Kind::OutcomeUnknown, None)
            }
            cloud::Error::CredentialsRefused { status } => {
                (Kind::ClientRefused, Some(upstream(*status)))
            }
            cloud::Error::AppTokenRefused => (Kind::AppTokenRefused, None),
            cloud::Error::Unauthorized { .. } => (Kind::Unauthorized, Some(upstream(401))),
            cloud::Error::ConsumerTokenRefused => (Kind::ConsumerTokenRefused, None),
            cloud::Error::Refused {
                status,
                code,
                title,
            } => {
                let refused = UpstreamFailure {
                    status: *status,
                    code: code.clone(),
                    title: Some(title.clone()),
                };
                (Kind::Refused, Some(refused))
            }
            cloud::Error::ConversationClosed => (Kind::ConversationClosed, None),
            cloud::Error::AlreadyOpen | cloud::Error::UnknownAccount(_) => (Kind::Internal, None),
        };
        Self {
            kind,
            upstream,
            retry_after: error.retry_after(),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl PollError for Error {
    fn is_outage(&self) -> bool {
        self.is_outage()
    }
}
