//! The queue of one subscription, which decides when a notification is sent, retried or given up.
//!
//! The queue does no I/O: callers pass in the time and the outcomes of attempts. A notification
//! keeps its position until it is settled. Each conversation has one notification in flight at a
//! time, which preserves its order. Other conversations do not wait for it.

use std::collections::{HashSet, VecDeque};

use axum::body::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::Retry;
use crate::notification::{Content, Kind, Notification};

/// The time between attempts of retry by number. Source: vendor's Webhooks documentation, "Retry
/// policy".
const RETRY_INTERVAL: TimeDelta = TimeDelta::seconds(30);

/// The longest time between attempts of retry by time to live, in seconds. Source: the same page.
const LONGEST_GAP: i64 = 300;

/// The highest number of a subscription's notifications in flight. The Cloud's own number is not
/// known.
const MAX_IN_FLIGHT: usize = 32;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) retry: Retry,
    items: VecDeque<Item>,
    next_id: u64,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Item {
    id: u64,
    notification: Notification,
    queued_at: DateTime<Utc>,
    /// The number of attempts that were begun.
    attempts: u32,
    /// The time of the next attempt.
    due: Option<DateTime<Utc>>,
    in_flight: bool,
    held_until: Option<HeldUntil>,
    /// True if the first attempt is to have a wrong signature.
    forged: bool,
}

/// The event that releases a notification that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldUntil {
    /// The end of the next notification of its conversation, which was delivered or given up.
    Follower,
    /// A call that releases everything.
    Release,
    /// The arrival of the other notifications for the same request.
    BatchComplete,
}

/// A period in which all notifications wait because one was not accepted.
#[derive(Debug, Clone, Copy)]
struct Outage {
    failures: u32,
    until: Option<DateTime<Utc>>,
}

/// The next step of a courier.
#[derive(Debug)]
pub(super) enum Next {
    Send(Vec<OutgoingNotification>),
    /// Wait for an attempt to end, or for a time.
    Wait,
    Idle,
}

/// A notification in flight.
#[derive(Debug)]
pub(super) struct OutgoingNotification {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) conversation: Option<String>,
    /// The number of the attempt, from 1.
    pub(super) attempt: u32,
    pub(super) forged: bool,
    /// True if a disturbance affects it.
    pub(super) disturbed: bool,
    pub(super) body: Bytes,
}

impl Queue {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            items: VecDeque::new(),
            next_id: 0,
            outage: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// True if there is a notification that is not held back.
    pub(super) fn has_work(&self) -> bool {
        self.items.iter().any(|item| item.held_until.is_none())
    }

    pub(super) fn push(&mut self, notification: Notification, now: DateTime<Utc>) {
        self.add(Item::new(notification, now));
    }

    /// Adds a notification that is held back.
    pub(super) fn push_held(
        &mut self,
        notification: Notification,
        until: HeldUntil,
        now: DateTime<Utc>,
    ) {
        self.add(Item {
            held_until: Some(until),
            ..Item::new(notification, now)
        });
    }

    /// Adds a notification whose first attempt has a wrong signature.
    pub(super) fn push_forged(&mut self, notification: Notification, now: DateTime<Utc>) {
        self.add(Item {
            forged: true,
            ..Item::new(notification, now)
        });
    }

    /// Adds a notification to the request that gathers its type, or begins such a request.
    pub(super) fn gather(&mut self, notification: Notification, now: DateTime<Utc>) {
        let wire_type = notification.kind.wire_type();
        let batch = self.items.iter_mut().find(|item| {
            item.held_until == Some(HeldUntil::BatchComplete)
                && item.notification.kind.wire_type() == wire_type
        });
        match (
            batch.map(|item| &mut item.notification.content),
            notification.content,
        ) {
            (Some(Content::Changes(gathered)), Content::Changes(changes)) => {
                gathered.extend(changes);
            }
            (_, content) => {
                let notification = Notification {
                    content,
                    ..notification
                };
                self.push_held(notification, HeldUntil::BatchComplete, now);
            }
        }
    }

    /// Releases the requests that gather notifications.
    pub(super) fn close_batches(&mut self) {
        for item in &mut self.items {
            item.held_until = item.held_until.filter(|it| *it != HeldUntil::BatchComplete);
        }
    }

    pub(super) fn release(&mut self) {
        for item in &mut self.items {
            item.held_until = None;
        }
    }

    pub(super) fn retry_now(&mut self) {
        for item in &mut self.items {
            item.due = None;
        }
        if let Some(outage) = &mut self.outage {
            outage.until = None;
        }
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.outage = None;
    }

    /// Returns the notifications to send now, and marks them as in flight.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Next {
        self.expire(now);
        if !self.has_work() {
            return Next::Idle;
        }
        let in_flight = self.items.iter().filter(|item| item.in_flight).count();
        let capacity = match self.outage {
            // A single attempt shows whether the app is available again.
            Some(_) if in_flight > 0 => 0,
            Some(outage) if outage.until.is_some_and(|until| now < until) => 0,
            Some(_) => 1,
            None => MAX_IN_FLIGHT.saturating_sub(in_flight),
        };
        let outgoing = self.select_due(capacity, now);
        if outgoing.is_empty() {
            Next::Wait
        } else {
            Next::Send(outgoing)
        }
    }

    /// Stores the outcome of an attempt. Ignores a notification that was forgotten meanwhile.
    pub(super) fn settle(&mut self, id: u64, accepted: bool, now: DateTime<Utc>) {
        let Some(index) = self.items.iter().position(|item| item.id == id) else {
            return;
        };
        if accepted {
            self.outage = None;
            self.remove(index);
            return;
        }
        let Some(item) = self.items.get_mut(index) else {
            return;
        };
        item.in_flight = false;
        match self.retry {
            Retry::ByNumber(retries) if item.attempts > retries => self.remove(index),
            Retry::ByNumber(_) => item.due = Some(now + RETRY_INTERVAL),
            Retry::TimeToLive(_) => self.begin_outage(now),
        }
    }

    fn add(&mut self, item: Item) {
        let id = self.next_id;
        self.next_id += 1;
        self.items.push_back(Item { id, ..item });
    }

    /// Chooses the notifications to send, in order.
    fn select_due(&mut self, capacity: usize, now: DateTime<Utc>) -> Vec<OutgoingNotification> {
        let mut busy = HashSet::new();
        let mut outgoing = Vec::new();
        for item in &mut self.items {
            if outgoing.len() == capacity {
                break;
            }
            let is_early = item.due.is_some_and(|due| now < due);
            if item.held_until.is_some() || is_early && !item.in_flight {
                continue;
            }
            let conversation = &item.notification.conversation;
            let is_first = conversation.is_none() || busy.insert(conversation.clone());
            if is_first && !item.in_flight {
                item.in_flight = true;
                item.attempts += 1;
                outgoing.push(item.outgoing());
            }
        }
        outgoing
    }

    /// Gives up notifications that are past their time to live.
    fn expire(&mut self, now: DateTime<Utc>) {
        let Retry::TimeToLive(seconds) = self.retry else {
            return;
        };
        let cutoff = now - TimeDelta::seconds(seconds.into());
        let expired =
            |item: &Item| !item.in_flight && item.held_until.is_none() && item.queued_at <= cutoff;
        while let Some(index) = self.items.iter().position(expired) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(removed) = self.items.remove(index) else {
            return;
        };
        let held = self.items.iter_mut().rev().find(|item| {
            item.id < removed.id
                && item.held_until == Some(HeldUntil::Follower)
                && item.notification.conversation == removed.notification.conversation
        });
        if let Some(item) = held {
            item.held_until = None;
        }
    }

    /// Begins an outage, or prolongs it after a failed attempt to end it.
    fn begin_outage(&mut self, now: DateTime<Utc>) {
        let failures = match self.outage {
            Some(outage) if outage.until.is_some_and(|until| now < until) => return,
            Some(outage) => outage.failures + 1,
            None => 1,
        };
        let gap = 2_i64
            .checked_pow(failures)
            .unwrap_or(LONGEST_GAP)
            .min(LONGEST_GAP);
        self.outage = Some(Outage {
            failures,
            until: Some(now + TimeDelta::seconds(gap)),
        });
    }
}

impl Item {
    fn new(notification: Notification, now: DateTime<Utc>) -> Self {
        Self {
            id: 0,
            notification,
            queued_at: now,
            attempts: 0,
            due: None,
            in_flight: false,
            held_until: None,
            forged: false,
        }
    }

    fn outgoing(&self) -> OutgoingNotification {
        OutgoingNotification {
            id: self.id,
            kind: self.notification.kind,
            conversation: self.notification.conversation.clone(),
            attempt: self.attempts,
            forged: self.forged && self.attempts == 1,
            disturbed: self.notification.disturbed,
            body: self.notification.body(),
        }
    }
}

#[cfg(test)]
mod tests;
