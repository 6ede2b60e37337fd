//! The recent requests and events of a user, as operators see them: without any content.

use chrono::{DateTime, TimeDelta, Utc};

use super::delivery::DeliveryState;
use super::event::EventId;
use super::ids::ChannelId;
use super::message::MessageId;
use super::request::RequestState;

/// The recent requests and events of a user, over all channels of the user's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTimeline {
    /// The queued requests, newest first.
    pub requests: Vec<RecentRequest>,
    /// The events, newest first.
    pub events: Vec<RecentEvent>,
}

impl UserTimeline {
    /// 7 days: the age of the oldest listed request or event.
    pub const PERIOD: TimeDelta = TimeDelta::days(7);

    /// 100: the maximum number of listed requests, and of listed events.
    pub const MAX: u32 = 100;
}

/// A queued request of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRequest {
    /// Its id.
    pub id: MessageId,
    /// The channel that it came from.
    pub channel_id: ChannelId,
    /// Its kind: `text`, `file`, `receipts`, `close` or `rating`.
    pub kind: String,
    /// Its progress.
    pub state: RequestState,
    /// The number of attempts to send it.
    pub attempts: u32,
    /// The time at which it arrived.
    pub created_at: DateTime<Utc>,
}

/// An event about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentEvent {
    /// Its id.
    pub id: EventId,
    /// The channel of the event.
    pub channel_id: ChannelId,
    /// The type of the event, such as `message.created`.
    pub kind: String,
    /// The state of its delivery; `None` if the channel had no callback.
    pub delivery: Option<DeliveryState>,
    /// The number of attempts to deliver it.
    pub attempts: u32,
    /// The time at which it was created.
    pub created_at: DateTime<Utc>,
}
