//! The audit log, newest entry first.

use axum::Json as Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::api::extract::Query;
use crate::api::problem::Problem;
use crate::api::v1::events::Limit;
use crate::types::audit::Record;
use crate::types::ids::ChannelId;

/// The query parameters of the audit log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Only actions by this channel or on it; `None` for all actions.
    channel: Option<ChannelId>,
    #[serde(default)]
    limit: Limit,
}

/// The newest entries.
#[derive(Debug, Serialize)]
pub(super) struct Entries {
    entries: Vec<Record>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(ListParameters { channel, limit }): Query<ListParameters>,
) -> Result<Body<Entries>, Problem> {
    let bridge = &admin.bridge;
    let entries = bridge.recorded_actions(channel.as_ref(), limit.0).await?;
    Ok(Body(Entries { entries }))
}
