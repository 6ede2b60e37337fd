//! The channel's callback, which fails now and then: what it was told, and in which order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;
use standardwebhooks::Webhook;

use crate::support::receiver::{Answer, Received, Receiver, SECRET};

/// How many of a hundred callbacks are answered 503, although the event was noted.
const REFUSED_PERCENT: u32 = 5;

/// What the channel was told; a clone is the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Callbacks(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Each event once, in the order of their first arrival.
    pub(super) events: Vec<Value>,
    /// The bodies by the id of their event.
    bodies: HashMap<String, Vec<u8>>,
    pub(super) repeats: usize,
    pub(super) refused: usize,
    pub(super) complaints: Vec<String>,
}

impl Callbacks {
    /// A receiver that takes down what it is told; from then on it fails now and then, until it is told to be kind.
    pub(super) async fn start(mut chance: StdRng) -> (Self, Receiver) {
        let (callbacks, receiver) = (Self::default(), Receiver::start().await);
        let noting = callbacks.clone();
        receiver.answer(move |received| {
            let mut ledger = noting.0.lock().unwrap();
            ledger.note(received);
            if chance.random_ratio(REFUSED_PERCENT, 100) {
                ledger.refused += 1;
                return Answer::status(503);
            }
            Answer::status(200)
        });
        (callbacks, receiver)
    }

    /// Takes everything from now on.
    pub(super) fn be_kind(&self, receiver: &Receiver) {
        let noting = self.clone();
        receiver.answer(move |received| {
            noting.0.lock().unwrap().note(received);
            Answer::status(200)
        });
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.0.lock().unwrap())
    }
}

impl Ledger {
    fn note(&mut self, received: &Received) {
        let id = received.header("webhook-id").to_owned();
        let signed = Webhook::new(SECRET).unwrap();
        if let Err(error) = signed.verify(&received.body, &received.headers) {
            self.complaints.push(format!("callback {id}: {error}"));
        }
        match self.bodies.get(&id) {
            None => {
                self.events.push(received.json());
                self.bodies.insert(id, received.body.to_vec());
            }
            Some(body) => {
                self.repeats += 1;
                if *body != received.body {
                    let complaint = format!("callback {id}: a repeat bears another body");
                    self.complaints.push(complaint);
                }
            }
        }
    }
}
