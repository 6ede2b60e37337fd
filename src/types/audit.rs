//! What operators do, as it is recorded: who, what, to what.
//!
//! An entry is made of what stands here and of nothing else, so none can hold a user's id or words, a key or a token. Who
//! adds an action gives it a word, and says what of it is the subject and what the details are.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::{EventId, EventType};
use super::ids::ChannelId;

/// By what somebody was known who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// An API key of a channel: the first 32 bits of its SHA-256, which name it beside others and do not give it away.
    ApiKey(u32),
    /// An operator's key, by the same of its SHA-256.
    OperatorKey(u32),
    /// A token (JWT) of a channel.
    Token,
    /// Who may run the program's commands.
    Command,
    /// Nobody: the service does by itself what it was asked for earlier, or what a new version needs.
    Service,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(digits) => write!(f, "key:{digits:08x}"),
            Self::OperatorKey(digits) => write!(f, "operator:{digits:08x}"),
            Self::Token => f.write_str("jwt"),
            Self::Command => f.write_str("command"),
            Self::Service => f.write_str("service"),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An event was to be delivered once more.
    RetryDelivery {
        /// The event.
        event_id: EventId,
        /// Its type, as the log of events has it.
        kind: String,
    },
    /// Several events were.
    ReplayDeliveries {
        /// Those that came up then or later,
        since: DateTime<Utc>,
        /// and before this moment;
        until: Option<DateTime<Utc>>,
        /// of whose delivery this became, by the word of the facade.
        state: Option<&'static str>,
        /// Whether they were to be about one user, who is not named.
        of_one_user: bool,
        /// How many they were.
        count: u64,
    },
    /// A channel's callbacks were to stop until somebody has them go on.
    PauseDeliveries,
    /// What an event says was read by an operator.
    ReadEvent {
        /// The event.
        event_id: EventId,
        /// Its type, as the log of events has it.
        kind: String,
    },
    /// A channel's callbacks were to go on.
    ResumeDeliveries,
    /// An event to try the callback with was added.
    AddSample {
        /// The event.
        event_id: EventId,
        /// Its type.
        kind: EventType,
    },
    /// A user was erased, who is not named.
    EraseUser {
        /// Whether the token that asked for it is valid for this user alone.
        by_own_token: bool,
    },
    /// Tokens were sealed anew.
    RotateKeys {
        /// The public name of the key that seals them now.
        key_id: String,
        /// How many.
        sealed_anew: u64,
        /// How many no key opened.
        unopened: u64,
    },
    /// The schema was brought up to date.
    Migrate {
        /// The newest migration that was told of before.
        from: Option<i64>,
        /// The newest one now.
        to: i64,
    },
}

impl Action {
    /// The word for migrations, which are looked for by it.
    pub const MIGRATE: &'static str = "database.migrate";

    /// The word that it is kept and found by.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::RetryDelivery { .. } => "delivery.retry",
            Self::ReplayDeliveries { .. } => "deliveries.replay",
            Self::PauseDeliveries => "deliveries.pause",
            Self::ReadEvent { .. } => "event.read",
            Self::ResumeDeliveries => "deliveries.resume",
            Self::AddSample { .. } => "event.test",
            Self::EraseUser { .. } => "user.erase",
            Self::RotateKeys { .. } => "keys.rotate",
            Self::Migrate { .. } => Self::MIGRATE,
        }
    }

    /// What it was done to, where that has a name that says nothing of a user.
    fn subject(&self) -> Option<String> {
        match self {
            Self::RetryDelivery { event_id, .. }
            | Self::ReadEvent { event_id, .. }
            | Self::AddSample { event_id, .. } => Some(event_id.to_string()),
            Self::RotateKeys { key_id, .. } => Some(key_id.clone()),
            Self::Migrate { to, .. } => Some(to.to_string()),
            Self::ReplayDeliveries { .. }
            | Self::PauseDeliveries
            | Self::ResumeDeliveries
            | Self::EraseUser { .. } => None,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::RetryDelivery { kind, .. } | Self::ReadEvent { kind, .. } => {
                json!({"type": kind})
            }
            Self::ReplayDeliveries {
                since,
                until,
                state,
                of_one_user,
                count,
            } => json!({
                "since": shown(since),
                "until": until.as_ref().map(shown),
                "state": state,
                "of_one_user": of_one_user,
                "count": count,
            }),
            Self::PauseDeliveries | Self::ResumeDeliveries => json!({}),
            Self::AddSample { kind, .. } => json!({"type": kind.as_str()}),
            Self::EraseUser { by_own_token } => json!({"by_own_token": by_own_token}),
            Self::RotateKeys {
                sealed_anew,
                unopened,
                ..
            } => json!({"sealed_anew": sealed_anew, "unopened": unopened}),
            Self::Migrate { from, .. } => {
                json!({"from": from.map(|version| version.to_string())})
            }
        }
    }
}

/// The name of an entry: `aud_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryId(Uuid);

impl EntryId {
    /// The id for what is done now, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id of the only entry that tells of a migration, whoever writes it.
    #[must_use]
    pub fn of_migration(version: i64) -> Self {
        Self(Uuid::from_u64_pair(0, version.unsigned_abs()))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aud_{}", self.0.simple())
    }
}

/// Something that somebody did, to be recorded with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; recorded again under the same one, it takes the place of what was said before.
    pub id: EntryId,
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: Actor,
    /// The channel whose credential was presented, or that an operator acted on.
    pub channel_id: Option<ChannelId>,
    /// What was done.
    pub action: Action,
    /// The id of the request that asked for it.
    pub request_id: Option<String>,
}

impl Entry {
    /// The entry as it is kept and shown.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            id: self.id.to_string(),
            at: self.at,
            actor: self.actor.to_string(),
            channel: self.channel_id.clone().map(String::from),
            action: self.action.word().to_owned(),
            subject: self.action.subject(),
            details: self.action.details(),
            request_id: self.request_id.clone(),
        }
    }
}

/// An entry as it is kept and shown: in words, since another version may have written it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The entry's name.
    pub id: String,
    /// When it was asked for.
    #[serde(serialize_with = "to_the_millisecond")]
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// The channel whose credential was presented, or that an operator acted on.
    pub channel: Option<String>,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub subject: Option<String>,
    /// More about it, by the action.
    pub details: Value,
    /// The id of the request that asked for it.
    pub request_id: Option<String>,
}

impl fmt::Display for Record {
    /// A line to be read: the time and the action, then what there is to say, by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            at,
            actor,
            channel,
            action,
            subject,
            details,
            request_id,
        } = self;
        write!(f, "{} {action} actor={actor}", shown(at))?;
        for (name, value) in [
            ("channel", channel),
            ("subject", subject),
            ("request_id", request_id),
        ] {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        write!(f, " id={id} {details}")
    }
}

fn shown(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn to_the_millisecond<S: serde::Serializer>(
    at: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: Action) -> Entry {
        Entry {
            id: EntryId::new(Uuid::from_u128(1)),
            at: DateTime::from_timestamp_millis(1_800_000_000_007).unwrap(),
            actor: Actor::ApiKey(0x00ab_cdef),
            channel_id: Some("sms".parse().unwrap()),
            action,
            request_id: Some("req_1".to_owned()),
        }
    }

    #[test]
    fn an_entry_is_a_line_for_people_and_a_line_of_json() {
        let entry = entry(Action::EraseUser {
            by_own_token: false,
        });

        let record = entry.record();

        assert_eq!(
            record.to_string(),
            "2027-01-15T08:00:00.007Z user.erase actor=key:00abcdef channel=sms request_id=req_1 \
             id=aud_00000000000000000000000000000001 {\"by_own_token\":false}"
        );
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            json!({
                "id": "aud_00000000000000000000000000000001", "at": "2027-01-15T08:00:00.007Z",
                "actor": "key:00abcdef", "channel": "sms", "action": "user.erase", "subject": null,
                "details": {"by_own_token": false}, "request_id": "req_1",
            })
        );
    }

    #[test]
    fn keys_of_channels_and_of_operators_are_told_apart() {
        assert_eq!(Actor::ApiKey(1).to_string(), "key:00000001");
        assert_eq!(Actor::OperatorKey(1).to_string(), "operator:00000001");
    }

    #[test]
    fn an_action_says_what_it_was_done_to() {
        let subject = |action: Action| entry(action).record().subject;
        let event_id = EventId::new(Uuid::from_u128(2));

        let read = Action::ReadEvent {
            event_id,
            kind: "message.created".to_owned(),
        };
        assert_eq!(subject(read), Some(event_id.to_string()));
        let kind = EventType::MessageCreated;
        assert_eq!(
            subject(Action::AddSample { event_id, kind }),
            Some(event_id.to_string())
        );
        let from = None;
        assert_eq!(
            subject(Action::Migrate { from, to: 7 }).as_deref(),
            Some("7")
        );
        assert_eq!(subject(Action::ResumeDeliveries), None);
        assert_eq!(subject(Action::PauseDeliveries), None);
    }
}
