//! The admin address, with probes, metrics and the operator's page. It must not be exposed to
//! channels.

mod audit;
mod deliveries;
mod events;
mod guard;
mod masking;
mod messages;
mod operator_layer;
mod operators;
mod overview;
mod page;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::around::Around;
use super::parameters;
use crate::bridge::Bridge;
use crate::clock::SharedClock;
use crate::crypto::ApiKeyHash;
use crate::types::status::Outage;
use crate::web::cross_site::HostNames;
use guard::Guard;
use operator_layer::OperatorLayer;
use operators::Operators;

/// The content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The readiness of the service, for `/readyz`. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Readiness {
    bridge: Bridge,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// Creates the readiness of a service that needs the storage of `bridge`.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self {
            bridge,
            stopping: Arc::default(),
        }
    }

    /// Makes the service not ready from now on, because it is stopping.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Returns the reasons for which the service is not ready. The list is empty if it is ready.
    async fn reasons(&self) -> Vec<&'static str> {
        self.reasons_with(self.bridge.check_storage().await)
    }

    /// Returns the reasons, given the state of the storage.
    fn reasons_with(&self, storage: Result<(), Outage>) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if self.stopping.load(Ordering::SeqCst) {
            reasons.push("the service is stopping");
        }
        if let Err(outage) = storage {
            reasons.push(outage.reason());
        }
        if self.bridge.is_ahead() {
            reasons.push("the clock is ahead of the database's");
        }
        reasons
    }
}

/// The state that the admin handlers share. Cloning is cheap.
#[derive(Debug, Clone)]
struct Admin {
    bridge: Bridge,
    readiness: Readiness,
    operators: Operators,
    clock: SharedClock,
    started_at: DateTime<Utc>,
}

/// Builds the router of `/livez`, `/readyz`, `/metrics`, and the operator's page with its API.
///
/// A caller with one of `keys` may act through that API. Requests must address an IP address,
/// `localhost` or one of `hosts`.
pub fn router(
    readiness: Readiness,
    keys: Vec<ApiKeyHash>,
    hosts: HostNames,
    clock: SharedClock,
) -> Router {
    let guard = Arc::new(Guard::new(hosts, SharedClock::clone(&clock)));
    let admin = Admin {
        bridge: readiness.bridge.clone(),
        readiness: readiness.clone(),
        operators: Operators::new(keys),
        started_at: clock.now(),
        clock,
    };
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(readiness)
        .merge(operator_routes(admin))
        .layer(Around::new(move |request, next| {
            guard::guard(Arc::clone(&guard), request, next)
        }))
}

/// Builds the routes of the operator's page and its API.
fn operator_routes(admin: Admin) -> Router {
    let layer = Arc::new(OperatorLayer::new(SharedClock::clone(&admin.clock)));
    let api = Router::new()
        .route("/overview", get(overview::show))
        .route("/events/{event_id}", get(events::show))
        .route("/messages/{message_id}", get(messages::show))
        .route("/operator", get(operators::show))
        .route("/replay", post(deliveries::replay))
        .route("/pause", post(deliveries::pause))
        .route("/resume", post(deliveries::resume))
        .route("/events/{event_id}/retry", post(events::retry))
        .route("/events/{event_id}/text", post(events::read))
        .route("/users/timeline", post(users::timeline))
        .route_layer(Around::new(parameters::refuse_any))
        // These handlers check their query parameters themselves.
        .route("/deliveries", get(deliveries::list))
        .route("/audit", get(audit::list));
    page::routes(Router::new())
        .nest("/api", api)
        .fallback(operator_layer::not_found)
        .method_not_allowed_fallback(operator_layer::wrong_method)
        .with_state(admin)
        .layer(Around::new(move |request, next| {
            operator_layer::apply(Arc::clone(&layer), request, next)
        }))
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
