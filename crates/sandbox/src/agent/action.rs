//! The actions of the brand's side, and the limits that the Cloud sets on them.

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::conversations::Dialog;

/// The highest number of choices in a message. Source: vendor's page "Quick Replies".
const CHOICES_LIMIT: usize = 24;

/// The highest number of characters in the title of a choice. Source: the same page.
const TITLE_LIMIT: usize = 128;

/// An action of the brand's side in a conversation.
///
/// As JSON: `{"type": "text", "text": "Hello"}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// A join: an agent takes the conversation.
    Join {},
    /// A text.
    Text(Text),
    /// Structured content.
    Rich(Rich),
    /// A file, which can then be downloaded.
    File(Attachment),
    /// An invitation to fill in a form on a protected page.
    SecureForm {
        /// The title of the form.
        title: String,
        /// The id of the form.
        form_id: String,
    },
    /// A chat state of the agent, such as typing. The Cloud's agents end typing with `ACTIVE`.
    Typing {
        /// The chat state.
        state: ChatState,
    },
    /// A receipt of the agent for messages of the consumer.
    Receipt {
        /// The status of the messages.
        status: AcceptStatus,
        /// The sequences of the messages. A script may leave them out; the receipt is then for the
        /// message that is being answered.
        #[serde(default)]
        sequences: Vec<usize>,
    },
    /// A transfer: the agent leaves, and the conversation waits for an agent of this skill.
    Transfer {
        /// The skill id.
        skill: String,
    },
    /// A close: an agent ends the conversation.
    Close {},
}

/// A text of the brand's side.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The text.
    pub text: String,
    /// The choices offered to the consumer.
    #[serde(default)]
    pub quick_replies: Vec<Choice>,
    /// The `metadata` of the notification; left out if empty.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
    /// True if only agents and managers may read it.
    #[serde(default)]
    pub private: bool,
    /// The role of the sender.
    #[serde(default)]
    pub role: SenderRole,
}

/// Structured content of the agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rich {
    /// The content in the Cloud's own format.
    pub content: Value,
    /// The choices offered to the consumer.
    #[serde(default)]
    pub quick_replies: Vec<Choice>,
    /// The `metadata` of the notification; left out if empty.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
}

/// A file of the agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The bytes; in JSON, their base64.
    #[serde(deserialize_with = "read_base64")]
    pub content: Bytes,
    /// The file type, such as `PNG` or `PDF`.
    pub file_type: String,
    /// The caption.
    #[serde(default)]
    pub caption: String,
    /// A small preview image as a data URI.
    #[serde(default)]
    pub preview: Option<String>,
}

/// A quick reply: a button that answers for the consumer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The label of the button.
    pub title: String,
    /// The text that a click publishes; the title by default.
    #[serde(default)]
    pub text: Option<String>,
    /// The `metadata` of the message that a click publishes.
    #[serde(default)]
    pub metadata: Vec<Map<String, Value>>,
}

/// The role of a sender of the brand's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderRole {
    /// The assigned agent.
    #[default]
    Agent,
    /// A bot.
    Bot,
    /// A manager.
    Manager,
    /// The Cloud, with an automatic message.
    Controller,
}

/// A chat state of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChatState {
    /// Typing.
    Composing,
    /// Present, but no longer typing.
    Active,
    /// No longer typing.
    Pause,
}

/// The status in a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AcceptStatus {
    /// Delivered.
    Accept,
    /// Read.
    Read,
}

impl Action {
    /// Creates a text of the agent.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text::new(text))
    }

    /// Checks the action against the dialog in which it is to happen. The error describes the
    /// mistake.
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

    /// Checks the form of the action, which must be right in any dialog. The error describes the
    /// mistake.
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
    /// Creates a text of the agent with nothing else in the message.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

impl Choice {
    /// Creates a button that publishes its title.
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

/// Adds choices to an event, if there are any. Source: vendor's page "Quick Replies".
pub(super) fn with_choices(mut event: Value, choices: &[Choice]) -> Value {
    if let (false, Some(members)) = (choices.is_empty(), event.as_object_mut()) {
        let replies: Vec<_> = choices.iter().map(Choice::to_wire).collect();
        let quick_replies = json!({"type": "quickReplies", "itemsPerRow": 8, "replies": replies});
        members.insert("quickReplies".to_owned(), quick_replies);
    }
    event
}

/// Returns the `metadata` member; `None` if there are no items.
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
