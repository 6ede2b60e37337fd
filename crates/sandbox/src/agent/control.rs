//! The control requests for the agent, with which tests in other processes do what
//! [`Sandbox::act`] does.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::script_choice::{NO_SCRIPT, ScriptChoice};
use super::{Action, ActionError, AgentOpening, opening};
use crate::Sandbox;
use crate::control_request::JsonBody;
use crate::refusal::Refusal;

pub(crate) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/conversations/{id}/agent", post(act))
        .route("/agent/conversations", post(open))
        .route("/agent", get(show).put(choose))
}

async fn show(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(match sandbox.state().script.as_deref() {
        Some(script) => script.describe(),
        None => json!({"script": NO_SCRIPT}),
    })
}

async fn choose(
    State(sandbox): State<Sandbox>,
    JsonBody(choice): JsonBody<ScriptChoice>,
) -> Result<StatusCode, Refusal> {
    let script = choice.read().map_err(Refusal::unprocessable)?;
    sandbox.set_script(script);
    Ok(StatusCode::NO_CONTENT)
}

async fn act(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    JsonBody(action): JsonBody<Action>,
) -> Result<Json<Value>, Refusal> {
    let sequence = sandbox.act(&id, action)?;
    Ok(Json(match sequence {
        Some(sequence) => json!({"sequence": sequence}),
        None => json!({}),
    }))
}

async fn open(
    State(sandbox): State<Sandbox>,
    JsonBody(opening): JsonBody<AgentOpening>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (id, sequence) = sandbox.open_as_agent(opening)?;
    Ok((StatusCode::CREATED, Json(opening::answer(&id, sequence))))
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        let status = match error {
            ActionError::Unknown(_) => StatusCode::NOT_FOUND,
            ActionError::Closed(_) | ActionError::AlreadyOpen(_) => StatusCode::CONFLICT,
            ActionError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::plain(status, error.to_string())
    }
}
