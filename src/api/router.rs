//! The facade's routes and the layers around them.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::StatusCode;
use axum::middleware;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::OpenApi as Document;
use utoipa_swagger_ui::{self as swagger, SwaggerUi};

use super::auth::{self, Access};
use super::cors;
use super::envelope;
use super::idempotency;
use super::load::{self, Load};
use super::openapi;
use super::problem::{Code, Problem};
use crate::bridge::Bridge;
use crate::clock::SharedClock;
use crate::telemetry::metrics::Metrics;
use crate::webhooks::Receiver;

/// 256 KiB: far above what the Cloud takes of a text, and a profile is smaller.
pub(super) const JSON_LIMIT: usize = 256 * 1024;

/// 2 minutes: above the longest way of a request, that of a file that arrives slowly, waits for another replica's opening,
/// opens in its place and is stored at the last try.
const REQUEST_LIMIT: Duration = Duration::from_mins(2);

/// What handlers are given; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The use cases.
    pub bridge: Bridge,
    /// Who may ask what.
    pub access: Access,
    /// Takes what the Cloud tells.
    pub receiver: Receiver,
    /// What is under way.
    pub load: Load,
    /// The time.
    pub clock: SharedClock,
    /// What is counted.
    pub metrics: Metrics,
}

impl FromRef<AppState> for Bridge {
    fn from_ref(state: &AppState) -> Self {
        state.bridge.clone()
    }
}

impl FromRef<AppState> for Receiver {
    fn from_ref(state: &AppState) -> Self {
        state.receiver.clone()
    }
}

impl FromRef<AppState> for Load {
    fn from_ref(state: &AppState) -> Self {
        state.load.clone()
    }
}

/// The facade.
pub fn router(state: AppState) -> Router {
    let (routes, document) = openapi::routes_and_document();
    let (clock, load) = (SharedClock::clone(&state.clock), state.load.clone());
    let counted = (clock, state.metrics.clone());
    let routes = routes
        // A panic has an answer before its key is settled.
        .route_layer(CatchPanicLayer::custom(envelope::catch_panic))
        .route_layer(middleware::from_fn_with_state(
            state.clone(),
            idempotency::once,
        ))
        .route_layer(middleware::from_fn_with_state(
            state.clone(),
            auth::authenticate,
        ));
    let access = state.access.clone();
    let routes = enveloped(routes.merge(documentation(document)), counted, load).with_state(state);
    cors::shared(routes, &access)
}

/// Gives routes what surrounds every request: fallbacks, limits, and a problem for whatever goes wrong.
pub(super) fn enveloped<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    counted: (SharedClock, Metrics),
    load: Load,
) -> Router<S> {
    routes
        .fallback(|| async { Problem::new(Code::NotFound, "There is nothing at this path.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Code::MethodNotAllowed,
                "The path does not take this method; Allow names those that it takes.",
            )
        })
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
        .layer(CatchPanicLayer::custom(envelope::catch_panic))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_LIMIT,
        ))
        .layer(middleware::from_fn_with_state(load, load::admit))
        .layer(middleware::from_fn_with_state(counted, envelope::envelop))
}

/// The document in a browser, from files within the binary alone.
fn documentation(document: Document) -> SwaggerUi {
    SwaggerUi::new("/docs")
        .url("/openapi.json", document)
        .config(
            swagger::Config::default()
                // Else the page asks a validator on the internet for a badge.
                .validator_url("none")
                .try_it_out_enabled(true),
        )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::clock::SystemClock;

    async fn fail() {
        panic!("the reason is for the log alone");
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_names_the_request_and_no_reason() {
        let router = enveloped(
            Router::new().route("/", get(fail)),
            (Arc::new(SystemClock), Metrics::default()),
            Load::default(),
        );
        let request = Request::get("/").header("x-request-id", "abc");

        let answer = router
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();

        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = to_bytes(answer.into_body(), JSON_LIMIT).await.unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "internal-error");
        assert_eq!(problem["request_id"], "abc");
        assert!(!problem.to_string().contains("reason"), "{problem}");
    }
}
