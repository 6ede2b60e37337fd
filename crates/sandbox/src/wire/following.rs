//! The endpoint that follows the wire, as a stream of server-sent events or as one list.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{CAPACITY, Wire};
use crate::Sandbox;
use crate::refusal::Refusal;
use liveperson_bridge_web::negotiation::{self, Format};

/// The longest silence of a stream: 15 s, so that no proxy takes the connection for dead.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The highest number of exchanges that are written at once: a megabyte, if all have the maximum
/// length.
const AT_ONCE: usize = 32;

pub(crate) fn router() -> Router<Sandbox> {
    Router::new().route("/wire", get(follow))
}

async fn follow(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Result<Response, Refusal> {
    let wire = sandbox.0.wire.clone();
    if wants_json(&headers) {
        return Ok(list(&wire));
    }
    let follower = Follower {
        last: read_last_id(&headers)?,
        updates: wire.0.latest.subscribe(),
        wire,
    };
    let chunks = stream::unfold(follower, async |mut follower| {
        let chunk = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), follower))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// True if the client prefers the list. A stream is the default.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter();
    let accept = accept.filter_map(|line| line.to_str().ok());
    negotiation::preferred(accept, Format::EventStream) == Format::Json
}

fn read_last_id(headers: &HeaderMap) -> Result<u64, Refusal> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(0);
    };
    let id = value.to_str().ok().and_then(|value| value.parse().ok());
    id.ok_or_else(|| {
        let complaint = "Last-Event-ID: expected the `id` of an entry";
        Refusal::plain(StatusCode::BAD_REQUEST, complaint)
    })
}

fn list(wire: &Wire) -> Response {
    let entries = wire.after(0, CAPACITY);
    let entries: Vec<_> = entries.iter().map(|entry| entry.json()).collect();
    let body = format!("{{\"entries\":[{}]}}", entries.join(","));
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}

/// A follower of the wire.
struct Follower {
    wire: Wire,
    /// The id of the last exchange that it received; 0 before the first.
    last: u64,
    updates: watch::Receiver<u64>,
}

impl Follower {
    /// Returns the next text to write; `None` once the wire has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.wire.0.ended.is_cancelled() {
                return None;
            }
            self.updates.mark_unchanged();
            if let Some(text) = self.read() {
                return Some(text);
            }
            tokio::select! {
                () = self.wire.0.ended.cancelled() => return None,
                update = timeout(KEEP_ALIVE_INTERVAL, self.updates.changed()) => match update {
                    Err(_elapsed) => return Some(":\n".to_owned()),
                    Ok(Err(_closed)) => return None,
                    Ok(Ok(())) => {}
                }
            }
        }
    }

    /// Returns the exchanges that the follower has not received, if there are any. No empty line
    /// follows a comment, because some clients pass on empty events. An id is the last field,
    /// because some clients lose an event that is cut off after its id.
    fn read(&mut self) -> Option<String> {
        let entries = self.wire.after(self.last, AT_ONCE);
        let (first, last) = (entries.first()?.id, entries.last()?.id);
        let mut text = String::new();
        if self.last > 0 && first > self.last + 1 {
            let missed = first - self.last - 1;
            write_infallibly(
                &mut text,
                format_args!(": {missed} entries dropped before they were read\n"),
            );
        }
        for entry in entries {
            let (id, json) = (entry.id, entry.json());
            write_infallibly(&mut text, format_args!("data: {json}\nid: {id}\n\n"));
        }
        self.last = last;
        Some(text)
    }
}

fn write_infallibly(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    text.write_fmt(arguments).unwrap_or_default();
}
