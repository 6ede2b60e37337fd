//! The number of queued requests per channel. It is bounded, so that an outage does not fill the
//! database.
//!
//! Counting takes longer the more requests there are. So a replica counts only now and then, and
//! adds the requests that it has queued since. With several replicas, a channel may exceed its
//! bound by the requests that the other replicas queue between two counts. A user's own bound is
//! exact: the store enforces it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Outbox;
use crate::bridge::{Channel, Error};
use crate::types::ids::ChannelId;

/// 5 s: the time for which a count is used.
const COUNT_LIFETIME: Duration = Duration::from_secs(5);

/// 1 s: the same for a count that has reached the bound.
const FULL_COUNT_LIFETIME: Duration = Duration::from_secs(1);

/// The latest counts, by channel.
#[derive(Debug, Default)]
pub(super) struct Backlogs(Mutex<HashMap<ChannelId, Backlog>>);

#[derive(Debug, Clone, Copy)]
struct Backlog {
    counted_at: Instant,
    waiting: u32,
}

impl Backlogs {
    /// True if the last count leaves room for another request; `None` if that count is too old.
    fn has_room(&self, channel: &Channel) -> Option<bool> {
        let backlogs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = backlogs.get(&channel.id)?;
        let has_room = backlog.waiting < channel.max_queued;
        let lifetime = if has_room {
            COUNT_LIFETIME
        } else {
            FULL_COUNT_LIFETIME
        };
        (backlog.counted_at.elapsed() < lifetime).then_some(has_room)
    }

    fn set(&self, channel: &Channel, waiting: u32) {
        let mut backlogs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = Backlog {
            counted_at: Instant::now(),
            waiting,
        };
        backlogs.insert(channel.id.clone(), backlog);
    }

    fn add_one(&self, channel: &Channel) {
        let mut backlogs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backlog) = backlogs.get_mut(&channel.id) {
            backlog.waiting = backlog.waiting.saturating_add(1);
        }
    }
}

impl Outbox {
    /// True if another request of the channel may be queued.
    pub(super) async fn has_room(&self, channel: &Channel) -> Result<bool, Error> {
        if let Some(has_room) = self.backlogs.has_room(channel) {
            return Ok(has_room);
        }
        let store = &self.bridge.parts.store;
        let waiting = store
            .waiting_requests(&channel.id, channel.max_queued)
            .await?;
        self.backlogs.set(channel, waiting);
        Ok(waiting < channel.max_queued)
    }

    /// Counts one more queued request.
    pub(super) fn count_queued(&self, channel: &Channel) {
        self.backlogs.add_one(channel);
    }
}
