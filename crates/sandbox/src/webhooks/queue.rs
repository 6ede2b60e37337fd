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
    on_the_way: bool,
    hold: Option<HeldUntil>,
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
    Nothing,
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
    pub(super) struck: bool,
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
        self.items.iter().any(|item| item.hold.is_none())
    }

    pub(super) fn push(&mut self, notification: Notification, now: DateTime<Utc>) {
        self.add(Item::new(notification, now));
    }

    /// Adds a notification that is held back.
    pub(super) fn hold(&mut self, notification: Notification, hold: HeldUntil, now: DateTime<Utc>) {
        self.add(Item {
            hold: Some(hold),
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
            item.hold == Some(HeldUntil::BatchComplete)
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
                self.hold(notification, HeldUntil::BatchComplete, now);
            }
        }
    }

    /// Releases the requests that gather notifications.
    pub(super) fn close_batches(&mut self) {
        for item in &mut self.items {
            item.hold = item.hold.filter(|hold| *hold != HeldUntil::BatchComplete);
        }
    }

    pub(super) fn release(&mut self) {
        for item in &mut self.items {
            item.hold = None;
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
            return Next::Nothing;
        }
        let on_the_way = self.items.iter().filter(|item| item.on_the_way).count();
        let places = match self.outage {
            // A single attempt shows whether the app is available again.
            Some(_) if on_the_way > 0 => 0,
            Some(outage) if outage.until.is_some_and(|until| now < until) => 0,
            Some(_) => 1,
            None => MAX_IN_FLIGHT.saturating_sub(on_the_way),
        };
        let parcels = self.select_due(places, now);
        if parcels.is_empty() {
            Next::Wait
        } else {
            Next::Send(parcels)
        }
    }

    /// Stores the outcome of an attempt. Ignores a notification that was forgotten meanwhile.
    pub(super) fn settle(&mut self, id: u64, taken: bool, now: DateTime<Utc>) {
        let Some(place) = self.items.iter().position(|item| item.id == id) else {
            return;
        };
        if taken {
            self.outage = None;
            self.remove(place);
            return;
        }
        let Some(item) = self.items.get_mut(place) else {
            return;
        };
        item.on_the_way = false;
        match self.retry {
            Retry::ByNumber(tries) if item.attempts > tries => self.remove(place),
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
    fn select_due(&mut self, places: usize, now: DateTime<Utc>) -> Vec<OutgoingNotification> {
        let mut busy = HashSet::new();
        let mut parcels = Vec::new();
        for item in &mut self.items {
            if parcels.len() == places {
                break;
            }
            let waits = item.due.is_some_and(|due| now < due);
            if item.hold.is_some() || waits && !item.on_the_way {
                continue;
            }
            let conversation = &item.notification.conversation;
            let first = conversation.is_none() || busy.insert(conversation.clone());
            if first && !item.on_the_way {
                item.on_the_way = true;
                item.attempts += 1;
                parcels.push(item.parcel());
            }
        }
        parcels
    }

    /// Gives up notifications that are past their time to live.
    fn expire(&mut self, now: DateTime<Utc>) {
        let Retry::TimeToLive(seconds) = self.retry else {
            return;
        };
        let born_before = now - TimeDelta::seconds(seconds.into());
        let expired =
            |item: &Item| !item.on_the_way && item.hold.is_none() && item.queued_at <= born_before;
        while let Some(place) = self.items.iter().position(expired) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(removed) = self.items.remove(place) else {
            return;
        };
        let waiting = self.items.iter_mut().rev().find(|item| {
            item.id < removed.id
                && item.hold == Some(HeldUntil::Follower)
                && item.notification.conversation == removed.notification.conversation
        });
        if let Some(item) = waiting {
            item.hold = None;
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
            on_the_way: false,
            hold: None,
            forged: false,
        }
    }

    fn parcel(&self) -> OutgoingNotification {
        OutgoingNotification {
            id: self.id,
            kind: self.notification.kind,
            conversation: self.notification.conversation.clone(),
            attempt: self.attempts,
            forged: self.forged && self.attempts == 1,
            struck: self.notification.struck,
            body: self.notification.body(),
        }
    }
}

#[cfg(test)]
mod tests;
