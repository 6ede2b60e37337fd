//! The responses on one connection: their bodies go to the socket in small frames, one at a time.
//!
//! Hyper copies each frame into its own buffer and asks for the next one while that buffer has
//! room, whatever the size of the frame. So a client that does not read could make it copy a whole
//! body. Here a body gives its next frame only when the socket has accepted the previous one, so
//! that a connection holds at most 16 KiB of a body. A response keeps its other resources, such as
//! its permit, until its last byte is written.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::Response;
use futures_util::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use hyper::body::Bytes;

/// 16 KiB: the limit of a body's bytes that a connection holds while the socket does not accept
/// them. Larger frames would save system calls, but each of 16,384 connections may hold one.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The tracker of the service's responses on one connection; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ResponseTracker(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of responses whose bodies have not ended.
    pending: AtomicUsize,
    /// True from the beginning of a response until all of it is written.
    has_unwritten: AtomicBool,
    /// The number of bytes of bodies that hyper has and the socket has not accepted.
    unwritten_bytes: AtomicUsize,
    /// The waker of the connection, if a body waits for the socket.
    waker: AtomicWaker,
    /// The body that has ended, until the socket has accepted its last bytes.
    ended_body: Mutex<Option<Body>>,
}

/// A response that is pending for as long as this value lives.
#[derive(Debug)]
pub(super) struct PendingResponse(Arc<State>);

/// The body of a response, in frames that the socket accepts one by one.
#[derive(Debug)]
pub(super) struct PacedBody {
    body: Body,
    /// The remaining bytes of the last frame of `body`.
    remaining: Bytes,
    pending: PendingResponse,
}

impl ResponseTracker {
    /// Records that the service begins a response.
    pub(super) fn begin(&self) -> PendingResponse {
        self.0.has_unwritten.store(true, Ordering::Relaxed);
        self.0.pending.fetch_add(1, Ordering::Relaxed);
        PendingResponse(Arc::clone(&self.0))
    }

    /// Records that all bytes that hyper has so far are written.
    pub(super) fn record_flush(&self) {
        if self.0.pending.load(Ordering::Relaxed) == 0 {
            self.0.has_unwritten.store(false, Ordering::Relaxed);
        }
        if self.0.unwritten_bytes.swap(0, Ordering::Relaxed) > 0 {
            drop(self.0.replace_ended_body(None));
            self.0.waker.wake();
        }
    }

    /// True while some bytes of the service's responses are not written.
    pub(super) fn has_unwritten(&self) -> bool {
        self.0.has_unwritten.load(Ordering::Relaxed)
    }
}

impl State {
    fn replace_ended_body(&self, body: Option<Body>) -> Option<Body> {
        let ended = self.ended_body.lock();
        let mut ended = ended.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *ended, body)
    }

    /// Completes when the socket has accepted the bytes that hyper has.
    fn poll_written(&self, context: &Context<'_>) -> Poll<()> {
        if self.unwritten_bytes.load(Ordering::Relaxed) == 0 {
            return Poll::Ready(());
        }
        // The connection's own task flushes, so no flush can happen between these two statements.
        self.waker.register(context.waker());
        Poll::Pending
    }
}

impl PendingResponse {
    /// Keeps the response pending until the end of its body.
    pub(super) fn until_end_of(self, answer: Response<Body>) -> Response<PacedBody> {
        answer.map(|body| PacedBody {
            body,
            remaining: Bytes::new(),
            pending: self,
        })
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        ready!(this.pending.0.poll_written(context));
        if this.remaining.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.remaining = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = this.remaining.len().min(MAX_FRAME_BYTES);
        let data = this.remaining.split_to(length);
        let unwritten = &this.pending.0.unwritten_bytes;
        unwritten.fetch_add(data.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, remaining) = (self.body.size_hint(), self.remaining.len() as u64);
        let mut total = SizeHint::new();
        total.set_lower(hint.lower() + remaining);
        if let Some(upper) = hint.upper() {
            total.set_upper(upper + remaining);
        }
        total
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        let state = &self.pending.0;
        if state.unwritten_bytes.load(Ordering::Relaxed) > 0 {
            drop(state.replace_ended_body(Some(std::mem::take(&mut self.body))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::StreamExt as _;
    use futures_util::stream;
    use http_body::Body as _;

    use super::*;

    /// Returns the body of a response on a connection with this tracker.
    fn paced(tracker: &ResponseTracker, body: Body) -> PacedBody {
        tracker
            .begin()
            .until_end_of(Response::new(body))
            .into_body()
    }

    /// Returns the length of the next frame; `None` if the body waits for the socket.
    fn next(body: &mut PacedBody) -> Option<usize> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => {
                Some(frame.map_or(0, |it| it.unwrap().into_data().unwrap().len()))
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_frame_is_sent_once_the_previous_one_is_flushed() {
        let tracker = ResponseTracker::default();
        let mut body = paced(&tracker, Body::from(vec![0; 2 * MAX_FRAME_BYTES + 1]));

        assert_eq!(
            body.size_hint().exact(),
            Some(2 * MAX_FRAME_BYTES as u64 + 1)
        );
        assert_eq!(next(&mut body), Some(MAX_FRAME_BYTES));
        assert_eq!(body.size_hint().exact(), Some(MAX_FRAME_BYTES as u64 + 1));
        assert_eq!(next(&mut body), None);
        tracker.record_flush();
        assert_eq!(next(&mut body), Some(MAX_FRAME_BYTES));
        assert_eq!(next(&mut body), None);
        tracker.record_flush();
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body), Some(1));
        assert!(body.is_end_stream());
    }

    #[test]
    fn a_response_keeps_its_resources_until_its_last_byte_is_written() {
        let tracker = ResponseTracker::default();
        let resource = Arc::new(());
        let held = Arc::clone(&resource);
        let frames = stream::iter(["last"]).map(move |text| {
            assert_eq!(Arc::strong_count(&held), 2);
            Ok::<_, axum::Error>(text)
        });
        let mut body = paced(&tracker, Body::from_stream(frames));

        assert_eq!(next(&mut body), Some(4));
        drop(body);
        assert_eq!(Arc::strong_count(&resource), 2);
        assert!(tracker.has_unwritten());
        tracker.record_flush();
        assert_eq!(Arc::strong_count(&resource), 1);
        assert!(!tracker.has_unwritten());
    }
}
