//! The body of a request while it arrives: its bytes are counted, and it is cut if it is too slow.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Permit, PermitKind, body_limit_problem};
use crate::api::problem::{Code, Problem};
use crate::bounds::LimitReached;

/// The speed at which a body must arrive.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time that a body may take whatever its length.
    grace: Duration,
    /// The bytes that must arrive in each second after that, on average; `None` if nothing may
    /// arrive any more.
    bytes_per_second: Option<u32>,
    /// The error text for a body that is too slow.
    too_slow: &'static str,
    /// The time that a body may still take once the service is stopping.
    grace_at_stop: Duration,
    /// The problem for a body that is cut because the service stops.
    stopped: fn() -> Problem,
    /// The problem for a body that does not fit.
    pub(super) no_room: fn(LimitReached) -> Problem,
}

/// The pace of channels' JSON bodies. Most are below 1 KiB and arrive with the head of the request.
pub(super) static REQUESTS: Pace = Pace {
    grace: Duration::from_secs(5),
    bytes_per_second: Some(1024),
    too_slow: "The body must arrive within 5 s plus 1 s for each KiB; nothing was done.",
    grace_at_stop: Duration::from_secs(5),
    stopped: stopped_request,
    no_room: body_limit_problem,
};

/// The pace of forms with users' files. They also have a time limit for the whole form.
pub(super) static FILES: Pace = Pace {
    bytes_per_second: Some(8 * 1024),
    too_slow: "The file must arrive within 5 s plus 1 s for each 8 KiB; nothing was sent.",
    ..REQUESTS
};

/// The pace of notifications. The Cloud waits 2.5 s for the response, and may be far away.
pub(super) static NOTIFICATIONS: Pace = Pace {
    grace: Duration::from_secs(5),
    bytes_per_second: None,
    too_slow: "The notification did not arrive within 5 s.",
    grace_at_stop: Duration::from_secs(1),
    stopped: Problem::too_many_notifications,
    no_room: |_| Problem::too_many_notifications(),
};

impl Pace {
    /// Returns the time by which more than `bytes` bytes must have arrived, for a body that began
    /// at `begun`.
    fn end(&self, begun: Instant, bytes: usize) -> Instant {
        let more = self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            let milliseconds = bytes.saturating_mul(1000) / usize::try_from(rate).unwrap_or(1);
            Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
        });
        begun + self.grace + more
    }
}

fn stopped_request() -> Problem {
    Problem::overloaded(
        "The service is stopping, and the body has not arrived in full; nothing was done.",
    )
}

/// The body of a request that holds a permit, while it arrives.
pub(super) struct Arrival {
    body: Body,
    permit: Permit,
    begun: Instant,
    bytes: usize,
    /// Set once the body has to be waited for. Nearly all bodies are complete at once.
    waiting: Option<Pin<Box<Waiting>>>,
}

/// The timers that end the wait for a body.
struct Waiting {
    /// The timer. It is rarely reset: when it fires, the body's progress is checked.
    timer: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The time at which the body is cut because the service is stopping.
    stops_at: Option<Instant>,
}

impl Arrival {
    pub(super) fn new(body: Body, permit: Permit) -> Self {
        Self {
            body,
            permit,
            begun: Instant::now(),
            bytes: 0,
            waiting: None,
        }
    }

    /// Returns pending until the body has taken too long.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<Problem> {
        let PermitKind::Request(request) = &*self.permit.0 else {
            return Poll::Pending;
        };
        let pace = request.pace;
        let end = pace.end(self.begun, self.bytes);
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(Waiting {
                timer: Box::pin(sleep_until(end)),
                stopping: Box::pin(request.stopping.clone().cancelled_owned()),
                stops_at: None,
            })
        });
        if waiting.stops_at.is_none() && waiting.stopping.as_mut().poll(context).is_ready() {
            let stops_at = Instant::now() + pace.grace_at_stop;
            waiting.stops_at = Some(stops_at);
            waiting.timer.as_mut().reset(end.min(stops_at));
        }
        loop {
            ready!(waiting.timer.as_mut().poll(context));
            let now = Instant::now();
            if end <= now {
                return Poll::Ready(Problem::new(Code::RequestTimeout, pace.too_slow));
            }
            let next = match waiting.stops_at {
                Some(stops_at) if stops_at <= now => return Poll::Ready((pace.stopped)()),
                Some(stops_at) => end.min(stops_at),
                None => end,
            };
            waiting.timer.as_mut().reset(next);
        }
    }

    /// Cuts the body.
    fn cut(&self, problem: Problem) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let PermitKind::Request(request) = &*self.permit.0 {
            request.cut.get_or_init(|| problem);
        }
        Poll::Ready(Some(Err(axum::Error::new("the body was cut"))))
    }
}

impl http_body::Body for Arrival {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let problem = ready!(self.poll_timeout(context));
                return self.cut(problem);
            }
        };
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, Bytes::len);
            if let Err(problem) = self.permit.count_bytes(self.bytes) {
                return self.cut(problem);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
