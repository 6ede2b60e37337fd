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
    /// Whether the callback has failures that a success must end; known without asking, since all is well most of the time.
    pub(super) troubled: AtomicBool,
    /// Whether the callback counts as away; for the log alone.
    pub(super) away: AtomicBool,
    /// Whether the callback is paused, for lanes that are under way.
    pub(super) paused: AtomicBool,
    pub(super) places: Arc<Semaphore>,
}

impl Shared {
    /// Whether every place is taken.
    pub(super) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }
}
