//! The right to do a user's ordered work, or the work of a request with a key, which one replica has at a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bridge::{Bridge, Error};
use crate::store::{LEASE, Lease, UserRef};

/// 5 s: how often a lease is renewed; two renewals may fail before it is lost.
pub(crate) const RENEWAL: Duration = Duration::from_secs(5);

/// 20 s: longer than a lease, so that who waits for a replica that died takes its place rather than giving up.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// How often who waits for another replica looks for its result: soon at first, then ever less often.
const FIRST_POLL: Duration = Duration::from_millis(20);
const LAST_POLL: Duration = Duration::from_millis(500);

/// Waiting for one's turn.
pub(super) struct Turn {
    give_up: Instant,
    poll: Duration,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self::within(WAIT_LIMIT)
    }

    /// The same for so long at most.
    pub(super) fn within(limit: Duration) -> Self {
        Self {
            give_up: Instant::now() + limit,
            poll: FIRST_POLL,
        }
    }

    /// Waits before the next look.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        if Instant::now() >= self.give_up {
            return Err(Error::OpeningPending { cause: None });
        }
        sleep(self.poll.mul_f64(rand::random_range(0.75..1.25))).await;
        self.poll = (self.poll * 2).min(LAST_POLL);
        Ok(())
    }
}

impl Bridge {
    /// Takes the user's lane if nobody has it.
    pub(super) async fn try_lane(&self, user: UserRef) -> Result<Option<Lease>, Error> {
        let now = self.parts.clock.now();
        let lease = self.new_lease();
        let taken = self.parts.store.claim_lane(user, &lease, now).await?;
        Ok(taken.then_some(lease))
    }

    pub(crate) fn new_lease(&self) -> Lease {
        Lease {
            id: self.parts.clock.uuid().to_string(),
            until: self.parts.clock.now() + LEASE,
        }
    }

    /// The same lease, from now on.
    pub(crate) fn renewed(&self, lease: &Lease) -> Lease {
        Lease {
            id: lease.id.clone(),
            until: self.parts.clock.now() + LEASE,
        }
    }
}
