//! Messages that this replica has just sent without a lane. Their echoes must not be taken for
//! the echo of a message whose answer was lost.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::store::UserRef;
use crate::types::message::Sequence;

/// 1 min: longer than any attempt takes, and than the Cloud's clock may be off. So a message that
/// was sent before an attempt of unknown outcome is not taken for it.
const RECENT_SECONDS: u32 = 60;

/// 100,000: the number of sent messages that are remembered.
const RECENT_MESSAGES: usize = 100_000;

/// Messages that were just sent. The echo of one is not the echo of another with the same content.
#[derive(Debug)]
pub(super) struct Recent {
    /// The messages, in the order in which they were sent.
    sent: Mutex<VecDeque<Sent>>,
    /// The hasher that makes one number of a user and a dialog. 100,000 of their names would take
    /// ten megabytes.
    hasher: RandomState,
    begun: Instant,
}

/// A sent message, in 16 bytes.
#[derive(Debug)]
struct Sent {
    /// The hash of its user and dialog.
    place: u64,
    sequence: Sequence,
    /// The time of sending, in seconds since `begun`.
    at: u32,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            // The allocation takes memory only as it fills, and is never moved.
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

    /// Returns the sequences of a user's messages in a dialog.
    pub(super) fn of(&self, user: UserRef, dialog_id: &str) -> Vec<Sequence> {
        let place = self.hasher.hash_one((user, dialog_id));
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sent.iter().filter(|sent| sent.place == place);
        own.map(|sent| sent.sequence).collect()
    }
}
