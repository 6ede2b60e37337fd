//! The lanes of users. A user's queued requests are done in order, under a lease that one replica
//! holds at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::Outbox;
use super::attempt::{Attempt, LaneGuard, SendMode};
use super::job::{Job, Progress};
use super::prepare::Target;
use super::step::{Lane, Next};
use crate::bridge::retry::OUTCOME_UNKNOWN;
use crate::bridge::{Caller, Error, RENEWAL};
use crate::store::{AttemptOutcome, DueLane, Lease};
use crate::types::audit::Actor;
use crate::types::problem::{CHANNEL_REMOVED, Code, EXPIRED};
use crate::types::request::RequestState;
use crate::types::trace::{Trace, step};
use crate::worker::{Claimed, Pace, Source};

/// 20 s: the time limit of an attempt: an opening and the sends after it. Each part has its own
/// limit too.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);

/// 1 s: the pause before a lane is claimed again after a storage error.
const ERROR_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// 64: the number of users whose requests are processed at once.
const CONCURRENCY: u32 = 64;

/// 500 ms: the interval at which a replica polls for due lanes. Its own queued requests wake it at
/// once.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The background work on due lanes.
#[derive(Debug)]
pub struct DueLanes(pub Outbox);

impl Source for DueLanes {
    type Item = (DueLane, Lease);
    type Error = Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, CONCURRENCY);
    const FAILED: &'static str = "queued requests that are due could not be looked up";

    fn is_paused(&self) -> bool {
        self.0.bridge.is_ahead()
    }

    async fn woken(&mut self) {
        self.0.due.notified().await;
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, Error> {
        let parts = &self.0.bridge.parts;
        let lease = self.0.bridge.new_lease();
        let now = parts.clock.now();
        let lanes = parts.store.claim_due_lanes(&lease, now, limit).await?;
        let lanes: Vec<_> = lanes.into_iter().map(|due| (due, lease.clone())).collect();
        Ok(lanes.into())
    }

    fn handle(&self, (due, lease): Self::Item) -> impl Future<Output = ()> + Send + 'static {
        let outbox = self.0.clone();
        async move { outbox.process_lane(&due, &lease).await }
    }
}

impl Outbox {
    /// Processes a lane until nothing is due or the service stops, and releases it.
    async fn process_lane(&self, due: &DueLane, lease: &Lease) {
        tokio::select! {
            processed = self.process_requests(due, lease) => {
                let Err(error) = processed else {
                    return;
                };
                if !error.is_outage() {
                    tracing::warn!(
                        account.id = %due.key.account_id,
                        error = &error as &dyn std::error::Error,
                        "a user's queued requests could not be processed; retried shortly"
                    );
                }
                let parts = &self.bridge.parts;
                let at = parts.clock.now() + ERROR_PAUSE;
                // If this fails as well, the lease expires.
                let _later = parts.store.release_lane_until(due.user, lease, at).await;
            }
            () = self.renew(due, lease) => tracing::warn!(
                account.id = %due.key.account_id,
                "another replica took over a user's queued requests"
            ),
        }
    }

    /// Renews a lease until it is lost.
    async fn renew(&self, due: &DueLane, lease: &Lease) {
        loop {
            sleep(RENEWAL).await;
            let lease = self.bridge.renewed(lease);
            let renewed = self.bridge.parts.store.renew_lane(due.user, &lease).await;
            // If the storage did not answer, the next renewal finds out.
            if let Ok(false) = renewed {
                return;
            }
        }
    }

    async fn process_requests(&self, due: &DueLane, lease: &Lease) -> Result<(), Error> {
        let parts = &self.bridge.parts;
        let store = &parts.store;
        loop {
            let now = parts.clock.now();
            let must_stop = parts.stopping.is_cancelled() || self.bridge.is_ahead();
            let request = match store.first_request(due.user).await? {
                Some(request) if !must_stop => request,
                _ => return Ok(store.release_lane_until(due.user, lease, now).await?),
            };
            let lane = Lane {
                due,
                request: &request,
                lease,
            };
            match self.step(&lane).await? {
                Next::Step => {}
                Next::Pause(at) => {
                    return Ok(store.release_lane_until(due.user, lease, at).await?);
                }
                Next::AwaitEcho(at, awaited) => {
                    store.release_lane_until(due.user, lease, at).await?;
                    // An echo that came just before the release has not made the lane due, so it is
                    // looked for here.
                    let lease = self.bridge.renewed(lease);
                    if !self.is_confirmed(due, &awaited).await?
                        || !store.claim_lane(due.user, &lease, now).await?
                    {
                        return Ok(());
                    }
                }
                Next::Released | Next::Lost => return Ok(()),
            }
        }
    }

    /// Advances the first request of a lane by one step.
    async fn step(&self, lane: &Lane<'_>) -> Result<Next, Error> {
        let request = lane.request;
        let Some(job) = Job::of(request) else {
            let progress = Progress::of(request);
            let code = Code::InternalError.as_str();
            return self.give_up(lane, &progress, code).await;
        };
        match (request.state, &request.in_flight) {
            (RequestState::Sending, Some(_)) => {
                let unknown = AttemptOutcome::Unknown {
                    why: OUTCOME_UNKNOWN,
                };
                self.settle(lane, &job.progress, unknown, None).await
            }
            (RequestState::Unknown, Some(in_flight)) => self.await_echo(lane, job, in_flight).await,
            (RequestState::Waiting, Some(in_flight)) => {
                match self.find_late_echo(lane, &job, in_flight).await? {
                    Some(echo) => self.settle_arrived(lane, job, in_flight, echo).await,
                    None => self.attempt(lane, job).await,
                }
            }
            _ => self.attempt(lane, job).await,
        }
    }

    /// Attempts a request on its lane, unless it has expired.
    async fn attempt(&self, lane: &Lane<'_>, job: Job) -> Result<Next, Error> {
        let request = lane.request;
        let parts = &self.bridge.parts;
        if request.expires_at <= parts.clock.now() {
            return self.give_up(lane, &job.progress, EXPIRED).await;
        }
        let Some(channel) = parts.channels.get(&request.channel_id) else {
            return self.give_up(lane, &job.progress, CHANNEL_REMOVED).await;
        };
        let trace = Trace::continue_stored(request.parent.as_ref(), parts.clock.uuid());
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
        self.attempt_as(&caller, lane, job).instrument(span).await
    }

    async fn attempt_as(&self, caller: &Caller, lane: &Lane<'_>, job: Job) -> Result<Next, Error> {
        let (user, key) = (lane.due.user, &lane.due.key);
        let user_state = self.bridge.parts.store.user_state(key).await?;
        // An erased user may have come back, with another row.
        if user_state.as_ref().is_none_or(|it| it.user != user) {
            return Ok(Next::Lost);
        }
        let lease = self.bridge.renewed(lane.lease);
        let attempt = Attempt {
            caller,
            key,
            deadline: Instant::now() + ATTEMPT_LIMIT,
            mode: SendMode::Lane(LaneGuard {
                user,
                lease: &lease,
                id: lane.request.id,
            }),
        };
        let target = Target::LookedUp(user_state);
        let attempted = self.send(&attempt, target, None, job).await;
        self.settle_attempt(lane, attempted).await
    }
}
