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
    /// True if the callback has failures that a success must reset. Cached here, since failures are
    /// rare.
    pub(super) has_failures: AtomicBool,
    /// True if the callback counts as unavailable; only for the log.
    pub(super) is_unavailable: AtomicBool,
    /// True if the callback is paused, for lanes that are being processed.
    pub(super) is_paused: AtomicBool,
    pub(super) permits: Arc<Semaphore>,
}

impl Shared {
    /// True if every permit is taken.
    pub(super) fn is_full(&self) -> bool {
        self.permits.available_permits() == 0
    }
}
