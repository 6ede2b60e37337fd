//! The request log: the id, trace and log line of every request, and the rendering of problems.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use tracing::Span;
use uuid::Uuid;

use super::problem::{Code, Problem};
use crate::clock::Clock;
use crate::telemetry::metrics::{Metrics, PROBLEMS, REQUESTS};
use crate::types::trace::{Trace, step};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// 20 lines in 10 s: the log limit for each kind of response that a caller can get without a key.
const MAX_LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// The log limit for requests that need no key, since a caller can send any number of them. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub(super) struct AnonymousLog(Arc<Mutex<HashMap<&'static str, Window>>>);

/// The lines logged for one kind of response in the current window.
#[derive(Debug)]
struct Window {
    started_at: Instant,
    lines: u32,
    /// The number of lines that were left out.
    unlogged: u64,
}

impl AnonymousLog {
    /// Counts a response of this kind. Returns the number of lines that were left out before it, or
    /// `None` if its own line is left out too.
    fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind).or_insert(Window {
            started_at: now,
            lines: 0,
            unlogged: 0,
        });
        if now.duration_since(window.started_at) >= WINDOW {
            window.started_at = now;
            window.lines = 0;
        }
        if window.lines == MAX_LINES {
            window.unlogged += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.unlogged))
    }
}

/// Marks an error response that already has its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct HasBody;

/// The data of a request from its arrival until it is answered.
pub(super) struct RequestLog {
    started: Instant,
    trace: Arc<Trace>,
    /// The route's pattern, never the path, which contains a user id or the token of a link.
    route: Option<MatchedPath>,
    method: &'static str,
    span: Span,
}

impl RequestLog {
    /// Begins the log of a request, and gives the request its trace.
    pub(super) fn open<B>(request: &mut Request<B>, clock: &dyn Clock) -> Self {
        let started = Instant::now();
        let trace = Arc::new(continue_trace(request.headers(), clock.uuid()));
        let route = request.extensions().get::<MatchedPath>().cloned();
        let span = step!(
            trace,
            "http.request",
            request_id = trace.request_id(),
            http.method = %request.method(),
            http.route = route_name(route.as_ref()),
            channel.id = tracing::field::Empty,
            status = tracing::field::Empty,
        );
        request.extensions_mut().insert(Arc::clone(&trace));
        Self {
            started,
            trace,
            route,
            method: method_label(request.method()),
            span,
        }
    }

    /// Returns the span in which the request is processed.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Completes the response: adds the request id, renders a problem, counts the response and logs
    /// it.
    pub(super) fn finish(
        self,
        response: Response,
        metrics: &Metrics,
        anonymous: &AnonymousLog,
    ) -> Response {
        let _entered = self.span.enter();
        let (response, problem) = render_problem(response, self.trace.request_id());
        let status = response.status();
        let duration = self.started.elapsed();
        let route = route_name(self.route.as_ref());
        let labels = [route, self.method, status.as_str()];
        metrics.observe(&REQUESTS, labels, duration.as_secs_f64());
        if let Some(problem) = &problem {
            metrics.count(&PROBLEMS, [problem.code().as_str()], 1);
        }
        self.log_response(status, problem.as_ref(), duration, false, anonymous);
        self.with_request_id(response)
    }

    /// Completes the response to an operator's request, without counting it in the metrics.
    /// Operators' pages send a GET every two seconds, so a successful GET is logged only at debug
    /// level. So is the look-up of an unknown id, which is no fault of anybody.
    pub(super) fn finish_uncounted(self, response: Response, anonymous: &AnonymousLog) -> Response {
        let _entered = self.span.enter();
        let (response, problem) = render_problem(response, self.trace.request_id());
        let is_read = self.method == "GET";
        let duration = self.started.elapsed();
        let status = response.status();
        self.log_response(status, problem.as_ref(), duration, is_read, anonymous);
        self.with_request_id(response)
    }

    /// Logs the response, unless the log limit for its kind is reached.
    fn log_response(
        &self,
        status: StatusCode,
        problem: Option<&Problem>,
        duration: Duration,
        is_read: bool,
        anonymous: &AnonymousLog,
    ) {
        self.span.record("status", status.as_u16());
        let unlogged = match self.unauthenticated_kind(problem) {
            Some(kind) => match anonymous.admit(kind, self.started + duration) {
                Some(unlogged) => (unlogged > 0).then_some(unlogged),
                None => return,
            },
            None => None,
        };
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let cause = problem.and_then(Problem::cause);
        let code = problem.map(|problem| problem.code().as_str());
        let is_unknown = is_read && problem.is_some_and(is_unknown_id);
        let status = status.as_u16();
        if status >= 500 {
            tracing::error!(
                status,
                duration_ms,
                code,
                unlogged,
                error = cause,
                "request failed"
            );
        } else if status >= 400 && !is_unknown {
            tracing::warn!(
                status,
                duration_ms,
                code,
                unlogged,
                error = cause,
                "request refused"
            );
        } else if is_read {
            tracing::debug!(status, duration_ms, code, "request answered");
        } else {
            tracing::info!(status, duration_ms, unlogged, "request answered");
        }
    }

    /// Returns the kind of a response that a caller can get without a key, or `None` for any other.
    ///
    /// On the channels' routes the key is checked before anything else, except for the codes that
    /// are listed here.
    fn unauthenticated_kind(&self, problem: Option<&Problem>) -> Option<&'static str> {
        let route = route_name(self.route.as_ref());
        let Some(problem) = problem else {
            let is_open = matches!(route, "none" | "/openapi.json") || route.starts_with("/docs");
            return is_open.then_some("answered");
        };
        let code = problem.code();
        let is_before_the_key = matches!(code, Code::Unauthorized | Code::MethodNotAllowed);
        (is_before_the_key || !route.starts_with("/v1/")).then_some(code.as_str())
    }

    fn with_request_id(&self, mut response: Response) -> Response {
        if let Ok(id) = HeaderValue::from_str(self.trace.request_id()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}

/// True if the request named an event or a message that is not stored.
fn is_unknown_id(problem: &Problem) -> bool {
    matches!(problem.code(), Code::EventNotFound | Code::MessageNotFound)
}

fn route_name(route: Option<&MatchedPath>) -> &str {
    route.map_or("none", MatchedPath::as_str)
}

/// Continues the caller's trace, or begins a new one.
fn continue_trace(headers: &HeaderMap, new_id: Uuid) -> Trace {
    // If there are two `traceparent` headers, it is not known which one is right, so both are
    // ignored.
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next().filter(|_| parents.next().is_none());
    let parent = parent.and_then(|value| value.to_str().ok());
    // A header that is not text becomes `=`, which is malformed as well, since its key is empty.
    let states = headers.get_all(TRACESTATE).iter();
    let states = states.map(|value| value.to_str().unwrap_or("="));
    Trace::continue_from(header_text(headers, &REQUEST_ID), parent, new_id).with_state(states)
}

/// Returns the method as a metric label. A caller may send any method, so unknown ones share a
/// label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Renders the problem that the response carries or that its bare status implies.
fn render_problem(mut response: Response, request_id: &str) -> (Response, Option<Problem>) {
    let status = response.status();
    let carried = response.extensions_mut().remove::<Problem>();
    let has_body = response.extensions().get::<HasBody>().is_some();
    if carried.is_none() && (has_body || !status.is_client_error() && !status.is_server_error()) {
        return (response, None);
    }
    let problem = carried.unwrap_or_else(|| Problem::of_status(status));
    let mut rendered = problem.render(request_id);
    // Headers that a lower layer set beside the status, such as `Allow`, stay.
    for (name, value) in response.headers() {
        if !rendered.headers().contains_key(name) && !is_about_the_body(name) {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    (rendered, Some(problem))
}

fn is_about_the_body(name: &HeaderName) -> bool {
    use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
    [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(name)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Runs a handler, and turns a panic into a problem. The panic hook has already logged its
/// location.
pub(super) fn catch_panic(
    answer: impl Future<Output = Response>,
) -> impl Future<Output = Response> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    answer.map(|answer| {
        answer.unwrap_or_else(|_panic| {
            Problem::new(
                Code::InternalError,
                "The bridge failed; its log has details under this request's id.",
            )
            .into_response()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_twenty_problems_of_a_kind_are_logged_per_ten_seconds() {
        let (log, begin) = (AnonymousLog::default(), Instant::now());

        for _ in 0..MAX_LINES {
            assert_eq!(log.admit("unauthorized", begin), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(log.admit("unauthorized", begin), None);
        }
        assert_eq!(log.admit("not-found", begin), Some(0));
        let later = begin + WINDOW;
        assert_eq!(log.admit("unauthorized", later), Some(1000));
        assert_eq!(log.admit("unauthorized", later), Some(0));
    }
}
