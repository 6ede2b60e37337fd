//! The record of channels' requests to the bridge, taken just before they reach the bridge's API.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;

use crate::Sandbox;
use crate::wire::{ExchangeRequest, Kind, sampled};

/// Paths that channels do not call: the page that shows the API document, and the Cloud's webhooks.
const EXCLUDED_PATHS: [&str; 2] = ["/docs", "/webhooks"];

impl Sandbox {
    /// Wraps a bridge's API so that its channels' requests are shown on the wire. Bodies are
    /// streamed through.
    pub fn watch(&self, api: Router) -> Router {
        api.layer(middleware::from_fn_with_state(self.clone(), show))
    }
}

async fn show(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    if !is_of_channel(&request) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let (body, sample) = sampled(body);
    let exchange_request = ExchangeRequest::of(Kind::Api, &parts, sample);
    let exchange = sandbox.0.wire.begin(exchange_request, false);
    let response = next.run(Request::from_parts(parts, body)).await;
    exchange.record_answer(response)
}

/// True if a channel made the request. A browser's preflight is the browser's own request.
fn is_of_channel(request: &Request) -> bool {
    let path = request.uri().path();
    let is_excluded = |prefix: &&str| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    request.method() != Method::OPTIONS && !EXCLUDED_PATHS.iter().any(is_excluded)
}
