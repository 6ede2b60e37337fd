//! A channel's dispatcher: takes lanes that are due, and has each worked on in a task of its own.
//!
//! It is woken by the store's bell, by a lane that ended, and when the next lane is due; and it looks at least once a
//! second, since bells can be missed. While the callback is away it takes single probes, and nothing while it is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

use super::Parts;
use super::attempt::Callback;
use super::lane::{Run, Turn};
use super::schedule::jitter;
use crate::store::{self, LEASE, Lane, Outlook, PROBED_FROM};
use crate::telemetry::metrics::EXPIRED;
use crate::types::ids::ChannelId;

/// 64: lanes of one channel that one replica works on at once.
const PLACES: u32 = 64;

/// 1 s: how often a dispatcher looks at least.
const LOOK: Duration = Duration::from_secs(1);

/// A quarter: fewer free places than that are not yet worth a statement.
const FEW_PLACES: usize = PLACES as usize / 4;

/// 5 ms: how long more places are waited for.
const TOGETHER: Duration = Duration::from_millis(5);

/// 50 ms: how soon a dispatcher looks again where another replica was faster.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);

/// 5 s: how often a replica looks for what has grown too old.
const LOOK_FOR_OLD: Duration = Duration::from_secs(5);

/// Events that are given up at once.
const OLD_BATCH: u32 = 500;

/// A channel's dispatcher, and what its lanes share; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Dispatcher(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) channel_id: ChannelId,
    pub(super) callback: Callback,
    /// Rung when a lane has ended: a place is free, or the lane is due again.
    pub(super) ended: Notify,
    /// Whether the callback has failures that a success must end; known without asking, since all is well most of the time.
    pub(super) troubled: AtomicBool,
    /// Whether the callback counts as away; for the log alone.
    pub(super) away: AtomicBool,
    /// Whether the callback is paused, for lanes that are under way.
    pub(super) paused: AtomicBool,
    places: Arc<Semaphore>,
}

impl Shared {
    /// Whether every place is taken.
    pub(super) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }
}

impl Dispatcher {
    pub(super) fn new(parts: Parts, channel_id: ChannelId, callback: Callback) -> Self {
        Self(Arc::new(Shared {
            parts,
            channel_id,
            callback,
            ended: Notify::new(),
            troubled: AtomicBool::new(false),
            away: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(PLACES as usize)),
        }))
    }

    /// Dispatches until everything is asked to stop.
    pub(super) async fn run(self) {
        let Parts {
            store, stopping, ..
        } = &self.0.parts;
        let mut bell = store.bell(&self.0.channel_id);
        while !stopping.is_cancelled() {
            let pause = match self.look().await {
                Ok(pause) => pause,
                Err(error) => {
                    if !error.is_outage() {
                        tracing::warn!(
                            channel.id = %self.0.channel_id,
                            error = &error as &dyn std::error::Error,
                            "deliveries that are due could not be looked for"
                        );
                    }
                    // Neither a bell nor a lane that ended makes the database answer sooner.
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = sleep(LOOK.mul_f64(jitter())) => {}
                    }
                    continue;
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = bell.wait() => {}
                () = self.0.ended.notified() => {}
                () = sleep(pause) => {}
            }
            if self.0.places.available_permits() < FEW_PLACES {
                // More places are about to come free: one statement then takes a lane for each of them.
                sleep(TOGETHER).await;
            }
        }
    }

    /// Takes what is due, as far as there are places; says when to look again if nothing happens until then.
    async fn look(&self) -> Result<Duration, store::Error> {
        let Parts { store, clock, .. } = &self.0.parts;
        let outlook = store.callback_outlook(&self.0.channel_id).await?;
        let troubled = outlook.failures > 0;
        self.0.troubled.store(troubled, Ordering::Relaxed);
        self.0.paused.store(outlook.paused, Ordering::Relaxed);
        let idle = LOOK.mul_f64(jitter());
        let Some(next) = next(&outlook) else {
            return Ok(idle);
        };
        if clock.is_ahead() {
            // What seems due may not be.
            return Ok(idle);
        }
        let now = clock.now();
        if next > now {
            return Ok((next - now).to_std().unwrap_or(idle).min(idle));
        }
        if outlook.failures >= PROBED_FROM {
            self.probe().await?;
            return Ok(idle);
        }
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(PLACES);
        if free == 0 {
            return Ok(idle);
        }
        let lease_id = clock.uuid().to_string();
        let lanes = store
            .claim_delivery_lanes(&self.0.channel_id, &lease_id, now, now + LEASE, free)
            .await?;
        let found = lanes.len();
        for lane in lanes {
            self.spawn(lane, Turn::Usual);
        }
        Ok(match found {
            // Somebody else is just taking what is due.
            0 => BESIDE_OTHERS,
            // There is no place left, and one that comes free wakes us.
            _ if found == free as usize => idle,
            // What is due next is seen at once, if there is a place for it.
            _ => Duration::ZERO,
        })
    }

    /// Sends a single event to see whether the callback is back, unless another replica does.
    async fn probe(&self) -> Result<(), store::Error> {
        let Parts { store, clock, .. } = &self.0.parts;
        let now = clock.now();
        let lease_id = clock.uuid().to_string();
        let lane = store
            .claim_probe(&self.0.channel_id, &lease_id, now, now + LEASE)
            .await?;
        if let Some(lane) = lane {
            self.spawn(lane, Turn::Probe);
        }
        Ok(())
    }

    fn spawn(&self, lane: Lane, turn: Turn) {
        let shared = Arc::clone(&self.0);
        // Only this dispatcher takes places, so there is one for each lane; a probe may be one more.
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok();
        self.0.parts.tasks.spawn(async move {
            Run::new(&shared, lane, turn).work_to_the_end().await;
            drop(place);
            shared.ended.notify_one();
        });
    }
}

/// When there is something to do for a callback, unless it is paused or no event waits.
fn next(outlook: &Outlook) -> Option<DateTime<Utc>> {
    let due_at = outlook.due_at.filter(|_| !outlook.paused)?;
    let probe_at = outlook.probe_at.filter(|_| outlook.failures >= PROBED_FROM);
    Some(probe_at.map_or(due_at, |probe_at| probe_at.max(due_at)))
}

/// Gives up what has grown too old, whatever becomes of its callback meanwhile.
pub(super) async fn give_up_old_events(parts: Parts) {
    loop {
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            () = sleep(LOOK_FOR_OLD.mul_f64(jitter())) => {}
        }
        if parts.clock.is_ahead() {
            continue;
        }
        loop {
            let now = parts.clock.now();
            // What is being tried in these seconds is left to whoever tries it.
            let given_up = parts.store.give_up_old_events(now - LEASE, now, OLD_BATCH);
            match given_up.await {
                Ok(count) => {
                    parts.metrics.count(&EXPIRED, [], count);
                    if count < u64::from(OLD_BATCH) {
                        break;
                    }
                }
                Err(error) => {
                    if !error.is_outage() {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "events that have grown too old could not be given up; tried again"
                        );
                    }
                    break;
                }
            }
        }
    }
}
