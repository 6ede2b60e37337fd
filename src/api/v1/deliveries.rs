//! What became of events that are sent to the channel's callback URL, for those who look after the channel.

pub(in crate::api) mod view;

use axum::Json as Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::events::{Limit, MaybeCursor};
use crate::api::auth::AuthChannel;
use crate::api::extract::{EventPath, Json, Query};
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::types::delivery::{DeliveryState, Outlook, PROBED_FROM, Replay};
use crate::types::event::{Event, EventType};
use crate::types::ids::{UserId, UserKey};
use crate::types::links;
use crate::types::time::Moment;
use view::{DeliveryItem, DeliveryList, EventView};

/// What part of the deliveries is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Which deliveries.
    state: AskedState,
    /// The `next` of the answer before; left out or empty: from the oldest event that is kept.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "c1f4")]
    after: MaybeCursor,
    /// How many at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// A state of deliveries that can be asked for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AskedDeliveryState)]
pub(in crate::api) enum AskedState {
    /// They have still to be delivered.
    Pending,
    /// The channel refused them, or they grew too old.
    Failed,
    /// The channel has them.
    Delivered,
}

impl From<AskedState> for DeliveryState {
    fn from(state: AskedState) -> Self {
        match state {
            AskedState::Pending => Self::Pending,
            AskedState::Failed => Self::Failed,
            AskedState::Delivered => Self::Delivered,
        }
    }
}

/// Lists what became of deliveries.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    operation_id = "listDeliveries",
    params(Asked),
    responses((status = 200, description = "The deliveries", body = DeliveryList)),
)]
pub(super) async fn list(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Query(Asked {
        state,
        after: MaybeCursor(after),
        limit,
    }): Query<Asked>,
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

/// Shows an event with every try to deliver it.
#[utoipa::path(
    get,
    path = "/v1/events/{event_id}",
    tag = "deliveries",
    operation_id = "getEvent",
    params(EventPath),
    responses((status = 200, description = "The event", body = EventView)),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    EventPath(id): EventPath,
) -> Result<Body<EventView>, Problem> {
    let record = bridge.event(&caller, id).await?;
    Ok(Body(record.try_into()?))
}

/// Has an event delivered once more, whatever became of it before.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{event_id}/retry",
    tag = "deliveries",
    operation_id = "retryDelivery",
    params(EventPath),
    responses((status = 202, description = "The event is delivered as soon as those of the same user before it allow", body = EventView)),
)]
pub(super) async fn retry(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    EventPath(id): EventPath,
) -> Result<(StatusCode, Body<EventView>), Problem> {
    let record = bridge.retry_delivery(&caller, id).await?;
    Ok((StatusCode::ACCEPTED, Body(record.try_into()?)))
}

/// The events that are to be delivered once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Those that came up then or later,
    since: Moment,
    /// and before this moment, where it is given;
    until: Option<Moment>,
    /// of whose delivery this became; left out: all that are not pending;
    state: Option<AskedState>,
    /// and that are about this user, where one is given.
    user_id: Option<UserId>,
    /// Whether they are only counted.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// How many events a replay is about.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Replayed {
    /// How many events are delivered once more, or would be.
    pub(in crate::api) count: u64,
}

/// Has events delivered once more, in their users' order. What somebody was typing is not sent again.
#[utoipa::path(
    post,
    path = "/v1/deliveries/replay",
    tag = "deliveries",
    operation_id = "replayDeliveries",
    request_body = ReplayRequest,
    responses((status = 200, description = "How many events it is about", body = Replayed)),
)]
pub(super) async fn replay(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Json(request): Json<ReplayRequest>,
) -> Result<Body<Replayed>, Problem> {
    let (since, until) = (request.since.into(), request.until.map(Moment::into));
    check_interval(since, until)?;
    let replay = Replay {
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

/// How the callback URL fares.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Callback {
    /// What is sent to it.
    state: CallbackState,
    /// How many deliveries have failed in a row, over all users.
    failures: u32,
}

/// What is sent to a callback URL.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CallbackState {
    /// Every event.
    Active,
    /// A single event at a time, since many have failed in a row.
    Probed,
    /// Nothing, since the callback URL has answered 410 or an operator has paused it.
    Paused,
}

impl From<Outlook> for Callback {
    fn from(outlook: Outlook) -> Self {
        let state = if outlook.paused {
            CallbackState::Paused
        } else if outlook.failures >= PROBED_FROM {
            CallbackState::Probed
        } else {
            CallbackState::Active
        };
        Self {
            state,
            failures: outlook.failures,
        }
    }
}

/// Lets callbacks go on that were paused by a 410 or an operator, or that only single events were sent to.
#[utoipa::path(
    post,
    path = "/v1/deliveries/resume",
    tag = "deliveries",
    operation_id = "resumeDeliveries",
    responses((status = 200, description = "All that waits is sent now", body = Callback)),
)]
pub(super) async fn resume(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
) -> Result<Body<Callback>, Problem> {
    Ok(Body(bridge.resume_callback(&caller).await?.into()))
}

/// What event to try the callback with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestRequest {
    /// Its type.
    #[serde(rename = "type")]
    kind: EventType,
}

/// Adds an event that is about a user `test`, to be read and delivered like any other.
#[utoipa::path(
    post,
    path = "/v1/events/test",
    tag = "deliveries",
    operation_id = "createTestEvent",
    request_body = TestRequest,
    responses((
        status = 201,
        description = "The event",
        body = Event,
        headers(("Location" = String, description = "Where it is shown with the tries to deliver it")),
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
