//! Deliveries of events to callback URLs, as channels and operators see them.

use chrono::{DateTime, Utc};

use super::event::EventId;
use super::ids::{ChannelId, UserId, UserKey};

/// 20 failures in a row: too many to be the fault of single events.
pub const PROBED_FROM: u32 = 20;

/// What became of the delivery of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It has still to be delivered.
    Pending,
    /// The channel has it.
    Delivered,
    /// The channel refused it, or it grew too old.
    Failed,
    /// It was of interest for a moment only, and that has passed.
    Dropped,
}

/// An event of a list of deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the channel's log; a list goes on behind it.
    pub position: u64,
    /// Its id.
    pub id: EventId,
    /// Its type, such as `message.created`.
    pub kind: String,
    /// Whom it is about; none for an event to try the callback with.
    pub user_id: Option<UserId>,
    /// When it came up.
    pub created_at: DateTime<Utc>,
    /// From when on it is too old to be delivered.
    pub deliver_until: Option<DateTime<Utc>>,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// Why it failed.
    pub failure: Option<String>,
}

/// An event with all that is known of its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its place in the channel's log.
    pub position: u64,
    /// Its type, such as `message.created`.
    pub kind: String,
    /// The event as channels get it.
    pub body: String,
    /// When it came up.
    pub created_at: DateTime<Utc>,
    /// What became of its delivery; none where the channel had no callback URL.
    pub delivery: Option<DeliveryState>,
    /// From when on it is too old to be delivered.
    pub deliver_until: Option<DateTime<Utc>>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Every try to deliver it, the first one first.
    pub attempts: Vec<Attempt>,
}

/// One try to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The status that the channel answered with; none where there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
}

/// The events that are to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Those that came up then or later,
    pub since: DateTime<Utc>,
    /// and before this moment;
    pub until: Option<DateTime<Utc>>,
    /// of whose delivery this became, where it is left out all that are not pending;
    pub state: Option<DeliveryState>,
    /// and that are about this user.
    pub user: Option<UserKey>,
}

/// How many deliveries of a channel are in each state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// The channel.
    pub channel_id: ChannelId,
    /// Those that have still to be delivered, up to 10,000.
    pub pending: u32,
    /// Those that the channel refused or that grew too old, up to 10,000.
    pub failed: u32,
    /// Those that the channel has, of the `recent` newest events.
    pub delivered: u32,
    /// The newest events of the log that were looked at, 10,000 at most.
    pub recent: u32,
}

impl DeliveryCounts {
    /// 10,000: whatever is counted is counted no further.
    pub const MOST: u32 = 10_000;
}

/// A delivery, with what came of the last try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentDelivery {
    /// The delivery; a list goes on before its position.
    pub delivery: Delivery,
    /// What came of the last try.
    pub last_try: Option<LastTry>,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTry {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The status that the channel answered with; none where there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
}

/// What there is to do for a channel's callback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// When the next lane may be taken; none if all are empty.
    pub due_at: Option<DateTime<Utc>>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether nothing is sent until somebody resumes it.
    pub paused: bool,
    /// When the next probe may be sent, where only probes are.
    pub probe_at: Option<DateTime<Utc>>,
}

/// Why nothing is sent to a callback until somebody resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether an operator wants that; else the callback has answered 410.
    pub by_operator: bool,
}
