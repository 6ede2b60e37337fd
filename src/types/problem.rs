//! The codes of problems: one table for error responses, events, deliveries and stored requests.
//!
//! To add a code:
//!
//! 1. Add a line to the table. Add the code to `is_for_operators`, or to the exceptions in
//!    `had_no_effect`, if it belongs there.
//! 2. Add the error of `bridge` (`error.rs`) with its text in `api/problem.rs`, or map an error of
//!    `api` to the code.
//! 3. Name the operations that can return it (`describe_problems` in `api/openapi.rs`; all of them
//!    if it is left out), and update `openapi.yaml`.
//! 4. Add a chapter to `docs/problems.md` in the form of the others, and a line to `CHANGELOG.md`.

/// Declares the codes of problems, each with its status, its title, and whether a retry may
/// succeed.
macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $retryable:literal, $title:literal;)+) => {
        /// The code of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the code as the API shows it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns the HTTP status, 400 to 599.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Returns the title, which is the same for all problems with this code.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// True if the same request may succeed when it is sent again.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }
        }
    };
}

codes! {
    MalformedRequest = "malformed-request", 400, false, "The request cannot be read";
    Unauthorized = "unauthorized", 401, false, "Invalid API key or token";
    SignatureRefused = "signature-refused", 401, false, "The notification is not from the Cloud";
    OperatorKeyRefused = "operator-key-refused", 401, false, "Invalid operator key";
    OperatorKeyUnset = "operator-key-unset", 403, false, "No operator key is configured";
    CrossSite = "cross-site", 403, false, "The request comes from a page of another site";
    MisdirectedRequest = "misdirected-request", 421, false, "The admin address does not serve this host name";
    Forbidden = "forbidden", 403, false, "The token does not permit this request";
    NotFound = "not-found", 404, false, "There is nothing at this path";
    UserNotFound = "user-not-found", 404, false, "The channel has no such user";
    ConversationNotFound = "conversation-not-found", 404, false, "The user never had a conversation";
    MessageNotFound = "message-not-found", 404, false, "No queued message has this id";
    FileNotFound = "file-not-found", 404, false, "The user has no such file";
    EventNotFound = "event-not-found", 404, false, "The channel has no such event";
    MethodNotAllowed = "method-not-allowed", 405, false, "The path does not support this method";
    RequestTimeout = "request-timeout", 408, true, "The request took too long to arrive or to be processed";
    NoOpenConversation = "no-open-conversation", 409, false, "The user has no open conversation";
    ConversationOpen = "conversation-open", 409, false, "The user's conversation is still open";
    SurveyPending = "survey-pending", 409, true, "The survey of the user's conversation is not open";
    NoCallback = "no-callback", 409, false, "The channel has no callback URL";
    TransientEvent = "event-of-the-moment", 409, false, "Short-lived events are not sent again";
    IdempotencyKeyInUse = "idempotency-key-in-use", 409, true, "The request with this idempotency key is in progress";
    FileLinkExpired = "file-link-expired", 410, false, "The link to the file has expired";
    BodyTooLarge = "body-too-large", 413, false, "The body is too large";
    UriTooLong = "uri-too-long", 414, false, "The path and query are too long";
    HeadersTooLarge = "headers-too-large", 431, false, "The header fields are too many or too large";
    UnsupportedMediaType = "unsupported-media-type", 415, false, "The body has the wrong type";
    InvalidRequest = "invalid-request", 422, false, "The request is invalid";
    IdempotencyKeyReused = "idempotency-key-reused", 422, false, "The idempotency key belongs to another request";
    CloudRefused = "cloud-refused", 422, false, "The Cloud refused the request";
    TooManyRequests = "too-many-requests", 429, true, "Too many requests";
    InternalError = "internal-error", 500, true, "The bridge failed";
    CloudCredentialsRefused = "cloud-credentials-refused", 502, false, "The Cloud refused the bridge's own credentials";
    StorageUnavailable = "storage-unavailable", 503, true, "The bridge's storage is unavailable";
    Overloaded = "overloaded", 503, true, "The bridge accepts no more requests for now";
    QueueFull = "queue-full", 503, true, "The queue of requests to the Cloud is full";
    TooManyReaders = "too-many-readers", 503, true, "The bridge accepts no more readers for now";
    TooManyFiles = "too-many-files", 503, true, "The bridge accepts no more files for now";
    TooManyNotifications = "too-many-notifications", 503, true, "The bridge accepts no more notifications for now";
    CloudUnavailable = "cloud-unavailable", 503, true, "The Cloud is unavailable";
    CloudThrottled = "cloud-throttled", 503, true, "The Cloud accepts no more requests for now";
    ConversationPending = "conversation-pending", 503, true, "The user's conversation is still being opened";
    ConversationLost = "conversation-lost", 503, true, "The Cloud has an open conversation that the bridge cannot find";
    CloudOutcomeUnknown = "cloud-outcome-unknown", 504, false, "The outcome at the Cloud is unknown";
}

impl Code {
    /// True if only the admin address returns this code. The OpenAPI document leaves it out.
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

    /// True if the request had no effect. It may then be processed again under the same idempotency
    /// key.
    #[must_use]
    pub const fn had_no_effect(self) -> bool {
        !matches!(self, Self::InternalError | Self::CloudOutcomeUnknown)
    }
}

/// The failure reason of an accepted request that grew too old. It takes the place of a code.
pub const EXPIRED: &str = "expired";

/// The failure reason of a request if its channel is no longer configured. It takes the place of a
/// code.
pub const CHANNEL_REMOVED: &str = "channel-removed";

/// The reason for a message that the Cloud accepted without returning its sequence. It appears only
/// in timelines. The message is never sent again.
pub const SEQUENCE_UNKNOWN: &str = "cloud-sequence-unknown";

/// The reason for an attempt that a gateway in front of the Cloud answered. It appears only in
/// timelines.
pub const BLOCKED: &str = "cloud-blocked";
