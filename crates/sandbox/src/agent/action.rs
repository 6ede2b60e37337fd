//! What someone of the brand can do, and what the Cloud lets them do.

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::conversations::Dialog;

/// Source: vendor's page "Quick Replies".
const CHOICES_LIMIT: usize = 24;

/// Characters, of the same source.
const TITLE_LIMIT: usize = 128;

/// Something that is done in a conversation.
///
/// As JSON: `{"type": "text", "text": "Hello"}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// An agent takes the conversation.
    Join {},
    /// A text.
    Text(Text),
    /// Structured content.
    Rich(Rich),
    /// A file, which can then be downloaded.
    File(Attachment),
    /// An invitation to fill in a form on a protected page.
    SecureForm {
        /// What the form is called.
        title: String,
        /// Which form it is.
        form_id: String,
    },
    /// Whether the agent is typing; the Cloud's agents end it with `ACTIVE`.
    Typing {
        /// The chat state.
        state: ChatState,
    },
    /// What the agent has got or read of what the consumer sent.
    Receipt {
        /// How far it came.
        status: AcceptStatus,
        /// The sequences of the messages; in a script, that of the one which is answered, unless given.
        #[serde(default)]
        sequences: Vec<usize>,
    },
    /// The agent leaves, and the conversation waits for one of this skill.
    Transfer {
        /// Skill id.
        skill: String,
    },
    /// An agent ends the conversation.
    Close {},
}

/// A text of someone of the brand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The text.
    pub text: String,
    /// What the consumer can choose from.
    #[serde(default)]
    pub quick_replies: Vec<Choice>,
    /// The `metadata` that its notification bears; none when empty.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
    /// Whether agents and managers alone are to read it.
    #[serde(default)]
    pub private: bool,
    /// Who says it.
    #[serde(default)]
    pub role: Speaker,
}

/// Structured content of the agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rich {
    /// The content in the Cloud's own form.
    pub content: Value,
    /// What the consumer can choose from.
    #[serde(default)]
    pub quick_replies: Vec<Choice>,
    /// The `metadata` that its notification bears; none when empty.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
}

/// A file of the agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Its bytes; in JSON, base64 of them.
    #[serde(deserialize_with = "read_base64")]
    pub content: Bytes,
    /// What it is, such as `PNG` or `PDF`.
    pub file_type: String,
    /// What is said about it.
    #[serde(default)]
    pub caption: String,
    /// A small image as a data URI.
    #[serde(default)]
    pub preview: Option<String>,
}

/// A button that answers for the consumer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What it shows.
    pub title: String,
    /// The text that it publishes; what it shows unless given.
    #[serde(default)]
    pub text: Option<String>,
    /// The `metadata` that a click is to bear.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The agent who has the conversation.
    #[default]
    Agent,
    /// A bot.
    Bot,
    /// A manager.
    Manager,
    /// The Cloud, with an automatic message.
    Controller,
}

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChatState {
    /// Typing.
    Composing,
    /// There, no longer typing.
    Active,
    /// No longer typing.
    Pause,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AcceptStatus {
    /// It was delivered.
    Accept,
    /// It was read.
    Read,
}

impl Action {
    /// The agent says this.
    #[must_use]
    pub fn say(text: impl Into<String>) -> Self {
        Self::Text(Text::new(text))
    }

    /// What is wrong with it, in the dialog in which it is to happen.
    pub(super) fn check(&self, dialog: &Dialog) -> Result<(), String> {
        self.check_form()?;
        let Self::Receipt { sequences, .. } = self else {
            return Ok(());
        };
        let next = dialog.next_sequence();
        match sequences.iter().find(|sequence| **sequence >= next) {
            Some(unknown) => Err(format!("sequences: {unknown} is not in the dialog yet")),
            None if sequences.is_empty() => {
                Err("sequences: empty, expected those of messages".to_owned())
            }
            None => Ok(()),
        }
    }

    /// What is wrong with it, in whatever dialog it happens.
    pub(super) fn check_form(&self) -> Result<(), String> {
        match self {
            Self::Join {} | Self::Typing { .. } | Self::Receipt { .. } | Self::Close {} => Ok(()),
            Self::Text(text) => {
                expect_text("text", &text.text)?;
                check_choices(&text.quick_replies)?;
                check_metadata("metadata", &text.metadata)
            }
            Self::Rich(rich) => {
                if !rich.content.get("type").is_some_and(Value::is_string) {
                    return Err("content: expected an object with a `type`".to_owned());
                }
                check_choices(&rich.quick_replies)?;
                check_metadata("metadata", &rich.metadata)
            }
            Self::File(attachment) => {
                let kind = &attachment.file_type;
                let named = (1..=8).contains(&kind.len());
                if !named || !kind.bytes().all(|b| b.is_ascii_alphanumeric()) {
                    return Err(format!("file_type: `{kind}`, expected one such as PNG"));
                }
                Ok(())
            }
            Self::SecureForm { title, form_id } => {
                expect_text("title", title)?;
                expect_text("form_id", form_id)
            }
            Self::Transfer { skill } => expect_text("skill", skill),
        }
    }
}

impl Text {
    /// A text of the agent, and nothing beside it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

impl Choice {
    /// A button that publishes what it shows.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            text: None,
            metadata: Vec::new(),
        }
    }

    fn to_wire(&self) -> Value {
        let text = self.text.as_ref().unwrap_or(&self.title);
        let mut click = json!({"actions": [{"type": "publishText", "text": text}]});
        if let (Some(metadata), Some(members)) =
            (metadata(self.metadata.clone()), click.as_object_mut())
        {
            members.insert("metadata".to_owned(), metadata);
        }
        json!({"type": "button", "title": self.title, "tooltip": self.title, "click": click})
    }
}

/// An event with the choices that come with it, if there are any. Source: vendor's page "Quick Replies".
pub(super) fn with_choices(mut event: Value, choices: &[Choice]) -> Value {
    if let (false, Some(members)) = (choices.is_empty(), event.as_object_mut()) {
        let replies: Vec<_> = choices.iter().map(Choice::to_wire).collect();
        let quick_replies = json!({"type": "quickReplies", "itemsPerRow": 8, "replies": replies});
        members.insert("quickReplies".to_owned(), quick_replies);
    }
    event
}

/// The `metadata` member; none when there is nothing in it.
pub(super) fn metadata(items: Vec<Map<String, Value>>) -> Option<Value> {
    (!items.is_empty()).then(|| items.into_iter().map(Value::Object).collect())
}

fn check_choices(choices: &[Choice]) -> Result<(), String> {
    if choices.len() > CHOICES_LIMIT {
        return Err(format!(
            "quick_replies: {}, expected at most {CHOICES_LIMIT}",
            choices.len()
        ));
    }
    choices.iter().try_for_each(|choice| {
        let length = choice.title.chars().count();
        if !(1..=TITLE_LIMIT).contains(&length) {
            return Err(format!(
                "quick_replies: a title of {length} characters, expected 1 to {TITLE_LIMIT}"
            ));
        }
        check_metadata("quick_replies: metadata", &choice.metadata)
    })
}

fn check_metadata(member: &str, items: &[Map<String, Value>]) -> Result<(), String> {
    let typed = |item: &Map<String, Value>| item.get("type").is_some_and(Value::is_string);
    if items.iter().all(typed) {
        Ok(())
    } else {
        Err(format!("{member}: expected objects with a `type`"))
    }
}

fn expect_text(member: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{member}: empty, expected a text"));
    }
    Ok(())
}

fn read_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    let content = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
    Ok(content.into())
}
