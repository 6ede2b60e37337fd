//! How much may be under way at once: requests, the bytes of their bodies, and the bytes of pages of events.
//!
//! Whoever has proven nothing takes up nothing of this: a channel's request has its place once its key or token is known, and of a
//! notification the bytes count once its head is well-formed, the place once its signature is right. What is more than fits is
//! refused before anything of it is read. Bytes count as they arrive, whatever a request says of its length, and a body
//! that arrives too slowly is cut, so that nobody holds a place with nothing.
//!
//! The Cloud's notifications have bounds of their own: channels that wait for the Cloud keep nobody from hearing it. Who
//! waits for events holds no place here, but one of the places for readers, which are the bridge's. Files have places of
//! their own as well.

mod arrival;

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::bounds::{Bound, Exhausted, Hold, Holder, Shares};
use arrival::{Arrival, Pace};

/// Requests of channels that may be under way at once: at 5 s, the longest that a channel waits for the Cloud by itself, 400 a
/// second; at the usual 100 ms, 20,000 a second.
pub(super) const REQUESTS: usize = 2048;

/// 16: requests with tokens for one user that may be under way at once. A person's page or app makes a few.
pub(super) const REQUESTS_OF_USER: usize = 16;

/// Signed notifications of the Cloud that may be under way at once; each takes as long as a commit.
const NOTIFICATIONS: usize = 512;

/// 64 MiB: bodies of requests, of notifications, and pages of events that may be in memory at once, each for itself.
const BYTES: usize = 64 * 1024 * 1024;

/// 4 MiB: pages of events for tokens for one user that may be in memory at once.
const PAGES_OF_USER: usize = 4 * 1024 * 1024;

/// 1 KiB: what bytes are counted in.
const UNIT: usize = 1024;

/// What is under way in this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Load(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    requests: Bound,
    /// In units.
    bodies: Bound,
    notifications: Bound,
    /// In units.
    notification_bodies: Bound,
    /// In units.
    pages: Bound,
    page_shares: Shares,
    stopping: CancellationToken,
}

/// What a request or an answer takes up, for as long as any clone of this lives.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Held>);

#[derive(Debug)]
enum Held {
    Request(UnderWay),
    Page { _room: Hold },
}

/// A request under way.
#[derive(Debug)]
struct UnderWay {
    _request: Option<Hold>,
    /// What its body takes up so far, in units; `None` where it does not count.
    bytes: Option<Mutex<Hold>>,
    pace: &'static Pace,
    stopping: CancellationToken,
    /// Why its body was cut, where it was.
    cut: OnceLock<Problem>,
}

impl Default for Load {
    /// That of a service with a single channel and a single account, which never stops.
    fn default() -> Self {
        Self::new(1, 1, CancellationToken::new())
    }
}

impl Load {
    /// Nothing is under way yet, for so many channels and accounts. Soon after `stopping` bodies that still arrive are cut.
    #[must_use]
    pub fn new(channels: usize, accounts: usize, stopping: CancellationToken) -> Self {
        let units = BYTES / UNIT;
        let page_shares = Shares::new(units, PAGES_OF_USER / UNIT, channels);
        let bound = |all, user, holders| Bound::new(Shares::new(all, user, holders));
        Self(Arc::new(Bounds {
            requests: bound(REQUESTS, REQUESTS_OF_USER, channels),
            // By their number those of one user are a sixteenth at most.
            bodies: bound(units, units, channels),
            notifications: bound(NOTIFICATIONS, NOTIFICATIONS, accounts),
            notification_bodies: bound(units, units, accounts),
            pages: Bound::new(page_shares),
            page_shares,
            stopping,
        }))
    }

    /// Lets a channel's request in where there is room for it: in the place that its body and its answer are to hold, where it
    /// takes one up.
    pub(super) fn admit(&self, holder: Holder<'_>, route: &str) -> Result<Option<Place>, Problem> {
        // Readers wait long, and there may be many; each has a place that counts as long as it waits, and its pages count.
        if route == "/v1/events" {
            return Ok(None);
        }
        // A file counts against the places for files.
        let is_file = route.ends_with("/files");
        let bounds = &*self.0;
        let request = bounds.requests.take(holder, 1).map_err(|exhausted| {
            Problem::overloaded(match exhausted {
                Exhausted::All => {
                    "As many requests as fit are under way; nothing was read of this one."
                }
                Exhausted::Channel => {
                    "As many requests of this channel are under way as one channel may have; nothing was read of this one."
                }
                Exhausted::User => {
                    "As many requests with tokens for this user are under way as one user may have; nothing was read of this one."
                }
            })
        })?;
        let bytes = if is_file {
            None
        } else {
            let bytes = bounds.bodies.take(holder, 0).map_err(no_room_for_body)?;
            Some(Mutex::new(bytes))
        };
        Ok(Some(Place::new(Held::Request(UnderWay {
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

    /// What the body of a notification for an account takes up as it arrives. That its signature is right is not known before its
    /// end, so it holds none of the places.
    pub(super) fn notification_body(&self, account_id: &str) -> Result<Place, Problem> {
        let bounds = &*self.0;
        let bytes = bounds.notification_bodies.take(of_account(account_id), 0);
        let bytes = bytes.map_err(|_| Problem::too_many_notifications())?;
        Ok(Place::new(Held::Request(UnderWay {
            _request: None,
            bytes: Some(Mutex::new(bytes)),
            pace: &arrival::NOTIFICATIONS,
            stopping: bounds.stopping.clone(),
            cut: OnceLock::new(),
        })))
    }

    /// A place for a signed notification for an account.
    pub(super) fn notification(&self, account_id: &str) -> Result<Hold, Problem> {
        let place = self.0.notifications.take(of_account(account_id), 1);
        place.map_err(|_| Problem::too_many_notifications())
    }

    /// Room for a page of events of so many bytes, or for a part of a stream, of what the shares leave.
    ///
    /// # Errors
    ///
    /// What is used up.
    pub(super) fn page(&self, holder: Holder<'_>, bytes: usize) -> Result<Place, Exhausted> {
        let Shares { channel, user, .. } = self.0.page_shares;
        // One that is larger than a share takes all of it.
        let most = holder.user.map_or(channel, |_| user.min(channel));
        let room = self.0.pages.take(holder, bytes.div_ceil(UNIT).min(most))?;
        Ok(Place::new(Held::Page { _room: room }))
    }
}

/// The answer where a page of events finds no room.
pub(super) fn no_room_for_page(exhausted: Exhausted) -> Problem {
    Problem::overloaded(match exhausted {
        Exhausted::All => "As many events as fit are on their way to readers.",
        Exhausted::Channel => {
            "As many events are on their way to readers of this channel as one channel may have."
        }
        Exhausted::User => {
            "As many events are on their way to readers with tokens for this user as one user may have."
        }
    })
}

impl Place {
    fn new(held: Held) -> Self {
        Self(Arc::new(held))
    }

    /// The text as bytes, which hold the place until the last of them is dropped.
    pub(super) fn holding(self, text: String) -> Bytes {
        Bytes::from_owner(HeldText { text, _place: self })
    }

    /// The body of the request as it arrives: counted, and cut where it does not fit or takes too long.
    pub(super) fn arriving(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Arrival::new(body, self.clone()))
    }

    /// Counts a body of which so many bytes have arrived.
    fn book(&self, bytes: usize) -> Result<(), Problem> {
        let Held::Request(UnderWay {
            bytes: Some(booked),
            pace,
            ..
        }) = &*self.0
        else {
            return Ok(());
        };
        let mut booked = booked.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.div_ceil(UNIT) - booked.amount();
        booked.grow(more).map_err(pace.no_room)
    }

    /// The answer to the request, or where its body was cut the reason for that.
    pub(super) fn answer(&self, answer: Response) -> Response {
        self.cut().map_or(answer, Problem::into_response)
    }

    /// Why the request's body was cut, where it was.
    pub(super) fn cut(&self) -> Option<Problem> {
        match &*self.0 {
            Held::Request(request) => request.cut.get().cloned(),
            Held::Page { .. } => None,
        }
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

fn of_account(account_id: &str) -> Holder<'_> {
    Holder {
        channel: account_id,
        user: None,
    }
}

/// The problem of a channel's body that does not fit beside the others.
fn no_room_for_body(exhausted: Exhausted) -> Problem {
    Problem::overloaded(match exhausted {
        Exhausted::All => {
            "The bodies of the requests under way are as large as fits; nothing was done."
        }
        Exhausted::Channel | Exhausted::User => {
            "The bodies of this channel's requests under way are as large as one channel's may be; nothing was done."
        }
    })
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
