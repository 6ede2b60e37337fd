//! Why a use case did not succeed, by what the channel can do about it.

use std::sync::Arc;

use crate::bounds::Exhausted;
use crate::types::file::ImageType;
use crate::types::message::Sequence;
use crate::types::problem::Code;
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
            Self::Cloud(error) => code_of_cloud(error),
            Self::Store(error) if error.is_transient() => Code::StorageUnavailable,
            Self::Store(_) | Self::Seal(_) | Self::Interrupted | Self::LaneLost => {
                Code::InternalError
            }
        }
    }

    /// Whether the storage is away, of which the log is told by itself.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outage())
    }
}

/// The same of an error of the Cloud's client.
#[must_use]
pub fn code_of_cloud(error: &cloud::Error) -> Code {
    match error {
        cloud::Error::NotBegun(cause) if cause.outcome_unknown() => Code::CloudUnavailable,
        cloud::Error::NotBegun(cause) => code_of_cloud(cause),
        cloud::Error::Throttled { .. } => Code::CloudThrottled,
        cloud::Error::Unavailable { .. } if !error.outcome_unknown() => Code::CloudUnavailable,
        cloud::Error::Unreachable(_)
        | cloud::Error::Blocked { .. }
        | cloud::Error::WithoutTls { .. } => Code::CloudUnavailable,
        cloud::Error::Unavailable { .. }
        | cloud::Error::Undecodable { .. }
        | cloud::Error::NoAnswer(_)
        | cloud::Error::Unnumbered => Code::CloudOutcomeUnknown,
        cloud::Error::CredentialsRefused { .. }
        | cloud::Error::AppTokenRefused
        | cloud::Error::Unauthorized { .. }
        | cloud::Error::ConsumerTokenRefused => Code::CloudCredentialsRefused,
        cloud::Error::Refused { .. } | cloud::Error::ConversationClosed => Code::CloudRefused,
        cloud::Error::AlreadyOpen | cloud::Error::UnknownAccount(_) => Code::InternalError,
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}
