//! The sandbox's control API under `/_sandbox/`, with which tests in other processes do what the
//! Rust functions do. Control requests are not recorded, and faults do not affect them. The `error`
//! member of an answer describes the mistake in a request.

use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::control_request::{BODY_LIMIT, JsonBody, read_after, refuse_unknown_parameters};
use super::operation::Operation;
use super::recording::{RecordedRequest, read_form};
use super::refusal::Refusal;
use super::{
    Conversation, Sandbox, agent, behaviour, faults, storage, surveys, time, tokens, webhooks, wire,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// The close reason that the conversation shows, such as `AGENT`.
    by: String,
}

pub(super) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/requests", get(requests).delete(forget_requests))
        .route("/conversations", get(conversations))
        .route("/conversations/{id}", delete(forget))
        .route("/conversations/{id}/close", post(close))
        .route("/reset", post(reset))
        .merge(behaviour::control())
        .merge(faults::control())
        .merge(tokens::control())
        .merge(storage::control())
        .merge(time::control())
        .merge(surveys::control())
        .merge(agent::control::router())
        .merge(webhooks::control::router())
        .merge(wire::router())
        .fallback(path_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Lists the recorded requests, filtered as in `?operation=send&after=17`.
async fn requests(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<RecordedRequest>>, Refusal> {
    let mut filter = read_form(query.as_deref().unwrap_or_default());
    let operation = filter
        .remove("operation")
        .map(|name| read_operation(&name))
        .transpose()?;
    let after = read_after(&mut filter)?;
    refuse_unknown_parameters(&filter, "operation or after")?;
    let mut requests = sandbox.requests();
    requests.retain(|request| {
        request.id > after && (operation.is_none() || request.operation == operation)
    });
    Ok(Json(requests))
}

/// Lists the conversations, or with `?latest=50` the 50 latest of them.
async fn conversations(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Conversation>>, Refusal> {
    let mut filter = read_form(query.as_deref().unwrap_or_default());
    let latest = filter
        .remove("latest")
        .map(|count| read_count(&count))
        .transpose()?;
    refuse_unknown_parameters(&filter, "latest")?;
    Ok(Json(match latest {
        Some(count) => sandbox.state().conversations.latest(count),
        None => sandbox.conversations(),
    }))
}

fn read_count(count: &str) -> Result<usize, Refusal> {
    count
        .parse()
        .map_err(|_| Refusal::unprocessable(format!("latest: `{count}`, expected a number")))
}

fn read_operation(name: &str) -> Result<Operation, Refusal> {
    Operation::read(name).map_err(|unread| Refusal::unprocessable(format!("operation: {unread}")))
}

async fn forget_requests(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.clear_requests();
    StatusCode::NO_CONTENT
}

async fn close(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    JsonBody(closing): JsonBody<Closing>,
) -> Result<StatusCode, Refusal> {
    if sandbox.close_conversation(&id, &closing.by) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let complaint = format!("there is no open conversation `{id}`");
        Err(Refusal::plain(StatusCode::NOT_FOUND, complaint))
    }
}

async fn forget(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    if sandbox.forget_conversation(&id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let complaint = format!("there is no conversation `{id}`");
        Err(Refusal::plain(StatusCode::NOT_FOUND, complaint))
    }
}

async fn reset(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.reset();
    StatusCode::NO_CONTENT
}

async fn path_not_found(method: Method, uri: Uri) -> Refusal {
    let complaint = format!(
        "{method} /_sandbox{}: there is nothing at this path",
        uri.path()
    );
    Refusal::plain(StatusCode::NOT_FOUND, complaint)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    let complaint = format!(
        "{method} /_sandbox{}: method not allowed, see the Allow header",
        uri.path()
    );
    Refusal::plain(StatusCode::METHOD_NOT_ALLOWED, complaint)
}
