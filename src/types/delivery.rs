//! Deliveries of events to callbacks, as channels and operators see them.

use chrono::{DateTime, Utc};

use super::event::EventId;
use super::ids::{ChannelId, UserId, UserKey};

/// 20 consecutive failures: the number from which a callback gets only probes. Single events are
/// unlikely to cause so many failures.
pub const PROBE_AFTER_FAILURES: u32 = 20;

/// The state of the delivery of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not delivered yet.
    Pending,
    /// Delivered.
    Delivered,
    /// Given up: the channel refused the event, or the event grew too old.
    Failed,
    /// Dropped: the event was short-lived, and its only attempt failed or it is out of date.
    Dropped,
}

/// An event in a list of deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its position in the channel's event log. The next page of a list begins behind it.
    pub position: u64,
    /// The id of the event.
    pub id: EventId,
    /// The type of the event, such as `message.created`.
    pub kind: String,
    /// The user whom the event is about; `None` for a sample event.
    pub user_id: Option<UserId>,
    /// The time at which the event was created.
    pub created_at: DateTime<Utc>,
    /// The time from which the event is too old to be delivered.
    pub deliver_until: Option<DateTime<Utc>>,
    /// The number of attempts to deliver it.
    pub attempts: u32,
    /// The reason for the failure of the delivery.
    pub failure: Option<String>,
}

/// An event with the record of its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its position in the channel's event log.
    pub position: u64,
    /// The type of the event, such as `message.created`.
    pub kind: String,
    /// The event as channels receive it.
    pub body: String,
    /// The time at which the event was created.
    pub created_at: DateTime<Utc>,
    /// The state of its delivery; `None` if the channel had no callback.
    pub delivery: Option<DeliveryState>,
    /// The time from which the event is too old to be delivered.
    pub deliver_until: Option<DateTime<Utc>>,
    /// The reason for the failure of the delivery.
    pub failure: Option<String>,
    /// All attempts to deliver the event, in order.
    pub attempts: Vec<Attempt>,
}

/// An attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The time at which it began.
    pub at: DateTime<Utc>,
    /// Its duration in milliseconds.
    pub duration_ms: u64,
    /// The status of the channel's answer; `None` if there was no answer.
    pub status: Option<u16>,
    /// The reason for the missing answer.
    pub error: Option<String>,
}

/// A selection of events to deliver again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySelection {
    /// The start of the period in which the events were created, inclusive.
    pub since: DateTime<Utc>,
    /// The end of the period, exclusive; `None` for no end.
    pub until: Option<DateTime<Utc>>,
    /// The delivery state of the events; `None` for all that are not pending.
    pub state: Option<DeliveryState>,
    /// The user whom the events are about; `None` for all users.
    pub user: Option<UserKey>,
}

/// The number of a channel's deliveries in each state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// The channel.
    pub channel_id: ChannelId,
    /// Events that are still to be delivered, counted up to 10,000.
    pub pending: u32,
    /// Events that the channel refused or that grew too old, counted up to 10,000.
    pub failed: u32,
    /// Delivered events among the `recent` newest events.
    pub delivered: u32,
    /// The number of newest events in the log that were examined, at most 10,000.
    pub recent: u32,
}

impl DeliveryCounts {
    /// 10,000: the number at which counting stops.
    pub const MAX: u32 = 10_000;
}

/// A delivery with its last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentDelivery {
    /// The delivery. The next page of a list begins before its position.
    pub delivery: Delivery,
    /// The last attempt; `None` if there was none.
    pub last_attempt: Option<LastAttempt>,
}

/// The last attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAttempt {
    /// The time at which it began.
    pub at: DateTime<Utc>,
    /// The status of the channel's answer; `None` if there was no answer.
    pub status: Option<u16>,
    /// The reason for the missing answer.
    pub error: Option<String>,
}

/// The state of the deliveries to a channel's callback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallbackSchedule {
    /// The time at which the next delivery lane is due; `None` if all are empty.
    pub due_at: Option<DateTime<Utc>>,
    /// The number of consecutive failures.
    pub failures: u32,
    /// True if nothing is sent until deliveries are resumed.
    pub paused: bool,
    /// The time of the next probe, while only probes are sent.
    pub probe_at: Option<DateTime<Utc>>,
}

/// The pause of a callback, in which nothing is sent until deliveries are resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The time at which the pause began.
    pub since: DateTime<Utc>,
    /// True if an operator paused the callback; false if the callback answered 410.
    pub by_operator: bool,
}
