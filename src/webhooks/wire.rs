//! The Cloud's notifications as they come: bodies read into changes, however odd, old or new they are.
//!
//! A body that is no JSON, or has no list of changes, says nothing. A change that makes no sense is [`Content::Unknown`] and
//! stands among the others. Each change keeps its own JSON, so that it can be stored and read again later.

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
use message::{Audience, Event, Matter, Message};
use privacy::{AGENTS_AND_MANAGERS, MESSAGE_AUDIENCE, is_marked};

/// Why a body is no notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is no JSON, or nested too deeply.
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

/// 10,000: the changes of one body that are read.
///
/// A body of the largest size has room for fewer, as the Cloud writes them. So only a body of some hundred thousand empty ones
/// has more, and these cost no memory.
const MOST_CHANGES: usize = 10_000;

/// The byte order mark of UTF-8, which JSON may not begin with and which a reader may skip. Source: RFC 8259, 8.1.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the Cloud tells in one request: none, one or several changes, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The changes.
    pub changes: Vec<Change>,
    /// The number of further changes, which are not read.
    pub surplus: usize,
    /// The time at which the Cloud sent it; seldom there. Source: a capture of 2022 has `body.sentTs`.
    pub sent_at: Option<DateTime<Utc>>,
}

impl Notification {
    /// Reads a body, whose signature was checked before.
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
    /// Where it is no JSON or has no list of changes; the error quotes nothing of it.
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
        let changes = all.iter().take(MOST_CHANGES).map(|change| {
            let kind = named.unwrap_or_else(|| Kind::of_shape(change));
            match change {
                // The change may be stored alone, so it takes the mark along.
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
            surplus: all.len().saturating_sub(MOST_CHANGES),
            sent_at: body.time("sentTs"),
        })
    }
}

/// Reads JSON. Half a surrogate pair, which is what is left of an emoji that was cut in two, does not cost the rest.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&surrogates::without_lone(text)))
}

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What happens in a dialog.
    Message,
    /// The state of a conversation.
    Conversation,
    /// Something that the bridge does not know.
    Unknown,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Message, Self::Conversation, Self::Unknown];

    /// The kind of a notification of this `type`. What follows a dot is the event's own kind, as in an app's manifest;
    /// no notification was seen with it.
    fn of(name: &str) -> Self {
        let is = |known: &str| {
            let rest = name.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if is("ms.MessagingEventNotification") {
            Self::Message
        } else if is("cqm.ExConversationChangeNotification") {
            Self::Conversation
        } else {
            Self::Unknown
        }
    }

    /// The kind of a change by the members that it has, where its notification names no type.
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

    /// The kind as text, to be stored with the change.
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

/// What a change says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Something happened in a dialog.
    Message(Box<Message>),
    /// A conversation is now like this.
    Conversation(Box<Conversation>),
    /// It makes no sense; the words say why, and quote nothing.
    Unknown(&'static str),
}

/// Where the Cloud keeps a file that a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostedFile<'a> {
    /// The path that names it.
    pub relative_path: &'a str,
    /// The Cloud's word for its kind.
    pub file_type: &'a FileType,
}

impl Change {
    /// Reads a change that was stored before, by its kind and JSON.
    #[must_use]
    pub fn parse(kind: Kind, json: &str) -> Self {
        match self::json(json) {
            Ok(value) => Self::new(kind, &value, json.to_owned()),
            Err(_) => Self {
                kind,
                json: json.to_owned(),
                content: Content::Unknown("the change is no JSON"),
            },
        }
    }

    fn new(kind: Kind, value: &Value, json: String) -> Self {
        let read = Members::of(value)
            .ok_or("the change is no object")
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
            content: read.unwrap_or_else(Content::Unknown),
        }
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The change as JSON, to be stored as text: it may hold `\u0000`, which a JSON column of PostgreSQL refuses.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What it says.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The conversation, where the change names it: older message changes name the dialog alone.
    #[must_use]
    pub fn conversation_id(&self) -> Option<&ConversationId> {
        match &self.content {
            Content::Message(message) => message.conversation_id.as_ref(),
            Content::Conversation(conversation) => Some(&conversation.id),
            Content::Unknown(_) => None,
        }
    }

    /// The dialog that something happened in; the main one bears the conversation's id.
    #[must_use]
    pub fn dialog_id(&self) -> Option<&DialogId> {
        match &self.content {
            Content::Message(message) => message.dialog_id.as_ref(),
            Content::Conversation(_) | Content::Unknown(_) => None,
        }
    }

    /// When it happened, by the Cloud's clock; chat states bear no time.
    #[must_use]
    pub fn happened_at(&self) -> Option<DateTime<Utc>> {
        match &self.content {
            Content::Message(message) => message.sent_at,
            Content::Conversation(conversation) => conversation.updated_at,
            Content::Unknown(_) => None,
        }
    }

    /// The newest time that the change bears, by the Cloud's clock: the change was not made before. Chat states bear none.
    ///
    /// When a conversation began does not count: it may have been open for 90 days.
    #[must_use]
    pub fn made_at(&self) -> Option<DateTime<Utc>> {
        match &self.content {
            Content::Message(message) => message.sent_at,
            Content::Conversation(conversation) => {
                conversation.updated_at.or(conversation.touched_at)
            }
            Content::Unknown(_) => None,
        }
    }

    /// True if the change tells what somebody is doing, which is of interest for a moment.
    #[must_use]
    pub fn is_chat_state(&self) -> bool {
        match &self.content {
            Content::Message(message) => matches!(message.event, Event::ChatState(_)),
            Content::Conversation(_) | Content::Unknown(_) => false,
        }
    }

    /// The Cloud's id of the user, where the change names it: as who said something, or as one who takes part.
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

    /// The file that a message for everybody holds.
    #[must_use]
    pub fn file(&self) -> Option<HostedFile<'_>> {
        let Content::Message(message) = &self.content else {
            return None;
        };
        if message.audience == Audience::Private {
            return None;
        }
        match &message.event {
            Event::Written(written) => match &written.matter {
                Matter::File(file) => Some(HostedFile {
                    relative_path: &file.relative_path,
                    file_type: &file.file_type,
                }),
                _ => None,
            },
            _ => None,
        }
    }

    /// What tells this change from every other one of the account: a change that comes with a key that came before is
    /// a repeat. None for chat states, whose repeats are news.
    ///
    /// It is made of the dialog and the sequence, or where these are missing of the change itself. Of a conversation it is always
    /// the change itself: two states may bear one time, and one that says nothing new is recognised when it is translated.
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
                    _ => self.hash_of_itself(account),
                }
            }
            Content::Conversation(_) | Content::Unknown(_) => self.hash_of_itself(account),
        })
    }

    fn hash_of_itself(&self, account: &[u8]) -> [u8; 32] {
        let kind = self.kind.as_str().as_bytes();
        hash(&[b"change", account, kind, self.json.as_bytes()])
    }
}

impl fmt::Debug for Change {
    /// Leaves out the JSON, which holds what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("kind", &self.kind)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// The role of the user.
pub(super) const CONSUMER: &str = "CONSUMER";

/// The hash of the parts, each with its length before it, so that no two lists of parts look the same.
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
