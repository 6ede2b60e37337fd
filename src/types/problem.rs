//! The codes of problems: one table for answers, events, deliveries and what is kept of requests.
//!
//! To add one:
//!
//! 1. a line of the table, and its place in `is_for_operators` or `nothing_done` where it differs;
//! 2. the error of `bridge` (`error.rs`) with its words in `api/problem.rs`, or the one of `api` that has it;
//! 3. the operations that have it (`describe_problems` of `api/openapi.rs`; all, if it is left out), and `openapi.yaml`;
//! 4. a chapter of `docs/problems.md` in the form of the others, and a line in `CHANGELOG.md`.

/// The kinds of problem, each with one status, one title, and whether another try may mend it.
macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $retryable:literal, $title:literal;)+) => {
        /// The kind of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as the facade shows it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status, 400 to 599.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// What the kind means, the same for each of its occurrences.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Whether the same request may succeed when it is sent again.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }
        }
    };
}

codes! {
    MalformedRequest = "malformed-request", 400, false, "The request cannot be read";
    Unauthorized = "unauthorized", 401, false, "The key or token is none of a channel's";
    SignatureRefused = "signature-refused", 401, false, "The notification is not the Cloud's";
    OperatorKeyRefused = "operator-key-refused", 401, false, "The key is none of an operator's";
    OperatorKeyUnset = "operator-key-unset", 403, false, "No operator key is configured";
    CrossSite = "cross-site", 403, false, "A page of another site made the request";
    MisdirectedRequest = "misdirected-request", 421, false, "The admin address does not serve this host name";
    Forbidden = "forbidden", 403, false, "The token is not valid for this";
    NotFound = "not-found", 404, false, "There is nothing at this path";
    UserNotFound = "user-not-found", 404, false, "The channel has no such user";
    ConversationNotFound = "conversation-not-found", 404, false, "The user never had a conversation";
    MessageNotFound = "message-not-found", 404, false, "No message that was queued has this id";
    FileNotFound = "file-not-found", 404, false, "The user has no such file";
    EventNotFound = "event-not-found", 404, false, "The channel has no such event";
    MethodNotAllowed = "method-not-allowed", 405, false, "The path does not take this method";
    RequestTimeout = "request-timeout", 408, true, "The request took too long to arrive or to be worked on";
    NoOpenConversation = "no-open-conversation", 409, false, "The user has no open conversation";
    ConversationOpen = "conversation-open", 409, false, "The user's conversation is still open";
    SurveyPending = "survey-pending", 409, true, "The survey of the user's conversation is not open";
    NoCallback = "no-callback", 409, false, "The channel has no callback URL";
    EventOfTheMoment = "event-of-the-moment", 409, false, "The event was of interest for a moment only";
    IdempotencyKeyInUse = "idempotency-key-in-use", 409, true, "The request with this idempotency key is being worked on";
    BodyTooLarge = "body-too-large", 413, false, "The body is too large";
    UriTooLong = "uri-too-long", 414, false, "The path and query are too long";
    HeadersTooLarge = "headers-too-large", 431, false, "The header fields are too many or too large";
    UnsupportedMediaType = "unsupported-media-type", 415, false, "The body has the wrong type";
    InvalidRequest = "invalid-request", 422, false, "The request breaks a rule";
    IdempotencyKeyReused = "idempotency-key-reused", 422, false, "The idempotency key stands for another request";
    CloudRefused = "cloud-refused", 422, false, "The Cloud refused the request";
    TooManyRequests = "too-many-requests", 429, true, "The channel asks too much";
    InternalError = "internal-error", 500, true, "The bridge failed";
    CloudCredentialsRefused = "cloud-credentials-refused", 502, false, "The Cloud refused the bridge's own credentials";
    StorageUnavailable = "storage-unavailable", 503, true, "The bridge's storage is away";
    Overloaded = "overloaded", 503, true, "The bridge takes no more requests for now";
    QueueFull = "queue-full", 503, true, "The queue of requests that wait for the Cloud is full";
    TooManyReaders = "too-many-readers", 503, true, "The bridge takes no more readers for now";
    TooManyFiles = "too-many-files", 503, true, "The bridge takes no more files for now";
    TooManyNotifications = "too-many-notifications", 503, true, "The bridge takes no more notifications for now";
    CloudUnavailable = "cloud-unavailable", 503, true, "The Cloud is away";
    CloudThrottled = "cloud-throttled", 503, true, "The Cloud takes no more requests for now";
    ConversationPending = "conversation-pending", 503, true, "The user's conversation is still being opened";
    ConversationLost = "conversation-lost", 503, true, "The Cloud has a conversation open that the bridge cannot find";
    CloudOutcomeUnknown = "cloud-outcome-unknown", 504, false, "The Cloud did not say whether it did what was asked";
}

impl Code {
    /// Whether only the admin address has it, which the document of the facade says nothing of.
    #[must_use]
    pub const fn is_for_operators(self) -> bool {
        matches!(
            self,
            Self::OperatorKeyRefused
                | Self::OperatorKeyUnset
                | Self::CrossSite
                | Self::MisdirectedRequest
        )
    }

    /// Whether nothing was done, so that the same request may be done when it comes again under the same idempotency key.
    #[must_use]
    pub const fn nothing_done(self) -> bool {
        !matches!(self, Self::InternalError | Self::CloudOutcomeUnknown)
    }
}

/// In the place of a code: what was accepted has grown too old.
pub const EXPIRED: &str = "expired";

/// The same: its channel is not configured any more.
pub const CHANNEL_REMOVED: &str = "channel-removed";

/// The same in a timeline: the Cloud took a message without saying its sequence, so it is never sent again.
pub const SEQUENCE_UNKNOWN: &str = "cloud-sequence-unknown";

/// The same: something in front of the Cloud has answered in its place.
pub const BLOCKED: &str = "cloud-blocked";
