//! The deliveries of events to the channel's callback URL, for the people who operate the channel.

pub(in crate::api) mod view;

use axum::Json as Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::events::{Limit, MaybeCursor};
use crate::api::auth::AuthChannel;
use crate::api::extract::{EventPath, Json, Query};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::delivery::{
    CallbackSchedule, DeliveryState, PROBE_AFTER_FAILURES, ReplaySelection,
};
use crate::types::event::{self, Event, EventType};
use crate::types::ids::{UserId, UserKey};
use crate::types::links;
use crate::types::time::Moment;
use view::{DeliveryItem, DeliveryList, EventView};

/// The query parameters of the list of deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// The state of the deliveries to list.
    #[param(example = "delivered")]
    state: StateFilter,
    /// The `next` of the previous page. If it is missing or empty, the list begins at the oldest
    /// stored event.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: MaybeCursor,
    /// The maximum number of deliveries in the response.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// A state of deliveries, as a filter.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryStateFilter)]
pub(in crate::api) enum StateFilter {
    /// The event is still to be delivered.
    Pending,
    /// The channel refused the event, or the event grew too old.
    Failed,
    /// The channel has the event.
    Delivered,
}

impl From<StateFilter> for DeliveryState {
    fn from(state: StateFilter) -> Self {
        match state {
            StateFilter::Pending => Self::Pending,
            StateFilter::Failed => Self::Failed,
            StateFilter::Delivered => Self::Delivered,
        }
    }
}

/// Lists the deliveries in a state.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    operation_id = "listDeliveries",
    params(ListParameters),
    responses((status = 200, description = "The deliveries", body = DeliveryList)),
)]
pub(super) async fn list(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Query(ListParameters {
        state,
        after: MaybeCursor(after),
        limit,
    }): Query<ListParameters>,
) -> Result<Body<DeliveryList>, Problem> {
    let state = DeliveryState::from(state);
    let page = bridge.deliveries(&caller, state, after, limit.0).await?;
    let deliveries = page.deliveries.into_iter();
    Ok(Body(DeliveryList {
        deliveries: deliveries
            .map(|delivery| DeliveryItem::new(delivery, state))
            .collect(),
        next: page.next,
    }))
}

/// Returns an event in this delivery state as the examples show it.
fn example(state: &str) -> Value {
    let mut event = event::example();
    let delivery = json!({
        "state": state,
        "created_at": "2026-11-22T08:00:30.260Z",
        "deliver_until": "2026-11-25T08:00:30.260Z",
        "attempts": [
            {"number": 1, "at": "2026-11-22T08:00:30.280Z", "duration_ms": 41, "status": 503},
            {"number": 2, "at": "2026-11-22T08:00:31.320Z", "duration_ms": 38, "status": 204},
        ],
    });
    if let Some(members) = event.as_object_mut() {
        members.insert("delivery".to_owned(), delivery);
    }
    event
}

/// Shows an event with every attempt to deliver it.
#[utoipa::path(
    get,
    path = "/v1/events/{event_id}",
    tag = "deliveries",
    operation_id = "getEvent",
    params(EventPath),
    responses((status = 200, description = "The event", body = EventView, example = json!(example("delivered")))),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    EventPath(id): EventPath,
) -> Result<Body<EventView>, Problem> {
    let record = bridge.event(&caller, id).await?;
    Ok(Body(record.try_into()?))
}

/// Delivers an event again, whatever the state of its delivery.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{event_id}/retry",
    tag = "deliveries",
    operation_id = "retryDelivery",
    params(EventPath),
    responses((
        status = 202,
        description = "The event is delivered after the earlier events of the same user",
        body = EventView,
        example = json!(example("pending")),
    )),
)]
pub(super) async fn retry(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    EventPath(id): EventPath,
) -> Result<(StatusCode, Body<EventView>), Problem> {
    let record = bridge.retry_delivery(&caller, id).await?;
    Ok((StatusCode::ACCEPTED, Body(record.try_into()?)))
}

/// The selection of events to replay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Only events at this time or later are replayed.
    since: Moment,
    /// Only events before this time are replayed. If it is left out, there is no upper limit.
    until: Option<Moment>,
    /// Only deliveries in this state are replayed. If it is left out, all that are not pending are.
    state: Option<StateFilter>,
    /// Only events about this user are replayed. If it is left out, those about all users are.
    user_id: Option<UserId>,
    /// True if the events are only counted, not replayed.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// The number of events that a replay concerns.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"count": 12}))]
pub(in crate::api) struct Replayed {
    /// The number of events that are delivered again, or would be.
    pub(in crate::api) count: u64,
}

/// Replays deliveries, in the order of each user's events. Typing events are not sent again.
#[utoipa::path(
    post,
    path = "/v1/deliveries/replay",
    tag = "deliveries",
    operation_id = "replayDeliveries",
    request_body(content = ReplayRequest, examples(
        ("count" = (
            summary = "Only count the events",
            value = json!({"since": "2026-11-22T08:00:00Z", "dry_run": true}),
        )),
        ("failed" = (
            summary = "All that failed in an hour",
            value = json!({"since": "2026-11-22T08:00:00Z", "until": "2026-11-22T09:00:00Z", "state": "failed"}),
        )),
        ("user" = (
            summary = "All about one user",
            value = json!({"since": "2026-11-22T08:00:00Z", "user_id": "alice"}),
        )),
    )),
    responses((status = 200, description = "The number of events", body = Replayed)),
)]
pub(super) async fn replay(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Json(request): Json<ReplayRequest>,
) -> Result<Body<Replayed>, Problem> {
    let (since, until) = (request.since.into(), request.until.map(Moment::into));
    check_interval(since, until)?;
    let replay = ReplaySelection {
        since,
        until,
        state: request.state.map(DeliveryState::from),
        user: request.user_id.map(|user_id| UserKey {
            account_id: caller.channel.account_id.clone(),
            namespace: caller.channel.namespace.clone(),
            user_id,
        }),
    };
    let count = bridge
        .replay_deliveries(&caller, &replay, request.dry_run.unwrap_or_default())
        .await?;
    Ok(Body(Replayed { count }))
}

/// Refuses an interval that ends before it begins.
pub(in crate::api) fn check_interval(
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> Result<(), Problem> {
    if until.is_some_and(|until| until <= since) {
        return Err(Problem::violation(
            "/until".to_owned(),
            "expected a later time than `since`".to_owned(),
        ));
    }
    Ok(())
}

/// The callback URL's state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"state": "active", "failures": 0}))]
pub(in crate::api) struct Callback {
    /// The state of the deliveries to the callback URL.
    state: CallbackState,
    /// The number of deliveries that have failed in a row, over all users.
    failures: u32,
}

/// The state of the deliveries to a callback URL.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CallbackState {
    /// Every event is sent.
    Active,
    /// A single event is sent at a time, since many have failed in a row.
    Probed,
    /// Nothing is sent, since the callback URL has answered 410 or an operator has paused it.
    Paused,
}

impl From<CallbackSchedule> for Callback {
    fn from(schedule: CallbackSchedule) -> Self {
        let state = if schedule.paused {
            CallbackState::Paused
        } else if schedule.failures >= PROBE_AFTER_FAILURES {
            CallbackState::Probed
        } else {
            CallbackState::Active
        };
        Self {
            state,
            failures: schedule.failures,
        }
    }
}

/// Resumes callbacks that a 410 or an operator has paused, or that many failures have reduced to
/// single events.
#[utoipa::path(
    post,
    path = "/v1/deliveries/resume",
    tag = "deliveries",
    operation_id = "resumeDeliveries",
    responses((status = 200, description = "Waiting events are sent now", body = Callback)),
)]
pub(super) async fn resume(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
) -> Result<Body<Callback>, Problem> {
    Ok(Body(bridge.resume_callback(&caller).await?.into()))
}

/// The test event to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestRequest {
    /// The type of the event.
    #[serde(rename = "type")]
    kind: EventType,
}

/// Creates an event about a user `test`. It is read and delivered like any other.
#[utoipa::path(
    post,
    path = "/v1/events/test",
    tag = "deliveries",
    operation_id = "createTestEvent",
    request_body(content = TestRequest, example = json!({"type": "message.created"})),
    responses((
        status = 201,
        description = "The event",
        body = Event,
        headers(("Location" = String, description = "The event's URL, which shows the attempts to deliver it")),
    )),
)]
pub(super) async fn test(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Json(TestRequest { kind }): Json<TestRequest>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Body<Event>), Problem> {
    let event = bridge.log_sample(&caller, kind).await?;
    let location = links::event(event.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Body(event)))
}
