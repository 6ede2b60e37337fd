//! Direct claims: a replica that stores events for an idle lane claims the lane in the same
//! transaction, and delivers the events without reading them again.
//!
//! A direct claim needs a free slot of this replica, and a callback without failures that is not
//! paused. All other lanes become due, and any replica claims them later. While lanes are due, no
//! lane is claimed directly, so that newer events do not overtake older ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{DueEvent, Lane};
use crate::store::rows::LEASE;
use crate::store::{NewEvent, Store};
use crate::types::ids::ChannelId;

/// A lane that was claimed when its events were stored.
#[derive(Debug)]
pub struct DirectLane {
    /// The lane.
    pub lane: Lane,
    /// The end of the lease.
    pub leased_until: DateTime<Utc>,
    /// All pending events of the lane at the time of the claim, in order.
    pub events: Vec<DueEvent>,
    /// The slot, which is free again when this is dropped.
    pub slot: OwnedSemaphorePermit,
}

/// The receiver of a channel's direct claims. Nothing is claimed directly before
/// [`DirectSwitch::set_open`], or after this is closed or dropped.
#[derive(Debug)]
pub struct DirectLanes {
    channel_id: ChannelId,
    claims: DirectClaims,
    lanes: mpsc::UnboundedReceiver<DirectLane>,
}

/// The switch of a channel's direct claims.
#[derive(Debug, Clone)]
pub struct DirectSwitch(Arc<AtomicBool>);

/// The channels whose lanes this process claims directly.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct DirectClaims(Arc<DashMap<ChannelId, Claimer>>);

#[derive(Debug)]
struct Claimer {
    is_open: DirectSwitch,
    slots: Arc<Semaphore>,
    lanes: mpsc::UnboundedSender<DirectLane>,
    /// The beginning of the ids of leases, unique to this claimer.
    lease_prefix: String,
    /// The number of the next lease.
    next_lease: AtomicU64,
}

/// Slots that are reserved for the lanes of one transaction.
#[derive(Debug)]
pub(in crate::store) struct Reservation {
    slots: OwnedSemaphorePermit,
    lanes: mpsc::UnboundedSender<DirectLane>,
    pub(in crate::store) lease_id: String,
    pub(in crate::store) leased_until: DateTime<Utc>,
}

/// Lanes that a transaction has claimed. They are delivered once it has committed.
#[derive(Debug)]
pub(in crate::store) struct ClaimedLanes {
    lanes: Vec<DirectLane>,
    receiver: mpsc::UnboundedSender<DirectLane>,
}

impl Store {
    /// Lets this process claim lanes of a channel directly, at most one for each of `slots`.
    /// `lease_prefix` is unique to the caller.
    #[must_use]
    pub fn direct_lanes(
        &self,
        channel_id: &ChannelId,
        slots: Arc<Semaphore>,
        lease_prefix: String,
    ) -> (DirectLanes, DirectSwitch) {
        let is_open = DirectSwitch(Arc::default());
        let (sender, lanes) = mpsc::unbounded_channel();
        let claimer = Claimer {
            is_open: is_open.clone(),
            slots,
            lanes: sender,
            lease_prefix,
            next_lease: AtomicU64::new(0),
        };
        self.direct_claims.0.insert(channel_id.clone(), claimer);
        let lanes = DirectLanes {
            channel_id: channel_id.clone(),
            claims: self.direct_claims.clone(),
            lanes,
        };
        (lanes, is_open)
    }
}

impl DirectLanes {
    /// Receives the next lane; `None` after [`Self::close`], once no transaction can claim a lane
    /// any more.
    pub async fn next(&mut self) -> Option<DirectLane> {
        self.lanes.recv().await
    }

    /// Ends direct claims, except those of transactions in progress.
    pub fn close(&self) {
        self.claims.0.remove(&self.channel_id);
    }
}

impl Drop for DirectLanes {
    fn drop(&mut self) {
        self.close();
    }
}

impl DirectSwitch {
    /// Allows direct claims, or ends them.
    pub fn set_open(&self, is_open: bool) {
        self.0.store(is_open, Ordering::Relaxed);
    }
}

impl DirectClaims {
    /// Reserves slots for at most this number of lanes; `None` if no lane may be claimed directly.
    pub(in crate::store) fn reserve(
        &self,
        channel_id: &ChannelId,
        lanes: usize,
        now: DateTime<Utc>,
    ) -> Option<Reservation> {
        let claimer = self.0.get(channel_id)?;
        if !claimer.is_open.0.load(Ordering::Relaxed) {
            return None;
        }
        let free = lanes.min(claimer.slots.available_permits());
        let free = u32::try_from(free).ok().filter(|free| *free > 0)?;
        let slots = Arc::clone(&claimer.slots).try_acquire_many_owned(free);
        let number = claimer.next_lease.fetch_add(1, Ordering::Relaxed);
        Some(Reservation {
            slots: slots.ok()?,
            lanes: claimer.lanes.clone(),
            lease_id: format!("{}-{number}", claimer.lease_prefix),
            leased_until: now + LEASE,
        })
    }
}

impl Reservation {
    /// Returns the number of lanes that can be claimed.
    pub(in crate::store) fn slots(&self) -> usize {
        self.slots.num_permits()
    }

    /// Pairs the claimed lanes with their events among those that were stored.
    pub(in crate::store) fn claimed(
        mut self,
        lanes: Vec<Lane>,
        stored: &[&NewEvent],
        now: DateTime<Utc>,
    ) -> ClaimedLanes {
        let mut claimed = Vec::with_capacity(lanes.len());
        for lane in lanes {
            // There are as many slots as lanes, since the statement claims no more.
            let Some(slot) = self.slots.split(1) else {
                break;
            };
            let events = stored
                .iter()
                .filter(|event| event.user.map_or(0, |user| user.0) == lane.user);
            let events = events.filter_map(|event| DueEvent::stored(event, now));
            claimed.push(DirectLane {
                leased_until: self.leased_until,
                events: events.collect(),
                slot,
                lane,
            });
        }
        ClaimedLanes {
            lanes: claimed,
            receiver: self.lanes,
        }
    }
}

impl ClaimedLanes {
    /// Hands over the lanes after the commit.
    pub(in crate::store) fn deliver(self) {
        for lane in self.lanes {
            // The receiver exists as long as a reservation does. If it is gone all the same, the
            // lane is due again when its lease expires.
            let _sent = self.receiver.send(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel_id() -> ChannelId {
        "sms".parse().unwrap()
    }

    /// Returns claims of one channel, which nothing receives.
    fn claims_of(channel_id: &ChannelId, slots: &Arc<Semaphore>) -> DirectClaims {
        let claims = DirectClaims::default();
        let (lanes, _receiver) = mpsc::unbounded_channel();
        let claimer = Claimer {
            is_open: DirectSwitch(Arc::new(AtomicBool::new(true))),
            slots: Arc::clone(slots),
            lanes,
            lease_prefix: "lease".to_owned(),
            next_lease: AtomicU64::new(0),
        };
        claims.0.insert(channel_id.clone(), claimer);
        claims
    }

    #[test]
    fn slots_are_free_again_after_a_transaction_without_a_commit() {
        let slots = Arc::new(Semaphore::new(2));
        let channel_id = channel_id();
        let claims = claims_of(&channel_id, &slots);
        let lane = |id| Lane {
            id,
            channel_id: channel_id.clone(),
            user: id,
            arrivals: 1,
            lease_id: String::new(),
            failures: 0,
        };
        let now = DateTime::UNIX_EPOCH;

        let before_the_statement = claims.reserve(&channel_id, 9, now).unwrap();
        assert_eq!(before_the_statement.slots(), 2);
        assert!(claims.reserve(&channel_id, 1, now).is_none());
        drop(before_the_statement);
        assert_eq!(slots.available_permits(), 2);
        let reservation = claims.reserve(&channel_id, 2, now).unwrap();
        let before_the_commit = reservation.claimed(vec![lane(1)], &[], now);
        assert_eq!(slots.available_permits(), 1, "the other slot is not needed");
        drop(before_the_commit);
        assert_eq!(slots.available_permits(), 2);
    }

    #[test]
    fn no_two_claims_have_the_same_lease() {
        let channel_id = channel_id();
        let claims = claims_of(&channel_id, &Arc::new(Semaphore::new(9)));

        let lease = || {
            let reservation = claims.reserve(&channel_id, 1, DateTime::UNIX_EPOCH);
            reservation.unwrap().lease_id
        };

        assert_ne!(lease(), lease());
    }
}
