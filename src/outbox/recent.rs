//! Messages that this replica has just sent without a lane. Their echoes must not be taken for
//! the echo of a message whose answer was lost.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::store::UserRef;
use crate::types::message::Sequence;

/// 1 min: the time for which a sent message is remembered. It exceeds the duration of an attempt
/// and the error of the Cloud's clock.
const RECENT_SECONDS: u32 = 60;

/// 100,000: the number of sent messages that are remembered.
const RECENT_MESSAGES: usize = 100_000;

/// Messages that were just sent. The echo of one is not the echo of another with the same content.
#[derive(Debug)]
pub(super) struct RecentMessages {
    /// The messages, in the order in which they were sent.
    sent: Mutex<VecDeque<Sent>>,
    /// The hasher that reduces a user and a dialog to one number. 100,000 such pairs as text would
    /// take ten megabytes.
    hasher: RandomState,
    started_at: Instant,
}

/// A sent message, in 16 bytes.
#[derive(Debug)]
struct Sent {
    /// The hash of its user and dialog.
    key: u64,
    sequence: Sequence,
    /// The time of sending, in seconds since `started_at`.
    at: u32,
}

impl Default for RecentMessages {
    fn default() -> Self {
        Self {
            // The allocation takes memory only as it fills, and is never moved.
            sent: Mutex::new(VecDeque::with_capacity(RECENT_MESSAGES)),
            hasher: RandomState::new(),
            started_at: Instant::now(),
        }
    }
}

impl RecentMessages {
    pub(super) fn add(&self, user: UserRef, dialog_id: &str, sequence: Sequence) {
        let key = self.hasher.hash_one((user, dialog_id));
        let at = u32::try_from(self.started_at.elapsed().as_secs()).unwrap_or(u32::MAX);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |oldest: &Sent| at.saturating_sub(oldest.at) > RECENT_SECONDS;
        while sent.len() >= RECENT_MESSAGES || sent.front().is_some_and(is_old) {
            sent.pop_front();
        }
        sent.push_back(Sent { key, sequence, at });
    }

    /// Returns the sequences of a user's messages in a dialog.
    pub(super) fn sequences(&self, user: UserRef, dialog_id: &str) -> Vec<Sequence> {
        let key = self.hasher.hash_one((user, dialog_id));
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sent.iter().filter(|sent| sent.key == key);
        own.map(|sent| sent.sequence).collect()
    }
}
