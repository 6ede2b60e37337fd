//! Agents who write numbered texts to one user each, some of them in one breath.

use std::time::{Duration, Instant};

use liveperson_bridge::sandbox::Sandbox;
use liveperson_bridge::sandbox::agent::Action;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::sleep;

/// The agent of one user.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) user_id: String,
    pub(super) sandbox: Sandbox,
    pub(super) chance: StdRng,
    /// How long it waits between two breaths, on average.
    pub(super) pace: Duration,
    /// Where the user is, once that is known.
    pub(super) conversation: watch::Receiver<Option<String>>,
}

/// What an agent wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) user_id: String,
    /// In order.
    pub(super) texts: Vec<String>,
}

impl Agent {
    /// Writes until the end; what it has written.
    pub(super) async fn answer_until(mut self, end: Instant) -> Written {
        let mut texts = Vec::new();
        while Instant::now() < end {
            sleep(self.pace.mul_f64(self.chance.random_range(0.0..2.0))).await;
            let Some(conversation) = self.conversation.borrow().clone() else {
                continue;
            };
            for _ in 0..self.chance.random_range(1..=3) {
                let text = format!("{}: the agent's {}", self.user_id, texts.len());
                let said = self.sandbox.act(&conversation, Action::say(&text));
                said.expect("the conversation is open");
                texts.push(text);
            }
        }
        Written {
            user_id: self.user_id,
            texts,
        }
    }
}
