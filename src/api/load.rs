//! The bounds on work in progress: requests, the bytes of their bodies, and the bytes of pages of
//! events.
//!
//! An unauthenticated caller holds no permit. A channel's request acquires its permit once its key
//! or token is verified. A notification's bytes count once its head is well-formed, and it acquires
//! its permit once its signature is verified. A request beyond a bound is refused before its body
//! is read. Bytes count as they arrive, whatever length a request declares. A body that arrives too
//! slowly is cut, so that no client holds a permit without using it.
//!
//! The Cloud's notifications have bounds of their own, so that channels that wait for the Cloud do
//! not block them. A reader that waits for events holds no permit here, but one of the bridge's
//! permits for readers. Files have permits of their own too.

mod arrival;

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::bounds::{Bound, BoundPermit, Holder, LimitReached, Shares};
use arrival::{Arrival, Pace};

/// The limit on channels' requests in progress. If each takes 5 s, the default limit of the wait
/// for the Cloud, that is 400 a second. At the usual 100 ms, it is 20,000 a second.
pub(super) const MAX_REQUESTS: usize = 2048;

/// 16: the limit on requests in progress with tokens for one user. A user's page or app makes a
/// few.
pub(super) const MAX_REQUESTS_OF_USER: usize = 16;

/// The limit on signed notifications in progress. Each takes as long as a commit.
const MAX_NOTIFICATIONS: usize = 512;

/// 64 MiB: the limit on bytes in memory, for request bodies, notification bodies and pages of
/// events each.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// 4 MiB: the limit on bytes of event pages in memory for tokens of one user.
const MAX_PAGE_BYTES_OF_USER: usize = 4 * 1024 * 1024;

/// 1 KiB: the unit in which bytes are counted.
const UNIT_BYTES: usize = 1024;

/// The work in progress in this process. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Load(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    requests: Bound,
    /// The bytes of channels' bodies, in units.
    bodies: Bound,
    notifications: Bound,
    /// The bytes of notifications' bodies, in units.
    notification_bodies: Bound,
    /// The bytes of event pages, in units.
    pages: Bound,
    page_shares: Shares,
    stopping: CancellationToken,
}

/// The permit of a request or response. It is released when its last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Permit(Arc<PermitKind>);

#[derive(Debug)]
enum PermitKind {
    Request(RequestPermit),
    Page { _permit: BoundPermit },
}

/// A request in progress.
#[derive(Debug)]
struct RequestPermit {
    _request: Option<BoundPermit>,
    /// The part of the bound that its body takes so far, in units; `None` if the body does not
    /// count.
    bytes: Option<Mutex<BoundPermit>>,
    pace: &'static Pace,
    stopping: CancellationToken,
    /// The reason for which its body was cut, if it was.
    cut: OnceLock<Problem>,
}

impl Default for Load {
    /// Creates the bounds for a single channel and a single account, in a service that never stops.
    fn default() -> Self {
        Self::new(1, 1, CancellationToken::new())
    }
}

impl Load {
    /// Creates the bounds for a number of channels and accounts. Bodies that are still arriving
    /// soon after `stopping` are cut.
    #[must_use]
    pub fn new(channels: usize, accounts: usize, stopping: CancellationToken) -> Self {
        let units = MAX_BYTES / UNIT_BYTES;
        let page_shares = Shares::new(units, MAX_PAGE_BYTES_OF_USER / UNIT_BYTES, channels);
        let bound = |all, user, holders| Bound::new(Shares::new(all, user, holders));
        Self(Arc::new(Bounds {
            requests: bound(MAX_REQUESTS, MAX_REQUESTS_OF_USER, channels),
            // The bodies of one user need no share: the limit on a user's requests keeps them to at
            // most a sixteenth of all bytes.
            bodies: bound(units, units, channels),
            notifications: bound(MAX_NOTIFICATIONS, MAX_NOTIFICATIONS, accounts),
            notification_bodies: bound(units, units, accounts),
            pages: Bound::new(page_shares),
            page_shares,
            stopping,
        }))
    }

    /// Acquires a permit for a channel's request, which its body and its response hold. Returns
    /// `None` for a route that needs none.
    pub(super) fn admit(&self, holder: Holder<'_>, route: &str) -> Result<Option<Permit>, Problem> {
        // Readers wait long, and there may be many. Each holds a reader's permit while it waits,
        // and its pages count.
        if route == "/v1/events" {
            return Ok(None);
        }
        // A file counts against the permits for files.
        let is_file = route.ends_with("/files");
        let bounds = &*self.0;
        let request = bounds.requests.acquire(holder, 1).map_err(|limit| {
            Problem::overloaded(match limit {
                LimitReached::All => {
                    "Too many requests are in progress; this one was not read."
                }
                LimitReached::Channel => {
                    "Too many requests of this channel are in progress; this one was not read."
                }
                LimitReached::User => {
                    "Too many requests with tokens for this user, or with links to this file, are in progress; this one was not read."
                }
            })
        })?;
        let bytes = if is_file {
            None
        } else {
            let bytes = bounds
                .bodies
                .acquire(holder, 0)
                .map_err(body_limit_problem)?;
            Some(Mutex::new(bytes))
        };
        Ok(Some(Permit::new(PermitKind::Request(RequestPermit {
            _request: Some(request),
            bytes,
            pace: if is_file {
                &arrival::FILES
            } else {
                &arrival::REQUESTS
            },
            stopping: bounds.stopping.clone(),
            cut: OnceLock::new(),
        }))))
    }

    /// Counts the body of a notification for an account as it arrives. Its signature cannot be
    /// verified before its end, so it takes no permit yet.
    pub(super) fn notification_body(&self, account_id: &str) -> Result<Permit, Problem> {
        let bounds = &*self.0;
        let bytes = bounds
            .notification_bodies
            .acquire(of_account(account_id), 0);
        let bytes = bytes.map_err(|_| Problem::too_many_notifications())?;
        Ok(Permit::new(PermitKind::Request(RequestPermit {
            _request: None,
            bytes: Some(Mutex::new(bytes)),
            pace: &arrival::NOTIFICATIONS,
            stopping: bounds.stopping.clone(),
            cut: OnceLock::new(),
        })))
    }

    /// Acquires a permit for a signed notification for an account.
    pub(super) fn notification(&self, account_id: &str) -> Result<BoundPermit, Problem> {
        let permit = self.0.notifications.acquire(of_account(account_id), 1);
        permit.map_err(|_| Problem::too_many_notifications())
    }

    /// Acquires a permit for a page of events of this size, or for a part of a stream.
    ///
    /// # Errors
    ///
    /// The bound or share that is used up.
    pub(super) fn page(&self, holder: Holder<'_>, bytes: usize) -> Result<Permit, LimitReached> {
        let Shares { channel, user, .. } = self.0.page_shares;
        // A page that is larger than a share takes all of it.
        let max_units = holder.user.map_or(channel, |_| user.min(channel));
        let units = bytes.div_ceil(UNIT_BYTES).min(max_units);
        let permit = self.0.pages.acquire(holder, units)?;
        Ok(Permit::new(PermitKind::Page { _permit: permit }))
    }
}

/// Makes the problem for a page of events for which no permit is available.
pub(super) fn page_limit_problem(limit: LimitReached) -> Problem {
    Problem::overloaded(match limit {
        LimitReached::All => "Too many events are being sent to readers.",
        LimitReached::Channel => "Too many events are being sent to readers of this channel.",
        LimitReached::User => {
            "Too many events are being sent to readers with tokens for this user."
        }
    })
}

impl Permit {
    fn new(kind: PermitKind) -> Self {
        Self(Arc::new(kind))
    }

    /// Converts a text to bytes that hold the permit until the last of them is dropped.
    pub(super) fn attach_to_text(self, text: String) -> Bytes {
        Bytes::from_owner(TextWithPermit {
            text,
            _permit: self,
        })
    }

    /// Wraps the request's body as it arrives: it is counted, and cut if it does not fit or takes
    /// too long.
    pub(super) fn limit_body(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Arrival::new(body, self.clone()))
    }

    /// Counts the bytes of a body that have arrived.
    fn count_bytes(&self, bytes: usize) -> Result<(), Problem> {
        let PermitKind::Request(RequestPermit {
            bytes: Some(counted),
            pace,
            ..
        }) = &*self.0
        else {
            return Ok(());
        };
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.div_ceil(UNIT_BYTES) - counted.amount();
        counted.acquire_more(more).map_err(pace.no_room)
    }

    /// Returns the response, or the problem for which the body was cut.
    pub(super) fn response_or_cut(&self, response: Response) -> Response {
        self.cut().map_or(response, Problem::into_response)
    }

    /// Returns the problem for which the request's body was cut, if it was.
    pub(super) fn cut(&self) -> Option<Problem> {
        match &*self.0 {
            PermitKind::Request(request) => request.cut.get().cloned(),
            PermitKind::Page { .. } => None,
        }
    }

    /// Makes the response hold the permit until its last byte is written or the connection is
    /// dropped.
    pub(super) fn attach_to(self, response: Response) -> Response {
        response.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(BodyWithPermit {
                body,
                _permit: self,
            })
        })
    }
}

fn of_account(account_id: &str) -> Holder<'_> {
    Holder {
        channel: account_id,
        user: None,
    }
}

/// Makes the problem for a channel's body that exceeds a limit.
fn body_limit_problem(limit: LimitReached) -> Problem {
    Problem::overloaded(match limit {
        LimitReached::All => {
            "The bodies of the requests in progress have reached their total size limit; nothing was done."
        }
        LimitReached::Channel | LimitReached::User => {
            "The bodies of this channel's requests in progress have reached their total size limit; nothing was done."
        }
    })
}

/// A text that holds a permit.
struct TextWithPermit {
    text: String,
    _permit: Permit,
}

impl AsRef<[u8]> for TextWithPermit {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A body that holds a permit.
struct BodyWithPermit {
    body: Body,
    _permit: Permit,
}

impl http_body::Body for BodyWithPermit {
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
