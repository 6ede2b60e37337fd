//! The path that every request takes: it is recorded, affected by a fault if one was injected,
//! applied and answered.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::faults::{self, Answer, Fault};
use super::operation::{Operation, PathParameters};
use super::recording::RecordedRequest;
use super::refusal::Refusal;
use super::stage::channel;
use super::wire::{ExchangeRequest, Kind, Sample, SharedSample};
use super::{
    Sandbox, control, domains, guard, idp, messaging, monitoring, page, sentinel, storage,
    temp_urls,
};

/// The highest number of bytes in a body: above the Cloud's largest file, which is 5 MB on some of
/// the vendor's pages.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// The highest number of openings and SENDs until a reset: about a gigabyte of messages.
/// Conversations, files and notifications result from these requests.
pub(super) const CAPACITY: usize = 1_000_000;

pub(super) fn router(sandbox: &Sandbox) -> Router {
    let paths = BTreeSet::from(Operation::ALL.map(Operation::path));
    let served = paths.into_iter().fold(Router::new(), |router, path| {
        let receive = move |State(sandbox), Path(parameters), request: Request| {
            let operation = Operation::at(path)
                .find(|operation| operation.method() == *request.method())
                .or_else(|| Operation::at(path).next());
            receive(sandbox, operation, parameters, request)
        };
        router.route(path, any(receive))
    });
    let own = Router::new()
        .nest("/_sandbox", control::router())
        .merge(channel::router())
        .merge(page::router())
        .layer(from_fn_with_state(sandbox.clone(), guard::guard));
    served
        .fallback(|State(sandbox), request| {
            receive(sandbox, None, PathParameters::default(), request)
        })
        .merge(own)
        .with_state(sandbox.clone())
}

async fn receive(
    sandbox: Sandbox,
    operation: Option<Operation>,
    parameters: PathParameters,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        let complaint = format!("body: incomplete, or longer than {BODY_LIMIT} bytes");
        return Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE, complaint).into_response();
    };
    let request = RecordedRequest::new(operation, &parts, &body);
    let (request, fault) = {
        let mut state = sandbox.state();
        let fault = operation.and_then(|operation| state.faults.take(operation, &body));
        (state.recording.push(request), fault)
    };
    let sample = SharedSample::new(Sample::of(&body).into());
    let exchange_request = ExchangeRequest {
        operation,
        ..ExchangeRequest::of(Kind::Cloud, &parts, sample)
    };
    let exchange = sandbox.0.wire.begin(exchange_request, fault.is_some());
    let apply = || {
        apply(&sandbox, operation, &parameters, &request, &body).unwrap_or_else(|refusal| {
            tracing::warn!(
                ?operation,
                status = refusal.status.as_u16(),
                complaint = refusal.complaint,
                "the sandbox refused a request"
            );
            refusal.into_response()
        })
    };
    let Some(Fault {
        answer,
        after_applying,
        ..
    }) = fault
    else {
        return exchange.record_answer(apply());
    };
    let applied = after_applying.then(apply);
    match answer {
        Answer::Reply(reply) => exchange.record_answer(reply.into_response()),
        Answer::Stall => {
            exchange.record_no_answer();
            std::future::pending().await
        }
        Answer::Cut => {
            exchange.record_no_answer();
            faults::cut()
        }
        Answer::Delay(delay) => {
            sandbox.wait(delay.seconds).await;
            exchange.record_answer(applied.unwrap_or_else(apply))
        }
    }
}

fn apply(
    sandbox: &Sandbox,
    operation: Option<Operation>,
    parameters: &PathParameters,
    request: &RecordedRequest,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let (method, path) = (&request.method, &request.path);
    let Some(operation) = operation else {
        if temp_urls::is_signed(request) {
            return Err(storage::misplaced(request));
        }
        let complaint = format!("{method} {path}: there is nothing at this path");
        return Err(Refusal::plain(StatusCode::NOT_FOUND, complaint));
    };
    if method != operation.method().as_str() {
        let methods: Vec<_> = Operation::at(operation.path())
            .map(|operation| operation.method().to_string())
            .collect();
        let complaint = format!("{method} {path}: expected {}", methods.join(" or "));
        return Err(Refusal::plain(StatusCode::METHOD_NOT_ALLOWED, complaint));
    }
    if matches!(operation, Operation::Conversation | Operation::Send) {
        reserve_capacity(sandbox)?;
    }
    let account = &parameters.account;
    match operation {
        Operation::DomainLookup => domains::look_up(sandbox, account, &parameters.service, request),
        Operation::DomainList => domains::list(sandbox, account, request),
        Operation::AppToken => sentinel::issue(sandbox, account, request),
        Operation::ConsumerToken => idp::issue(sandbox, account, request),
        Operation::Conversation => messaging::open(sandbox, account, request),
        Operation::Send => messaging::send(sandbox, account, request),
        Operation::Engagement => monitoring::engagement(sandbox, parameters, request),
        Operation::Upload => storage::upload(sandbox, request, body),
        Operation::Download => storage::download(sandbox, request),
    }
}

/// Counts a request whose effects stay until the sandbox is reset, and refuses it if the sandbox is
/// full.
fn reserve_capacity(sandbox: &Sandbox) -> Result<(), Refusal> {
    let mut state = sandbox.state();
    if state.retained_requests >= CAPACITY {
        let complaint =
            format!("the sandbox is full with {CAPACITY} requests; call POST /_sandbox/reset");
        return Err(Refusal::plain(StatusCode::SERVICE_UNAVAILABLE, complaint));
    }
    state.retained_requests += 1;
    Ok(())
}
