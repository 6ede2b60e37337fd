//! The deliveries of a channel: the newest ones in a state, and the actions of an operator on all
//! of them.

use axum::Json as Body;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::operators::AuthOperator;
use super::{Admin, masking};
use crate::api::extract::{Json, Query};
use crate::api::problem::Problem;
use crate::api::v1::deliveries::{Callback, Replayed, StateFilter, check_interval};
use crate::api::v1::events::{Limit, MaybeCursor};
use crate::bridge::{Caller, Operator};
use crate::types::delivery::{DeliveryState, RecentDelivery, ReplaySelection};
use crate::types::event::{Cursor, SAMPLE_ID};
use crate::types::ids::ChannelId;
use crate::types::time::Moment;

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    channel: ChannelId,
    state: StateFilter,
    /// The `next` of the previous page. If it is missing or empty, the list begins at the newest
    /// event.
    #[serde(default)]
    before: MaybeCursor,
    #[serde(default)]
    limit: Limit,
}

/// A page of a channel's deliveries, newest first.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryPage {
    deliveries: Vec<DeliveryView>,
    /// The value of `before` for the next page; `None` on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Cursor>,
}

#[derive(Debug, Serialize)]
struct DeliveryView {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    user_id: String,
    created_at: DateTime<Utc>,
    deliver_until: Option<DateTime<Utc>>,
    attempts: u32,
    failure: Option<String>,
    last_try: Option<AttemptView>,
}

#[derive(Debug, Serialize)]
struct AttemptView {
    at: DateTime<Utc>,
    status: Option<u16>,
    error: Option<String>,
}

impl From<RecentDelivery> for DeliveryView {
    fn from(recent: RecentDelivery) -> Self {
        let delivery = recent.delivery;
        let user_id = delivery.user_id.as_ref();
        Self {
            event_id: delivery.id.to_string(),
            kind: delivery.kind,
            user_id: user_id.map_or_else(|| SAMPLE_ID.to_owned(), |id| masking::user(id.as_str())),
            created_at: delivery.created_at,
            deliver_until: delivery.deliver_until,
            attempts: delivery.attempts,
            failure: delivery.failure,
            last_try: recent.last_attempt.map(|last| AttemptView {
                at: last.at,
                status: last.status,
                error: last.error,
            }),
        }
    }
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(parameters): Query<ListParameters>,
) -> Result<Body<DeliveryPage>, Problem> {
    let ListParameters {
        channel,
        state,
        before,
        limit,
    } = parameters;
    if !admin.bridge.has_channel(&channel) {
        return Err(Problem::parameter("channel", CHANNEL_UNKNOWN.to_owned()));
    }
    let state = DeliveryState::from(state);
    let before = before.0.map(Cursor::position);
    let newest = admin
        .bridge
        .newest_deliveries(&channel, state, before, limit.0)
        .await?;
    // A page that is not full is the last one.
    let is_full = u32::try_from(newest.len()) == Ok(limit.0);
    let last = newest.last().filter(|_| is_full);
    Ok(Body(DeliveryPage {
        next: last.map(|recent| Cursor::behind(recent.delivery.position)),
        deliveries: newest.into_iter().map(DeliveryView::from).collect(),
    }))
}

/// The selection of events to replay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    channel: ChannelId,
    since: Moment,
    until: Option<Moment>,
    /// `None` for all deliveries that are not pending.
    state: Option<StateFilter>,
    /// True if the events are only counted.
    dry_run: Option<bool>,
}

pub(super) async fn replay(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    Json(request): Json<ReplayRequest>,
) -> Result<Body<Replayed>, Problem> {
    let caller = caller(&admin, &operator, &request.channel)?;
    let (since, until) = (request.since.into(), request.until.map(Moment::into));
    check_interval(since, until)?;
    let replay = ReplaySelection {
        since,
        until,
        state: request.state.map(DeliveryState::from),
        user: None,
    };
    let count = admin
        .bridge
        .replay_deliveries(&caller, &replay, request.dry_run.unwrap_or_default())
        .await?;
    Ok(Body(Replayed { count }))
}

/// The channel whose callback is paused or resumed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelRequest {
    channel: ChannelId,
}

pub(super) async fn pause(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    Json(ChannelRequest { channel }): Json<ChannelRequest>,
) -> Result<Body<Callback>, Problem> {
    let caller = caller(&admin, &operator, &channel)?;
    Ok(Body(admin.bridge.pause_callback(&caller).await?.into()))
}

pub(super) async fn resume(
    AuthOperator(operator): AuthOperator,
    State(admin): State<Admin>,
    Json(ChannelRequest { channel }): Json<ChannelRequest>,
) -> Result<Body<Callback>, Problem> {
    let caller = caller(&admin, &operator, &channel)?;
    Ok(Body(admin.bridge.resume_callback(&caller).await?.into()))
}

/// The error for an id that is not a configured channel's.
const CHANNEL_UNKNOWN: &str = "expected the id of a configured channel";

/// Returns the operator as a caller of the channel.
pub(super) fn caller(
    admin: &Admin,
    operator: &Operator,
    channel: &ChannelId,
) -> Result<Caller, Problem> {
    let caller = admin.bridge.caller_of(operator, channel);
    caller.ok_or_else(|| Problem::violation("/channel".to_owned(), CHANNEL_UNKNOWN.to_owned()))
}
