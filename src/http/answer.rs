//! Answers: read completely up to a bound, or streamed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::bytes::{Bytes, BytesMut};

use super::{Error, MAX_BODY_BYTES, NoAnswerReason, TimedOut};

/// A complete answer.
pub struct Answer {
    /// The status, redirects included: they are not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
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

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, Error> {
        let (head, mut incoming) = response.into_parts();
        // A short body arrives as one piece, which needs no copy.
        let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(NoAnswerReason::Reading)?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if first.len().max(joined.len()) + piece.len() > MAX_BODY_BYTES {
                return Err(NoAnswerReason::TooLong.into());
            }
            if first.is_empty() {
                first = piece;
                continue;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&piece);
        }
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: if joined.is_empty() {
                first
            } else {
                joined.freeze()
            },
        })
    }
}

/// An answer whose body is still arriving.
#[derive(Debug)]
pub struct Streamed {
    /// The status, redirects included: they are not followed.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// A body that is still arriving. It fails if nothing arrives for 10 s, except that of a callback.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    limit: Option<Duration>,
    /// The timer of the time since the last frame.
    idle_timer: Option<Pin<Box<Sleep>>>,
}

impl Streamed {
    /// Creates an answer that fails if nothing arrives for `limit`.
    pub(super) fn new(response: Response<Incoming>, limit: Option<Duration>) -> Self {
        let (head, incoming) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body: Body {
                incoming,
                limit,
                idle_timer: None,
            },
        }
    }

    /// Reads and discards the rest of a body, so that its connection can be reused. Gives up if the
    /// body exceeds one of the limits.
    pub async fn discard(mut self, max_bytes: usize, limit: Duration) {
        let reading = async {
            let mut read = 0;
            while read <= max_bytes {
                match self.body.frame().await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        // The answer is complete either way. The result only decides if the connection is reused.
        drop(timeout(limit, reading).await);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = NoAnswerReason;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NoAnswerReason>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.idle_timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(NoAnswerReason::Reading)));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let timer = self
            .idle_timer
            .get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(NoAnswerReason::TimedOut(TimedOut))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
