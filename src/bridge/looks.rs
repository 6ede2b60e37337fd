//! Looking for what is due in the background, again and again until the service stops.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::bridge::Bridge;

/// 1 s: how often a replica looks for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// The times at which a background task looks for what is due.
#[derive(Debug)]
pub(super) struct Looks(Interval);

impl Looks {
    /// The first look is at once, and then there is one a second.
    pub(super) fn new() -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(looks)
    }

    /// Waits for the next look, which comes at once when `woken` is notified. Returns false when the
    /// service stops. While the clock is ahead of the database's there is none: others do what is due.
    pub(super) async fn next(&mut self, bridge: &Bridge, woken: &Notify) -> bool {
        loop {
            tokio::select! {
                () = bridge.parts.stopping.cancelled() => return false,
                _ = self.0.tick() => {}
                () = woken.notified() => {}
            }
            if !bridge.is_ahead() {
                return true;
            }
        }
    }
}
