//! A new event, as it is stored in a log and claimed with its lane.

use chrono::{DateTime, Utc};

use super::UserRef;
use crate::types::event::{EventId, EventType};
use crate::types::ids::ChannelId;
use crate::types::trace::TraceContext;

/// An event to append to a channel's log.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// The channel of the log.
    pub channel_id: ChannelId,
    /// The user of the event; `None` for a test event.
    pub user: Option<UserRef>,
    /// Its type.
    pub kind: EventType,
    /// The event as it is delivered.
    pub body: String,
    /// The trace context of its cause.
    pub parent: Option<TraceContext>,
    /// The deadline for its delivery; `None` if the channel has no callback URL.
    pub deliver_until: Option<DateTime<Utc>>,
}
