//! The owner of an event or a request, for operators, who know its id alone.

use super::ids::{ChannelId, UserId};

/// Where something belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The channel, which may be configured no more.
    pub channel_id: ChannelId,
    /// Whom it is about; none for an event to try the callback with.
    pub user_id: Option<UserId>,
    /// The trace that it came about by.
    pub traceparent: Option<String>,
}
