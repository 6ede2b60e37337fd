//! Why a use case did not succeed, by what the channel can do about it.

use std::sync::Arc;
use std::time::Duration;

use crate::bounds::Exhausted;
use crate::types::event::data::UpstreamFailure;
use crate::types::file::ImageType;
use crate::types::message::Sequence;
use crate::types::problem::Code;
use crate::worker::Fault;
use crate::{cloud, crypto, store};

/// A use case that did not succeed. Cloneable, since all who wait for one opening share its outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The user was never seen.
    #[error("the user is not known")]
    UserNotFound,
    /// The user never had a conversation.
    #[error("the user never had a conversation")]
    ConversationNotFound,
    /// The user neither sent nor was sent such a file.
    #[error("the user has no such file")]
    FileNotFound,
    /// The Cloud does not have the file any more.
    #[error("the Cloud does not have the file any more")]
    FileGone(#[source] cloud::Error),
    /// The file is of a kind that may not be sent.
    #[error("the file is of a kind that may not be sent")]
    FileTypeRefused {
        /// The kinds that may be.
        allowed: Vec<ImageType>,
    },
    /// As many files as fit are on their way.
    #[error("as many files as fit are on their way")]
    TooManyFiles(Exhausted),
    /// As many conversations as fit are being opened.
    #[error("as many conversations as fit are being opened")]
    TooManyOpenings,
    /// As many requests as may wait for the Cloud are waiting.
    #[error("as many requests as may wait for the Cloud are waiting")]
    QueueFull {
        /// Whether it is the user's requests that are too many, rather than the channel's.
        of_user: bool,
    },
    /// The channel has no such event, or not any more.
    #[error("the channel has no such event")]
    EventNotFound,
    /// The event was of interest for a moment only, so it is not sent again.
    #[error("the event was of interest for a moment only")]
    EventOfTheMoment,
    /// The channel has no callback URL.
    #[error("the channel has no callback URL")]
    NoCallback,
    /// A cursor is behind an event that the channel's log never had.
    #[error("the cursor was not given out here")]
    CursorUnknown,
    /// As many readers as fit wait for events.
    #[error("as many readers as fit wait for events")]
    TooManyReaders(Exhausted),
    /// No request that was answered before the Cloud had it bears this id.
    #[error("there is no such message, or it was sent at once")]
    MessageNotFound,
    /// The time that the channel waits for the Cloud has passed.
    #[error("the Cloud took longer than the channel waits")]
    OutOfTime {
        /// Whether something was on its way by then.
        is_sent: bool,
    },
    /// Another works on the user's requests by now.
    #[error("another has taken over the user's requests")]
    LaneLost,
    /// What was asked needs an open conversation.
    #[error("the user has no open conversation")]
    NoOpenConversation,
    /// The main dialog of the user's conversation has ended, and the survey that is to follow has not begun, or has ended
    /// too, while the Cloud says that the conversation goes on.
    #[error("no dialog of the user's conversation is open")]
    SurveyPending,
    /// What was asked is for a conversation that has ended.
    #[error("the user's conversation is still open")]
    ConversationOpen,
    /// The Cloud has a conversation open for the user, but does not say which.
    #[error("the Cloud has a conversation open for this user that could not be found again")]
    ConversationLost,
    /// The user's conversation is being opened, here or by another replica, and that has not finished in time.
    #[error("the user's conversation could not be opened in time")]
    OpeningPending {
        /// What the Cloud's answer lacked, where it was asked. Asking again does no harm: a conversation that was opened
        /// all the same is found again.
        #[source]
        cause: Option<cloud::Error>,
    },
    /// The request that bears this idempotency key is being worked on.
    #[error("the request with this idempotency key is being worked on")]
    KeyInUse,
    /// The idempotency key stands for another request.
    #[error("the idempotency key stands for another request")]
    KeyReused,
    /// A text is longer than the Cloud takes in one message.
    #[error("the request would have {chars} characters, the Cloud takes {limit}")]
    TextTooLong {
        /// Characters that the request would have as JSON.
        chars: usize,
        /// Characters that the Cloud takes.
        limit: usize,
    },
    /// Of a text in several messages some were sent, and then one could not be.
    #[error("{} of {of} messages were sent", sent.len())]
    PartlySent {
        /// The numbers of those that were sent.
        sent: Vec<Sequence>,
        /// How many there were to be.
        of: usize,
        /// Why the next one could not be sent.
        #[source]
        cause: Box<Error>,
    },
    /// The Cloud refused, or did not answer.
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    /// The database is away, or failed.
    #[error("the storage failed")]
    Store(#[source] Arc<store::Error>),
    /// A token could not be sealed.
    #[error("the consumer's token could not be sealed")]
    Seal(#[from] crypto::Error),
    /// The error of a request whose outcome is open: a repeat under its idempotency key is to find out.
    #[error(transparent)]
    Unsettled(Box<Error>),
    /// A task that was to do the work ended without an outcome.
    #[error("the work ended without an outcome")]
    Interrupted,
}

impl Error {
    /// The code of the problem that it is to a channel.
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
            Self::EventOfTheMoment => Code::EventOfTheMoment,
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

    /// Whether the storage is away, of which the log is told by itself.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            Self::Unsettled(error) => error.is_outage(),
            _ => false,
        }
    }

    /// The same error, whose answer does not become that of its idempotency key.
    pub(crate) fn unsettled(self) -> Self {
        match self {
            Self::Unsettled(_) => self,
            error => Self::Unsettled(Box::new(error)),
        }
    }
}

/// A failure at the Cloud, as a channel is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudFailure {
    /// Its kind.
    pub kind: CloudFailureKind,
    /// The answer of the Cloud, if there was one.
    pub upstream: Option<UpstreamFailure>,
    /// The time that the Cloud asks to be left alone for.
    pub retry_after: Option<Duration>,
}

/// The kinds of failures at the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudFailureKind {
    /// What had to be asked first was not answered, so nothing was sent.
    NotAsked,
    /// The Cloud cannot be reached.
    Unreachable,
    /// The Cloud takes no more requests for now.
    Throttled,
    /// Something in front of the Cloud answered in its place.
    Blocked,
    /// The Cloud names a host without TLS.
    WithoutTls,
    /// The Cloud cannot serve now.
    Unavailable,
    /// The Cloud did not say whether it did what was asked.
    OutcomeUnknown,
    /// The account's client id and secret were refused.
    ClientRefused,
    /// The account's AppJWT was refused.
    AppTokenRefused,
    /// Both tokens may be to blame.
    Unauthorized,
    /// The user's ConsumerJWS was refused.
    ConsumerTokenRefused,
    /// The request was refused.
    Refused,
    /// The conversation is closed.
    ConversationClosed,
    /// The bridge made a mistake.
    Internal,
}

impl CloudFailureKind {
    /// The code of the problem that it is to a channel.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::NotAsked
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
    /// The failure that an error of the Cloud's client is.
    #[must_use]
    pub fn of(error: &cloud::Error) -> Self {
        use CloudFailureKind as Kind;
        let upstream = |status: u16| UpstreamFailure {
            status,
            code: None,
            title: None,
        };
        let (kind, upstream) = match error {
            cloud::Error::NotBegun(cause) if cause.outcome_unknown() => (Kind::NotAsked, None),
            cloud::Error::NotBegun(cause) => return Self::of(cause),
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
            cloud::Error::NoAnswer(_) | cloud::Error::Unnumbered => (Kind::OutcomeUnknown, None),
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

impl Fault for Error {
    fn is_outage(&self) -> bool {
        self.is_outage()
    }
}
