//! One queued request, such as a message, with its timeline.

use axum::Json as Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Admin, masking};
use crate::api::problem::{Code, Problem};
use crate::bridge;
use crate::types::event::data::Failure;
use crate::types::ownership::Owner;
use crate::types::request::{Report, RequestState};
use crate::types::trace::Trace;

/// A message with its timeline.
#[derive(Debug, Serialize)]
pub(super) struct MessageView {
    id: String,
    channel: String,
    user_id: String,
    conversation_id: Option<String>,
    /// The sequences of its messages that the Cloud has.
    sequences: Vec<u32>,
    state: StateView,
    failure: Option<FailureView>,
    created_at: DateTime<Utc>,
    /// The type of the file, if the request sends one.
    file_type: Option<String>,
    /// The id of the trace of the channel's request.
    trace_id: Option<String>,
    timeline: Vec<StepView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateView {
    /// The next attempt is still to come.
    Waiting,
    /// A replica is attempting to send it.
    Sending,
    /// An attempt had an unknown outcome: the Cloud may have it.
    Unknown,
    /// The Cloud has it.
    Sent,
    /// It will not reach the Cloud.
    Failed,
}

/// The reason for the failure. The Cloud's error text may repeat what the user wrote, so it is left
/// out.
#[derive(Debug, Serialize)]
struct FailureView {
    code: String,
    upstream_status: Option<u16>,
    upstream_code: Option<String>,
}

#[derive(Debug, Serialize)]
struct StepView {
    at: DateTime<Utc>,
    what: String,
    why: Option<String>,
}

pub(super) async fn show(
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Body<MessageView>, Problem> {
    let unknown = || {
        let detail = "No message that was answered 202 has this id; messages that were sent at once are not recorded.";
        Problem::new(Code::MessageNotFound, detail)
    };
    // An id is opaque: a malformed one is treated as unknown.
    let Path(id) = id.map_err(|_| unknown())?;
    let id = id.parse().map_err(|_| unknown())?;
    match admin.bridge.request_details(id).await {
        Ok(details) => Ok(Body(details.into())),
        Err(bridge::Error::MessageNotFound) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

impl From<(Owner, Report)> for MessageView {
    fn from((owner, report): (Owner, Report)) -> Self {
        let steps = report.timeline.into_iter().map(|step| StepView {
            at: step.at,
            what: step.what,
            why: step.why,
        });
        Self {
            id: report.id.to_string(),
            channel: owner.channel_id.to_string(),
            user_id: masking::user(report.user_id.as_str()),
            conversation_id: report.conversation_id.map(String::from),
            sequences: report.sequences,
            state: report.state.into(),
            failure: report.failure.map(FailureView::from),
            created_at: report.created_at,
            file_type: report.file.map(|(_, kind)| kind.as_str().to_owned()),
            trace_id: owner.traceparent.and_then(|it| Trace::id_in(&it)),
            timeline: steps.collect(),
        }
    }
}

impl From<RequestState> for StateView {
    fn from(state: RequestState) -> Self {
        match state {
            RequestState::Waiting => Self::Waiting,
            RequestState::Sending => Self::Sending,
            RequestState::Unknown => Self::Unknown,
            RequestState::Sent => Self::Sent,
            RequestState::Failed => Self::Failed,
        }
    }
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        let (upstream_status, upstream_code) = match failure.upstream {
            Some(upstream) => (Some(upstream.status), upstream.code),
            None => (None, None),
        };
        Self {
            code: failure.code,
            upstream_status,
            upstream_code,
        }
    }
}
