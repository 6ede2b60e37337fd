//! Messages that were sent a moment ago, by this replica and at once: what tells their echoes from that of a message whose
//! answer was lost.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::store::UserRef;
use crate::types::message::Sequence;

/// 1 min: longer than any try takes and than the Cloud's clock may be off, so that what was sent before a try that nobody
/// knows the outcome of is not taken for it.
const RECENT_SECONDS: u32 = 60;

/// How many sent messages are remembered at most.
const RECENT_MESSAGES: usize = 100_000;

/// Messages that were sent a moment ago: an echo of one is not the echo of another that says the same.
#[derive(Debug)]
pub(super) struct Recent {
    /// In the order in which they were sent.
    sent: Mutex<VecDeque<Sent>>,
    /// Makes one number of user and dialog: a hundred thousand of their names would be ten megabytes.
    hasher: RandomState,
    begun: Instant,
}

/// A message that was sent, in 16 bytes.
#[derive(Debug)]
struct Sent {
    /// Hash of its user and dialog.
    place: u64,
    sequence: Sequence,
    /// Seconds after the first could be.
    at: u32,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            // The room is only taken as it is used, and never moved.
            sent: Mutex::new(VecDeque::with_capacity(RECENT_MESSAGES)),
            hasher: RandomState::new(),
            begun: Instant::now(),
        }
    }
}

impl Recent {
    pub(super) fn add(&self, user: UserRef, dialog_id: &str, sequence: Sequence) {
        let place = self.hasher.hash_one((user, dialog_id));
        let at = u32::try_from(self.begun.elapsed().as_secs()).unwrap_or(u32::MAX);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |oldest: &Sent| at.saturating_sub(oldest.at) > RECENT_SECONDS;
        while sent.len() >= RECENT_MESSAGES || sent.front().is_some_and(is_old) {
            sent.pop_front();
        }
        sent.push_back(Sent {
            place,
            sequence,
            at,
        });
    }

    /// The numbers of those of a user in a dialog.
    pub(super) fn of(&self, user: UserRef, dialog_id: &str) -> Vec<Sequence> {
        let place = self.hasher.hash_one((user, dialog_id));
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sent.iter().filter(|sent| sent.place == place);
        own.map(|sent| sent.sequence).collect()
    }
}
