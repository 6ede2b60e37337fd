//! The representation of deliveries in the API.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::problem::{Code, Problem};
use crate::types::delivery::{Attempt, Delivery, DeliveryState, EventRecord};
use crate::types::event::{Cursor, Event, EventType, SAMPLE_ID};
use crate::types::ids::UserId;

/// The state of the delivery of an event.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryState)]
pub(in crate::api) enum StateView {
    /// The event is still to be delivered.
    Pending,
    /// The channel has the event.
    Delivered,
    /// The channel refused the event, or the event grew too old.
    Failed,
    /// The event was of interest for a moment only, and that has passed.
    Dropped,
}

impl From<DeliveryState> for StateView {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Failed => Self::Failed,
            DeliveryState::Dropped => Self::Dropped,
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "deliveries": [{
        "event_id": "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        "type": "message.created",
        "user_id": "alice",
        "state": "delivered",
        "attempts": 2,
        "created_at": "2026-11-22T08:00:30.260Z",
        "deliver_until": "2026-11-25T08:00:30.260Z",
    }],
    "next": "c1f5",
}))]
pub(in crate::api::v1) struct DeliveryList {
    /// The deliveries, in the order of their events.
    pub(super) deliveries: Vec<DeliveryItem>,
    /// The value of `after` for the next page. It is unchanged if this page is empty.
    #[schema(value_type = String, example = "c1f5")]
    pub(super) next: Cursor,
}

/// An event and the state of its delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::v1) struct DeliveryItem {
    /// The id of the event.
    #[schema(example = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    event_id: String,
    /// The type of the event.
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    kind: String,
    /// The user of the event; `test` for a test event.
    #[schema(value_type = UserId)]
    user_id: String,
    /// The state of the delivery.
    state: StateView,
    /// The number of times that the event was sent.
    attempts: u32,
    /// The time at which the event was created.
    created_at: DateTime<Utc>,
    /// The time from which the event is too old to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deliver_until: Option<DateTime<Utc>>,
    /// The reason for which the delivery failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<String>,
}

impl DeliveryItem {
    pub(super) fn new(delivery: Delivery, state: DeliveryState) -> Self {
        Self {
            event_id: delivery.id.to_string(),
            kind: delivery.kind,
            user_id: delivery
                .user_id
                .map_or_else(|| SAMPLE_ID.to_owned(), String::from),
            state: state.into(),
            attempts: delivery.attempts,
            created_at: delivery.created_at,
            deliver_until: delivery.deliver_until,
            failure: delivery.failure,
        }
    }
}

/// An event with its delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::v1) struct EventView {
    /// The event.
    #[serde(flatten)]
    #[schema(value_type = Event)]
    event: Map<String, Value>,
    /// The delivery of the event. Left out if the channel had no callback URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    delivery: Option<DeliveryView>,
}

/// The delivery of an event, with all attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(in crate::api) struct DeliveryView {
    /// The state of the delivery.
    state: StateView,
    /// The time at which the event was created.
    created_at: DateTime<Utc>,
    /// The time from which the event is too old to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deliver_until: Option<DateTime<Utc>>,
    /// The reason for which the delivery failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<String>,
    /// Every attempt to deliver the event, oldest first.
    attempts: Vec<AttemptView>,
}

/// An attempt to deliver an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(in crate::api) struct AttemptView {
    /// The number of the attempt, from 1.
    number: u32,
    /// The time at which the attempt began.
    at: DateTime<Utc>,
    /// The duration of the attempt, in milliseconds.
    duration_ms: u64,
    /// The HTTP status of the channel's answer. Left out if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 503)]
    status: Option<u16>,
    /// The reason for which there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error: attempt.error,
        }
    }
}

impl DeliveryView {
    /// Returns the delivery of an event; `None` if the channel had no callback URL.
    pub(in crate::api) fn of(record: EventRecord) -> Option<Self> {
        let attempts = record.attempts.into_iter().map(AttemptView::from);
        Some(Self {
            state: record.delivery?.into(),
            created_at: record.created_at,
            deliver_until: record.deliver_until,
            failure: record.failure,
            attempts: attempts.collect(),
        })
    }
}

impl TryFrom<EventRecord> for EventView {
    type Error = Problem;

    fn try_from(record: EventRecord) -> Result<Self, Problem> {
        let event = serde_json::from_str(&record.body)
            .map_err(|_| Problem::new(Code::InternalError, "The stored event is not JSON."))?;
        Ok(Self {
            event,
            delivery: DeliveryView::of(record),
        })
    }
}
