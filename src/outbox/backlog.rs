//! How much waits for the Cloud, channel by channel, so that an outage does not fill the database without a bound.
//!
//! Counting takes longer the more there is, so a replica counts now and then and adds what it has queued itself since; with
//! several replicas a bound is passed by what the others queue in those seconds. A user's own bound is exact, and the store's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Outbox;
use crate::bridge::{Channel, Error};
use crate::types::ids::ChannelId;

/// 5 s: how long a count is good for.
const COUNTED: Duration = Duration::from_secs(5);

/// 1 s: how soon it is counted again where the bound was reached.
const COUNTED_FULL: Duration = Duration::from_secs(1);

/// What was last counted, by channel.
#[derive(Debug, Default)]
pub(super) struct Backlogs(Mutex<HashMap<ChannelId, Backlog>>);

#[derive(Debug, Clone, Copy)]
struct Backlog {
    counted_at: Instant,
    waiting: u32,
}

impl Backlogs {
    /// Whether there is room for another request, as far as that is known.
    fn has_room(&self, channel: &Channel) -> Option<bool> {
        let backlogs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = backlogs.get(&channel.id)?;
        let has_room = backlog.waiting < channel.max_queued;
        let good_for = if has_room { COUNTED } else { COUNTED_FULL };
        (backlog.counted_at.elapsed() < good_for).then_some(has_room)
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
    /// Whether another request of the channel may wait for the Cloud.
    pub(super) async fn has_room(&self, channel: &Channel) -> Result<bool, Error> {
        if let Some(known) = self.backlogs.has_room(channel) {
            return Ok(known);
        }
        let store = &self.bridge.parts.store;
        let waiting = store
            .waiting_requests(&channel.id, channel.max_queued)
            .await?;
        self.backlogs.set(channel, waiting);
        Ok(waiting < channel.max_queued)
    }

    /// Notes that one more waits.
    pub(super) fn note_queued(&self, channel: &Channel) {
        self.backlogs.add_one(channel);
    }
}
