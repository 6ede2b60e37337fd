//! The outcomes of notifications, for tests.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::notification::Kind;

/// The highest number of attempts, equal to that of recorded requests.
const CAPACITY: usize = 10_000;

/// The highest number of bytes of all bodies.
const BODY_CAPACITY: usize = 64 * 1024 * 1024;

/// An attempt to deliver a notification, with its outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// The number, from 1, in the order in which attempts ended.
    pub id: u64,
    /// The time at which it ended.
    pub at: DateTime<Utc>,
    /// The account id.
    pub account_id: String,
    /// The client id of the subscribed app installation.
    pub client_id: String,
    /// The kind of the notification; of several changes in one request, the kind of the first.
    pub kind: Kind,
    /// The conversation; of several changes in one request, that of the first. `None` for a body
    /// that a test wrote.
    pub conversation_id: Option<String>,
    /// The number of the attempt at this notification, from 1.
    pub attempt: u32,
    /// The status of the answer; `None` if no answer came.
    pub status: Option<u16>,
    /// The body, with replacements for bytes that are not UTF-8.
    pub body: String,
}

/// The latest attempts.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    attempts: VecDeque<Delivery>,
    /// The number of attempts so far, including forgotten ones.
    count: u64,
    /// The number of bytes of all bodies.
    total_bytes: usize,
}

impl Deliveries {
    /// Records an attempt under the next number.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.total_bytes += delivery.body.len();
        self.count += 1;
        self.attempts.push_back(Delivery {
            id: self.count,
            ..delivery
        });
        while (self.attempts.len() > CAPACITY || self.total_bytes > BODY_CAPACITY)
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.total_bytes -= oldest.body.len();
        }
    }

    /// Returns the attempts after the one with this number; all attempts for 0.
    pub(crate) fn list_after(&self, id: u64) -> Vec<Delivery> {
        let earlier = self.attempts.partition_point(|attempt| attempt.id <= id);
        self.attempts.iter().skip(earlier).cloned().collect()
    }

    /// Forgets the attempts. Numbering continues.
    pub(super) fn clear(&mut self) {
        *self = Self {
            count: self.count,
            ..Self::default()
        };
    }
}
