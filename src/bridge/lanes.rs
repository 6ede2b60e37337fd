//! Leases on users' lanes and on idempotency keys, each of which one replica holds at a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bridge::{Bridge, Error};
use crate::store::{LEASE, Lease, UserRef};

/// 5 s: the interval at which a lease is renewed. Two renewals may fail before it is lost.
pub(crate) const RENEWAL: Duration = Duration::from_secs(5);

/// 20 s: longer than a lease, so that a task that waits for a dead replica takes over rather than
/// gives up.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// 20 ms and 500 ms: the first and the longest pause between polls for another replica's result.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The wait for a lane.
pub(super) struct LaneWait {
    deadline: Instant,
    pause: Duration,
}

impl LaneWait {
    pub(super) fn new() -> Self {
        Self::within(WAIT_LIMIT)
    }

    /// Starts a wait of at most `limit`.
    pub(super) fn within(limit: Duration) -> Self {
        Self {
            deadline: Instant::now() + limit,
            pause: FIRST_PAUSE,
        }
    }

    /// Pauses before the next poll. Fails once the wait has lasted too long.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        if Instant::now() >= self.deadline {
            return Err(Error::OpeningPending { cause: None });
        }
        sleep(self.pause.mul_f64(rand::random_range(0.75..1.25))).await;
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Ok(())
    }
}

impl Bridge {
    /// Claims the user's lane if it is free.
    pub(super) async fn try_claim_lane(&self, user: UserRef) -> Result<Option<Lease>, Error> {
        let now = self.parts.clock.now();
        let lease = self.new_lease();
        let is_claimed = self.parts.store.claim_lane(user, &lease, now).await?;
        Ok(is_claimed.then_some(lease))
    }

    pub(crate) fn new_lease(&self) -> Lease {
        Lease {
            id: self.parts.clock.uuid().to_string(),
            until: self.parts.clock.now() + LEASE,
        }
    }

    /// Returns the same lease, counted from now.
    pub(crate) fn renewed(&self, lease: &Lease) -> Lease {
        Lease {
            id: lease.id.clone(),
            until: self.parts.clock.now() + LEASE,
        }
    }
}
