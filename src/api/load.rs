//! How much may be under way at once: requests, the bytes of their bodies, and the bytes of pages of events.
//!
//! What is more is refused before anything of it is read, so that a crowd costs no memory and those who are in are served.
//! The Cloud's notifications have bounds of their own: channels that wait for the Cloud keep nobody from hearing it. Who
//! waits for events holds no place here, but one of the places for readers, which are the bridge's. Files have places of
//! their own as well.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use super::router::JSON_LIMIT;
use super::webhooks;

/// Requests of channels that may be under way at once: at 5 s, the longest that a channel waits for the Cloud by itself, 400 a
/// second; at the usual 100 ms, 20,000 a second.
pub(super) const REQUESTS: usize = 2048;

/// Notifications of the Cloud that may be under way at once; each takes as long as a commit.
const NOTIFICATIONS: usize = 512;

/// 64 MiB: bodies of requests, of notifications, and pages of events that may be in memory at once, each for itself.
const BYTES: usize = 64 * 1024 * 1024;

/// 1 KiB: what bytes are counted in.
const UNIT: usize = 1024;

/// What is under way in this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Load(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    channels: Bound,
    cloud: Bound,
    pages: Arc<Semaphore>,
}

#[derive(Debug)]
struct Bound {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// What a request or an answer takes up, for as long as any clone of this lives.
#[derive(Debug, Clone)]
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] Arc<Held>);

#[derive(Debug)]
struct Held {
    _request: Option<OwnedSemaphorePermit>,
    _bytes: OwnedSemaphorePermit,
}

impl Default for Load {
    fn default() -> Self {
        Self(Arc::new(Bounds {
            channels: Bound::new(REQUESTS),
            cloud: Bound::new(NOTIFICATIONS),
            pages: units(BYTES),
        }))
    }
}

impl Load {
    /// Lets a request in where there is room for it and its body: in the place that its answer is to hold, where it takes one up.
    pub(super) fn admit(&self, request: &mut Request) -> Result<Option<Place>, Problem> {
        let matched = request.extensions().get::<MatchedPath>();
        let route = matched.map_or("", MatchedPath::as_str);
        // Readers wait long, and there may be many; each has a place that counts as long as it waits, and its pages count.
        if route == "/v1/events" {
            return Ok(None);
        }
        let place = if route.starts_with("/webhooks/") {
            let bytes = body_bytes(request.headers(), webhooks::BODY_LIMIT);
            let place = self.0.cloud.place(bytes);
            place.ok_or_else(Problem::too_many_notifications)?
        } else {
            // A file counts against the places for files.
            let is_file = route.ends_with("/files");
            let limit = if is_file { 0 } else { JSON_LIMIT };
            let place = self.0.channels.place(body_bytes(request.headers(), limit));
            place.ok_or_else(|| {
                Problem::overloaded(
                    "As many requests as fit are under way; nothing was read of this one.",
                )
            })?
        };
        // For work that goes on although its caller has gone.
        request.extensions_mut().insert(place.clone());
        Ok(Some(place))
    }

    /// Room for a page of events of so many bytes.
    pub(super) fn page(&self, bytes: usize) -> Result<Place, Problem> {
        let pages = Arc::clone(&self.0.pages);
        let room = pages.try_acquire_many_owned(in_units(bytes).min(in_units(BYTES)));
        room.map(Place::of_page)
            .map_err(|_| Problem::overloaded("As many events as fit are on their way to readers."))
    }

    /// The same, once there is room; who came first is first.
    pub(super) async fn page_when_free(&self, bytes: usize) -> Option<Place> {
        let pages = Arc::clone(&self.0.pages);
        let room = pages.acquire_many_owned(in_units(bytes).min(in_units(BYTES)));
        room.await.ok().map(Place::of_page)
    }
}

impl Bound {
    fn new(requests: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            bytes: units(BYTES),
        }
    }

    /// A place for a request with a body of so many bytes.
    fn place(&self, bytes: usize) -> Option<Place> {
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(in_units(bytes));
        Some(Place::new(Held {
            _request: Some(request),
            _bytes: bytes.ok()?,
        }))
    }
}

impl Place {
    fn new(held: Held) -> Self {
        Self(Arc::new(held))
    }

    fn of_page(room: OwnedSemaphorePermit) -> Self {
        Self::new(Held {
            _request: None,
            _bytes: room,
        })
    }

    /// The text as bytes, which hold the place until the last of them is dropped.
    pub(super) fn holding(self, text: String) -> Bytes {
        Bytes::from_owner(HeldText { text, _place: self })
    }

    /// The answer, which holds the place until its last byte is written or nobody wants it any more.
    pub(super) fn held_by(self, answer: Response) -> Response {
        answer.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(HeldBody { body, _place: self })
        })
    }
}

fn units(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / UNIT))
}

fn in_units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// What a body may take up: what it says, where it says so, and never more than is read of it.
fn body_bytes(headers: &HeaderMap, limit: usize) -> usize {
    if headers.contains_key(TRANSFER_ENCODING) {
        return limit;
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    limit.min(length.unwrap_or(0))
}

/// A text that holds a place.
struct HeldText {
    text: String,
    _place: Place,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A body that holds a place.
struct HeldBody {
    body: Body,
    _place: Place,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
