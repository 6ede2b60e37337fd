//! Changes within a dialog: messages, receipts, and chat states.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::privacy::{is_marked, is_summary};
use crate::types::file::FileType;
use crate::types::ids::{ConversationId, DialogId};
use crate::types::message::{Metadata, Sequence};
use crate::webhooks::members::{Members, is_graphic};

/// A change within a dialog.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// The conversation; `None` in the oldest form, which names only the dialog.
    pub conversation_id: Option<ConversationId>,
    /// The dialog.
    pub dialog_id: Option<DialogId>,
    /// The number within the dialog. Chat states have none.
    pub sequence: Option<Sequence>,
    /// The sender.
    pub originator: Originator,
    /// The time by the Cloud's clock. Chat states have none.
    pub sent_at: Option<DateTime<Utc>>,
    /// The group that may see it.
    pub audience: Audience,
    /// The metadata.
    pub metadata: Option<Metadata>,
    /// The event.
    pub event: Event,
}

/// The sender of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Originator {
    /// The Cloud's id of the sender.
    pub id: Option<String>,
    /// The Cloud's name of the role.
    pub role: Option<String>,
}

/// The group that may see a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everyone in the conversation: `ALL`, or no mark at all, as in the oldest form.
    Everyone,
    /// Agents and managers only: a mark around the content has a value other than `ALL`, or it is a
    /// summary for agents.
    Private,
}

/// The event in a change.
#[derive(Clone, PartialEq)]
pub enum Event {
    /// A message was written.
    Written(Written),
    /// Messages have a new status.
    Receipt {
        /// The Cloud's name of the status.
        status: String,
        /// The messages of the dialog.
        sequences: Vec<Sequence>,
    },
    /// A participant has this chat state, by the Cloud's name.
    ChatState(String),
    /// An event that the bridge does not know, without any content that can be read.
    Unknown,
}

/// The content of a message with its quick replies.
#[derive(Clone, PartialEq)]
pub struct Written {
    /// The content.
    pub content: MessageContent,
    /// The Cloud's `quickReplies`, which can accompany any content.
    pub quick_replies: Option<Value>,
}

/// The content of a message.
#[derive(Clone, PartialEq)]
pub enum MessageContent {
    /// A text, exactly as the Cloud sent it.
    Text(String),
    /// Structured content: an object or a list of objects.
    Rich(Value),
    /// A file.
    File(File),
    /// An invitation to fill in a secure form.
    SecureForm(Value),
    /// A completed secure form.
    SecureSubmission(Value),
    /// Another kind of content.
    Other {
        /// The Cloud's name of the kind.
        kind: String,
        /// The content, if there is any.
        message: Option<Value>,
    },
}

/// A file in a message.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// The path of the file.
    pub relative_path: String,
    /// The Cloud's name of the file type.
    pub file_type: FileType,
    /// The sender's caption.
    pub caption: Option<String>,
    /// A small preview image as a data URI.
    pub preview: Option<String>,
}

impl Message {
    pub(super) fn read(change: Members<'_>) -> Result<Self, &'static str> {
        let event = change.object("event").ok_or("the change has no event")?;
        let message = Self {
            conversation_id: id(change, "conversationId"),
            dialog_id: id(change, "dialogId"),
            sequence: change.integer("sequence").and_then(|n| n.try_into().ok()),
            originator: Originator::read(change),
            sent_at: change.time("serverTimestamp"),
            audience: Audience::read(change, event),
            metadata: change.metadata("metadata"),
            event: Event::read(event),
        };
        if message.dialog().is_none() {
            return Err("the change has no dialog");
        }
        Ok(message)
    }

    /// Returns the dialog's id. If the change names only the conversation, this is the main dialog,
    /// which has the conversation's id.
    #[must_use]
    pub fn dialog(&self) -> Option<&str> {
        let dialog = self.dialog_id.as_ref().map(DialogId::as_str);
        dialog.or(self.conversation_id.as_ref().map(ConversationId::as_str))
    }
}

impl fmt::Debug for Message {
    /// Omits the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("event", &self.event.name())
            .field("dialog", &self.dialog())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Reads a member as an id of the type `T`.
pub(super) fn id<T: TryFrom<String>>(object: Members<'_>, name: &str) -> Option<T> {
    T::try_from(object.id(name)?).ok()
}

impl Originator {
    fn read(change: Members<'_>) -> Self {
        let metadata = change.object("originatorMetadata");
        let in_metadata = || metadata.and_then(|metadata| metadata.id("id"));
        Self {
            // Some notifications to the agents' side have `originatorPId`.
            id: change
                .id("originatorId")
                .or_else(|| change.id("originatorPId"))
                .or_else(in_metadata),
            role: metadata
                .and_then(|metadata| metadata.enum_value("role"))
                .map(str::to_owned),
        }
    }
}

impl Audience {
    fn read(change: Members<'_>, event: Members<'_>) -> Self {
        if is_marked(change) || is_summary(change) || is_summary(event) {
            Self::Private
        } else {
            Self::Everyone
        }
    }
}

impl Event {
    fn read(event: Members<'_>) -> Self {
        let lower = |name: &str| name.to_ascii_lowercase();
        match event.enum_value("type").unwrap_or("unknown") {
            "AcceptStatusEvent" => match event.enum_value("status") {
                Some(status) => Self::Receipt {
                    status: lower(status),
                    sequences: sequences(event.list("sequenceList")),
                },
                None => Self::Unknown,
            },
            // Without a state it is still a chat state: it has no sequence and is never a
            // duplicate.
            "ChatStateEvent" => {
                Self::ChatState(lower(event.enum_value("chatState").unwrap_or_default()))
            }
            kind => Written::read(kind, event).map_or(Self::Unknown, Self::Written),
        }
    }

    /// Returns the name of the event, for a log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Written(_) => "written",
            Self::Receipt { .. } => "receipt",
            Self::ChatState(_) => "chat state",
            Self::Unknown => "unknown event",
        }
    }
}

/// Reads the sequences of messages, including those that are written as text.
fn sequences(list: &[Value]) -> Vec<Sequence> {
    list.iter()
        .filter_map(|item| match item {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64(),
        })
        .filter_map(|number| Sequence::try_from(number).ok())
        .collect()
}

impl Written {
    /// Reads the content; `None` if there is none. The members matter more than the event's type,
    /// so that a reply of a new kind is not lost.
    fn read(kind: &str, event: Members<'_>) -> Option<Self> {
        let content_type = event.enum_value("contentType");
        let message = event.value("message");
        let rich = || structured(event.value("content"));
        let quick_replies = event.value("quickReplies").filter(|it| it.is_object());

        let other = |content: Option<&Value>| MessageContent::Other {
            kind: content_type.unwrap_or(kind).to_owned(),
            message: content.cloned(),
        };
        let content = match (content_type.unwrap_or_default(), kind) {
            ("hosted/file", _) => match structured(message).as_ref().and_then(File::read) {
                Some(file) => MessageContent::File(file),
                None => other(structured(message).as_ref()),
            },
            ("forms/secure-invitation", _) => {
                MessageContent::SecureForm(structured(message).unwrap_or_default())
            }
            ("forms/secure-submission", _) => {
                MessageContent::SecureSubmission(structured(message).unwrap_or_default())
            }
            (_, "RichContentEvent") => match rich().or_else(|| structured(message)) {
                Some(content) => MessageContent::Rich(content),
                None => text(message).map_or_else(|| other(None), MessageContent::Text),
            },
            ("" | "text/plain", _) => match (text(message), rich()) {
                (Some(text), _) => MessageContent::Text(text),
                (None, Some(content)) => MessageContent::Rich(content),
                // Only quick replies.
                (None, None) if message.is_none() && quick_replies.is_some() => {
                    MessageContent::Text(String::new())
                }
                (None, None) => other(message),
            },
            _ => match structured(message) {
                Some(object) => other(Some(&object)),
                None => match (text(message), rich()) {
                    (Some(text), _) => MessageContent::Text(text),
                    (None, Some(content)) => MessageContent::Rich(content),
                    (None, None) => other(None),
                },
            },
        };
        let has_content = message.is_some()
            || quick_replies.is_some()
            || matches!(kind, "ContentEvent" | "RichContentEvent")
            || matches!(content, MessageContent::Rich(_));
        has_content.then(|| Self {
            content,
            quick_replies: quick_replies.cloned(),
        })
    }
}

/// Returns an object or a list, even if it is JSON within a text, as in the vendor's history.
fn structured(value: Option<&Value>) -> Option<Value> {
    let is_structured = |value: &Value| value.is_object() || value.is_array();
    match value? {
        Value::String(json) => super::json(json).ok().filter(is_structured),
        value => Some(value).filter(|value| is_structured(value)).cloned(),
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

impl File {
    /// Reads a file; `None` if its location is missing or invalid.
    fn read(message: &Value) -> Option<Self> {
        let message = Members::of(message)?;
        let owned = |name| message.text(name).map(str::to_owned);
        let relative_path = message
            .text("relativePath")
            .filter(|path| is_path(path))?
            .to_owned();
        let file_type = message
            .enum_value("fileType")
            .or_else(|| extension(&relative_path))
            .unwrap_or("UNKNOWN");
        Some(Self {
            file_type: file_type.to_owned().into(),
            relative_path,
            caption: owned("caption"),
            preview: owned("preview"),
        })
    }
}

/// True if a path can be stored and used for a download later.
fn is_path(path: &str) -> bool {
    path.len() <= 1024 && !path.chars().any(char::is_control)
}

fn extension(path: &str) -> Option<&str> {
    let (_, extension) = path.rsplit_once('.')?;
    let is_extension =
        is_graphic(extension, 8) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_extension.then_some(extension)
}
