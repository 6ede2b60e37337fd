//! Doing what was kept: one user's requests, in order, under the lease of that user's lane.
//!
//! What is about to be sent is written down first. So whoever takes over the lane of a replica that died knows what may be at
//! the Cloud, and looks for its echo before sending it again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::echoes::{Sighting, recognise};
use super::lanes::RENEWAL;
use super::outcomes::{self, Later, OUTCOME_UNKNOWN};
use super::requests::{Attempt, Held, Job, Work};
use super::schedule;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{
    Conclusion, DueLane, Flight, Hold, LEASE, Lease, Request, RequestState, Settled,
};
use crate::types::audit::Actor;
use crate::types::event::data::Failure;
use crate::types::message::Digest;
use crate::types::problem::{BLOCKED, CHANNEL_REMOVED, Code, EXPIRED, SEQUENCE_UNKNOWN};
use crate::types::trace::{Trace, step};

/// 20 s: an opening and what is sent after it; each part has a limit of its own.
const TRY_LIMIT: Duration = Duration::from_secs(20);

/// 6 tries that a gateway answered, so about two minutes: if it lets others' messages through by then and not this one, it is
/// the message that it does not like.
const BLOCKED_TRIES: u32 = 6;

/// 1 s: how soon a lane is taken again after trouble with the storage.
const AFTER_TROUBLE: TimeDelta = TimeDelta::seconds(1);

/// Lanes that are due, held by this process.
#[derive(Debug)]
pub struct DueLanes {
    /// The lanes.
    pub lanes: Vec<DueLane>,
    lease: Lease,
}

/// A user's lane with the request that is first on it.
pub(super) struct Lane<'a> {
    pub(super) due: &'a DueLane,
    pub(super) request: &'a Request,
    lease: &'a Lease,
}

/// What comes after a step on a lane.
enum Next {
    /// Another one.
    Go,
    /// A pause, until this moment.
    Rest(DateTime<Utc>),
    /// A pause that the echo of this try ends.
    AwaitEcho(DateTime<Utc>, Awaited),
    /// Nothing: nothing waits on the lane, and it was given back.
    Done,
    /// Nothing: the lane is another's.
    Lost,
}

/// A try whose echo is awaited.
struct Awaited {
    flight: Flight,
    /// The text that was sent; none for a file.
    text: Option<String>,
}

impl Bridge {
    /// Waits until this process knows of a lane that is due.
    pub async fn requests_due(&self) {
        self.requests_due.notified().await;
    }

    /// Takes lanes that are due, `limit` at most.
    ///
    /// # Errors
    ///
    /// When the storage is away.
    pub async fn claim_due_lanes(&self, limit: u32) -> Result<DueLanes, Error> {
        let now = self.parts.clock.now();
        let lease = self.new_lease();
        let store = &self.parts.store;
        let lanes = store.claim_due_lanes(&lease, now, limit).await?;
        Ok(DueLanes { lanes, lease })
    }

    /// Does what is due on a lane, until nothing is or the service stops, and gives it back.
    pub async fn work_on(&self, lanes: &DueLanes, due: &DueLane) {
        let lease = &lanes.lease;
        tokio::select! {
            worked = self.work_through(due, lease) => {
                let Err(error) = worked else {
                    return;
                };
                if !error.is_outage() {
                    tracing::warn!(
                        account.id = %due.key.account_id,
                        error = &error as &dyn std::error::Error,
                        "a user's queued requests could not be worked on; they are again in a moment"
                    );
                }
                let at = self.parts.clock.now() + AFTER_TROUBLE;
                // Where this fails as well, the lease runs out.
                let _later = self.parts.store.rest_lane(due.user, lease, at).await;
            }
            () = self.renew(due, lease) => tracing::warn!(
                account.id = %due.key.account_id,
                "another took over a user's queued requests"
            ),
        }
    }

    /// Renews a lease for as long as it is ours.
    async fn renew(&self, due: &DueLane, lease: &Lease) {
        loop {
            sleep(RENEWAL).await;
            let renewed = self
                .parts
                .store
                .renew_lane(due.user, &self.renewed(lease))
                .await;
            // One that could not be asked for is so next time, or has run out by then and is found to be lost.
            if let Ok(false) = renewed {
                return;
            }
        }
    }

    /// The same lease, from now on.
    pub(super) fn renewed(&self, lease: &Lease) -> Lease {
        Lease {
            id: lease.id.clone(),
            until: self.parts.clock.now() + LEASE,
        }
    }

    async fn work_through(&self, due: &DueLane, lease: &Lease) -> Result<(), Error> {
        let store = &self.parts.store;
        loop {
            let now = self.parts.clock.now();
            let request = match store.first_request(due.user).await? {
                Some(request) if !self.parts.stopping.is_cancelled() && !self.is_ahead() => request,
                _ => return Ok(store.rest_lane(due.user, lease, now).await?),
            };
            let lane = Lane {
                due,
                request: &request,
                lease,
            };
            match self.step(&lane).await? {
                Next::Go => {}
                Next::Rest(at) => return Ok(store.rest_lane(due.user, lease, at).await?),
                Next::AwaitEcho(at, awaited) => {
                    store.rest_lane(due.user, lease, at).await?;
                    // One that came just before the lane was given back has not hurried it.
                    let found = self.find_echo(due, &awaited).await?;
                    let is_here = found.is_some_and(|it| self.counts(it, &awaited));
                    if !is_here
                        || !store
                            .claim_lane(due.user, &self.renewed(lease), now)
                            .await?
                    {
                        return Ok(());
                    }
                }
                Next::Done | Next::Lost => return Ok(()),
            }
        }
    }

    /// Brings the first request of a lane one step on.
    async fn step(&self, lane: &Lane<'_>) -> Result<Next, Error> {
        let request = lane.request;
        let Some(mut job) = job(request) else {
            return self.give_up(lane, None, Code::InternalError.as_str()).await;
        };
        if let (RequestState::Waiting, Some(flight)) = (request.state, &request.flight)
            && let Some(echo) = self.find_late_echo(lane, &job, flight).await?
        {
            return self.conclude_arrived(lane, job, flight, echo).await;
        }
        match (request.state, &request.flight) {
            (RequestState::Sending, Some(_)) => {
                let why = OUTCOME_UNKNOWN;
                self.conclude(lane, &job, Conclusion::Unknown { why }, None)
                    .await
            }
            (RequestState::Unknown, Some(flight)) => self.await_echo(lane, job, flight).await,
            _ if request.expires_at <= self.parts.clock.now() => {
                self.give_up(lane, Some(job), EXPIRED).await
            }
            _ => self.send(lane, &mut job).await,
        }
    }

    /// The echo of what may have been sent, where the Cloud has told it back.
    async fn find_echo(&self, due: &DueLane, awaited: &Awaited) -> Result<Option<Sighting>, Error> {
        let Awaited { flight, text } = awaited;
        let found = self.parts.store.find_echoes(due.user, flight).await?;
        // What was sent at the same time, and was not known to be when this was kept.
        let others = self.recent.of(due.user, &flight.dialog_id);
        Ok(recognise(flight, text.as_deref(), &found, &others))
    }

    /// True once an echo proves that a message has arrived.
    fn counts(&self, sighting: Sighting, awaited: &Awaited) -> bool {
        let counts_at = schedule::likely_echo_counts_at(awaited.flight.begun_at);
        sighting.is_certain || self.parts.clock.now() >= counts_at
    }

    /// The echo of an earlier try, where the outcome of one was unknown and its echo has come after all.
    async fn find_late_echo(
        &self,
        lane: &Lane<'_>,
        job: &Job,
        flight: &Flight,
    ) -> Result<Option<Sighting>, Error> {
        let text = job.next_text();
        // Of the parts of a split text, an earlier one may have been tried last.
        if text.is_some_and(|text| flight.digest != String::from(Digest::of_text(text))) {
            return Ok(None);
        }
        let unknown = self.parts.store.count_reason(job.id, OUTCOME_UNKNOWN);
        if unknown.await? == 0 {
            return Ok(None);
        }
        let awaited = Awaited {
            flight: flight.clone(),
            text: text.map(str::to_owned),
        };
        self.find_echo(lane.due, &awaited).await
    }

    /// Looks for the echo of what may have been sent.
    async fn await_echo(&self, lane: &Lane<'_>, job: Job, flight: &Flight) -> Result<Next, Error> {
        let store = &self.parts.store;
        let awaited = Awaited {
            flight: flight.clone(),
            text: job.next_text().map(str::to_owned),
        };
        let found = self.find_echo(lane.due, &awaited).await?;
        if let Some(echo) = found.filter(|echo| self.counts(*echo, &awaited)) {
            if !echo.is_certain {
                tracing::info!(
                    account.id = %lane.due.key.account_id,
                    channel.id = %lane.request.channel_id,
                    conversation.id = %flight.conversation_id,
                    sequence = echo.sequence,
                    "a message of unknown outcome counts as sent: its echo came altered, or by another clock"
                );
            }
            return self.conclude_arrived(lane, job, flight, echo).await;
        }
        if found.is_some() {
            let counts_at = schedule::likely_echo_counts_at(flight.begun_at);
            return Ok(Next::AwaitEcho(counts_at, awaited));
        }
        let now = self.parts.clock.now();
        let hearing = store.last_hearing(&lane.due.key.account_id).await?;
        let Some(look) = schedule::next_look_for_echo(flight.begun_at, hearing, now) else {
            if store.last_reason(job.id).await?.as_deref() == Some(SEQUENCE_UNKNOWN) {
                return self.conclude_unnumbered(lane, job, flight).await;
            }
            let why = OUTCOME_UNKNOWN;
            return self
                .conclude(lane, &job, Conclusion::Postponed { why }, Some(flight))
                .await;
        };
        Ok(Next::AwaitEcho(look, awaited))
    }

    /// Goes on from a message whose echo shows that it has arrived.
    async fn conclude_arrived(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        flight: &Flight,
        echo: Sighting,
    ) -> Result<Next, Error> {
        job.sent.push(echo.sequence);
        job.conversation_id = Some(flight.conversation_id.clone());
        if let Work::File(file) = &job.work {
            job.file = file.sent();
        }
        let settlement = if job.sent.len() < job.work.parts() {
            Conclusion::Advanced
        } else {
            Conclusion::Sent
        };
        self.conclude(lane, &job, settlement, Some(flight)).await
    }

    /// Ends the wait for the echo of a message that the Cloud took without saying its sequence: it has arrived, and is
    /// not sent again.
    async fn conclude_unnumbered(
        &self,
        lane: &Lane<'_>,
        mut job: Job,
        flight: &Flight,
    ) -> Result<Next, Error> {
        job.conversation_id = Some(flight.conversation_id.clone());
        if let Work::File(file) = &job.work {
            job.file = file.sent();
        }
        let is_last = job.sent.len() + 1 >= job.work.parts();
        if !is_last {
            // Its place among the parts has to be filled, and a dialog counts on by one at least.
            let guess = job.sent.last().map_or(0, |last| last.saturating_add(1));
            job.sent.push(guess);
        }
        let settlement = if is_last {
            Conclusion::Sent
        } else {
            Conclusion::Advanced
        };
        self.conclude(lane, &job, settlement, None).await
    }

    async fn send(&self, lane: &Lane<'_>, job: &mut Job) -> Result<Next, Error> {
        let request = lane.request;
        let Some(channel) = self.parts.channels.get(&request.channel_id) else {
            return self.give_up(lane, None, CHANNEL_REMOVED).await;
        };
        let clock = &self.parts.clock;
        let trace = Trace::continue_kept(request.parent.as_ref(), clock.uuid());
        let span = step!(
            trace,
            "request.later",
            account.id = %lane.due.key.account_id,
            channel.id = %channel.id,
            request_id = trace.request_id(),
        );
        let caller = Caller {
            channel: Arc::clone(channel),
            actor: Actor::Service,
            trace: Arc::new(trace),
            user: None,
            claim: None,
        };
        self.send_as(&caller, lane, job).instrument(span).await
    }

    async fn send_as(
        &self,
        caller: &Caller,
        lane: &Lane<'_>,
        job: &mut Job,
    ) -> Result<Next, Error> {
        let request = lane.request;
        let clock = &self.parts.clock;
        let key = &lane.due.key;
        let standing = self.parts.store.standing(key).await?;
        // One who was erased may have come back, as another.
        if standing
            .as_ref()
            .is_none_or(|standing| standing.user != lane.due.user)
        {
            return Ok(Next::Lost);
        }
        let lease = self.renewed(lane.lease);
        let mut attempt = Attempt {
            caller,
            key,
            until: Instant::now() + TRY_LIMIT,
            held: Some(Held {
                user: lane.due.user,
                lease: &lease,
                id: request.id,
            }),
            flight: None,
            noted: None,
            session: None,
            sent: Vec::new(),
        };
        let outcome = self.attempt(&mut attempt, standing, job).await;
        let flight = attempt.flight;
        let error = match outcome {
            Ok(()) => {
                return self
                    .conclude(lane, job, Conclusion::Sent, flight.as_ref())
                    .await;
            }
            Err(Error::LaneLost) => return Ok(Next::Lost),
            Err(error) => error,
        };
        let tried = request.attempts.saturating_add(1);
        let mut later = Later::of_kept(&error, flight.is_some());
        if later.is_some_and(|later| later.is_blocked)
            && self.parts.cloud.is_messaging(&key.account_id)
        {
            let before = self.parts.store.count_reason(request.id, BLOCKED).await?;
            later = later.filter(|_| before + 1 < BLOCKED_TRIES);
        }
        let Some(later) = later else {
            tracing::warn!(
                account.id = %key.account_id,
                channel.id = %request.channel_id,
                error = &error as &dyn std::error::Error,
                "a queued request was refused"
            );
            let failure = outcomes::failure(&error);
            return self
                .conclude(lane, job, Conclusion::Failed(&failure), flight.as_ref())
                .await;
        };
        tracing::info!(
            account.id = %key.account_id,
            why = later.why,
            error = &error as &dyn std::error::Error,
            "a queued request is tried again"
        );
        let why = later.why;
        if later.is_unknown {
            return self
                .conclude(lane, job, Conclusion::Unknown { why }, flight.as_ref())
                .await;
        }
        let settled = self
            .conclude(lane, job, Conclusion::Postponed { why }, flight.as_ref())
            .await?;
        let wait = schedule::delay(tried, later.is_throttled, later.after, &mut rand::rng());
        Ok(match settled {
            Next::Lost => Next::Lost,
            _ => Next::Rest(clock.now() + wait),
        })
    }

    /// Ends a request that will not reach the Cloud.
    async fn give_up(&self, lane: &Lane<'_>, job: Option<Job>, code: &str) -> Result<Next, Error> {
        tracing::warn!(
            account.id = %lane.due.key.account_id,
            channel.id = %lane.request.channel_id,
            code,
            "a queued request is given up"
        );
        let failure = outcomes::failure_named(code, None);
        let job = job.unwrap_or_else(|| bare(lane.request));
        self.conclude(lane, &job, Conclusion::Failed(&failure), None)
            .await
    }

    /// Writes down what became of a request, with the event that tells of it.
    async fn conclude(
        &self,
        lane: &Lane<'_>,
        job: &Job,
        settlement: Conclusion<'_>,
        flight: Option<&Flight>,
    ) -> Result<Next, Error> {
        let failure: Option<&Failure> = match settlement {
            Conclusion::Failed(failure) => Some(failure),
            _ => None,
        };
        let is_over = matches!(settlement, Conclusion::Sent | Conclusion::Failed(_));
        let event = is_over.then(|| self.outcome_event(lane, job, failure));
        let event = event.flatten();
        let file = job.file.as_ref();
        let settled = Settled {
            user: lane.due.user,
            id: lane.request.id,
            settlement,
            conversation_id: job.conversation_id.as_ref(),
            sequences: &job.sent,
            flight,
            file: file.map(|file| (file.id, &file.file_type)),
            event: event.as_ref(),
        };
        let lease = self.renewed(lane.lease);
        let store = &self.parts.store;
        let now = self.parts.clock.now();
        Ok(match store.settle_request(&lease, &settled, now).await? {
            Hold::Kept => Next::Go,
            Hold::Released => Next::Done,
            Hold::Lost => Next::Lost,
        })
    }
}

/// A kept request as something to work on; none where this version cannot read it.
fn job(request: &Request) -> Option<Job> {
    let mut work = Work::from_json(&request.body)?;
    if let Work::File(file) = &mut work {
        file.content = request.content.clone()?.into();
    }
    Some(Job {
        work,
        ..bare(request)
    })
}

fn bare(request: &Request) -> Job {
    Job {
        id: request.id,
        created_at: request.created_at,
        work: Work::Close { survey: false },
        sent: request.sequences.clone(),
        conversation_id: request.conversation_id.clone(),
        file: None,
    }
}
