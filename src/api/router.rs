//! The routes of the API, and the layers around them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, MatchedPath, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::around::{Around, Next};
use super::auth::{self, LinkedFile};
use super::bounds::REQUEST_LIMIT;
use super::cors;
use super::documentation;
use super::extract;
use super::idempotency::{self, SelfClaimingRoutes};
use super::load::{Load, Permit};
use super::openapi::{self, Operations};
use super::parameters::KnownParameters;
use super::problem::{Code, Problem};
use super::request_log::{AnonymousLog, RequestLog, catch_panic};
use super::state::AppState;
use super::webhooks;
use super::wrong_keys::{self, WrongKeys};
use crate::bridge::Caller;
use crate::clock::SharedClock;
use crate::telemetry::metrics::Metrics;
use crate::webhooks::Receiver;

/// Builds the router of the API.
pub fn router(state: AppState) -> Router {
    let Operations {
        routes,
        document,
        claiming,
    } = openapi::operations();
    let state = Arc::new(state);
    let guarded = Arc::new(Guarded {
        state: Arc::clone(&state),
        parameters: KnownParameters::of(&document),
        claiming,
    });
    let routes = routes.route_layer(Around::new(move |request, next| {
        guard(Arc::clone(&guarded), request, next)
    }));
    let layer = RequestLayer {
        clock: SharedClock::clone(&state.clock),
        metrics: state.metrics.clone(),
        anonymous: AnonymousLog::default(),
        wrong_keys: WrongKeys::default(),
    };
    let access = state.access.clone();
    let routes = with_request_layer(routes.merge(documentation::routes(&document)), layer);
    cors::with_cors(routes.with_state(state), &access)
}

/// Builds the router of the Cloud's webhooks alone, for a process that listens in place of the
/// service.
pub fn webhooks_router(
    receiver: Receiver,
    load: Load,
    clock: SharedClock,
    metrics: Metrics,
) -> Router {
    let (routes, _) = webhooks::routes().split_for_parts();
    let state = WebhooksState { receiver, load };
    let layer = RequestLayer {
        clock,
        metrics,
        anonymous: AnonymousLog::default(),
        wrong_keys: WrongKeys::default(),
    };
    with_request_layer(routes, layer).with_state(state)
}

/// The state of the webhook handler, if it is served alone.
#[derive(Debug, Clone)]
struct WebhooksState {
    receiver: Receiver,
    load: Load,
}

impl FromRef<WebhooksState> for Receiver {
    fn from_ref(state: &WebhooksState) -> Self {
        state.receiver.clone()
    }
}

impl FromRef<WebhooksState> for Load {
    fn from_ref(state: &WebhooksState) -> Self {
        state.load.clone()
    }
}

/// Adds the outer layers to the routes: fallbacks, limits, and a problem for every error.
fn with_request_layer<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    layer: RequestLayer,
) -> Router<S> {
    let layer = Arc::new(layer);
    routes
        .fallback(|| async { Problem::new(Code::NotFound, "There is nothing at this path.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Code::MethodNotAllowed,
                "The path does not support this method; the Allow header lists those that it does.",
            )
        })
        .layer(Around::new(move |request, next| {
            apply(Arc::clone(&layer), request, next)
        }))
}

/// The state of the outermost layer.
struct RequestLayer {
    clock: SharedClock,
    metrics: Metrics,
    anonymous: AnonymousLog,
    wrong_keys: WrongKeys,
}

async fn apply(
    layer: Arc<RequestLayer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let RequestLayer {
        clock,
        metrics,
        anonymous,
        wrong_keys,
    } = &*layer;
    let log = RequestLog::open(&mut request, &**clock);
    let address = wrong_keys::address(&request);
    let answer = with_time_limit(request, next);
    let answer = answer.instrument(log.span()).await;
    let answer = wrong_keys.slow_down(answer, address).await;
    Ok(log.finish(answer, metrics, anonymous))
}

/// Processes a request within the time limit; a panic becomes a problem.
async fn with_time_limit(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST_LIMIT, catch_panic(next.run(request))).await;
    answer.unwrap_or_else(|_late| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// The state with which requests are checked before their handlers.
struct Guarded {
    state: Arc<AppState>,
    parameters: KnownParameters,
    claiming: SelfClaimingRoutes,
}

/// Passes a request on to its handler if its caller is authorized, its target is readable, its
/// parameters are known and there is room. A request with an idempotency key is processed at most
/// once.
async fn guard(
    guarded: Arc<Guarded>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let Guarded {
        state,
        parameters,
        claiming,
    } = &*guarded;
    let (mut parts, body) = request.into_parts();
    let remaining = match auth::authenticate(&state.access, state.clock.now(), &mut parts).await {
        Ok(remaining) => remaining,
        Err(refused) => return Ok(refused.into_response()),
    };
    let admit = || {
        // The path of a verified link is readable, and its query is ignored.
        if parts.extensions.get::<LinkedFile>().is_none() {
            extract::check_encoding(&parts.uri)?;
        }
        parameters.check(&parts)?;
        acquire_permit(&state.load, &parts)
    };
    let mut response = match admit() {
        Err(problem) => problem.into_response(),
        Ok(None) => once(state, claiming, Request::from_parts(parts, body), next).await,
        Ok(Some(permit)) => {
            // Work that outlives its caller's connection takes the permit from here.
            parts.extensions.insert(permit.clone());
            let request = Request::from_parts(parts, permit.limit_body(body));
            let response = once(state, claiming, request, next).await;
            let response = permit.response_or_cut(response);
            permit.attach_to(response)
        }
    };
    remaining.add_headers(response.headers_mut());
    Ok(response)
}

/// Acquires a permit for the request, if it needs one.
fn acquire_permit(load: &Load, parts: &Parts) -> Result<Option<Permit>, Problem> {
    let matched = parts.extensions.get::<MatchedPath>();
    let caller = parts.extensions.get::<Caller>().map(Caller::holder);
    let link = parts.extensions.get::<LinkedFile>().map(LinkedFile::holder);
    match (caller.or(link), matched) {
        (Some(holder), Some(route)) => load.admit(holder, route.as_str()),
        _ => Ok(None),
    }
}

/// Runs the handler, at most once if the request has an idempotency key.
async fn once(
    state: &AppState,
    claiming: &SelfClaimingRoutes,
    request: Request,
    next: Next,
) -> Response {
    match idempotency::route_with_key(&request) {
        None => catch_panic(next.run(request)).await,
        // Boxed: few requests have a key, and otherwise all would reserve memory for it.
        Some(route) => Box::pin(idempotency::once(state, claiming, &route, request, next))
            .await
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::api::bounds::JSON_LIMIT;
    use crate::clock::SystemClock;

    async fn fail() {
        panic!("the reason is for the log alone");
    }

    #[tokio::test]
    async fn a_panic_becomes_a_problem_with_a_request_id_and_no_reason() {
        let router = with_request_layer(
            Router::new().route("/", get(fail)),
            RequestLayer {
                clock: Arc::new(SystemClock),
                metrics: Metrics::default(),
                anonymous: AnonymousLog::default(),
                wrong_keys: WrongKeys::default(),
            },
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
