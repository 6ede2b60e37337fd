//! One event with its history: shown with its text masked, delivered again, or shown with its text.

use axum::Json as Body;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::operators::AuthOperator;
use super::{Admin, masking};
use crate::api::extract::{EventPath, Json};
use crate::api::problem::{Code, Problem};
use crate::api::v1::deliveries::view::DeliveryView;
use crate::bridge::{self, EventDetails};
use crate::types::audit::Record;
use crate::types::delivery::EventRecord;
use crate::types::event::EventId;
use crate::types::trace::Trace;

/// An event with its delivery, its trace and the operators' actions on it.
#[derive(Debug, Serialize)]
pub(super) struct EventView {
    channel: String,
    /// The event with its text masked.
    event: Value,
    /// The delivery; `None` if the channel had no callback URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryView>,
    /// The id of the trace in which the event arose.
    trace_id: Option<String>,
    /// The operators' actions on the event.
    actions: Vec<Record>,
}

/// An event as its channel gets it.
#[derive(Serialize)]
pub(super) struct EventText {
    event: Map<String, Value>,
}

/// The `event_id` of the path, for an event of any channel.
pub(super) struct EventIdPath(EventId);

impl FromRequestParts<Admin> for EventIdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let path = EventPath::from_request_parts(parts, admin).await;
        let EventPath(id) = path.map_err(|_| operator_problem(bridge::Error::EventNotFound))?;
        Ok(Self(id))
    }
}

/// An empty JSON object. The path identifies the event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptyBody {}

impl TryFrom<EventDetails> for EventView {
    type Error = Problem;

    fn try_from(details: EventDetails) -> Result<Self, Problem> {
        let event = parse_event(&details.record)?;
        let traceparent = details.origin.traceparent;
        Ok(Self {
            channel: details.origin.channel_id.to_string(),
            event: masking::event(event),
            delivery: DeliveryView::of(details.record),
            trace_id: traceparent.and_then(|it| Trace::id_in(&it)),
            actions: details.actions,
        })
    }
}

/// Parses the stored event.
fn parse_event(record: &EventRecord) -> Result<Map<String, Value>, Problem> {
    serde_json::from_str(&record.body)
        .map_err(|_| Problem::new(Code::InternalError, "The stored event is not JSON."))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    EventIdPath(id): EventIdPath,
) -> Result<Body<EventView>, Problem> {
    let details = admin
        .bridge
        .event_details(id)
        .await
        .map_err(operator_problem)?;
    Ok(Body(details.try_into()?))
}

pub(super) async fn retry(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    EventIdPath(id): EventIdPath,
    Json(EmptyBody {}): Json<EmptyBody>,
) -> Result<(StatusCode, Body<EventView>), Problem> {
    let bridge = &admin.bridge;
    let caller = bridge.caller_of_event(&operator, id).await;
    let caller = caller.map_err(operator_problem)?;
    bridge.retry_delivery(&caller, id).await?;
    let details = bridge.event_details(id).await.map_err(operator_problem)?;
    Ok((StatusCode::ACCEPTED, Body(details.try_into()?)))
}

pub(super) async fn read(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    EventIdPath(id): EventIdPath,
    Json(EmptyBody {}): Json<EmptyBody>,
) -> Result<Body<EventText>, Problem> {
    let record = admin.bridge.read_event(&operator, id).await;
    let event = parse_event(&record.map_err(operator_problem)?)?;
    Ok(Body(EventText { event }))
}

/// Maps an error to a problem. An unknown event gets another detail than for a channel, since an
/// operator can see the events of all channels.
fn operator_problem(error: bridge::Error) -> Problem {
    match error {
        bridge::Error::EventNotFound => Problem::new(
            Code::EventNotFound,
            "No channel has such an event, or it is no longer stored.",
        ),
        error => error.into(),
    }
}
