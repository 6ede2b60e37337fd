//! The recent requests and events of a user, without their content.
//!
//! The request names a person. So it needs an operator key, has the user's id in its body instead
//! of its URL, and is recorded in the audit log.

use axum::Json as Body;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::deliveries::caller;
use super::messages::StateView as RequestState;
use super::operators::AuthOperator;
use crate::api::extract::Json;
use crate::api::problem::Problem;
use crate::api::v1::deliveries::view::StateView as DeliveryState;
use crate::types::ids::{ChannelId, UserId};
use crate::types::timeline::{RecentEvent, RecentRequest, UserTimeline};

/// The user to look up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineRequest {
    /// A channel with the user's namespace.
    channel: ChannelId,
    user_id: UserId,
}

/// The recent requests and events of a user, over all channels of the user's namespace.
#[derive(Debug, Serialize)]
pub(super) struct TimelineView {
    /// False if the bridge does not know the user.
    known: bool,
    /// The maximum age of what is listed, in days.
    days: i64,
    /// The maximum number of listed requests, and of listed events.
    most: u32,
    /// The queued requests, newest first.
    requests: Vec<RequestView>,
    /// The events, newest first.
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct RequestView {
    id: String,
    channel: String,
    kind: String,
    state: RequestState,
    attempts: u32,
    created_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct EventView {
    id: String,
    channel: String,
    #[serde(rename = "type")]
    kind: String,
    /// The state of its delivery; `None` if the channel had no callback URL.
    delivery: Option<DeliveryState>,
    attempts: u32,
    created_at: DateTime<Utc>,
}

pub(super) async fn timeline(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    Json(TimelineRequest { channel, user_id }): Json<TimelineRequest>,
) -> Result<Body<TimelineView>, Problem> {
    let caller = caller(&admin, &operator, &channel)?;
    let timeline = admin.bridge.user_timeline(&caller, user_id).await?;
    Ok(Body(timeline.into()))
}

impl From<Option<UserTimeline>> for TimelineView {
    fn from(timeline: Option<UserTimeline>) -> Self {
        let known = timeline.is_some();
        let (requests, events) = timeline
            .map(|it| (it.requests, it.events))
            .unwrap_or_default();
        Self {
            known,
            days: UserTimeline::PERIOD.num_days(),
            most: UserTimeline::MAX,
            requests: requests.into_iter().map(RequestView::from).collect(),
            events: events.into_iter().map(EventView::from).collect(),
        }
    }
}

impl From<RecentRequest> for RequestView {
    fn from(request: RecentRequest) -> Self {
        Self {
            id: request.id.to_string(),
            channel: request.channel_id.into(),
            kind: request.kind,
            state: request.state.into(),
            attempts: request.attempts,
            created_at: request.created_at,
        }
    }
}

impl From<RecentEvent> for EventView {
    fn from(event: RecentEvent) -> Self {
        Self {
            id: event.id.to_string(),
            channel: event.channel_id.into(),
            kind: event.kind,
            delivery: event.delivery.map(DeliveryState::from),
            attempts: event.attempts,
            created_at: event.created_at,
        }
    }
}
