//! The admin address: probes and metrics for those who run the service. Never exposed to channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::bridge::Bridge;

/// The text format of Prometheus.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the service wants requests; cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    bridge: Bridge,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// Ready as long as the storage that `bridge` uses answers.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self {
            bridge,
            stopping: Arc::default(),
        }
    }

    /// From now on the service wants no more requests.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Why the service wants no requests; empty when it does.
    async fn reasons(&self) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if self.stopping.load(Ordering::SeqCst) {
            reasons.push("the service is stopping");
        }
        if let Err(error) = self.bridge.check_storage().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "not ready: the storage does not answer"
            );
            reasons.push("the storage does not answer");
        }
        reasons
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(readiness)
}

async fn metrics(State(readiness): State<Readiness>) -> ([(HeaderName, &'static str); 1], String) {
    let text = readiness.bridge.metrics().await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], text)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Value>) {
    let reasons = readiness.reasons().await;
    if reasons.is_empty() {
        (StatusCode::OK, Json(json!({"status": "ok"})))
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "unavailable", "reasons": reasons})),
        )
    }
}
