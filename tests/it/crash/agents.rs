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

use super::actions::content_of;
use super::parts::{Mix, Part};

/// The user that an agent writes to, and the user's conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) user_id: String,
    pub(super) conversation: String,
}

/// The agent of one user.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) sandbox: Sandbox,
    pub(super) mix: Mix,
    pub(super) rng: StdRng,
    /// The average pause between two bursts of messages.
    pub(super) pace: Duration,
    /// The user's conversation, once it is known.
    pub(super) assignment: watch::Receiver<Option<Assignment>>,
}

/// A message that an agent or the bot wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) assignment: Assignment,
    pub(super) text: String,
    /// True for a file; its caption is the text.
    pub(super) is_file: bool,
}

/// The random choices for one message.
#[derive(Debug, Clone, Copy)]
struct MessagePlan {
    is_file: bool,
    ends_survey: bool,
}

impl Agent {
    /// Writes until the end, and returns the messages in order.
    pub(super) async fn answer_until(mut self, end: Instant) -> Vec<Written> {
        let mut all = Vec::new();
        while Instant::now() < end {
            sleep(self.pace.mul_f64(self.rng.random_range(0.0..2.0))).await;
            // All random choices are made here, so that they do not depend on the results.
            let count = self.rng.random_range(1..=3);
            let plans: Vec<_> = (0..count).map(|_| self.plan_message()).collect();
            let (closes, for_survey) = (self.rng.random_bool(0.02), self.rng.random_bool(0.5));
            let Some(assignment) = self.assignment.borrow().clone() else {
                continue;
            };
            for plan in plans {
                let number = all.len();
                all.extend(self.write(&assignment, number, plan));
            }
            if closes && self.mix.has(Part::Closes) {
                self.close(&assignment, for_survey);
            }
        }
        all
    }

    fn plan_message(&mut self) -> MessagePlan {
        MessagePlan {
            is_file: self.rng.random_bool(0.1) && self.mix.has(Part::Files),
            ends_survey: self.rng.random_bool(0.3),
        }
    }

    /// Writes one message. Returns `None` if the conversation is closed.
    fn write(&self, assignment: &Assignment, number: usize, plan: MessagePlan) -> Option<Written> {
        let text = format!("{}: the agent's {number}", assignment.user_id);
        let written = |is_file| Written {
            assignment: assignment.clone(),
            text: text.clone(),
            is_file,
        };
        let question =
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
        if let Some(_sequence) = self
            .sandbox
            .publish_in_survey(&assignment.conversation, question)
        {
            if plan.ends_survey {
                // The user may have closed the conversation meanwhile.
                let _was_open = self.sandbox.end_survey(&assignment.conversation);
            }
            return Some(written(false));
        }
        let action = if plan.is_file {
            Action::File(Attachment {
                content: content_of(&text).into(),
                file_type: "GIF".to_owned(),
                caption: text.clone(),
                preview: None,
            })
        } else {
            Action::text(&text)
        };
        let sequence = self.sandbox.act(&assignment.conversation, action).ok()?;
        sequence.map(|_| written(plan.is_file))
    }

    /// Closes the conversation, or only its main dialog if a survey may follow.
    fn close(&self, assignment: &Assignment, for_survey: bool) {
        // The user may have closed it already.
        let _was_open = if for_survey && self.mix.has(Part::Surveys) {
            self.sandbox
                .close_main_dialog(&assignment.conversation, "AGENT")
        } else {
            self.sandbox
                .close_conversation(&assignment.conversation, "AGENT")
        };
    }
}
