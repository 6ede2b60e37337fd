//! The state that a channel's dispatcher and its lanes share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

use super::Parts;
use super::attempt::Callback;
use crate::types::ids::ChannelId;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) channel_id: ChannelId,
    pub(super) callback: Callback,
    /// True if the callback has failures that a success must end. Cached here, since there are
    /// rarely any.
    pub(super) troubled: AtomicBool,
    /// True if the callback counts as unavailable; only for the log.
    pub(super) away: AtomicBool,
    /// True if the callback is paused, for lanes that are being processed.
    pub(super) paused: AtomicBool,
    pub(super) places: Arc<Semaphore>,
}

impl Shared {
    /// True if every permit is taken.
    pub(super) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }
}
