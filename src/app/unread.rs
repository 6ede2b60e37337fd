//! The part of a request's body that its handler has not read, such as the body of a request that
//! is refused at its head.
//!
//! A connection can serve its next request only after the whole body of the previous one. So a
//! short rest is read and dropped. For any other rest the response announces that the connection
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

/// 64 KiB: the limit of a rest that is read and dropped to keep the connection. Most refused bodies
/// are messages, which are shorter.
const SHORT: usize = 64 * 1024;

/// 1 s: the time in which a short rest must arrive. Most have already arrived.
const PATIENCE: Duration = Duration::from_secs(1);

/// The unread rest of the current request on a connection; usually empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Rest>>>);

#[derive(Debug)]
enum Rest {
    Of(Incoming),
    /// The rest cannot be read: its framing is invalid, or the client disconnected.
    Endless,
}

/// A body that gives its unread rest back to its owner if it is dropped before its end.
#[derive(Debug)]
pub(super) struct LentBody {
    body: Option<Incoming>,
    owner: Unread,
}

impl Unread {
    /// Wraps the body of a request for its handler, so that the unread rest is returned here.
    pub(super) fn lend(&self, request: Request<Incoming>) -> Request<LentBody> {
        request.map(|body| LentBody {
            body: Some(body),
            owner: self.clone(),
        })
    }

    /// Makes the connection ready for its next request, or announces in the response that it
    /// closes.
    pub(super) async fn settle<B>(&self, answer: &mut Response<B>) {
        let Some(rest) = self.swap(None) else {
            return;
        };
        let is_over = match rest {
            _ if answer.headers().contains_key(header::CONNECTION) => return,
            Rest::Of(body) => is_read_to_its_end(body).await,
            Rest::Endless => false,
        };
        if !is_over {
            let close = header::HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
    }

    fn swap(&self, rest: Option<Rest>) -> Option<Rest> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, rest)
    }
}

/// Reads a rest and drops it. Returns false if the rest is too long or too slow.
async fn is_read_to_its_end(mut rest: Incoming) -> bool {
    // A client that declares a long body gets its response at once.
    if rest.size_hint().lower() > SHORT as u64 {
        return false;
    }
    let reading = async {
        let mut length = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await {
            length += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if length > SHORT {
                return None;
            }
        }
        Some(())
    };
    matches!(timeout(PATIENCE, reading).await, Ok(Some(())))
}

impl Body for LentBody {
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
                self.owner.swap(Some(Rest::Endless));
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

impl Drop for LentBody {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take()
            && !rest.is_end_stream()
        {
            self.owner.swap(Some(Rest::Of(rest)));
        }
    }
}
