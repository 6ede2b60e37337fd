//! The state that a channel's dispatcher and its lanes share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Parts;
use super::attempt::Callback;
use crate::types::ids::ChannelId;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) channel_id: ChannelId,
    pub(super) callback: Callback,
    /// True if the callback has failures that a success must reset. Cached here, since failures are
    /// rare.
    pub(super) has_failures: AtomicBool,
    /// True if the latest attempt failed; only for the log.
    pub(super) is_failing: AtomicBool,
    /// True if the callback counts as unavailable; only for the log.
    pub(super) is_unavailable: AtomicBool,
    /// True if the callback is paused, for lanes that are being processed.
    pub(super) is_paused: AtomicBool,
    /// Notified when a lane that was claimed directly has ended. The dispatcher then polls: another
    /// event of the lane may be due, and a slot is free.
    pub(super) lane_ended: Notify,
    /// The slots of this replica, one for each lane of the channel that it processes at once.
    pub(super) slots: Arc<Semaphore>,
}

impl Shared {
    /// True if every slot is taken.
    pub(super) fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Takes the free slots, at most `limit`; `None` if there are none.
    pub(super) fn reserve_slots(&self, limit: u32) -> Option<OwnedSemaphorePermit> {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        let slots = Arc::clone(&self.slots).try_acquire_many_owned(free.min(limit));
        slots.ok().filter(|slots| slots.num_permits() > 0)
    }
}
