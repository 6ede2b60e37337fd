//! An agent who answers by script, so that a demo has someone to talk to.
//!
//! What a consumer says is heard when the state is released, and answered by a task of its own, one a conversation, so
//! that two texts are answered in their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::casting::BUILT_IN;
use super::{AcceptStatus, Action, Attachment, ChatState, Choice, Refused, Rich, Text};
use crate::Sandbox;
use crate::conversations::{Conversation, Dialog, Event};
use crate::participant::Role;

/// A picture to send: 64 by 64 dots.
const PICTURE: &[u8] = include_bytes!("picture.png");

/// How the agent answers.
#[derive(Debug, Clone)]
pub struct Script {
    /// How long each step takes; nothing for tests.
    pub pace: Duration,
    /// What a test wrote; without, the agent's own words.
    own: Option<Own>,
}

/// A script that a test wrote.
#[derive(Debug, Clone)]
struct Own {
    lines: Vec<Line>,
    /// The same, as it was written.
    text: Value,
}

/// What is done when a consumer says something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// What the consumer's text is to hold, in whatever case; `*` for anything, files included.
    when: String,
    /// What is done then, one after the other.
    then: Vec<Action>,
}

impl Default for Script {
    /// 600 ms a step: an answer comes within 2 s, and each step can be seen.
    fn default() -> Self {
        Self::at_pace(Duration::from_millis(600))
    }
}

impl Script {
    /// The agent's own words, at this pace.
    #[must_use]
    pub fn at_pace(pace: Duration) -> Self {
        Self { pace, own: None }
    }

    /// A script that a test wrote; the error says what is wrong with it.
    pub(super) fn read(text: Value, pace: Duration) -> Result<Self, String> {
        let lines: Vec<Line> = serde_path_to_error::deserialize(&text)
            .map_err(|error| format!("script{}: {}", error.path(), error.inner()))?;
        for (place, line) in lines.iter().enumerate() {
            if line.when.is_empty() {
                return Err(format!("script[{place}].when: empty, expected a text or *"));
            }
            for (step, action) in line.then.iter().enumerate() {
                let complain = |complaint| format!("script[{place}].then[{step}]: {complaint}");
                action.check_form().map_err(complain)?;
            }
        }
        let own = Some(Own { lines, text });
        Ok(Self { pace, own })
    }

    /// As it was written, and its pace in milliseconds.
    pub(super) fn describe(&self) -> Value {
        let pace_ms = u64::try_from(self.pace.as_millis()).unwrap_or(u64::MAX);
        match &self.own {
            Some(own) => json!({"script": own.text, "pace_ms": pace_ms}),
            None => json!({"script": BUILT_IN, "pace_ms": pace_ms}),
        }
    }
}

/// What a consumer sent, as far as the agent cares.
#[derive(Debug)]
struct Heard {
    /// By which script it is to be answered.
    script: Arc<Script>,
    sequence: usize,
    /// None for a file.
    text: Option<String>,
}

/// What is still to be answered, by conversation; one that is named has a task that answers.
#[derive(Debug, Default)]
pub(crate) struct Hearing(HashMap<String, VecDeque<Heard>>);

/// Takes note of what was published, and has it answered if a consumer said it.
pub(crate) fn listen(
    sandbox: &Sandbox,
    script: &Arc<Script>,
    hearing: &mut Hearing,
    conversation: &Conversation,
    (dialog, event): (&Dialog, &Event),
) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    // A survey is the survey bot's affair.
    if dialog.id != conversation.id || event.originator.role != Role::Consumer {
        return;
    }
    let content = event.event.get("type").and_then(Value::as_str) == Some("ContentEvent");
    let Some(sequence) = event.sequence.filter(|_| content) else {
        return;
    };
    let text = event.event.get("message").and_then(Value::as_str);
    let heard = Heard {
        script: Arc::clone(script),
        sequence,
        text: text.map(ToOwned::to_owned),
    };
    let id = conversation.id.clone();
    if let Some(waiting) = hearing.0.get_mut(&id) {
        waiting.push_back(heard);
    } else {
        hearing.0.insert(id.clone(), VecDeque::from([heard]));
        runtime.spawn(answer(sandbox.clone(), id));
    }
}

impl Hearing {
    /// The next to be answered; without one, the task that asks must end.
    fn next(&mut self, conversation: &str) -> Option<Heard> {
        let next = self.0.get_mut(conversation)?.pop_front();
        if next.is_none() {
            self.0.remove(conversation);
        }
        next
    }
}

/// Why an answer was not brought to its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The consumer closed the conversation meanwhile, or the script asks for what cannot be done.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another script was chosen meanwhile, or none.
    #[error("another script was chosen")]
    Replaced,
}

/// Answers what was heard in a conversation until there is no more.
async fn answer(sandbox: Sandbox, conversation: String) {
    loop {
        let next = sandbox.state().hearing.next(&conversation);
        let Some(heard) = next else {
            return;
        };
        let playing = Playing {
            sandbox: &sandbox,
            conversation: &conversation,
            heard: &heard,
        };
        if let Err(stopped) = playing.play().await {
            tracing::debug!(conversation, reason = %stopped, "the scripted agent stops answering");
        }
    }
}

/// An answer that is being played.
struct Playing<'a> {
    sandbox: &'a Sandbox,
    conversation: &'a str,
    heard: &'a Heard,
}

impl Playing<'_> {
    async fn play(&self) -> Result<(), Stopped> {
        match &self.heard.script.own {
            Some(own) => self.play_own(own).await,
            None => self.play_built_in().await,
        }
    }

    async fn play_own(&self, own: &Own) -> Result<(), Stopped> {
        let fits = |line: &&Line| line.when == "*" || self.heard.mentions(&line.when);
        let Some(line) = own.lines.iter().find(fits) else {
            return Ok(());
        };
        for action in &line.then {
            let mut action = action.clone();
            if let Action::Receipt { sequences, .. } = &mut action
                && sequences.is_empty()
            {
                sequences.push(self.heard.sequence);
            }
            self.pause().await;
            self.act(action)?;
        }
        Ok(())
    }

    async fn play_built_in(&self) -> Result<(), Stopped> {
        for status in [AcceptStatus::Accept, AcceptStatus::Read] {
            self.act(Action::Receipt {
                status,
                sequences: vec![self.heard.sequence],
            })?;
            self.pause().await;
        }
        self.act(Action::Typing {
            state: ChatState::Composing,
        })?;
        self.pause().await;
        let ends = self.heard.mentions("bye");
        let said = self.act(self.heard.reply());
        // Also where the script was replaced: nobody types any more.
        let typing = Action::Typing {
            state: ChatState::Active,
        };
        self.sandbox.act(self.conversation, typing)?;
        said?;
        if ends {
            self.pause().await;
            self.act(Action::Close {})?;
        }
        Ok(())
    }

    fn act(&self, action: Action) -> Result<(), Stopped> {
        let present = self.sandbox.state().script.clone();
        if !present.is_some_and(|present| Arc::ptr_eq(&present, &self.heard.script)) {
            return Err(Stopped::Replaced);
        }
        self.sandbox.act(self.conversation, action)?;
        Ok(())
    }

    async fn pause(&self) {
        let pace = self.heard.script.pace;
        if pace > Duration::ZERO {
            sleep(pace).await;
        }
    }
}

impl Heard {
    fn mentions(&self, word: &str) -> bool {
        let text = self.text.as_deref().unwrap_or_default();
        text.to_lowercase().contains(&word.to_lowercase())
    }

    fn reply(&self) -> Action {
        let Some(text) = &self.text else {
            return Action::say("Thank you for the file.");
        };
        if self.mentions("bye") {
            Action::say("Goodbye!")
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
            Action::say(format!("You said: {text}"))
        }
    }
}

/// A card with a picture, a text and two buttons.
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
