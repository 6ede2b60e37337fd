//! The page: what a browser shows of the sandbox.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Sandbox;

pub(super) fn router() -> Router<Sandbox> {
    Router::new().route("/_sandbox/page/settings", get(settings))
}

/// What the page has to know of its surroundings.
async fn settings(State(sandbox): State<Sandbox>) -> Json<Value> {
    let stage = &sandbox.0.options.stage;
    let demo = stage.demo.as_ref();
    let bridge = stage.bridge.as_ref().map(|bridge| {
        json!({
            "url": bridge.base(),
            "channel": demo.map(|demo| &demo.channel),
            "mints_tokens": demo.is_some(),
        })
    });
    let mode = if demo.is_some() { "demo" } else { "sandbox" };
    Json(json!({"mode": mode, "bridge": bridge}))
}
