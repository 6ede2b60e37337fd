//! An agent who answers by script, so that a demo has someone to talk to.
//!
//! What a consumer says is heard when the state is released, and answered by a task of its own, one a conversation, so
//! that two texts are answered in their order.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{AcceptStatus, Action, Attachment, ChatState, Choice, Refused, Rich, Text};
use crate::sandbox::Sandbox;
use crate::sandbox::conversations::{Conversation, Dialog, Event};
use crate::sandbox::participant::Role;

/// A picture to send: 64 by 64 dots.
const PICTURE: &[u8] = include_bytes!("picture.png");

/// How the agent answers.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// How long the agent takes to read, and again to type; nothing for tests.
    pub pace: Duration,
}

impl Default for Script {
    /// 600 ms a step: an answer comes within 2 s, and each step can be seen.
    fn default() -> Self {
        Self {
            pace: Duration::from_millis(600),
        }
    }
}

/// What a consumer sent, as far as the agent cares.
#[derive(Debug)]
struct Heard {
    sequence: usize,
    /// None for a file.
    text: Option<String>,
}

/// What is still to be answered, by conversation; one that is named has a task that answers.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Hearing(HashMap<String, VecDeque<Heard>>);

/// Takes note of what was published, and has it answered if a consumer said it.
pub(in crate::sandbox) fn listen(
    sandbox: &Sandbox,
    hearing: &mut Hearing,
    conversation: &Conversation,
    (dialog, event): (&Dialog, &Event),
) {
    let (Some(script), Ok(runtime)) = (sandbox.0.options.agent, Handle::try_current()) else {
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
        sequence,
        text: text.map(ToOwned::to_owned),
    };
    let id = conversation.id.clone();
    if let Some(waiting) = hearing.0.get_mut(&id) {
        waiting.push_back(heard);
    } else {
        hearing.0.insert(id.clone(), VecDeque::from([heard]));
        runtime.spawn(answer(sandbox.clone(), script, id));
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

/// Answers what was heard in a conversation until there is no more.
async fn answer(sandbox: Sandbox, script: Script, conversation: String) {
    loop {
        let next = sandbox.state().hearing.next(&conversation);
        let Some(heard) = next else {
            return;
        };
        if let Err(refused) = reply(&sandbox, script, &conversation, heard).await {
            // The consumer closed the conversation meanwhile.
            tracing::debug!(conversation, reason = %refused, "the scripted agent stops answering");
        }
    }
}

async fn reply(
    sandbox: &Sandbox,
    script: Script,
    conversation: &str,
    heard: Heard,
) -> Result<(), Refused> {
    let act = |action| sandbox.act(conversation, action).map(drop);
    for status in [AcceptStatus::Accept, AcceptStatus::Read] {
        act(Action::Receipt {
            status,
            sequences: vec![heard.sequence],
        })?;
        sleep(script.pace).await;
    }
    act(Action::Typing {
        state: ChatState::Composing,
    })?;
    sleep(script.pace).await;
    let ends = heard.mentions("bye");
    act(heard.reply())?;
    act(Action::Typing {
        state: ChatState::Active,
    })?;
    if ends {
        sleep(script.pace).await;
        act(Action::Close {})?;
    }
    Ok(())
}

impl Heard {
    fn mentions(&self, word: &str) -> bool {
        let text = self.text.as_deref().unwrap_or_default();
        text.to_lowercase().contains(word)
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
