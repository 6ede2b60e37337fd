//! The channel's callback, which fails now and then, and the events that it received, in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;
use standardwebhooks::Webhook;

use super::events::Event;
use crate::support::receiver::{Answer, Received, Receiver, SECRET};

/// The percentage of callbacks that are answered 503 although the event was recorded.
const REFUSED_PERCENT: u32 = 5;

/// The events that the channel received; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Callbacks(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Each event once, in the order of first arrival.
    pub(super) events: Vec<Event>,
    /// The digests of the events by their ids.
    digests: HashMap<String, u64>,
    /// The time of each user's last event: the earlier of its signature and its arrival. Events in
    /// flight at that time may arrive later.
    pub(super) last_sent: HashMap<String, DateTime<Utc>>,
    pub(super) repeats: usize,
    pub(super) refused: usize,
    pub(super) complaints: Vec<String>,
}

impl Callbacks {
    /// Starts a receiver that records events. With a random generator it fails now and then, until
    /// `stop_failing` is called.
    pub(super) async fn start(rng: Option<StdRng>) -> (Self, Receiver) {
        let (callbacks, receiver) = (Self::default(), Receiver::start().await);
        callbacks.answer(&receiver, rng);
        (callbacks, receiver)
    }

    /// Accepts every event from now on.
    pub(super) fn stop_failing(&self, receiver: &Receiver) {
        self.answer(receiver, None);
    }

    fn answer(&self, receiver: &Receiver, mut rng: Option<StdRng>) {
        let recorder = self.clone();
        receiver.answer(move |received| {
            let mut ledger = recorder.0.lock().unwrap();
            ledger.record(received);
            let is_refused = |rng: &mut StdRng| rng.random_ratio(REFUSED_PERCENT, 100);
            if rng.as_mut().is_some_and(is_refused) {
                ledger.refused += 1;
                return Answer::status(503);
            }
            Answer::status(200)
        });
    }

    pub(super) fn read<T>(&self, inspect: impl FnOnce(&Ledger) -> T) -> T {
        inspect(&self.0.lock().unwrap())
    }
}

impl Ledger {
    fn record(&mut self, received: &Received) {
        let id = received.header("webhook-id").to_owned();
        let signed = Webhook::new(SECRET).unwrap();
        if let Err(error) = signed.verify(&received.body, &received.headers) {
            self.complaints.push(format!("callback {id}: {error}"));
        }
        let event = Event::read(&received.json());
        let signed_at = received.header("webhook-timestamp").parse().unwrap();
        let sent = DateTime::from_timestamp_secs(signed_at)
            .unwrap()
            .min(Utc::now());
        let last = self.last_sent.entry(event.user_id.clone()).or_default();
        *last = sent.max(*last);
        match self.digests.get(&id) {
            None => {
                self.digests.insert(id, event.digest);
                self.events.push(event);
            }
            Some(digest) => {
                self.repeats += 1;
                if *digest != event.digest {
                    let complaint = format!("callback {id}: a repeat has another body");
                    self.complaints.push(complaint);
                }
            }
        }
    }
}
