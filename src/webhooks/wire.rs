//! The wire format of the Cloud's notifications: bodies are parsed into changes, in all known
//! forms.
//!
//! A body that is not JSON, or has no list of changes, is an error. A change that cannot be
//! understood becomes [`Content::Unknown`] and does not affect the others. Each change carries its
//! own JSON, so that it can be stored and parsed again later.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::members::Members;
use crate::types::file::FileType;
use crate::types::ids::{AccountId, ConversationId, DialogId, Invalid};
use crate::types::surrogates;

pub mod conversation;
pub mod message;
mod privacy;

use conversation::Conversation;
use message::{Audience, Event, Message, MessageContent};
use privacy::{AGENTS_AND_MANAGERS, MESSAGE_AUDIENCE, is_marked};

/// The reason why a body is not a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON, or is nested too deeply.
    #[error("expected JSON of at most 127 levels, at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It is JSON without a list of changes.
    #[error("expected a JSON object with a list body.changes")]
    NoChanges,
}

/// 10,000: the limit of changes that are read from one body.
///
/// A body of the maximum size has fewer changes of the Cloud's usual form. Only a body with some
/// hundred thousand empty changes has more. The limit bounds their memory.
const MAX_CHANGES: usize = 10_000;

/// The byte order mark of UTF-8. JSON must not begin with it, but a parser may skip it. Source: RFC
/// 8259, 8.1.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The content of one request from the Cloud: any number of changes, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The changes.
    pub changes: Vec<Change>,
    /// The number of changes beyond the limit, which are not read.
    pub surplus: usize,
    /// The time at which the Cloud sent it; rarely present. Source: a capture of 2022 has
    /// `body.sentTs`.
    pub sent_at: Option<DateTime<Utc>>,
}

impl Notification {
    /// Parses a body. The caller must have checked its signature.
    ///
    /// ```
    /// use liveperson_bridge::webhooks::wire::Notification;
    ///
    /// let body = br#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[
    ///     {"dialogId":"D1","sequence":2,"event":{"type":"ContentEvent","contentType":"text/plain","message":"Hi"}}]}}"#;
    ///
    /// let notification = Notification::parse(body).unwrap();
    ///
    /// assert_eq!(notification.changes.len(), 1);
    /// assert_eq!(notification.changes[0].dialog_id().unwrap().as_str(), "D1");
    /// ```
    ///
    /// # Errors
    ///
    /// If the body is not JSON or has no list of changes. The error quotes nothing of the body.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let value = json(&String::from_utf8_lossy(body)).map_err(|error| ParseError::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let notification = Members::of(&value).ok_or(ParseError::NoChanges)?;
        let body = notification.object("body").ok_or(ParseError::NoChanges)?;
        body.value("changes").ok_or(ParseError::NoChanges)?;
        let named = notification.text("type").map(Kind::of);
        let all = body.list("changes");
        let is_private = is_marked(notification);
        let changes = all.iter().take(MAX_CHANGES).map(|change| {
            let kind = named.unwrap_or_else(|| Kind::of_shape(change));
            match change {
                // The change may be stored alone, so it carries the mark itself.
                Value::Object(members) if is_private => {
                    let mut members = members.clone();
                    members.insert(MESSAGE_AUDIENCE.to_owned(), AGENTS_AND_MANAGERS.into());
                    let change = Value::Object(members);
                    Change::new(kind, &change, change.to_string())
                }
                change => Change::new(kind, change, change.to_string()),
            }
        });
        Ok(Self {
            changes: changes.collect(),
            surplus: all.len().saturating_sub(MAX_CHANGES),
            sent_at: body.time("sentTs"),
        })
    }
}

/// Parses JSON. Lone surrogates, which remain when an emoji is cut in two, are replaced.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&surrogates::replace_unpaired(text)))
}

/// The kind of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event within a dialog.
    Message,
    /// The state of a conversation.
    Conversation,
    /// A kind that the bridge does not know.
    Unknown,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Message, Self::Conversation, Self::Unknown];

    /// Returns the kind for a notification's `type`. A suffix after a dot is the kind of the event,
    /// as in an app's manifest. No notification with such a suffix has been seen yet.
    fn of(name: &str) -> Self {
        let is = |known: &str| {
            let suffix = name.strip_prefix(known);
            suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('.'))
        };
        if is("ms.MessagingEventNotification") {
            Self::Message
        } else if is("cqm.ExConversationChangeNotification") {
            Self::Conversation
        } else {
            Self::Unknown
        }
    }

    /// Returns the kind of a change by its members, for a notification without a type.
    fn of_shape(change: &Value) -> Self {
        let Some(change) = Members::of(change) else {
            return Self::Unknown;
        };
        let is_state =
            change.object("result").is_some() || change.object("conversationDetails").is_some();
        if is_state {
            Self::Conversation
        } else if change.object("event").is_some() {
            Self::Message
        } else {
            Self::Unknown
        }
    }

    /// Returns the kind as text, which is stored with the change.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Conversation => "conversation",
            Self::Unknown => "unknown",
        }
    }
}

impl FromStr for Kind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or(Invalid {
            expected: "one of message, conversation, unknown",
        })
    }
}

/// One change of a notification.
#[derive(Clone, PartialEq)]
pub struct Change {
    kind: Kind,
    json: String,
    content: Content,
}

/// The content of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An event within a dialog.
    Message(Box<Message>),
    /// The new state of a conversation.
    Conversation(Box<Conversation>),
    /// A change that cannot be understood. The text says why, and quotes nothing.
    Unknown(&'static str),
}

/// The location of a file at the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostedFile<'a> {
    /// The path of the file.
    pub relative_path: &'a str,
    /// The Cloud's name of the file type.
    pub file_type: &'a FileType,
}

impl Change {
    /// Parses a stored change from its kind and JSON.
    #[must_use]
    pub fn parse(kind: Kind, json: &str) -> Self {
        match self::json(json) {
            Ok(value) => Self::new(kind, &value, json.to_owned()),
            Err(_) => Self {
                kind,
                json: json.to_owned(),
                content: Content::Unknown("the change is not JSON"),
            },
        }
    }

    fn new(kind: Kind, value: &Value, json: String) -> Self {
        let content = Members::of(value)
            .ok_or("the change is not a JSON object")
            .and_then(|change| match kind {
                Kind::Message => Message::read(change).map(|it| Content::Message(Box::new(it))),
                Kind::Conversation => {
                    Conversation::read(change).map(|it| Content::Conversation(Box::new(it)))
                }
                Kind::Unknown => Err("the notification is of an unknown type"),
            });
        Self {
            kind,
            json,
            content: content.unwrap_or_else(Content::Unknown),
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the change as JSON. It must be stored as text: it may have `\u0000`, which a JSON
    /// column of PostgreSQL refuses.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns the content.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the conversation; `None` if the change does not name it. Older message changes name
    /// only the dialog.
    #[must_use]
    pub fn conversation_id(&self) -> Option<&ConversationId> {
        match &self.content {
            Content::Message(message) => message.conversation_id.as_ref(),
            Content::Conversation(conversation) => Some(&conversation.id),
            Content::Unknown(_) => None,
        }
    }

    /// Returns the dialog of a message change. The main dialog has the same id as the conversation.
    #[must_use]
    pub fn dialog_id(&self) -> Option<&DialogId> {
        match &self.content {
            Content::Message(message) => message.dialog_id.as_ref(),
            Content::Conversation(_) | Content::Unknown(_) => None,
        }
    }

    /// Returns the time of the event by the Cloud's clock. Chat states have no time.
    #[must_use]
    pub fn occurred_at(&self) -> Option<DateTime<Utc>> {
        match &self.content {
            Content::Message(message) => message.sent_at,
            Content::Conversation(conversation) => conversation.updated_at,
            Content::Unknown(_) => None,
        }
    }

    /// Returns the latest time in the change, by the Cloud's clock. The change is not older than
    /// this time. Chat states have no time.
    ///
    /// The start of a conversation does not count: the conversation may have been open for 90 days.
    #[must_use]
    pub fn latest_time(&self) -> Option<DateTime<Utc>> {
        match &self.content {
            Content::Message(message) => message.sent_at,
            Content::Conversation(conversation) => {
                conversation.updated_at.or(conversation.touched_at)
            }
            Content::Unknown(_) => None,
        }
    }

    /// True if the change reports activity such as typing, which matters only for a moment.
    #[must_use]
    pub fn is_chat_state(&self) -> bool {
        match &self.content {
            Content::Message(message) => matches!(message.event, Event::ChatState(_)),
            Content::Conversation(_) | Content::Unknown(_) => false,
        }
    }

    /// Returns the Cloud's id of the user if the change names it, as the sender or as a
    /// participant.
    #[must_use]
    pub fn consumer_id(&self) -> Option<&str> {
        match &self.content {
            Content::Message(message) => {
                let is_consumer = message.originator.role.as_deref() == Some(CONSUMER);
                message.originator.id.as_deref().filter(|_| is_consumer)
            }
            Content::Conversation(conversation) => conversation
                .participants
                .iter()
                .find(|participant| participant.role.as_deref() == Some(CONSUMER))
                .map(|participant| &*participant.id),
            Content::Unknown(_) => None,
        }
    }

    /// Returns the file in a message that is for everyone.
    #[must_use]
    pub fn file(&self) -> Option<HostedFile<'_>> {
        let Content::Message(message) = &self.content else {
            return None;
        };
        if message.audience == Audience::Private {
            return None;
        }
        match &message.event {
            Event::Written(written) => match &written.content {
                MessageContent::File(file) => Some(HostedFile {
                    relative_path: &file.relative_path,
                    file_type: &file.file_type,
                }),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns a key that is unique among the changes of an account. A change with a known key is a
    /// duplicate. `None` for chat states, which are never duplicates.
    ///
    /// The key is a hash of the dialog and the sequence, or of the change itself if these are
    /// missing. For a conversation it is always a hash of the change itself, since two states may
    /// have the same time. The translation detects a state that reports nothing new.
    #[must_use]
    pub fn dedupe_key(&self, account: &AccountId) -> Option<[u8; 32]> {
        let account = account.as_str().as_bytes();
        Some(match &self.content {
            Content::Message(message) => {
                if let Event::ChatState(_) = message.event {
                    return None;
                }
                match (message.dialog(), message.sequence) {
                    (Some(dialog), Some(sequence)) => hash(&[
                        b"sequence",
                        account,
                        dialog.as_bytes(),
                        &sequence.to_be_bytes(),
                    ]),
                    _ => self.content_hash(account),
                }
            }
            Content::Conversation(_) | Content::Unknown(_) => self.content_hash(account),
        })
    }

    fn content_hash(&self, account: &[u8]) -> [u8; 32] {
        let kind = self.kind.as_str().as_bytes();
        hash(&[b"change", account, kind, self.json.as_bytes()])
    }
}

impl fmt::Debug for Change {
    /// Omits the JSON, which holds the text of messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("kind", &self.kind)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// The Cloud's name for the role of the user.
pub(super) const CONSUMER: &str = "CONSUMER";

/// Hashes the parts, each prefixed with its length, so that different lists of parts never hash the
/// same bytes.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests;
