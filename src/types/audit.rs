//! Entries of the audit log, which records the actions of operators: actor, action and subject.
//!
//! An entry is built from the types of this module only, so it cannot contain a user's id, message
//! text, a key or a token. A new action needs a name, and a decision about its subject and its
//! details.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::{EventId, EventType};
use super::ids::ChannelId;

/// The actor of an entry, identified by the credential that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// An API key of a channel: the first 32 bits of its SHA-256, which identify the key without
    /// revealing it.
    ApiKey(u32),
    /// An operator's key: the first 32 bits of its SHA-256.
    OperatorKey(u32),
    /// A token (JWT) of a channel.
    Token,
    /// A command of this program, run by a person with access to it.
    Command,
    /// The service itself. It completes an earlier request, or does what a new version requires.
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

/// An action that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A new attempt to deliver an event was requested.
    RetryDelivery {
        /// The event.
        event_id: EventId,
        /// The event's type, as it is in the event log.
        kind: String,
    },
    /// A replay of several events was requested.
    ReplayDeliveries {
        /// The start of the replayed period, inclusive.
        since: DateTime<Utc>,
        /// The end of the replayed period, exclusive; `None` for no end.
        until: Option<DateTime<Utc>>,
        /// The delivery state of the events, as the API names it; `None` for all that are not
        /// pending.
        state: Option<&'static str>,
        /// True if the replay was limited to one user. The entry does not name the user.
        of_one_user: bool,
        /// The number of events.
        count: u64,
    },
    /// Deliveries to a channel's callback were paused until they are resumed.
    PauseDeliveries,
    /// An operator read the content of an event.
    ReadEvent {
        /// The event.
        event_id: EventId,
        /// The event's type, as it is in the event log.
        kind: String,
    },
    /// An operator looked up the recent requests and events of a user. The entry does not name the
    /// user.
    ReadUser {
        /// The number of requests that were shown.
        requests: usize,
        /// The number of events that were shown.
        events: usize,
    },
    /// Deliveries to a channel's callback were resumed.
    ResumeDeliveries,
    /// A sample event was added to test the callback.
    AddSample {
        /// The event.
        event_id: EventId,
        /// The event's type.
        kind: EventType,
    },
    /// A user was erased. The entry does not name the user.
    EraseUser {
        /// True if the token that requested it is valid for this user alone.
        by_own_token: bool,
    },
    /// Stored tokens were re-encrypted.
    RotateKeys {
        /// The public id of the key that now seals the tokens.
        key_id: String,
        /// The number of re-encrypted tokens.
        sealed_anew: u64,
        /// The number of tokens that no configured key could decrypt.
        unopened: u64,
    },
    /// The database schema was migrated.
    Migrate {
        /// The newest migration that an earlier entry recorded; `None` for the first entry.
        from: Option<i64>,
        /// The newest migration now.
        to: i64,
    },
}

impl Action {
    /// The name of the migration action, by which its entries are found.
    pub const MIGRATE: &'static str = "database.migrate";

    /// Returns the name under which the action is stored and found.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RetryDelivery { .. } => "delivery.retry",
            Self::ReplayDeliveries { .. } => "deliveries.replay",
            Self::PauseDeliveries => "deliveries.pause",
            Self::ReadEvent { .. } => "event.read",
            Self::ReadUser { .. } => "user.read",
            Self::ResumeDeliveries => "deliveries.resume",
            Self::AddSample { .. } => "event.test",
            Self::EraseUser { .. } => "user.erase",
            Self::RotateKeys { .. } => "keys.rotate",
            Self::Migrate { .. } => Self::MIGRATE,
        }
    }

    /// Returns the subject of the action, if it has a name that reveals nothing about a user.
    fn subject(&self) -> Option<String> {
        match self {
            Self::RetryDelivery { event_id, .. }
            | Self::ReadEvent { event_id, .. }
            | Self::AddSample { event_id, .. } => Some(event_id.to_string()),
            Self::RotateKeys { key_id, .. } => Some(key_id.clone()),
            Self::Migrate { to, .. } => Some(to.to_string()),
            Self::ReplayDeliveries { .. }
            | Self::PauseDeliveries
            | Self::ReadUser { .. }
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
                "since": format_time(since),
                "until": until.as_ref().map(format_time),
                "state": state,
                "of_one_user": of_one_user,
                "count": count,
            }),
            Self::PauseDeliveries | Self::ResumeDeliveries => json!({}),
            Self::ReadUser { requests, events } => json!({"requests": requests, "events": events}),
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

/// The id of an entry: `aud_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryId(Uuid);

impl EntryId {
    /// Creates the id of an entry for the present moment, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the id of the entry about a migration. Each migration has only one entry, so all
    /// replicas use the same id.
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

/// An entry of the audit log, to be stored in the same transaction as the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's id. An entry that is stored again under the same id replaces the earlier one.
    pub id: EntryId,
    /// The time at which the action was requested.
    pub at: DateTime<Utc>,
    /// The actor.
    pub actor: Actor,
    /// The channel whose credential was presented, or that an operator acted on.
    pub channel_id: Option<ChannelId>,
    /// The action.
    pub action: Action,
    /// The id of the request that caused the action.
    pub request_id: Option<String>,
}

impl Entry {
    /// Converts the entry to the form in which it is stored and shown.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            id: self.id.to_string(),
            at: self.at,
            actor: self.actor.to_string(),
            channel: self.channel_id.clone().map(String::from),
            action: self.action.name().to_owned(),
            subject: self.action.subject(),
            details: self.action.details(),
            request_id: self.request_id.clone(),
        }
    }
}

/// An entry as it is stored and shown. It contains text, since another version may have written it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The entry's id.
    pub id: String,
    /// The time at which the action was requested.
    #[serde(serialize_with = "to_the_millisecond")]
    pub at: DateTime<Utc>,
    /// The actor.
    pub actor: String,
    /// The channel whose credential was presented, or that an operator acted on.
    pub channel: Option<String>,
    /// The name of the action.
    pub action: String,
    /// The subject of the action.
    pub subject: Option<String>,
    /// Further details, which depend on the action.
    pub details: Value,
    /// The id of the request that caused the action.
    pub request_id: Option<String>,
}

impl fmt::Display for Record {
    /// Writes one line for people: the time and the action, then the other members by name.
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
        write!(f, "{} {action} actor={actor}", format_time(at))?;
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

fn format_time(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn to_the_millisecond<S: serde::Serializer>(
    at: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_time(at))
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
    fn an_audit_entry_is_rendered_as_text_and_as_json() {
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
    fn channel_keys_and_operator_keys_are_displayed_differently() {
        assert_eq!(Actor::ApiKey(1).to_string(), "key:00000001");
        assert_eq!(Actor::OperatorKey(1).to_string(), "operator:00000001");
    }

    #[test]
    fn an_audited_action_names_its_subject() {
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
        let (requests, events) = (1, 2);
        assert_eq!(subject(Action::ReadUser { requests, events }), None);
    }
}
