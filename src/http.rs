//! Outgoing HTTP: the only place that builds a reqwest client and sends a request.
//!
//! Every request leaves with a time limit, the request id and trace context of what caused it, and a span of
//! constant fields. An answer is read whole, up to [`MAX_BODY_BYTES`], or passed on as it arrives. Which failures are worth another try is left
//! to the caller, who is told the one thing it needs for that: whether anything can have reached the other side.
//! Neither spans nor errors show paths, queries, bodies or header values, since those hold ids and secrets.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body::{Frame, SizeHint};
use reqwest::dns::Resolve;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, timeout};
use tokio_util::bytes::{Bytes, BytesMut};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::types::trace::{Trace, step};

/// 1 MiB: far more than any JSON answer needs, and little enough that a hostile answer does no harm.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// 2 s: a host that takes longer to accept a connection is as good as away.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// 5 s: a channel's server may be far away, or wake up first; what it has in all is said by whoever calls it.
const CALLBACK_CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// 10 s: whoever sends nothing for that long while an answer is passed on is as good as away.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// 45 s: below the 60 s after which servers and load balancers usually close an idle connection, so that a request
/// is not written into one that is just being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(45);

/// Connections kept per host; a burst of users then finds them open.
const IDLE_CONNECTIONS: usize = 256;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Whether requests go through the proxy that the environment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are followed.
    Environment,
    /// Every connection is direct.
    None,
}

/// Sends requests over pooled connections; a clone shares the pool.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

/// A whole answer.
pub struct Answer {
    /// Its status, redirects included: they are not followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    /// Leaves out headers and body, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An answer whose body is still arriving.
#[derive(Debug)]
pub struct Streamed {
    /// Its status, redirects included: they are not followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

/// A body that is still arriving. It fails when nothing arrives for 10 s.
#[derive(Debug)]
pub struct Body(reqwest::Body);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing reached the other side: another try repeats nothing.
    #[error("no connection could be made")]
    NotSent(#[source] Arc<reqwest::Error>),
    /// The request was sent, at least in part: what became of it is unknown.
    #[error("no whole answer came")]
    NoAnswer(#[source] Arc<Loss>),
}

/// How an answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The time limit passed, or the connection broke.
    #[error(transparent)]
    Transport(reqwest::Error),
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("the body is longer than {MAX_BODY_BYTES} bytes")]
    Overlong,
}

impl Client {
    /// A client with a pool of its own.
    ///
    /// # Errors
    ///
    /// The TLS set-up of the machine cannot be used, for instance because it has no root certificates.
    pub fn new(proxy: Proxy) -> Result<Self, reqwest::Error> {
        let builder = builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(STREAM_LIMIT);
        match proxy {
            Proxy::Environment => builder,
            Proxy::None => builder.no_proxy(),
        }
        .build()
        .map(Self)
    }

    /// A client for addresses that channels have chosen: it connects to what `resolver` gives and to nothing else, so never
    /// through a proxy, which would resolve names itself. How long an answer may take is left to the caller.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn for_callbacks(resolver: impl Resolve + 'static) -> Result<Self, reqwest::Error> {
        builder()
            .connect_timeout(CALLBACK_CONNECT_LIMIT)
            .dns_resolver(Arc::new(resolver))
            .no_proxy()
            .build()
            .map(Self)
    }

    /// Begins a POST; user and password of the URL become its authorization.
    pub fn post(&self, url: Url) -> RequestBuilder {
        self.0.post(url)
    }

    /// Begins a HEAD, likewise.
    pub fn head(&self, url: Url) -> RequestBuilder {
        self.0.head(url)
    }

    /// Sends a request and reads its answer, both within `limit`.
    ///
    /// `operation` is the request's constant name in spans, such as `cloud.open`.
    ///
    /// # Errors
    ///
    /// There is no answer; [`Error`] tells whether the request can have taken effect. An answer of any status is none.
    pub async fn send(
        &self,
        operation: &'static str,
        trace: &Trace,
        limit: Duration,
        mut request: Request,
    ) -> Result<Answer, Error> {
        *request.timeout_mut() = Some(limit);
        let exchange = async |request| Answer::read(self.0.execute(request).await?).await;
        let status = |answer: &Answer| answer.status;
        observe(operation, trace, request, exchange, status).await
    }

    /// Sends a request whose answer may have any length, and is passed on as it arrives. It has to begin within 10 s, but for
    /// that of a callback.
    ///
    /// # Errors
    ///
    /// As for [`Client::send`].
    pub async fn stream(
        &self,
        operation: &'static str,
        trace: &Trace,
        request: Request,
    ) -> Result<Streamed, Error> {
        let exchange = async |request| Ok(Streamed::from(self.0.execute(request).await?));
        let status = |answer: &Streamed| answer.status;
        observe(operation, trace, request, exchange, status).await
    }
}

/// What every client has in common.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that builds a reqwest client"
)]
fn builder() -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("liveperson-bridge/", env!("CARGO_PKG_VERSION")))
        // A redirect would take tokens and messages to a host that nobody configured.
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
}

/// `Retry-After` in either of its forms: seconds, or a date. A date that has passed asks for nothing more.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

/// Gives a request what it has to bear, and makes it within a span that tells how it went.
async fn observe<A>(
    operation: &'static str,
    trace: &Trace,
    mut request: Request,
    exchange: impl AsyncFnOnce(Request) -> Result<A, Error>,
    status: impl FnOnce(&A) -> StatusCode,
) -> Result<A, Error> {
    // A step of its own, so that what the other side does is told apart by the call that it was done for.
    let trace = trace.child();
    let span = step!(
        trace,
        "http.send",
        operation,
        host = request.url().host_str(),
        status = Empty,
        duration_ms = Empty,
    );
    put(&mut request, REQUEST_ID, trace.request_id());
    put(&mut request, TRACEPARENT, &trace.traceparent());
    if let Some(tracestate) = trace.tracestate() {
        put(&mut request, TRACESTATE, tracestate);
    }
    async {
        let begun = Instant::now();
        let answer = exchange(request).await;
        let span = Span::current();
        span.record("duration_ms", begun.elapsed().as_secs_f64() * 1000.0);
        if let Ok(answer) = &answer {
            span.record("status", status(answer).as_u16());
        }
        answer
    }
    .instrument(span)
    .await
}

impl Answer {
    async fn read(mut response: Response) -> Result<Self, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(Error::NoAnswer(Arc::new(Loss::Overlong)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }
}

impl From<Response> for Streamed {
    fn from(mut response: Response) -> Self {
        Self {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: Body(response.into()),
        }
    }
}

impl Streamed {
    /// Reads what is left of a body that nobody wants, so that its connection can be used again; a longer or slower one
    /// is not worth that.
    pub async fn discard(mut self, max_bytes: usize, limit: Duration) {
        let reading = async {
            let mut read = 0;
            while read <= max_bytes {
                let body = &mut self.body;
                let frame = poll_fn(|context| http_body::Body::poll_frame(Pin::new(body), context));
                match frame.await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        // Either way the answer has been taken; all that depends on it is whether the connection is kept.
        drop(timeout(limit, reading).await);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        Pin::new(&mut self.0)
            .poll_frame(context)
            .map_err(reqwest::Error::without_url)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl From<reqwest::Error> for Error {
    /// Judges by how far the request came, and takes the URL out of the error.
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            Self::NotSent(Arc::new(error))
        } else {
            Self::NoAnswer(Arc::new(Loss::Transport(error)))
        }
    }
}

/// Sets a header to text that [`Trace`] has already limited to what a header may hold.
fn put(request: &mut Request, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests;
