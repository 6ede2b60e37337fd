//! An agent that answers by script, so that a demo has someone to talk to.
//!
//! Messages of consumers are queued when the lock on the state is released. A task per conversation
//! answers them, so that answers come in the order of the messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::script_choice::BUILT_IN;
use super::{AcceptStatus, Action, ActionError, Attachment, ChatState, Choice, Rich, Text};
use crate::Sandbox;
use crate::conversations::{Conversation, Dialog, Event};
use crate::participant::Role;

/// A picture to send, 64 by 64 pixels.
const PICTURE: &[u8] = include_bytes!("picture.png");

/// The script by which the agent answers.
#[derive(Debug, Clone)]
pub struct Script {
    /// The pause between steps; zero in tests.
    pub pace: Duration,
    /// The test's own script; `None` for the built-in one.
    custom: Option<CustomScript>,
}

/// A script that a test wrote.
#[derive(Debug, Clone)]
struct CustomScript {
    rules: Vec<Rule>,
    /// The rules as the test wrote them.
    text: Value,
}

/// A rule: the actions that answer a matching message of the consumer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The text that the message must contain, in any letter case. `*` matches every message, files
    /// included.
    when: String,
    /// The actions, in order.
    then: Vec<Action>,
}

impl Default for Script {
    /// Returns the built-in script at 600 ms a step: an answer comes within 2 s, and each step can
    /// be seen.
    fn default() -> Self {
        Self::at_pace(Duration::from_millis(600))
    }
}

impl Script {
    /// Returns the built-in script at this pace.
    #[must_use]
    pub fn at_pace(pace: Duration) -> Self {
        Self { pace, custom: None }
    }

    /// Reads a script that a test wrote. The error describes the mistake.
    pub(super) fn read(text: Value, pace: Duration) -> Result<Self, String> {
        let rules: Vec<Rule> = serde_path_to_error::deserialize(&text)
            .map_err(|error| format!("script{}: {}", error.path(), error.inner()))?;
        for (index, rule) in rules.iter().enumerate() {
            if rule.when.is_empty() {
                return Err(format!("script[{index}].when: empty, expected a text or *"));
            }
            for (step, action) in rule.then.iter().enumerate() {
                let complain = |complaint| format!("script[{index}].then[{step}]: {complaint}");
                action.check_form().map_err(complain)?;
            }
        }
        let custom = Some(CustomScript { rules, text });
        Ok(Self { pace, custom })
    }

    /// Returns the script as it was written, and its pace in milliseconds.
    pub(super) fn describe(&self) -> Value {
        let pace_ms = u64::try_from(self.pace.as_millis()).unwrap_or(u64::MAX);
        match &self.custom {
            Some(custom) => json!({"script": custom.text, "pace_ms": pace_ms}),
            None => json!({"script": BUILT_IN, "pace_ms": pace_ms}),
        }
    }
}

/// A consumer's message, reduced to what the agent needs.
#[derive(Debug)]
struct UserMessage {
    /// The script that answers it.
    script: Arc<Script>,
    sequence: usize,
    /// The text; `None` for a file.
    text: Option<String>,
}

/// The queues of messages that are not answered yet, by conversation. Each conversation in the map
/// has a task that answers.
#[derive(Debug, Default)]
pub(crate) struct AnswerQueues(HashMap<String, VecDeque<UserMessage>>);

/// Queues an event for an answer if it is a message of the consumer.
pub(crate) fn queue_for_answer(
    sandbox: &Sandbox,
    script: &Arc<Script>,
    queues: &mut AnswerQueues,
    conversation: &Conversation,
    (dialog, event): (&Dialog, &Event),
) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    // Surveys are left to the survey bot.
    if dialog.id != conversation.id || event.originator.role != Role::Consumer {
        return;
    }
    let is_content = event.event.get("type").and_then(Value::as_str) == Some("ContentEvent");
    let Some(sequence) = event.sequence.filter(|_| is_content) else {
        return;
    };
    let text = event.event.get("message").and_then(Value::as_str);
    let message = UserMessage {
        script: Arc::clone(script),
        sequence,
        text: text.map(ToOwned::to_owned),
    };
    let id = conversation.id.clone();
    if let Some(waiting) = queues.0.get_mut(&id) {
        waiting.push_back(message);
    } else {
        queues.0.insert(id.clone(), VecDeque::from([message]));
        runtime.spawn(answer(sandbox.clone(), id));
    }
}

impl AnswerQueues {
    /// Takes the next message to answer. On `None` the queue has been removed, and the calling task
    /// must end.
    fn next(&mut self, conversation: &str) -> Option<UserMessage> {
        let next = self.0.get_mut(conversation)?.pop_front();
        if next.is_none() {
            self.0.remove(conversation);
        }
        next
    }
}

/// The reason that an answer was abandoned.
#[derive(Debug, thiserror::Error)]
enum AnswerAborted {
    /// The consumer closed the conversation meanwhile, or the script contains an impossible action.
    #[error(transparent)]
    ActionError(#[from] ActionError),
    /// Another script was set meanwhile, or the script was turned off.
    #[error("another script was chosen")]
    Replaced,
}

/// Answers the messages of a conversation until its queue is empty.
async fn answer(sandbox: Sandbox, conversation: String) {
    loop {
        let next = sandbox.state().answer_queues.next(&conversation);
        let Some(message) = next else {
            return;
        };
        let run = ScriptRun {
            sandbox: &sandbox,
            conversation: &conversation,
            message: &message,
        };
        if let Err(aborted) = run.play().await {
            tracing::debug!(conversation, reason = %aborted, "the scripted agent stops answering");
        }
    }
}

/// An answer in progress.
struct ScriptRun<'a> {
    sandbox: &'a Sandbox,
    conversation: &'a str,
    message: &'a UserMessage,
}

impl ScriptRun<'_> {
    async fn play(&self) -> Result<(), AnswerAborted> {
        match &self.message.script.custom {
            Some(custom) => self.play_custom(custom).await,
            None => self.play_built_in().await,
        }
    }

    async fn play_custom(&self, custom: &CustomScript) -> Result<(), AnswerAborted> {
        let matches_message = |rule: &&Rule| rule.when == "*" || self.message.mentions(&rule.when);
        let Some(rule) = custom.rules.iter().find(matches_message) else {
            return Ok(());
        };
        for action in &rule.then {
            let mut action = action.clone();
            if let Action::Receipt { sequences, .. } = &mut action
                && sequences.is_empty()
            {
                sequences.push(self.message.sequence);
            }
            self.pause().await;
            self.act(action)?;
        }
        Ok(())
    }

    async fn play_built_in(&self) -> Result<(), AnswerAborted> {
        for status in [AcceptStatus::Accept, AcceptStatus::Read] {
            self.act(Action::Receipt {
                status,
                sequences: vec![self.message.sequence],
            })?;
            self.pause().await;
        }
        self.act(Action::Typing {
            state: ChatState::Composing,
        })?;
        self.pause().await;
        let ends = self.message.mentions("bye");
        let replied = self.act(self.message.reply());
        // Sent also after the script was replaced, since the agent no longer types.
        let typing = Action::Typing {
            state: ChatState::Active,
        };
        self.sandbox.act(self.conversation, typing)?;
        replied?;
        if ends {
            self.pause().await;
            self.act(Action::Close {})?;
        }
        Ok(())
    }

    fn act(&self, action: Action) -> Result<(), AnswerAborted> {
        let current = self.sandbox.state().script.clone();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, &self.message.script)) {
            return Err(AnswerAborted::Replaced);
        }
        self.sandbox.act(self.conversation, action)?;
        Ok(())
    }

    async fn pause(&self) {
        let pace = self.message.script.pace;
        if pace > Duration::ZERO {
            sleep(pace).await;
        }
    }
}

impl UserMessage {
    fn mentions(&self, keyword: &str) -> bool {
        let text = self.text.as_deref().unwrap_or_default();
        text.to_lowercase().contains(&keyword.to_lowercase())
    }

    fn reply(&self) -> Action {
        let Some(text) = &self.text else {
            return Action::text("Thank you for the file.");
        };
        if self.mentions("bye") {
            Action::text("Goodbye!")
        } else if self.mentions("menu") {
            Action::Text(Text {
                quick_replies: ["Coffee", "Tea", "Water"].map(Choice::new).into(),
                ..Text::new("What would you like?")
            })
        } else if self.mentions("card") {
            Action::Rich(card())
        } else if self.mentions("picture") {
            Action::File(Attachment {
                content: Bytes::from_static(PICTURE),
                file_type: "PNG".to_owned(),
                caption: "A picture".to_owned(),
                preview: None,
            })
        } else {
            Action::text(format!("You said: {text}"))
        }
    }
}

/// Returns a card with a picture, two texts and two buttons.
fn card() -> Rich {
    let link = json!({"type": "link", "uri": "https://example.com/coffee"});
    let order = json!({"type": "publishText", "text": "I would like to order coffee"});
    let content = json!({"type": "vertical", "elements": [
        {"type": "image", "url": "https://example.com/coffee.jpg", "tooltip": "A cup of coffee"},
        {"type": "text", "text": "Coffee", "tag": "title"},
        {"type": "text", "text": "Freshly brewed", "tag": "subtitle"},
        {"type": "button", "title": "Order", "click": {"actions": [order]}},
        {"type": "button", "title": "Read more", "click": {"actions": [link]}},
    ]});
    Rich {
        content,
        quick_replies: Vec::new(),
        metadata: Vec::new(),
    }
}
