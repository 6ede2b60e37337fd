//! What channels ask of the bridge beside, as seen from right before its facade.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;

use crate::Sandbox;
use crate::wire::{Asked, Kind, sampled};

/// Paths at which no channel asks anything: the document and its reader, and what the Cloud tells.
const OTHERS: [&str; 2] = ["/docs", "/webhooks"];

impl Sandbox {
    /// A bridge's facade whose channels' requests are shown on the wire. Bodies pass through as they come.
    pub fn watch(&self, facade: Router) -> Router {
        facade.layer(middleware::from_fn_with_state(self.clone(), show))
    }
}

async fn show(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    if !is_of_channel(&request) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let (body, sample) = sampled(body);
    let asked = Asked::of(Kind::Facade, &parts, sample);
    let underway = sandbox.0.wire.begin(asked, false);
    let response = next.run(Request::from_parts(parts, body)).await;
    underway.answered(response)
}

/// Whether a channel asks. A browser's preflight is its own question.
fn is_of_channel(request: &Request) -> bool {
    let path = request.uri().path();
    let other = |prefix: &&str| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    request.method() != Method::OPTIONS && !OTHERS.iter().any(other)
}
