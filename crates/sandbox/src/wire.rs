//! The wire: what went over it, between a channel, a bridge and the Cloud, for whoever looks on.
//!
//! Each exchange is kept once its answer is known, the latest 1,000 of them. Who follows reads at a pace of its own and
//! misses what has gone out of the ring meanwhile: nobody who sends anything ever waits for a follower. Tokens and secrets
//! are masked before anything is shown ([`masking`]).

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
use body::Tapped;
pub(super) use body::{Sample, SharedSample, sampled};
pub(super) use following::router;
use liveperson_bridge_clock::SharedClock;

/// As many exchanges as a page can show.
const CAPACITY: usize = 1_000;

/// Who asked whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A channel asked a bridge.
    Facade,
    /// A bridge asked the Cloud.
    Cloud,
    /// The Cloud told a bridge, or tried to.
    Notification,
    /// A bridge told a channel, or tried to.
    Event,
}

/// A request, as it went.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) operation: Option<Operation>,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    /// What has been read of the body so far.
    pub(super) body: SharedSample,
}

impl Asked {
    /// A request that came here.
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

/// The URL as the caller has it, given that only http is spoken here.
fn url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if uri.authority().is_none() => format!("http://{host}{uri}"),
        _ => uri.to_string(),
    }
}

/// The exchanges, shared by all who add to them and all who look on.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    ring: Mutex<Ring>,
    /// The number of the latest exchange.
    latest: watch::Sender<u64>,
    /// Ends those who follow, who would else hold up a stop.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// How many there were, those included that are forgotten.
    count: u64,
}

/// An exchange whose answer is known.
#[derive(Debug)]
struct Entry {
    id: u64,
    exchange: Exchange,
    answer: Option<Answer>,
    duration: Duration,
    /// As JSON in one line, made when somebody looks for the first time.
    shown: OnceLock<String>,
}

#[derive(Debug)]
struct Exchange {
    at: DateTime<Utc>,
    asked: Asked,
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

    /// A request has begun; `fault` says whether something strikes it that was ordered.
    pub(super) fn begin(&self, asked: Asked, fault: bool) -> Underway {
        Underway {
            wire: self.clone(),
            began: Instant::now(),
            exchange: Some(Exchange {
                at: self.0.clock.now(),
                asked,
                fault,
            }),
        }
    }

    /// How many exchanges there were.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.ring().count
    }

    /// Forgets what there was; numbers go on.
    pub(super) fn clear(&self) {
        self.ring().entries.clear();
    }

    /// Ends all who follow.
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
            shown: OnceLock::new(),
        };
        if ring.entries.len() == CAPACITY {
            ring.entries.pop_front();
        }
        ring.entries.push_back(Arc::new(entry));
        self.0.latest.send_replace(ring.count);
    }

    /// Up to `limit` exchanges after that of a number, the oldest first. A number that is still to come is one of another
    /// sandbox, which was here before.
    fn after(&self, id: u64, limit: usize) -> Vec<Arc<Entry>> {
        let ring = self.ring();
        let id = if id > ring.count { 0 } else { id };
        let entries = ring.entries.iter();
        let later = entries.skip_while(|entry| entry.id <= id);
        later.take(limit).cloned().collect()
    }

    /// Each change of the ring is a single step, so it is sound also when a holder panicked.
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose answer is still to come. One that is dropped got none.
#[derive(Debug)]
pub(super) struct Underway {
    wire: Wire,
    began: Instant,
    exchange: Option<Exchange>,
}

impl Underway {
    /// The answer, whose body is looked at as it goes by; the exchange is kept once all of it has gone.
    pub(super) fn answered(self, response: Response) -> Response {
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
            self.ended(answer);
            return Response::from_parts(parts, body);
        }
        let body = Body::new(Tapped::new(body, move |body| {
            self.ended(Answer { body, ..answer });
        }));
        Response::from_parts(parts, body)
    }

    /// An answer that was read here.
    pub(super) fn read(self, status: StatusCode, headers: HeaderMap, body: Sample) {
        self.ended(Answer {
            status,
            headers,
            body,
        });
    }

    /// There will be no answer.
    pub(super) fn unanswered(self) {
        drop(self);
    }

    fn ended(mut self, answer: Answer) {
        self.keep(Some(answer));
    }

    fn keep(&mut self, answer: Option<Answer>) {
        if let Some(exchange) = self.exchange.take() {
            self.wire.push(exchange, answer, self.began.elapsed());
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.keep(None);
    }
}

impl Entry {
    /// The exchange as JSON in one line, without any secret.
    fn shown(&self) -> &str {
        self.shown.get_or_init(|| self.show())
    }

    fn show(&self) -> String {
        let Exchange { at, asked, fault } = &self.exchange;
        let (headers, body) = match &self.answer {
            Some(answer) => (
                show_headers(&answer.headers),
                answer.body.show(&answer.headers),
            ),
            None => (BTreeMap::new(), String::new()),
        };
        let asked_body = body::lock(&asked.body).show(&asked.headers);
        let shown = json!({
            "id": self.id,
            "at": at,
            "kind": asked.kind,
            "operation": asked.operation,
            "method": asked.method,
            "url": masking::text(&asked.url),
            "request": {"headers": show_headers(&asked.headers), "body": asked_body},
            "status": self.answer.as_ref().map(|answer| answer.status.as_u16()),
            "duration_ms": (self.duration.as_secs_f64() * 10_000.0).round() / 10.0,
            "response": {"headers": headers, "body": body},
            "fault": fault,
        });
        shown.to_string()
    }
}

/// Headers by their names; the values of a repeated one with commas between.
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
