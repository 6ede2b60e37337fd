//! The part of a request's body that its handler has not read, such as the body of a request that
//! is refused at its head.
//!
//! A connection can serve its next request only after the whole body of the previous one. So a
//! short remainder is read and dropped. For any other, the response announces that the connection
//! closes. Otherwise a client or a load balancer would send its next request on a connection that
//! is just being closed, and that request would fail.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

/// 64 KiB: the limit of a remainder that is read and dropped to keep the connection. Most refused
/// bodies are messages, which are shorter.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

/// 1 s: the time in which a short remainder must arrive. Most have already arrived.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// The unread remainder of the current request on a connection; usually empty.
#[derive(Debug, Clone, Default)]
pub(super) struct UnreadBody(Arc<Mutex<Option<Remainder>>>);

#[derive(Debug)]
enum Remainder {
    Readable(Incoming),
    /// The remainder cannot be read: its framing is invalid, or the client disconnected.
    Unreadable,
}

/// A body that gives its unread remainder back to its owner if it is dropped before its end.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Option<Incoming>,
    owner: UnreadBody,
}

impl UnreadBody {
    /// Wraps the body of a request for its handler, so that the unread remainder is returned here.
    pub(super) fn track(&self, request: Request<Incoming>) -> Request<TrackedBody> {
        request.map(|body| TrackedBody {
            body: Some(body),
            owner: self.clone(),
        })
    }

    /// Makes the connection ready for its next request, or announces in the response that it
    /// closes.
    pub(super) async fn drain_or_close<B>(&self, answer: &mut Response<B>) {
        let Some(remainder) = self.replace(None) else {
            return;
        };
        let is_drained = match remainder {
            _ if answer.headers().contains_key(header::CONNECTION) => return,
            Remainder::Readable(body) => drain(body).await,
            Remainder::Unreadable => false,
        };
        if !is_drained {
            let close = header::HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
    }

    fn replace(&self, remainder: Option<Remainder>) -> Option<Remainder> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, remainder)
    }
}

/// Reads a body and drops it. Returns false if it is too long or too slow.
async fn drain(mut body: Incoming) -> bool {
    // A client that declares a long body gets its response at once.
    if body.size_hint().lower() > MAX_DRAINED_BYTES as u64 {
        return false;
    }
    let reading = async {
        let mut length = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            length += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if length > MAX_DRAINED_BYTES {
                return None;
            }
        }
        Some(())
    };
    matches!(timeout(DRAIN_LIMIT, reading).await, Ok(Some(())))
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(Err(_))) => {
                self.body = None;
                self.owner.replace(Some(Remainder::Unreadable));
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(remainder) = self.body.take()
            && !remainder.is_end_stream()
        {
            self.owner.replace(Some(Remainder::Readable(remainder)));
        }
    }
}
