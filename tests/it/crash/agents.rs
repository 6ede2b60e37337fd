//! Agents and the survey bot. Each agent writes numbered texts and files to one user, some of them
//! in quick succession, and closes conversations. The bot asks in the surveys that follow.

use std::time::{Duration, Instant};

use liveperson_bridge::sandbox::Sandbox;
use liveperson_bridge::sandbox::agent::{Action, Attachment};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::deeds::content_of;
use super::parts::{Mix, Part};

/// The user that an agent writes to, and the user's conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) user_id: String,
    pub(super) conversation: String,
}

/// The agent of one user.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) sandbox: Sandbox,
    pub(super) mix: Mix,
    pub(super) chance: StdRng,
    /// The average pause between two bursts of messages.
    pub(super) pace: Duration,
    /// The user's conversation, once it is known.
    pub(super) seat: watch::Receiver<Option<Seat>>,
}

/// A message that an agent or the bot wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) seat: Seat,
    pub(super) text: String,
    /// True for a file; its caption is the text.
    pub(super) is_file: bool,
}

/// The random choices for one message.
#[derive(Debug, Clone, Copy)]
struct Word {
    is_file: bool,
    ends_survey: bool,
}

impl Agent {
    /// Writes until the end, and returns the messages in order.
    pub(super) async fn answer_until(mut self, end: Instant) -> Vec<Written> {
        let mut all = Vec::new();
        while Instant::now() < end {
            sleep(self.pace.mul_f64(self.chance.random_range(0.0..2.0))).await;
            // All random choices are made here, so that they do not depend on the results.
            let words = self.chance.random_range(1..=3);
            let words: Vec<_> = (0..words).map(|_| self.choose_word()).collect();
            let (closes, for_survey) =
                (self.chance.random_bool(0.02), self.chance.random_bool(0.5));
            let Some(seat) = self.seat.borrow().clone() else {
                continue;
            };
            for word in words {
                let number = all.len();
                all.extend(self.say(&seat, number, word));
            }
            if closes && self.mix.has(Part::Closes) {
                self.close(&seat, for_survey);
            }
        }
        all
    }

    fn choose_word(&mut self) -> Word {
        Word {
            is_file: self.chance.random_bool(0.1) && self.mix.has(Part::Files),
            ends_survey: self.chance.random_bool(0.3),
        }
    }

    /// Writes one message. Returns `None` if the conversation is closed.
    fn say(&self, seat: &Seat, number: usize, word: Word) -> Option<Written> {
        let text = format!("{}: the agent's {number}", seat.user_id);
        let written = |is_file| Written {
            seat: seat.clone(),
            text: text.clone(),
            is_file,
        };
        let question =
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
        if let Some(_asked) = self.sandbox.ask_survey(&seat.conversation, question) {
            if word.ends_survey {
                // The user may have closed the conversation meanwhile.
                let _was_open = self.sandbox.end_survey(&seat.conversation);
            }
            return Some(written(false));
        }
        let action = if word.is_file {
            Action::File(Attachment {
                content: content_of(&text).into(),
                file_type: "GIF".to_owned(),
                caption: text.clone(),
                preview: None,
            })
        } else {
            Action::say(&text)
        };
        let said = self.sandbox.act(&seat.conversation, action).ok()?;
        said.map(|_sequence| written(word.is_file))
    }

    /// Closes the conversation, or only its main dialog if a survey may follow.
    fn close(&self, seat: &Seat, for_survey: bool) {
        // The user may have closed it already.
        let _was_open = if for_survey && self.mix.has(Part::Surveys) {
            self.sandbox.close_main_dialog(&seat.conversation, "AGENT")
        } else {
            self.sandbox.close_conversation(&seat.conversation, "AGENT")
        };
    }
}
