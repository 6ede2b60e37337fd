//! The queue of one subscription: what is to be sent when, and what becomes of what was not taken.
//!
//! Pure: it is told the time and how attempts ended. A notification keeps its place until it is settled, and a conversation
//! has one notification on the way at a time, which is what keeps its order. Other conversations do not wait for it.

use std::collections::{HashSet, VecDeque};

use axum::body::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::Retry;
use crate::notification::{Content, Kind, Notification};

/// Source: vendor's Webhooks documentation, "Retry policy", on retry by number.
const RETRY_INTERVAL: TimeDelta = TimeDelta::seconds(30);

/// Seconds: the longest gap of retry by time to live, of the same source.
const LONGEST_GAP: i64 = 300;

/// How many notifications of a subscription are on the way at a time; the Cloud's own number is not known.
const ON_THE_WAY: usize = 32;

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
    /// How many tries were begun.
    attempts: u32,
    /// When it may be tried again.
    due: Option<DateTime<Utc>>,
    on_the_way: bool,
    hold: Option<Hold>,
    /// Whether its first try is to bear a wrong signature.
    forged: bool,
}

/// What a notification waits for that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// That the next one of its conversation has been delivered.
    Follower,
    /// That someone lets it go.
    Release,
    /// Those that are to come in the same request.
    Others,
}

/// A time in which everything waits, since something was not taken.
#[derive(Debug, Clone, Copy)]
struct Outage {
    failures: u32,
    until: Option<DateTime<Utc>>,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Next {
    Send(Vec<Parcel>),
    /// For a try to end, or for a time.
    Wait,
    Nothing,
}

/// A notification on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) conversation: Option<String>,
    /// From 1.
    pub(super) attempt: u32,
    pub(super) forged: bool,
    /// Whether a disturbance struck it.
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

    /// Whether there is anything that is not held back.
    pub(super) fn has_work(&self) -> bool {
        self.items.iter().any(|item| item.hold.is_none())
    }

    pub(super) fn push(&mut self, notification: Notification, now: DateTime<Utc>) {
        self.add(Item::new(notification, now));
    }

    /// Adds one that waits for something.
    pub(super) fn hold(&mut self, notification: Notification, hold: Hold, now: DateTime<Utc>) {
        self.add(Item {
            hold: Some(hold),
            ..Item::new(notification, now)
        });
    }

    /// Adds one whose first try bears a wrong signature.
    pub(super) fn push_forged(&mut self, notification: Notification, now: DateTime<Utc>) {
        self.add(Item {
            forged: true,
            ..Item::new(notification, now)
        });
    }

    /// Adds one to the request that others wait in, or begins such a request.
    pub(super) fn gather(&mut self, notification: Notification, now: DateTime<Utc>) {
        let wire_type = notification.kind.wire_type();
        let batch = self.items.iter_mut().find(|item| {
            item.hold == Some(Hold::Others) && item.notification.kind.wire_type() == wire_type
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
                self.hold(notification, Hold::Others, now);
            }
        }
    }

    /// Lets go of the requests that notifications were gathered in.
    pub(super) fn close_batches(&mut self) {
        for item in &mut self.items {
            item.hold = item.hold.filter(|hold| *hold != Hold::Others);
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

    /// What is to be sent now, which is then on the way.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Next {
        self.expire(now);
        if !self.has_work() {
            return Next::Nothing;
        }
        let on_the_way = self.items.iter().filter(|item| item.on_the_way).count();
        let places = match self.outage {
            // One try shows whether the app is there again.
            Some(_) if on_the_way > 0 => 0,
            Some(outage) if outage.until.is_some_and(|until| now < until) => 0,
            Some(_) => 1,
            None => ON_THE_WAY.saturating_sub(on_the_way),
        };
        let parcels = self.pack(places, now);
        if parcels.is_empty() {
            Next::Wait
        } else {
            Next::Send(parcels)
        }
    }

    /// Takes note of how a try ended. What was forgotten meanwhile is no matter.
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

    /// Chooses what goes, in order.
    fn pack(&mut self, places: usize, now: DateTime<Utc>) -> Vec<Parcel> {
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

    /// Gives up what has lived its time.
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
                && item.hold == Some(Hold::Follower)
                && item.notification.conversation == removed.notification.conversation
        });
        if let Some(item) = waiting {
            item.hold = None;
        }
    }

    /// Begins an outage, or makes it longer when the try failed that was to show its end.
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

    fn parcel(&self) -> Parcel {
        Parcel {
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
