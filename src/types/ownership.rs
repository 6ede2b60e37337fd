//! The owner of an event or a request. Operators look it up, since they know only an id.

use super::ids::{ChannelId, UserId};

/// The channel and the user to which something belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The channel, which may no longer be configured.
    pub channel_id: ChannelId,
    /// The user; `None` for a sample event.
    pub user_id: Option<UserId>,
    /// The trace context of its cause.
    pub traceparent: Option<String>,
}
