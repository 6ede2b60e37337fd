//! What became of the notifications, for tests to look at.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::notification::Kind;

/// As many attempts as requests are recorded.
const CAPACITY: usize = 10_000;

/// Bytes of all bodies together.
const BODY_CAPACITY: usize = 64 * 1024 * 1024;

/// One attempt to deliver a notification, as it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Its number, from 1, in the order in which attempts ended.
    pub id: u64,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Account id.
    pub account_id: String,
    /// Client id of the app installation that was told.
    pub client_id: String,
    /// What it told of; of several changes in one request, the first.
    pub kind: Kind,
    /// The conversation that it told of, the first of several; none for a body that a test wrote itself.
    pub conversation_id: Option<String>,
    /// Which try this was, from 1.
    pub attempt: u32,
    /// The status that was answered; none when no answer came.
    pub status: Option<u16>,
    /// What was sent; what is not UTF-8 is replaced.
    pub body: String,
}

/// The latest attempts.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    attempts: VecDeque<Delivery>,
    /// How many there were, those included that are forgotten.
    count: u64,
    /// Bytes of all bodies.
    held: usize,
}

impl Deliveries {
    /// Keeps an attempt, which gets its number.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.held += delivery.body.len();
        self.count += 1;
        self.attempts.push_back(Delivery {
            id: self.count,
            ..delivery
        });
        while (self.attempts.len() > CAPACITY || self.held > BODY_CAPACITY)
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.held -= oldest.body.len();
        }
    }

    /// The attempts after the one of this number; all for 0.
    pub(crate) fn list_after(&self, id: u64) -> Vec<Delivery> {
        let known = self.attempts.partition_point(|attempt| attempt.id <= id);
        self.attempts.iter().skip(known).cloned().collect()
    }

    /// Forgets the attempts; their numbers go on.
    pub(super) fn clear(&mut self) {
        *self = Self {
            count: self.count,
            ..Self::default()
        };
    }
}
