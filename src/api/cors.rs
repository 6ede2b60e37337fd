//! The CORS policy: pages of the origins that a channel names may call with a token for one user.
//!
//! A channel's API key opens every user's conversations, so it does not belong in a page, and no
//! page may read the responses to it.

use std::time::Duration;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::auth::Access;

/// 10 min: the time for which a browser may cache a preflight response.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Adds CORS headers to the responses of these routes.
pub(super) fn with_cors(routes: Router, access: &Access) -> Router {
    let access = access.clone();
    if access.origins().next().is_none() {
        return routes;
    }
    let may_read = move |origin: &HeaderValue, request: &Parts| {
        if request.method == Method::OPTIONS {
            // A preflight request carries no token, so any channel's origin passes here.
            let mut origins = access.origins();
            return origins.any(|known| known.as_bytes() == origin.as_bytes());
        }
        access.may_read(origin, &request.headers)
    };
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may_read))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("prefer"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("idempotency-replayed"),
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(MAX_AGE);
    routes.layer(layer)
}
