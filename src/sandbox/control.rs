//! The sandbox's own control over HTTP, under `/_sandbox/`: what a test in another process has instead of the Rust
//! functions. These requests are not recorded and meet no fault.

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::faults::Fault;
use super::{Sandbox, agent, hooks, surveys};

/// Bytes: an agent's file of 5 MB in base64, and some more.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// The reason that the conversation shows, such as `AGENT`.
    by: String,
}

pub(super) fn router() -> Router<Sandbox> {
    Router::new()
        .route(
            "/requests",
            get(async |State(sandbox): State<Sandbox>| Json(sandbox.requests())),
        )
        .route(
            "/conversations",
            get(async |State(sandbox): State<Sandbox>| Json(sandbox.conversations())),
        )
        .route(
            "/conversations/{id}/close",
            post(
                async |State(sandbox): State<Sandbox>,
                       Path(id): Path<String>,
                       Json(closing): Json<Closing>| {
                    if sandbox.close_conversation(&id, &closing.by) {
                        StatusCode::NO_CONTENT
                    } else {
                        StatusCode::NOT_FOUND
                    }
                },
            ),
        )
        .route(
            "/faults",
            post(
                async |State(sandbox): State<Sandbox>, Json(fault): Json<Fault>| {
                    sandbox.inject(fault);
                    StatusCode::NO_CONTENT
                },
            ),
        )
        .route(
            "/reset",
            post(async |State(sandbox): State<Sandbox>| {
                sandbox.reset();
                StatusCode::NO_CONTENT
            }),
        )
        .merge(surveys::control())
        .merge(agent::control::router())
        .merge(hooks::control::router())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}
