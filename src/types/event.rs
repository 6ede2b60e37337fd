//! What happened, as a channel hears of it: the kinds of events and their envelope; [`data`] has what each one says.
//!
//! An event is written down once, as JSON. That text is what is kept, sent and signed, byte for byte, so a repeat is the
//! same to whoever checks its signature.
//!
//! To add a kind of event:
//!
//! 1. a variant of [`EventType`], in its `ALL` and its `as_str`, and a variant of [`Data`] with its members where no other fits;
//! 2. its summary in the document (`described` of `api/openapi/callbacks.rs`);
//! 3. its name where channels choose (`EVENT_TYPE` of `config/form.rs`, `docs/configuration.md`, `cli/demo.toml`); channels that
//!    choose nothing get it, unless `default_events` of `config/channel.rs` leaves it out;
//! 4. a sample of it (`sample.rs`), which channels can ask for;
//! 5. the members that operators see before they ask for the text (`api/admin/masking.rs`);
//! 6. its origin: `webhooks/translate` for what the Cloud tells, `outbox/settle.rs` for what became of a request;
//! 7. a fixture of the notification and its events in `tests/fixtures/webhooks`, with its row in the README there, where the
//!    Cloud tells of it, and the counts in `tests/it/looking_after.rs`;
//! 8. a chapter of `docs/events.md`, `openapi.yaml`, a line in `CHANGELOG.md`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::{ChannelId, ConversationId, Invalid, UserId};

mod cursor;
pub mod data;
mod sample;

pub use cursor::Cursor;
pub use data::Data;
pub use sample::{NOBODY, sample};

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// An agent, bot, manager or the system wrote.
    #[serde(rename = "message.created")]
    MessageCreated,
    /// The user's own message came back from the Cloud.
    #[serde(rename = "message.echoed")]
    MessageEchoed,
    /// Somebody started or stopped typing.
    #[serde(rename = "typing.changed")]
    TypingChanged,
    /// Messages were delivered, read or refused.
    #[serde(rename = "receipt.changed")]
    ReceiptChanged,
    /// A conversation was opened.
    #[serde(rename = "conversation.opened")]
    ConversationOpened,
    /// A conversation changed hands or skill.
    #[serde(rename = "conversation.updated")]
    ConversationUpdated,
    /// A conversation was closed.
    #[serde(rename = "conversation.closed")]
    ConversationClosed,
    /// A request that had been queued reached the Cloud.
    #[serde(rename = "message.sent")]
    MessageSent,
    /// A request that had been queued could not be brought to the Cloud.
    #[serde(rename = "message.failed")]
    MessageFailed,
}

impl EventType {
    /// Every kind of event.
    pub const ALL: [Self; 9] = [
        Self::MessageCreated,
        Self::MessageEchoed,
        Self::TypingChanged,
        Self::ReceiptChanged,
        Self::ConversationOpened,
        Self::ConversationUpdated,
        Self::ConversationClosed,
        Self::MessageSent,
        Self::MessageFailed,
    ];

    /// The kind as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessageCreated => "message.created",
            Self::MessageEchoed => "message.echoed",
            Self::TypingChanged => "typing.changed",
            Self::ReceiptChanged => "receipt.changed",
            Self::ConversationOpened => "conversation.opened",
            Self::ConversationUpdated => "conversation.updated",
            Self::ConversationClosed => "conversation.closed",
            Self::MessageSent => "message.sent",
            Self::MessageFailed => "message.failed",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or(Invalid {
            expected: "a type of event such as message.created",
        })
    }
}

/// The bridge's own name for an event: `evt_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// The id for an event that comes up now, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", self.0.simple())
    }
}

impl FromStr for EventId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let uuid = text.strip_prefix("evt_").and_then(|uuid| uuid.parse().ok());
        // Read back, since a UUID can be written in several ways and an id cannot.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "evt_ and 32 hexadecimal digits",
            })
    }
}

/// What a channel wants to be told, and how.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The events that it wants to know of.
    pub events: Vec<EventType>,
    /// How old an event may grow before its delivery is given up; none where the channel has no callback URL.
    pub max_age: Option<TimeDelta>,
}

/// What happened, before it is known who hears of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What kind of thing.
    pub kind: EventType,
    /// When, by the Cloud's clock where the Cloud says so.
    pub occurred_at: DateTime<Utc>,
    /// What there is to say about it.
    pub data: Data,
}

impl Draft {
    /// The event that a channel hears of.
    #[must_use]
    pub fn addressed(
        self,
        id: EventId,
        channel: ChannelId,
        user_id: UserId,
        conversation_id: Option<ConversationId>,
    ) -> Event {
        Event {
            id,
            kind: self.kind,
            channel,
            user_id,
            conversation_id,
            occurred_at: self.occurred_at,
            data: self.data,
        }
    }
}

/// One thing that happened and that a channel wants to know.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// The bridge's name for it; a repeat bears the same.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: EventId,
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The channel that hears of it.
    pub channel: ChannelId,
    /// Whose it is.
    pub user_id: UserId,
    /// The conversation it happened in; left out where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conversation_id: Option<ConversationId>,
    /// When it happened, to the millisecond.
    #[serde(serialize_with = "to_the_millisecond")]
    pub occurred_at: DateTime<Utc>,
    /// What there is to say about it, by its type.
    pub data: Data,
}

impl Event {
    /// The event as it is kept, sent and signed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl fmt::Debug for Event {
    /// Leaves out whose it is and what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &format_args!("{}", self.id))
            .field("kind", &self.kind)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::expect_used,
    reason = "every key is text and nothing in an event refuses to be serialised"
)]
fn json(event: &Event) -> String {
    serde_json::to_string(event).expect("an event is JSON")
}

fn as_text<S: Serializer>(id: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn to_the_millisecond<S: Serializer>(
    time: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its place.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// Its type, such as `message.created`.
    pub kind: String,
    /// The event as channels get it.
    pub body: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event {
        let data = Data::Typing(data::Typing {
            state: "composing".to_owned(),
            sender: data::Sender {
                id: Some("agent-1".to_owned()),
                role: data::Role::Agent,
            },
            expires_at: DateTime::from_timestamp_millis(1_800_000_010_000).unwrap(),
        });
        let draft = Draft {
            kind: EventType::TypingChanged,
            occurred_at: DateTime::from_timestamp_millis(1_800_000_000_000).unwrap(),
            data,
        };
        draft.addressed(
            EventId::new(Uuid::from_u128(0x0193_540a_7c2b_7c3e_9d1f_2a3b_4c5d_6e7f)),
            "sms".parse().unwrap(),
            "+15551234567".parse().unwrap(),
            Some("conversation-1".parse().unwrap()),
        )
    }

    #[test]
    fn an_event_is_written_with_times_to_the_millisecond() {
        assert_eq!(
            event().to_json(),
            r#"{"id":"evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f","type":"typing.changed","channel":"sms","#.to_owned()
                + r#""user_id":"+15551234567","conversation_id":"conversation-1","#
                + r#""occurred_at":"2027-01-15T08:00:00.000Z","data":{"state":"composing","#
                + r#""sender":{"id":"agent-1","role":"agent"},"expires_at":"2027-01-15T08:00:10.000Z"}}"#
        );
    }

    #[test]
    fn debugging_an_event_shows_neither_the_user_nor_what_was_said() {
        assert_eq!(
            format!("{:?}", event()),
            r#"Event { id: evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f, kind: TypingChanged, channel: ChannelId("sms"), .. }"#
        );
    }

    #[test]
    fn a_type_is_one_word_wherever_it_is_written() {
        for kind in EventType::ALL {
            assert_eq!(json!(kind), kind.as_str());
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("message.Created".parse::<EventType>().is_err());
    }

    #[test]
    fn an_event_id_is_read_back_as_it_was_shown_and_no_other_way() {
        let shown = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f";

        assert_eq!(shown.parse::<EventId>().unwrap().to_string(), shown);
        for other in [
            "",
            "evt_",
            "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
            "evt_0193540A7C2B7C3E9D1F2A3B4C5D6E7F",
            "evt_0193540a-7c2b-7c3e-9d1f-2a3b4c5d6e7f",
        ] {
            assert!(other.parse::<EventId>().is_err(), "{other}");
        }
    }
}
