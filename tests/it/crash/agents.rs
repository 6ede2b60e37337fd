//! Agents who write numbered texts and files to one user each, some of them in one breath, and close conversations; and the bot
//! that asks in the surveys after them.

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

/// Where a user is.
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
    /// How long it waits between two breaths, on average.
    pub(super) pace: Duration,
    /// Where the user is, once that is known.
    pub(super) seat: watch::Receiver<Option<Seat>>,
}

/// What somebody of the brand wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) seat: Seat,
    pub(super) text: String,
    /// True for a file, of which the text is the caption.
    pub(super) is_file: bool,
}

/// What chance says of one thing that is said.
#[derive(Debug, Clone, Copy)]
struct Word {
    is_file: bool,
    ends_survey: bool,
}

impl Agent {
    /// Writes until the end; what it has written, in order.
    pub(super) async fn answer_until(mut self, end: Instant) -> Vec<Written> {
        let mut all = Vec::new();
        while Instant::now() < end {
            sleep(self.pace.mul_f64(self.chance.random_range(0.0..2.0))).await;
            // All that chance has a say in, whatever becomes of it.
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

    /// Says one thing; nothing where the conversation is over.
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
                // A user may have closed everything in between.
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

    /// Closes the conversation, also so that a survey can follow.
    fn close(&self, seat: &Seat, for_survey: bool) {
        // The user may have been faster.
        let _was_open = if for_survey && self.mix.has(Part::Surveys) {
            self.sandbox.close_main_dialog(&seat.conversation, "AGENT")
        } else {
            self.sandbox.close_conversation(&seat.conversation, "AGENT")
        };
    }
}
