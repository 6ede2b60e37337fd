//! Brings to the Cloud what was accepted before it could be: every replica takes the lanes of users that are due, some at once.
//!
//! Owns when lanes are looked for and how many are worked on beside each other. What is done on one is the bridge's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::bridge::Bridge;

/// How many users' requests are worked on at once.
const LANES: u32 = 64;

/// 500 ms: how often a replica looks for lanes that are due; what it has queued itself it knows at once.
const LOOK: Duration = Duration::from_millis(500);

/// Works on lanes until `stopping`, and then finishes what is under way.
pub async fn run(bridge: Bridge, stopping: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(LANES as usize));
    let is_stopping = Arc::new(AtomicBool::new(false));
    let mut work = JoinSet::new();
    let mut looks = interval(LOOK.mul_f64(rand::random_range(0.8..1.2)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = std::pin::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => break,
            _ = looks.tick() => {}
            () = bridge.requests_due() => {}
        }
        while work.try_join_next().is_some() {}
        take(&bridge, &places, &is_stopping, &mut work).await;
    }
    is_stopping.store(true, Ordering::Relaxed);
    while work.join_next().await.is_some() {}
}

/// Takes as many lanes as there are places for.
async fn take(
    bridge: &Bridge,
    places: &Arc<Semaphore>,
    is_stopping: &Arc<AtomicBool>,
    work: &mut JoinSet<()>,
) {
    let mut free = Vec::new();
    while let Ok(place) = Arc::clone(places).try_acquire_owned() {
        free.push(place);
    }
    if free.is_empty() {
        return;
    }
    let limit = u32::try_from(free.len()).unwrap_or(LANES);
    let due = match bridge.claim_due_lanes(limit).await {
        Ok(due) => Arc::new(due),
        Err(error) => {
            if !error.is_outage() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "queued requests that are due could not be looked for"
                );
            }
            return;
        }
    };
    for index in 0..due.lanes.len() {
        let (bridge, due) = (bridge.clone(), Arc::clone(&due));
        let is_stopping = Arc::clone(is_stopping);
        let place = free.pop();
        work.spawn(async move {
            if let Some(lane) = due.lanes.get(index) {
                bridge.work_on(&due, lane, &is_stopping).await;
            }
            drop(place);
        });
    }
}
