//! Outgoing HTTP: the only module that sends HTTP requests to other machines.
//!
//! Every request has a time limit, the request id and trace context of its cause, and a span with
//! fixed fields. An answer is read completely, up to [`MAX_BODY_BYTES`], or streamed. The caller
//! decides which failures to retry. For that decision, the error tells if the other side can have
//! received anything. Neither spans nor errors show paths, queries, bodies or header values, since
//! those hold ids and secrets.
//!
//! The module is built on hyper and not on reqwest for two reasons. First, the address of a
//! callback is checked where the connection is made. Second, head and body are sent in one write.
//! This write, and reading an answer in one piece, save the service 3 of 34 µs per message
//! ("Optimizations" in docs/performance.md).

mod answer;
mod connect;

use std::error::Error as StdError;
use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use h2::Reason;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
pub use hyper::header;
use hyper::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use hyper::http::uri::{InvalidUri, Scheme};
pub use hyper::{Method, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use thread_local::ThreadLocal;
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use url::Url;

pub use self::answer::{Answer, Body, Streamed};
use self::connect::{Connector, SystemResolver, proxy_authorization};
pub use self::connect::{Resolve, TlsSetupError};
use crate::types::trace::{Trace, step};

/// 1 MiB: far more than any JSON answer needs, and little enough that a hostile answer does no
/// harm.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// 2 s: a host that takes longer to accept a connection is considered unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// 5 s: a channel's server may be far away, or need time to start. The caller sets the time limit
/// of the whole request.
const CALLBACK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// 10 s: a host that sends nothing for this long while an answer is streamed is considered
/// unavailable.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// 45 s: below the 60 s after which servers and load balancers usually close an idle connection. So
/// no request is written to a connection that is about to close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// 1,024: the maximum number of fields in the head of a callback's answer. Each answer allocates
/// memory for that many.
const MAX_CALLBACK_FIELDS: usize = 1024;

/// 256 KiB: the maximum size of such a head. Frameworks write a few hundred bytes. Cookies and
/// proxies add a few KiB.
const MAX_CALLBACK_HEAD_BYTES: u32 = 256 * 1024;

/// The maximum number of idle connections per host and thread, for bursts of users.
const MAX_IDLE_CONNECTIONS: usize = 256;

/// The number of headers of a request to the Cloud, with Host and Content-Length.
const HEADER_COUNT: usize = 10;

/// The maximum number of times that a request is repeated after the other side declined it unread.
const MAX_RETRIES: u32 = 2;

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("liveperson-bridge/", env!("CARGO_PKG_VERSION")));

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The use of the proxy that the environment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are followed.
    Environment,
    /// Every connection is direct.
    None,
}

/// A request. The headers that all requests carry are added when it is sent.
pub type Request = hyper::Request<Full<Bytes>>;

/// A client that sends requests over pooled connections. Clones share the pools.
#[derive(Clone)]
pub struct Client {
    pools: Arc<Pools>,
    proxies: Option<Arc<Matcher>>,
    /// The time limit for the start of a streamed answer, and for each silence within it.
    stream_timeout: Option<Duration>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The reason that there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing reached the other side, so a retry repeats nothing.
    #[error("the connection could not be established")]
    NotSent(#[source] Arc<NotSentReason>),
    /// The request was sent, at least in part, and its outcome is unknown.
    #[error("no complete answer arrived")]
    NoAnswer(#[source] Arc<NoAnswerReason>),
}

/// The reason that a request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NotSentReason {
    /// No connection could be made.
    #[error(transparent)]
    Connecting(legacy::Error),
    /// HTTP cannot express the URL.
    #[error("the URL cannot be requested")]
    Url(#[source] InvalidUri),
}

/// The reason that an answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswerReason {
    /// The connection broke before the answer began, or the other side does not speak HTTP.
    #[error(transparent)]
    Sending(legacy::Error),
    /// The connection broke within the answer.
    #[error(transparent)]
    Reading(hyper::Error),
    /// The time limit passed.
    #[error(transparent)]
    TimedOut(TimedOut),
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("the body is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
}

/// The error of a time limit that has passed.
#[derive(Debug, thiserror::Error)]
#[error("operation timed out")]
pub struct TimedOut;

/// Creates a request to a URI.
#[must_use]
pub fn request(method: Method, uri: Uri, body: Bytes) -> Request {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    // Reserved for the usual number of headers, since growing the map would rehash all of them.
    request.headers_mut().reserve(HEADER_COUNT);
    request
}

/// Creates a request to a URL, whose user and password become its authorization.
///
/// # Errors
///
/// [`Error::NotSent`] if HTTP cannot express the URL.
pub fn request_to(method: Method, url: &Url, body: Bytes) -> Result<Request, Error> {
    let Some(authorization) = authorization(url) else {
        return Ok(request(method, uri(url)?, body));
    };
    let mut bare = url.clone();
    // This fails only for a URL without a host, and such a URL has no user.
    let stripped = bare.set_username("").and_then(|()| bare.set_password(None));
    debug_assert!(stripped.is_ok(), "a URL with a user has a host");
    let mut request = request(method, uri(&bare)?, body);
    request.headers_mut().insert(AUTHORIZATION, authorization);
    Ok(request)
}

/// Returns the URI of a URL.
///
/// # Errors
///
/// As for [`request_to`].
pub fn uri(url: &Url) -> Result<Uri, Error> {
    url.as_str()
        .parse()
        .map_err(|error| Error::NotSent(Arc::new(NotSentReason::Url(error))))
}

/// Returns the user and password of a URL as a header value.
fn authorization(url: &Url) -> Option<HeaderValue> {
    let (user, password) = (url.username(), url.password());
    if user.is_empty() && password.is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password.unwrap_or_default()));
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Client {
    /// Creates a client with connections of its own.
    ///
    /// # Errors
    ///
    /// The TLS configuration of the machine is unusable, for instance because it has no root
    /// certificates.
    pub fn new(proxy: Proxy) -> Result<Self, TlsSetupError> {
        let proxies = match proxy {
            Proxy::Environment => Some(Matcher::from_env()),
            Proxy::None => None,
        };
        Self::with_proxies(proxies)
    }

    fn with_proxies(proxies: Option<Matcher>) -> Result<Self, TlsSetupError> {
        let proxies = proxies.map(Arc::new);
        Ok(Self {
            pools: Pools::new(
                pool(),
                Connector::new(SystemResolver, proxies.clone(), CONNECT_TIMEOUT)?,
            ),
            proxies,
            stream_timeout: Some(STREAM_TIMEOUT),
        })
    }

    /// Creates a client for URLs that channels have chosen. It connects only to the addresses that
    /// `resolver` returns. So it never uses a proxy, which would resolve names itself. The caller
    /// sets the time limit of an answer. An answer's head may have 1,024 fields and 256 KiB, so
    /// that unusual headers of a channel's server do not hide the status.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn for_callbacks(resolver: impl Resolve) -> Result<Self, TlsSetupError> {
        let connector = Connector::new(resolver, None, CALLBACK_CONNECT_TIMEOUT)?;
        Ok(Self {
            pools: Pools::new(callback_pool(), connector),
            proxies: None,
            stream_timeout: None,
        })
    }

    /// Sends a request and reads its answer, both within `limit`.
    ///
    /// `operation` is the request's constant name in spans, such as `cloud.open`.
    ///
    /// # Errors
    ///
    /// There is no answer; [`Error`] says if the request can have taken effect. An answer with any
    /// status is not an error.
    pub fn send(
        &self,
        operation: &'static str,
        trace: &Trace,
        limit: Duration,
        mut request: Request,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<'_> {
        let span = add_common_headers(&mut request, operation, trace);
        let response = self.exchange(request);
        async move {
            let started = start_time(&span);
            let reading = async { Answer::read(response.await?).await };
            let read = timeout(limit, reading).instrument(span.clone()).await;
            let answer = read.unwrap_or_else(|_| Err(TimedOut.into()));
            record(
                &span,
                started,
                answer.as_ref().ok().map(|answer| answer.status),
            );
            answer
        }
    }

    /// Sends a request and streams its answer, which may have any length. The answer must begin
    /// within 10 s, except that of a callback.
    ///
    /// # Errors
    ///
    /// As for [`Client::send`].
    pub fn stream(
        &self,
        operation: &'static str,
        trace: &Trace,
        mut request: Request,
    ) -> impl Future<Output = Result<Streamed, Error>> + Send + use<'_> {
        let span = add_common_headers(&mut request, operation, trace);
        let response = self.exchange(request);
        async move {
            let started = start_time(&span);
            let limit = self.stream_timeout.unwrap_or(Duration::MAX);
            let outcome = timeout(limit, response).instrument(span.clone()).await;
            let response = outcome.unwrap_or_else(|_| Err(TimedOut.into()));
            record(&span, started, response.as_ref().ok().map(Response::status));
            Ok(Streamed::new(response?, self.stream_timeout))
        }
    }

    /// Sends a request, and repeats it if the other side reports that it did not process it.
    fn exchange(
        &self,
        mut request: Request,
    ) -> impl Future<Output = Result<Response<Incoming>, Error>> + Send + use<'_> {
        if let Some(proxies) = &self.proxies
            && let Some(authorization) = proxy_authorization(proxies, request.uri())
        {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        // Only HTTP/2 can decline a request in this way, and only TLS negotiates HTTP/2.
        let is_declinable = request.uri().scheme() == Some(&Scheme::HTTPS);
        let copy = is_declinable.then(|| Box::new(request.clone()));
        let mut response = self.pools.of_thread().request(request);
        async move {
            for _ in 0..MAX_RETRIES {
                match (response.await, &copy) {
                    (Err(error), Some(copy)) if was_declined(&error) => {
                        response = self.pools.of_thread().request((**copy).clone());
                    }
                    (outcome, _) => return outcome.map_err(Error::from),
                }
            }
            response.await.map_err(Error::from)
        }
    }
}

/// The connections of a client: one pool for each thread. A connection is served by the runtime
/// that made it, so a request from another thread would have to wake that thread and be woken by
/// it.
struct Pools {
    by_thread: ThreadLocal<legacy::Client<Connector, Full<Bytes>>>,
    settings: legacy::Builder,
    connector: Connector,
}

impl Pools {
    fn new(settings: legacy::Builder, connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            by_thread: ThreadLocal::new(),
            settings,
            connector,
        })
    }

    /// Returns the pool of the current thread.
    fn of_thread(&self) -> &legacy::Client<Connector, Full<Bytes>> {
        self.by_thread
            .get_or(|| self.settings.build(self.connector.clone()))
    }
}

/// Returns the settings that the pools of all clients share.
fn pool() -> legacy::Builder {
    let mut pool = legacy::Client::builder(TokioExecutor::new());
    pool.timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        // One buffer for head and body: most are small, and a write of several buffers costs the
        // system more than a copy.
        .http1_writev(false);
    pool
}

/// Returns the settings of pools for callbacks.
fn callback_pool() -> legacy::Builder {
    let mut pool = pool();
    pool.http1_max_headers(MAX_CALLBACK_FIELDS)
        .http1_max_buf_size(MAX_CALLBACK_HEAD_BYTES as usize)
        .http2_max_header_list_size(MAX_CALLBACK_HEAD_BYTES);
    pool
}

/// True if the other side reports that it did nothing with the request: it closes the connection
/// gracefully, or has too many requests on it. Source: RFC 9113, section 8.7.
fn was_declined(error: &legacy::Error) -> bool {
    iter::successors(error.source(), |cause| (*cause).source())
        .find_map(|cause| cause.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)
                    || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
        })
}

/// Reads `Retry-After` in either of its forms: seconds, or a date. A date in the past means a pause
/// of zero.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

/// Adds the headers that all requests carry; returns the span that records the outcome.
fn add_common_headers(request: &mut Request, operation: &'static str, trace: &Trace) -> Span {
    // A child span id, so that the other side's spans belong to the call that caused them.
    let trace = trace.child();
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, USER_AGENT_VALUE);
    set_header(headers, REQUEST_ID, trace.request_id());
    set_header(headers, TRACEPARENT, trace.traceparent());
    if let Some(tracestate) = trace.tracestate() {
        set_header(headers, TRACESTATE, tracestate);
    }
    step!(
        trace,
        "http.send",
        operation,
        host = request.uri().host(),
        status = Empty,
        duration_ms = Empty,
    )
}

/// Returns the time at which a request began, if the span is enabled.
fn start_time(span: &Span) -> Option<Instant> {
    (!span.is_disabled()).then(Instant::now)
}

/// Records the duration and the status in the span.
fn record(span: &Span, started: Option<Instant>, status: Option<StatusCode>) {
    let Some(started) = started else {
        return;
    };
    span.record("duration_ms", started.elapsed().as_secs_f64() * 1000.0);
    span.record("status", status.map(|status| status.as_u16()));
}

impl From<legacy::Error> for Error {
    /// Classifies the error by how far the request got.
    fn from(error: legacy::Error) -> Self {
        if error.is_connect() {
            Self::NotSent(Arc::new(NotSentReason::Connecting(error)))
        } else {
            Self::from(NoAnswerReason::Sending(error))
        }
    }
}

impl From<TimedOut> for Error {
    fn from(timed_out: TimedOut) -> Self {
        Self::from(NoAnswerReason::TimedOut(timed_out))
    }
}

impl From<NoAnswerReason> for Error {
    fn from(reason: NoAnswerReason) -> Self {
        Self::NoAnswer(Arc::new(reason))
    }
}

/// Sets a header to text that [`Trace`] has already limited to valid characters.
fn set_header(headers: &mut HeaderMap, name: HeaderName, value: impl TryInto<HeaderValue>) {
    if let Ok(value) = value.try_into() {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
