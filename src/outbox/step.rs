//! A step on a lane, and the action after it.

use chrono::{DateTime, Utc};

use super::job::Job;
use crate::store::{DueLane, InFlight, Lease, Request};

/// A user's lane with its first request.
pub(super) struct Lane<'a> {
    pub(super) due: &'a DueLane,
    pub(super) request: &'a Request,
    pub(super) lease: &'a Lease,
}

/// The action after a step on a lane.
pub(super) enum Next {
    /// Another step.
    Step,
    /// A pause until this time.
    Pause(DateTime<Utc>),
    /// A pause until this time, which the echo of an attempt ends early.
    AwaitEcho(DateTime<Utc>, Awaited),
    /// No action: the lane is empty and was released.
    Released,
    /// No action: another replica holds the lane.
    Lost,
}

/// An attempt whose echo is awaited.
pub(super) struct Awaited {
    pub(super) in_flight: InFlight,
    /// The text that was sent; `None` for a file.
    pub(super) text: Option<String>,
}

impl Awaited {
    pub(super) fn new(job: &Job, in_flight: &InFlight) -> Self {
        Self {
            in_flight: in_flight.clone(),
            text: job.next_text().map(str::to_owned),
        }
    }
}
