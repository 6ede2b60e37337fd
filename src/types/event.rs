//! The events that channels receive: their types and their envelope. [`data`] holds their content.
//!
//! An event is serialized once, as JSON. That text is stored, sent and signed byte for byte, so a
//! receiver that checks signatures gets the same bytes with a repeated delivery.
//!
//! To add a type of event:
//!
//! 1. Add a variant to [`EventType`], to its `ALL` and to its `as_str`. If no variant of [`Data`]
//!    fits, add one with its members.
//! 2. Add its summary to the OpenAPI document (`described` in `api/openapi/callbacks.rs`).
//! 3. Add its name where channels choose events: `EVENT_TYPE` in `config/form.rs`,
//!    `docs/configuration.md`, `cli/demo.toml`. Channels that choose nothing get it, unless
//!    `default_events` in `config/channel.rs` leaves it out.
//! 4. Add a sample event, which channels can request (`sample.rs`).
//! 5. List the members that operators see before they ask for the text (`api/admin/masking.rs`).
//! 6. Create it at its origin: in `webhooks/translate` for what the Cloud reports, in
//!    `outbox/settle.rs` for the outcome of a request.
//! 7. If the Cloud reports it, add a fixture of the notification and its events to
//!    `tests/fixtures/webhooks`. Add its row to the README there, and adjust the counts in
//!    `tests/it/delivery_management.rs`.
//! 8. Add a chapter to `docs/events.md`, update `openapi.yaml`, and add a line to `CHANGELOG.md`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::{ChannelId, ConversationId, Invalid, UserId};

mod cursor;
pub mod data;
mod sample;

pub use cursor::Cursor;
pub use data::Data;
pub use sample::{SAMPLE_ID, sample};

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// An agent, a bot, a manager or the system wrote a message.
    #[serde(rename = "message.created")]
    MessageCreated,
    /// The Cloud echoed a message of the user.
    #[serde(rename = "message.echoed")]
    MessageEchoed,
    /// A participant started or stopped typing.
    #[serde(rename = "typing.changed")]
    TypingChanged,
    /// Messages were delivered, read or refused.
    #[serde(rename = "receipt.changed")]
    ReceiptChanged,
    /// A conversation was opened.
    #[serde(rename = "conversation.opened")]
    ConversationOpened,
    /// A conversation changed, such as its agent, its skill or its rating.
    #[serde(rename = "conversation.updated")]
    ConversationUpdated,
    /// A conversation was closed.
    #[serde(rename = "conversation.closed")]
    ConversationClosed,
    /// A queued request reached the Cloud.
    #[serde(rename = "message.sent")]
    MessageSent,
    /// A queued request will not reach the Cloud.
    #[serde(rename = "message.failed")]
    MessageFailed,
}

impl EventType {
    /// All types of event.
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

    /// Returns the type as text.
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
            expected: "an event type such as message.created",
        })
    }
}

/// The bridge's id of an event: `evt_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// Creates the id of a new event, from a UUID of the clock.
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
        // Compared with its text, since a UUID has several spellings and an id has only one.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "evt_ and 32 hexadecimal digits",
            })
    }
}

/// The events that a channel receives.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The types of event that the channel receives.
    pub events: Vec<EventType>,
    /// The age at which the delivery of an event is given up; `None` if the channel has no
    /// callback.
    pub max_age: Option<TimeDelta>,
}

/// An event that is not addressed to a channel yet.
#[derive(Debug, Clone, PartialEq)]
pub struct UnaddressedEvent {
    /// The type of the event.
    pub kind: EventType,
    /// The time at which it happened, by the Cloud's clock if the Cloud reports it.
    pub occurred_at: DateTime<Utc>,
    /// The content of the event.
    pub data: Data,
}

impl UnaddressedEvent {
    /// Completes the event for a channel.
    #[must_use]
    pub fn into_event(
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

/// Returns an event as the examples of the API show it.
#[must_use]
pub fn example() -> Value {
    json!({
        "id": "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        "type": "message.created",
        "channel": "sms",
        "user_id": "alice",
        "conversation_id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
        "occurred_at": "2026-11-22T08:00:30.250Z",
        "data": {
            "sequence": 3,
            "dialog_id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
            "sender": {"id": "2b8f6c1d-3e4a-5b6c-8d7e-9f0a1b2c3d4e", "role": "agent"},
            "text": "Your parcel is on its way.",
        },
    })
}

/// An event of a channel: one thing that happened in a conversation, or to a queued request.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!(example()))]
pub struct Event {
    /// The bridge's id of the event. A repeated delivery has the same id.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: EventId,
    /// The type of the event.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The channel that receives the event.
    pub channel: ChannelId,
    /// The user whom the event is about.
    pub user_id: UserId,
    /// The conversation in which it happened. It is left out if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conversation_id: Option<ConversationId>,
    /// The time at which it happened, with milliseconds.
    #[serde(serialize_with = "to_the_millisecond")]
    pub occurred_at: DateTime<Utc>,
    /// The content of the event, which depends on its type.
    pub data: Data,
}

impl Event {
    /// Serializes the event as it is stored, sent and signed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl fmt::Debug for Event {
    /// Leaves out the user and the content.
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
    reason = "all keys are strings, and all values of an event can be serialized"
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

/// An event in the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its position in the log.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// Its type, such as `message.created`.
    pub kind: String,
    /// The event as channels receive it.
    pub body: String,
    /// The channel's id of the user; `None` for a test event.
    pub user_id: Option<String>,
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
        let draft = UnaddressedEvent {
            kind: EventType::TypingChanged,
            occurred_at: DateTime::from_timestamp_millis(1_800_000_000_000).unwrap(),
            data,
        };
        draft.into_event(
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
    fn debugging_an_event_shows_neither_its_user_nor_its_content() {
        assert_eq!(
            format!("{:?}", event()),
            r#"Event { id: evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f, kind: TypingChanged, channel: ChannelId("sms"), .. }"#
        );
    }

    #[test]
    fn an_event_type_has_the_same_name_in_json_and_text() {
        for kind in EventType::ALL {
            assert_eq!(json!(kind), kind.as_str());
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("message.Created".parse::<EventType>().is_err());
    }

    #[test]
    fn an_event_id_is_accepted_only_in_its_canonical_form() {
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
