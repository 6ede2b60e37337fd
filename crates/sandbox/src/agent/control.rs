//! The control requests for the agent, which give tests in other processes what [`Sandbox::act`]
//! does.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::casting::{Casting, NO_SCRIPT};
use super::{Action, AgentOpening, Refused, opening};
use crate::Sandbox;
use crate::order::Order;
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
    Order(casting): Order<Casting>,
) -> Result<StatusCode, Refusal> {
    let script = casting.read().map_err(Refusal::unprocessable)?;
    sandbox.set_script(script);
    Ok(StatusCode::NO_CONTENT)
}

async fn act(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    Order(action): Order<Action>,
) -> Result<Json<Value>, Refusal> {
    let sequence = sandbox.act(&id, action)?;
    Ok(Json(match sequence {
        Some(sequence) => json!({"sequence": sequence}),
        None => json!({}),
    }))
}

async fn open(
    State(sandbox): State<Sandbox>,
    Order(opening): Order<AgentOpening>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (id, sequence) = sandbox.open_as_agent(opening)?;
    Ok((StatusCode::CREATED, Json(opening::answer(&id, sequence))))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Unknown(_) => StatusCode::NOT_FOUND,
            Refused::Closed(_) | Refused::AlreadyOpen(_) => StatusCode::CONFLICT,
            Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::plain(status, refused.to_string())
    }
}
