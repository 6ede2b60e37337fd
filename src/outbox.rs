//! Brings to the Cloud what was accepted before it could be: every replica takes the lanes of users that are due, some at once.
//!
//! Owns when lanes are looked for and how many are worked on beside each other. What is done on one is the bridge's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::bridge::Bridge;

/// How many users' requests are worked on at once.
const LANES: u32 = 64;

/// 500 ms: how often a replica looks for lanes that are due; what it has queued itself it knows at once.
const LOOK: Duration = Duration::from_millis(500);

/// Works on lanes until `stopping`, and then finishes what is under way.
pub async fn run(bridge: Bridge, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(LANES as usize));
    let mut work = JoinSet::new();
    let mut looks = interval(LOOK.mul_f64(rand::random_range(0.8..1.2)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = looks.tick() => {}
            () = bridge.requests_due() => {}
        }
        while work.try_join_next().is_some() {}
        if bridge.is_ahead() {
            // What seems due or too old may not be.
            continue;
        }
        take(&bridge, &places, &mut work).await;
    }
    while work.join_next().await.is_some() {}
}

/// Takes as many lanes as there are places for.
async fn take(bridge: &Bridge, places: &Arc<Semaphore>, work: &mut JoinSet<()>) {
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
        let place = free.pop();
        work.spawn(async move {
            if let Some(lane) = due.lanes.get(index) {
                bridge.work_on(&due, lane).await;
            }
            drop(place);
        });
    }
}
