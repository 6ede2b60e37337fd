//! The wire: a log of the exchanges between a channel, a bridge and the Cloud, for people who watch
//! them.
//!
//! An exchange is stored once its answer is known, and the latest 1,000 are kept. A follower reads
//! at its own pace and misses the exchanges that were dropped meanwhile, so a sender never waits
//! for a follower. Tokens and secrets are masked before anything is shown ([`masking`]).

mod body;
mod following;
mod masking;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::operation::Operation;
use body::SampledBody;
pub(super) use body::{Sample, SharedSample, sampled};
pub(super) use following::router;
use liveperson_bridge_clock::SharedClock;

/// The highest number of exchanges: about what a page can show.
const CAPACITY: usize = 1_000;

/// The direction of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A request of a channel to a bridge.
    Api,
    /// A request of a bridge to the Cloud.
    Cloud,
    /// A notification of the Cloud to a bridge, delivered or not.
    Notification,
    /// An event of a bridge to a channel, delivered or not.
    Event,
}

/// A request as it was sent.
#[derive(Debug)]
pub(super) struct ExchangeRequest {
    pub(super) kind: Kind,
    pub(super) operation: Option<Operation>,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    /// The part of the body that has been read so far.
    pub(super) body: SharedSample,
}

impl ExchangeRequest {
    /// Creates the description of a request that arrived here.
    pub(super) fn of(kind: Kind, parts: &Parts, body: SharedSample) -> Self {
        Self {
            kind,
            operation: None,
            method: parts.method.to_string(),
            url: url(&parts.uri, &parts.headers),
            headers: parts.headers.clone(),
            body,
        }
    }
}

/// Returns the URL as the caller has it. Only http is used here.
fn url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if uri.authority().is_none() => format!("http://{host}{uri}"),
        _ => uri.to_string(),
    }
}

/// The log of exchanges, shared by all that add to it and all that follow it.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    ring: Mutex<Ring>,
    /// The id of the latest exchange.
    latest: watch::Sender<u64>,
    /// The signal that ends all followers, which would otherwise hold up a shutdown.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// The number of exchanges so far, including forgotten ones.
    count: u64,
}

/// An exchange whose answer is known.
#[derive(Debug)]
struct Entry {
    id: u64,
    exchange: Exchange,
    answer: Option<Answer>,
    duration: Duration,
    /// The exchange as JSON in one line, written when it is first read.
    json: OnceLock<String>,
}

#[derive(Debug)]
struct Exchange {
    at: DateTime<Utc>,
    request: ExchangeRequest,
    fault: bool,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Sample,
}

impl Wire {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self(Arc::new(Shared {
            clock,
            ring: Mutex::default(),
            latest: watch::Sender::new(0),
            ended: CancellationToken::new(),
        }))
    }

    /// Begins an exchange. `fault` is true if an injected fault affects it.
    pub(super) fn begin(&self, request: ExchangeRequest, fault: bool) -> PendingExchange {
        PendingExchange {
            wire: self.clone(),
            began: Instant::now(),
            exchange: Some(Exchange {
                at: self.0.clock.now(),
                request,
                fault,
            }),
        }
    }

    /// Returns the number of exchanges so far.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.ring().count
    }

    /// Forgets the exchanges so far. Numbering continues.
    pub(super) fn clear(&self) {
        self.ring().entries.clear();
    }

    /// Ends all followers.
    pub(super) fn end(&self) {
        self.0.ended.cancel();
    }

    fn push(&self, exchange: Exchange, answer: Option<Answer>, duration: Duration) {
        let mut ring = self.ring();
        ring.count += 1;
        let entry = Entry {
            id: ring.count,
            exchange,
            answer,
            duration,
            json: OnceLock::new(),
        };
        if ring.entries.len() == CAPACITY {
            ring.entries.pop_front();
        }
        ring.entries.push_back(Arc::new(entry));
        self.0.latest.send_replace(ring.count);
    }

    /// Returns up to `limit` exchanges after an id, the oldest first. An id above the latest one is
    /// from an earlier sandbox, and counts as 0.
    fn after(&self, id: u64, limit: usize) -> Vec<Arc<Entry>> {
        let ring = self.ring();
        let id = if id > ring.count { 0 } else { id };
        let entries = ring.entries.iter();
        let later = entries.skip_while(|entry| entry.id <= id);
        later.take(limit).cloned().collect()
    }

    /// Locks the ring. It is sound even if a holder panicked, since each change is a single step.
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange whose answer is pending. Dropping it records that no answer came.
#[derive(Debug)]
pub(super) struct PendingExchange {
    wire: Wire,
    began: Instant,
    exchange: Option<Exchange>,
}

impl PendingExchange {
    /// Records the answer. Its body is sampled as it passes, and the exchange is stored when the
    /// body ends. If the body is an event stream, the exchange is stored at once.
    pub(super) fn record_answer(self, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers.clone(),
            body: Sample::default(),
        };
        let streams = parts.headers.get(CONTENT_TYPE).is_some_and(|media_type| {
            let media_type = media_type.as_bytes();
            media_type.starts_with(b"text/event-stream")
        });
        if streams || body.is_end_stream() {
            self.finish(answer);
            return Response::from_parts(parts, body);
        }
        let body = Body::new(SampledBody::new(body, move |body| {
            self.finish(Answer { body, ..answer });
        }));
        Response::from_parts(parts, body)
    }

    /// Records an answer that the sandbox has read itself.
    pub(super) fn record_complete_answer(
        self,
        status: StatusCode,
        headers: HeaderMap,
        body: Sample,
    ) {
        self.finish(Answer {
            status,
            headers,
            body,
        });
    }

    /// Records that no answer will come.
    pub(super) fn record_no_answer(self) {
        drop(self);
    }

    fn finish(mut self, answer: Answer) {
        self.store(Some(answer));
    }

    fn store(&mut self, answer: Option<Answer>) {
        if let Some(exchange) = self.exchange.take() {
            self.wire.push(exchange, answer, self.began.elapsed());
        }
    }
}

impl Drop for PendingExchange {
    fn drop(&mut self) {
        self.store(None);
    }
}

impl Entry {
    /// Returns the exchange as JSON in one line, without any secret.
    fn json(&self) -> &str {
        self.json.get_or_init(|| self.render())
    }

    fn render(&self) -> String {
        let Exchange { at, request, fault } = &self.exchange;
        let (headers, body) = match &self.answer {
            Some(answer) => (
                show_headers(&answer.headers),
                answer.body.show(&answer.headers),
            ),
            None => (BTreeMap::new(), String::new()),
        };
        let request_body = body::lock(&request.body).show(&request.headers);
        let shown = json!({
            "id": self.id,
            "at": at,
            "kind": request.kind,
            "operation": request.operation,
            "method": request.method,
            "url": masking::text(&request.url),
            "request": {"headers": show_headers(&request.headers), "body": request_body},
            "status": self.answer.as_ref().map(|answer| answer.status.as_u16()),
            "duration_ms": (self.duration.as_secs_f64() * 10_000.0).round() / 10.0,
            "response": {"headers": headers, "body": body},
            "fault": fault,
        });
        shown.to_string()
    }
}

/// Returns the headers by name. The values of a repeated header are joined by commas.
fn show_headers(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut shown = BTreeMap::<_, String>::new();
    for (name, value) in headers {
        let value = masking::header(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
        shown
            .entry(name.as_str())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert(value);
    }
    shown
}
