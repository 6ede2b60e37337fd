//! Users who write numbered texts, each waiting for the answer before the next.
//!
//! Half of the texts bear an `Idempotency-Key` and are sent again until they have a 2xx. The others are sent once: one
//! without an answer may be at the Cloud or not.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::support::channel::{Channel, Reply, try_send};

/// 20 s: longer than any answer takes, the wait for a dead replica's lease included.
const PATIENCE: Duration = Duration::from_secs(20);

/// 2 min: how long after the end a text with a key is sent again.
const LAST_TRIES: Duration = Duration::from_mins(2);

/// A user of the channel.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) channel: Channel,
    pub(super) chance: StdRng,
    /// How long it waits between two texts, on average.
    pub(super) pace: Duration,
    /// Where its agent reads which conversation it is in.
    pub(super) conversation: watch::Sender<Option<String>>,
    /// All that it wrote, in order.
    pub(super) said: Vec<Said>,
    pub(super) complaints: Vec<String>,
}

/// A text, and what came of it.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) key: Option<String>,
    /// How often it was sent.
    pub(super) requests: usize,
    /// The 2xx that it was answered, of repeats too.
    pub(super) taken: Vec<Taken>,
}

/// A 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) status: u16,
    pub(super) message_id: String,
}

impl User {
    /// Writes until the end, and then brings the last text to its answer.
    pub(super) async fn write_until(&mut self, end: Instant) {
        while Instant::now() < end {
            let number = self.said.len();
            let text = format!(" <{}> {number}", self.id);
            let key = self
                .chance
                .random_bool(0.5)
                .then(|| format!("key of {text}"));
            let mut said = Said {
                text,
                key,
                requests: 0,
                taken: Vec::new(),
            };
            if said.key.is_some() {
                self.insist(&mut said, end + LAST_TRIES).await;
            } else {
                self.send(&mut said).await;
            }
            self.said.push(said);
            sleep(self.pace.mul_f64(self.chance.random_range(0.0..2.0))).await;
        }
    }

    /// Sends a text under its key until it has a 2xx, and now and then once more.
    async fn insist(&mut self, said: &mut Said, until: Instant) {
        let answers = if self.chance.random_bool(0.1) { 2 } else { 1 };
        while said.taken.len() < answers {
            if Instant::now() >= until {
                let complaint = format!("`{}`: no 2xx after {} requests", said.text, said.requests);
                self.complaints.push(complaint);
                return;
            }
            let taken = said.taken.len();
            self.send(said).await;
            if said.taken.len() == taken {
                sleep(Duration::from_millis(self.chance.random_range(500..1500))).await;
            }
        }
    }

    /// Sends a text once; some have little patience.
    async fn send(&mut self, said: &mut Said) {
        said.requests += 1;
        let path = format!("/v1/users/{}/messages", self.id);
        let patience = if self.chance.random_bool(0.05) {
            Duration::from_millis(self.chance.random_range(1..200))
        } else {
            PATIENCE
        };
        let mut request = self
            .channel
            .request(Method::POST, &path)
            // Of a connection of its own, so that all replicas are asked.
            .header("connection", "close")
            .header("content-type", "application/json")
            .timeout(patience)
            .body(json!({"text": said.text}).to_string());
        if let Some(key) = &said.key {
            request = request.header("idempotency-key", key);
        }
        // One without an answer has been told nothing.
        if let Ok(reply) = try_send(request).await {
            self.hear(said, &reply);
        }
    }

    fn hear(&mut self, said: &mut Said, reply: &Reply) {
        let code = &reply.body["code"];
        match reply.status {
            status @ (201 | 202) => {
                said.taken.push(Taken {
                    status,
                    message_id: reply.body["id"].as_str().unwrap().to_owned(),
                });
                if let Some(conversation) = reply.body["conversation_id"].as_str() {
                    self.conversation.send_if_modified(|known| {
                        let is_new = known.is_none();
                        known.get_or_insert_with(|| conversation.to_owned());
                        is_new
                    });
                }
            }
            409 if code == "idempotency-key-in-use" && said.key.is_some() => {}
            500..600 => {}
            _ => self.complaints.push(format!("`{}`: {reply:?}", said.text)),
        }
    }
}
