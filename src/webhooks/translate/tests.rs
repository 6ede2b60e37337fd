use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::types::conversation::DialogKind;
use crate::types::event::EventId;
use crate::webhooks::wire::Notification;

mod conversations;
mod messages;
mod properties;

const CONVERSATION: &str = "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21";
const SURVEY: &str = "0c7e52b4-7f0d-4a8e-8a57-6f2b9c3d1e44";
const CONSUMER: &str = "9f2c4b7a1d3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";
const AGENT: &str = "2b8f6c1d-3e4a-5b6c-8d7e-9f0a1b2c3d4e";

/// 2023-11-14T22:13:20Z, the start of the conversation in the fixtures.
const BEGIN: i64 = 1_700_000_000_000;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(format!("{name}.json"))).unwrap()
}

/// Returns the names of all fixtures.
fn names() -> Vec<String> {
    let files = fs::read_dir(fixtures()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn changes(name: &str) -> Vec<Change> {
    Notification::parse(&fixture(name)).unwrap().changes
}

/// Returns the only change of a fixture.
fn change(name: &str) -> Change {
    let [change] = <[Change; 1]>::try_from(changes(name)).unwrap();
    change
}

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

fn known() -> KnownState<'static> {
    KnownState {
        consumer_id: Some(CONSUMER),
        announced: None,
        opened_by: OpenedBy::User,
        updated_at: None,
        fingerprint: None,
        file: Some(FileLink {
            id: FileId::new(Uuid::from_u128(7)),
            url: "https://bridge.example.com/file".to_owned(),
        }),
        now: at(BEGIN + 500_000),
    }
}

/// Returns the event that a channel sees for a change, or the reason why the change is ignored.
fn seen(change: &Change, known: &KnownState<'_>) -> Value {
    let event = match translate(change, known) {
        Ok(translation) => translation.event,
        Err(ignored) => return json!({"ignored": ignored.as_str()}),
    };
    let event = event.into_event(
        EventId::new(Uuid::nil()),
        "sms".parse().unwrap(),
        "+15551234567".parse().unwrap(),
        Some(CONVERSATION.parse().unwrap()),
    );
    let event: Value = serde_json::from_str(&event.to_json()).unwrap();
    json!({"type": event["type"], "occurred_at": event["occurred_at"], "data": event["data"]})
}

fn sender(id: &str, role: &str) -> Value {
    json!({"id": id, "role": role})
}

#[test]
fn every_fixture_translates_to_its_expected_event() {
    let readme = fs::read_to_string(fixtures().join("README.md")).unwrap();
    let names = names();
    assert!(names.len() > 30);

    for name in names {
        let seen: Vec<_> = changes(&name).iter().map(|it| seen(it, &known())).collect();
        let expected = fs::read(fixtures().join("events").join(format!("{name}.json")));
        let expected: Value = serde_json::from_slice(&expected.unwrap()).unwrap();
        assert_eq!(json!(seen), expected, "{name}");
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
    }
}
