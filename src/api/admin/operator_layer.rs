//! The layer around the operator's page and its API: request id, limits, and security headers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::api::around::Next;
use crate::api::bounds::REQUEST_LIMIT;
use crate::api::extract;
use crate::api::problem::{Code, Problem};
use crate::api::request_log::{AnonymousLog, RequestLog, catch_panic};
use crate::api::wrong_keys::{self, WrongKeys};
use crate::clock::SharedClock;

/// 32: the limit on operators' requests in progress. A few people have the page open, and each page
/// sends a request every two seconds.
const MAX_REQUESTS: usize = 32;

/// The content security policy. Nothing is loaded from or sent to another site, no site may frame
/// the page, and no text can become a script.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The state of the layer around every operator's request.
pub(super) struct OperatorLayer {
    clock: SharedClock,
    permits: Semaphore,
    anonymous: AnonymousLog,
    wrong_keys: WrongKeys,
}

impl OperatorLayer {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            permits: Semaphore::new(MAX_REQUESTS),
            anonymous: AnonymousLog::default(),
            wrong_keys: WrongKeys::default(),
        }
    }
}

/// Answers a request, with the limits and headers of the layer.
pub(super) async fn apply(
    layer: Arc<OperatorLayer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let log = RequestLog::open(&mut request, &*layer.clock);
    let address = wrong_keys::address(&request);
    let answer = within_bounds(&layer, request, next).instrument(log.span());
    let answer = answer.await;
    let answer = layer.wrong_keys.slow_down(answer, address).await;
    let mut answer = log.finish_uncounted(answer, &layer.anonymous);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

async fn within_bounds(layer: &OperatorLayer, request: Request, next: Next) -> Response {
    let Ok(_permit) = layer.permits.try_acquire() else {
        let detail = "Too many operator requests are in progress.";
        return Problem::overloaded(detail).into_response();
    };
    if let Err(problem) = extract::check_encoding(request.uri()) {
        return problem.into_response();
    }
    let answer = timeout(REQUEST_LIMIT, catch_panic(next.run(request))).await;
    answer.unwrap_or_else(|_late| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// Answers a request whose path is unknown.
pub(super) async fn not_found() -> Problem {
    Problem::new(Code::NotFound, "There is nothing at this path.")
}

/// Answers a request whose method the path does not support.
pub(super) async fn wrong_method() -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        "The path does not support this method; the Allow header lists those that it does.",
    )
}
