//! The dispatcher of a channel: claims delivery lanes that are due, and processes each one in a
//! task of its own. If the callback has no trouble and no lane is due, the transactions that store
//! events claim lanes directly, and the lanes are only processed here.
//!
//! It polls after a wake-up from the store, when a lane has ended, and when the next lane is due.
//! It also polls at least once a second, since wake-ups can be lost. While the callback is
//! unavailable, it claims only single probes. While the callback is paused, it claims nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Parts;
use super::attempt::Callback;
use super::lane::{LaneRun, Purpose};
use super::shared::Shared;
use crate::store::{self, DirectLane, DirectLanes, DirectSwitch, LEASE, Lane, Wakeup};
use crate::telemetry::metrics::EXPIRED;
use crate::types::delivery::{CallbackSchedule, PROBE_AFTER_FAILURES};
use crate::types::ids::ChannelId;
use crate::worker::{Claimed, Next, Pace, Source};

/// 64: the maximum of lanes of one channel that one replica processes at once.
const MAX_LANES: u32 = 64;

/// 1 s: the longest time between two polls of a dispatcher.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// 50 ms: the time until the next poll if another replica is claiming the same lanes.
const RETRY_AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// 5 s: the interval at which a replica gives up events that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// 500: the limit of events that are given up at once.
const EXPIRY_BATCH: u32 = 500;

/// The background work for events that are due for a channel's callback.
#[derive(Debug)]
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    wakeup: Wakeup,
    direct: DirectSwitch,
}

impl Dispatcher {
    /// Creates the dispatcher of a channel, and starts to receive the lanes that are claimed
    /// directly.
    pub(super) fn start(parts: Parts, channel_id: ChannelId, callback: Callback) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_LANES as usize));
        let lease_prefix = parts.clock.uuid().to_string();
        let (lanes, direct) =
            parts
                .store
                .direct_lanes(&channel_id, Arc::clone(&slots), lease_prefix);
        let wakeup = parts.store.wakeup(&channel_id);
        let shared = Arc::new(Shared {
            parts,
            channel_id,
            callback,
            has_failures: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            is_unavailable: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            lane_ended: Notify::new(),
            slots,
        });
        let tasks = shared.parts.tasks.clone();
        tasks.spawn(deliver_directly(Arc::clone(&shared), lanes));
        Self {
            shared,
            wakeup,
            direct,
        }
    }
}

/// Processes the lanes that are claimed directly, until the service stops.
async fn deliver_directly(shared: Arc<Shared>, mut lanes: DirectLanes) {
    let stopping = shared.parts.stopping.clone();
    loop {
        let lane = tokio::select! {
            lane = lanes.next() => lane,
            () = stopping.cancelled() => break,
        };
        let Some(lane) = lane else { break };
        shared
            .parts
            .tasks
            .spawn(deliver_one(Arc::clone(&shared), lane));
    }
    // Transactions in progress may still claim lanes. These are released.
    lanes.close();
    while let Some(lane) = lanes.next().await {
        deliver_one(Arc::clone(&shared), lane).await;
    }
}

async fn deliver_one(shared: Arc<Shared>, direct: DirectLane) {
    let DirectLane {
        lane,
        leased_until,
        events,
        slot,
    } = direct;
    LaneRun::with_events(&shared, lane, leased_until, events)
        .run_to_end()
        .await;
    drop(slot);
    shared.lane_ended.notify_one();
}

impl Source for Dispatcher {
    /// A lane, the purpose of its claim, the end of the lease, and the slot.
    type Item = (Lane, Purpose, DateTime<Utc>, OwnedSemaphorePermit);
    type Error = store::Error;

    const PACE: Pace = Pace {
        interval: POLL_INTERVAL,
        slots: MAX_LANES,
        polls_when_full: true,
    };
    const FAILED: &'static str = "due deliveries could not be read";

    async fn woken(&mut self) {
        tokio::select! {
            () = self.wakeup.wait() => {}
            () = self.shared.lane_ended.notified() => {}
        }
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, store::Error> {
        let shared = &self.shared;
        let Parts { store, clock, .. } = &shared.parts;
        let schedule = store.callback_schedule(&shared.channel_id).await?;
        shared
            .has_failures
            .store(schedule.failures > 0, Ordering::Relaxed);
        shared.is_paused.store(schedule.paused, Ordering::Relaxed);
        let now = clock.now();
        let is_ahead = clock.is_ahead();
        let next_at = next_work_at(&schedule).filter(|_| !is_ahead);
        let is_due = next_at.is_some_and(|next_at| next_at <= now);
        self.direct
            .set_open(!is_due && !is_ahead && !schedule.paused && schedule.failures == 0);
        let Some(next_at) = next_at else {
            return Ok(Claimed::none());
        };
        if !is_due {
            let wait = (next_at - now).to_std().unwrap_or(POLL_INTERVAL);
            return Ok(Claimed {
                items: Vec::new(),
                next: Next::After(wait.min(POLL_INTERVAL)),
            });
        }
        if limit == 0 {
            return Ok(Claimed::none());
        }
        let Some(mut slots) = shared.reserve_slots(limit) else {
            // Lanes that were claimed directly have all slots.
            return Ok(Claimed {
                items: Vec::new(),
                next: Next::After(RETRY_AFTER_CONFLICT),
            });
        };
        let lease_id = clock.uuid().to_string();
        let until = now + LEASE;
        if schedule.failures >= PROBE_AFTER_FAILURES {
            // A single event shows whether the callback works again, unless another replica is
            // sending one.
            let lane = store.claim_probe(&shared.channel_id, &lease_id, now, until);
            let probe = lane.await?;
            let probe = probe.and_then(|lane| Some((lane, Purpose::Probe, until, slots.split(1)?)));
            return Ok(Vec::from_iter(probe).into());
        }
        let limit = slots.num_permits();
        let lanes = store.claim_delivery_lanes(
            &shared.channel_id,
            &lease_id,
            now,
            until,
            u32::try_from(limit).unwrap_or(u32::MAX),
        );
        let lanes = lanes.await?;
        let next = match lanes.len() {
            // Another replica is claiming the lanes that are due.
            0 => Next::After(RETRY_AFTER_CONFLICT),
            // The next free slot triggers the next poll.
            claimed if claimed == limit => Next::Regular,
            // Poll again at once, to learn when the next lane is due.
            _ => Next::After(Duration::ZERO),
        };
        let items = lanes
            .into_iter()
            .filter_map(|lane| Some((lane, Purpose::Deliver, until, slots.split(1)?)))
            .collect();
        Ok(Claimed { items, next })
    }

    fn handle(
        &self,
        (lane, purpose, leased_until, slot): Self::Item,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move {
            LaneRun::new(&shared, lane, purpose, leased_until)
                .run_to_end()
                .await;
            drop(slot);
        }
    }
}

/// Returns the time of the next work for a callback; `None` if it is paused or has no event.
fn next_work_at(schedule: &CallbackSchedule) -> Option<DateTime<Utc>> {
    let due_at = schedule.due_at.filter(|_| !schedule.paused)?;
    let probe_at = schedule
        .probe_at
        .filter(|_| schedule.failures >= PROBE_AFTER_FAILURES);
    Some(probe_at.map_or(due_at, |probe_at| probe_at.max(due_at)))
}

/// The background work that gives up events that are too old, even if their callbacks were removed.
#[derive(Debug)]
pub(super) struct OldEvents(pub(super) Parts);

impl Source for OldEvents {
    type Item = Infallible;
    type Error = store::Error;

    const PACE: Pace = Pace::new(EXPIRY_INTERVAL, 1);
    const FAILED: &'static str = "events that are too old could not be given up; this is retried";

    fn is_paused(&self) -> bool {
        self.0.clock.is_ahead()
    }

    async fn claim(&mut self, _: u32) -> Result<Claimed<Infallible>, store::Error> {
        let Parts {
            store,
            clock,
            metrics,
            ..
        } = &self.0;
        let now = clock.now();
        // An event that has just expired may have an attempt in flight, whose lease holder settles
        // it.
        let given_up = store.give_up_old_events(now - LEASE, now, EXPIRY_BATCH);
        let count = given_up.await?;
        metrics.count(&EXPIRED, [], count);
        Ok(Claimed::done(count >= u64::from(EXPIRY_BATCH)))
    }

    fn handle(&self, _: Infallible) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}
