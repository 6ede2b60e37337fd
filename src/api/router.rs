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

use super::auth::Keys;
use super::envelope;
use super::openapi;
use super::problem::{Code, Problem};
use crate::bridge::Bridge;
use crate::clock::SharedClock;

/// 256 KiB: far above what the Cloud takes of a text, and a profile is smaller.
pub(super) const JSON_LIMIT: usize = 256 * 1024;

/// A minute: above the longest way of a request, that of one that waits for another replica's opening and opens in its place.
const REQUEST_LIMIT: Duration = Duration::from_mins(1);

/// What handlers are given; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The use cases.
    pub bridge: Bridge,
    /// The channels and their keys.
    pub keys: Keys,
    /// The time.
    pub clock: SharedClock,
}

impl FromRef<AppState> for Bridge {
    fn from_ref(state: &AppState) -> Self {
        state.bridge.clone()
    }
}

impl FromRef<AppState> for Keys {
    fn from_ref(state: &AppState) -> Self {
        state.keys.clone()
    }
}

/// The facade.
pub fn router(state: AppState) -> Router {
    let (routes, document) = openapi::routes_and_document();
    let clock = SharedClock::clone(&state.clock);
    routes
        .merge(documentation(document))
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
        .layer(middleware::from_fn_with_state(clock, envelope::envelop))
        .with_state(state)
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
