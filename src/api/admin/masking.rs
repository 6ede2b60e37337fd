//! The masking of events for an operator who has not asked for the text. Only the members in the
//! list below are shown.
//!
//! So texts, files, rich content, metadata and any member that a later version adds are hidden.
//! User ids are often phone numbers, so only their last two characters are shown, which is enough
//! to tell users apart.

use serde_json::{Map, Value};

use crate::types::event::SAMPLE_ID;

/// The placeholder for a masked value.
const HIDDEN: &str = "hidden";

/// 128 bytes: no id and no keyword is longer, so a longer value must be something else.
const MAX_BYTES: usize = 128;

/// 6 characters: the length from which the end of a user id is shown. Of a shorter id, two
/// characters would reveal too much.
const MIN_SHOWN_LENGTH: usize = 6;

/// The paths of the members that are shown. Items of a list have the path of the list.
const SHOWN: [&str; 31] = [
    "id",
    "type",
    "channel",
    "conversation_id",
    "occurred_at",
    "data.id",
    "data.conversation_id",
    "data.dialog_id",
    "data.sequence",
    "data.sequences",
    "data.status",
    "data.state",
    "data.created_at",
    "data.expires_at",
    "data.opened_by",
    "data.close_reason",
    "data.skill_id",
    "data.sender.id",
    "data.sender.role",
    "data.file.id",
    "data.file.file_type",
    "data.participants.id",
    "data.participants.role",
    "data.agent.id",
    "data.dialogs.id",
    "data.dialogs.type",
    "data.dialogs.channel_type",
    "data.dialogs.state",
    "data.failure.code",
    "data.failure.upstream.status",
    "data.failure.upstream.code",
];

/// The paths of the members that hold a user id.
const USERS: [&str; 2] = ["user_id", "data.user_id"];

/// Masks an event.
pub(super) fn event(event: Map<String, Value>) -> Value {
    masked(Value::Object(event), "")
}

/// Masks a user id: only its last two characters remain.
pub(super) fn user(id: &str) -> String {
    let length = id.chars().count();
    if id == SAMPLE_ID {
        id.to_owned()
    } else if length < MIN_SHOWN_LENGTH {
        "…".to_owned()
    } else {
        let end: String = id.chars().skip(length - 2).collect();
        format!("…{end}")
    }
}

fn masked(value: Value, path: &str) -> Value {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(members) if has_shown_member(path) => members
            .into_iter()
            .map(|(name, value)| {
                let masked = masked(value, &below(&name));
                (name, masked)
            })
            .collect(),
        Value::Array(items) if has_shown_member(path) || SHOWN.contains(&path) => {
            items.into_iter().map(|item| masked(item, path)).collect()
        }
        Value::Null => Value::Null,
        Value::String(id) if USERS.contains(&path) => user(&id).into(),
        Value::Bool(_) | Value::Number(_) if SHOWN.contains(&path) => value,
        Value::String(text) if SHOWN.contains(&path) && text.len() <= MAX_BYTES => text.into(),
        _ => HIDDEN.into(),
    }
}

/// True if at least one member below the path is shown.
fn has_shown_member(path: &str) -> bool {
    let mut shown = SHOWN.iter();
    path.is_empty()
        || shown.any(|member| {
            let suffix = member.strip_prefix(path);
            suffix.is_some_and(|suffix| suffix.starts_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::types::event::{EventId, EventType, sample};

    fn masked(value: Value) -> Value {
        let Value::Object(members) = value else {
            panic!("no object")
        };
        event(members)
    }

    #[test]
    fn masking_a_message_leaves_only_ids_roles_and_times() {
        let masked = masked(json!({
            "id": "evt_1", "type": "message.created", "channel": "sms", "user_id": "+15551234567",
            "conversation_id": "c1", "occurred_at": "2026-11-22T08:00:00.123Z",
            "data": {
                "sequence": 3, "dialog_id": "c1", "sender": {"id": "a1", "role": "agent", "name": "Ann"},
                "text": "my card is 4111", "metadata": [{"id": "4111"}],
                "file": {"id": "file_1", "file_type": "PNG", "caption": "4111", "preview": "4111", "url": "4111"},
                "rich": {"id": "4111", "type": "4111", "elements": ["4111"]},
                "choices": [{"title": "4111", "text": "4111"}],
                "something_new": {"id": "4111"},
            },
        }));

        assert_eq!(
            masked,
            json!({
                "id": "evt_1", "type": "message.created", "channel": "sms", "user_id": "…67",
                "conversation_id": "c1", "occurred_at": "2026-11-22T08:00:00.123Z",
                "data": {
                    "sequence": 3, "dialog_id": "c1",
                    "sender": {"id": "a1", "role": "agent", "name": "hidden"},
                    "text": "hidden", "metadata": "hidden", "rich": "hidden",
                    "file": {
                        "id": "file_1", "file_type": "PNG", "caption": "hidden",
                        "preview": "hidden", "url": "hidden",
                    },
                    "choices": "hidden", "something_new": "hidden",
                },
            })
        );
    }

    #[test]
    fn an_unexpected_value_of_a_shown_member_is_hidden() {
        let masked = masked(json!({
            "id": {"text": "4111"}, "type": "x".repeat(129), "channel": ["a", {"text": "4111"}],
            "data": "4111", "conversation_id": null, "user_id": {"id": "4111"},
        }));

        assert_eq!(
            masked,
            json!({
                "id": "hidden", "type": "hidden", "channel": ["a", "hidden"], "data": "hidden",
                "conversation_id": null, "user_id": "hidden",
            })
        );
    }

    #[test]
    fn events_without_a_message_text_are_shown_in_full() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        for kind in EventType::ALL {
            let id = EventId::new(Uuid::nil());
            let event = sample(kind, id, Uuid::nil(), "sms".parse().unwrap(), at);
            let event: Value = serde_json::from_str(&event.to_json()).unwrap();

            let shown = masked(event.clone());

            let is_message = event["data"]["text"].is_string();
            assert_eq!(shown == event, !is_message, "{shown:#}");
        }
    }

    #[test]
    fn masking_a_user_id_leaves_its_last_characters() {
        assert_eq!(user("+15551234567"), "…67");
        assert_eq!(user("ada"), "…");
        assert_eq!(user("zoë 👋👋"), "…👋👋");
        assert_eq!(user("test"), "test");
    }
}
