//! How deliveries are shown.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::problem::{Code, Problem};
use crate::types::delivery::{Attempt, Delivery, DeliveryState, EventRecord};
use crate::types::event::{Cursor, Event, EventType, NOBODY};
use crate::types::ids::UserId;

/// What became of the delivery of an event.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryState)]
pub(in crate::api) enum StateView {
    /// It has still to be delivered.
    Pending,
    /// The channel has it.
    Delivered,
    /// The channel refused it, or it grew too old.
    Failed,
    /// It was of interest for a moment only, and that has passed.
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

/// A part of the deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::v1) struct DeliveryList {
    /// The deliveries, in the order of their events.
    pub(super) deliveries: Vec<DeliveryItem>,
    /// What to ask for next, as `after`; where there was none, it is the same as before.
    #[schema(value_type = String, example = "c1f5")]
    pub(super) next: Cursor,
}

/// An event and what became of its delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::v1) struct DeliveryItem {
    /// The event.
    #[schema(example = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    kind: String,
    /// Whom it is about; `test` of one to try the callback with.
    #[schema(value_type = UserId)]
    user_id: String,
    /// What became of it.
    state: StateView,
    /// How often it was sent.
    attempts: u32,
    /// When it came up.
    created_at: DateTime<Utc>,
    /// From when on it is too old to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deliver_until: Option<DateTime<Utc>>,
    /// Why it failed.
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
                .map_or_else(|| NOBODY.to_owned(), String::from),
            state: state.into(),
            attempts: delivery.attempts,
            created_at: delivery.created_at,
            deliver_until: delivery.deliver_until,
            failure: delivery.failure,
        }
    }
}

/// An event with all that is known of its delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::v1) struct EventView {
    /// The event.
    #[serde(flatten)]
    #[schema(value_type = Event)]
    event: Map<String, Value>,
    /// What became of its delivery; left out where the channel had no callback URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    delivery: Option<DeliveryView>,
}

/// What became of the delivery of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(in crate::api) struct DeliveryView {
    /// What became of it.
    state: StateView,
    /// When it came up.
    created_at: DateTime<Utc>,
    /// From when on it is too old to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deliver_until: Option<DateTime<Utc>>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<String>,
    /// Every time that it was sent, the first one first.
    attempts: Vec<AttemptView>,
}

/// One time that an event was sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(in crate::api) struct AttemptView {
    /// Its number, from 1.
    number: u32,
    /// When it began.
    at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    duration_ms: u64,
    /// The HTTP status of the answer; left out where none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 503)]
    status: Option<u16>,
    /// Why none came.
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
    /// What became of an event's delivery; none where the channel had no callback URL.
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
            .map_err(|_| Problem::new(Code::InternalError, "The event that is kept is no JSON."))?;
        Ok(Self {
            event,
            delivery: DeliveryView::of(record),
        })
    }
}
