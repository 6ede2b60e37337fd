//! A step on a lane, and what comes after it.

use chrono::{DateTime, Utc};

use super::job::Job;
use crate::store::{DueLane, Flight, Lease, Request};

/// A user's lane with the first request on it.
pub(super) struct Lane<'a> {
    pub(super) due: &'a DueLane,
    pub(super) request: &'a Request,
    pub(super) lease: &'a Lease,
}

/// What comes after a step on a lane.
pub(super) enum Next {
    /// Another step.
    Step,
    /// A pause, until this moment.
    Rest(DateTime<Utc>),
    /// A pause until this moment, which the echo of a try ends.
    AwaitEcho(DateTime<Utc>, Awaited),
    /// Nothing. The lane is empty, and was given back.
    Done,
    /// Nothing. Another holds the lane.
    Lost,
}

/// A try whose echo is awaited.
pub(super) struct Awaited {
    pub(super) in_flight: Flight,
    /// The text that was sent; `None` for a file.
    pub(super) text: Option<String>,
}

impl Awaited {
    pub(super) fn new(job: &Job, in_flight: &Flight) -> Self {
        Self {
            in_flight: in_flight.clone(),
            text: job.next_text().map(str::to_owned),
        }
    }
}
