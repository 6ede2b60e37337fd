use proptest::prelude::*;
use serde_json::json;

use super::*;

fn account(id: &str) -> AccountId {
    id.parse().unwrap()
}

/// Parses a notification with a single change.
fn read(kind: &str, change: &Value) -> Change {
    let body = json!({"kind": "notification", "type": kind, "body": {"changes": [change]}});
    let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
    let [change] = <[Change; 1]>::try_from(notification.changes).unwrap();
    change
}

fn message(change: &Value) -> Change {
    read("ms.MessagingEventNotification", change)
}

fn conversation(change: &Value) -> Change {
    read("cqm.ExConversationChangeNotification", change)
}

fn text() -> Value {
    json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Hi"})
}

#[test]
fn a_body_that_is_no_json_object_is_refused_without_quoting_it() {
    for body in [
        &b""[..],
        b"secret",
        b"{\"secret\": ",
        b"{\"secret\": \"a\" \"b\"}",
        b"\xff\xfe",
        b"{\"n\": 1e999}",
    ] {
        let error = Notification::parse(body).unwrap_err();
        assert!(matches!(error, ParseError::NotJson { .. }));
        let shown = error.to_string();
        assert!(shown.starts_with("expected JSON of at most 127 levels, at line 1, column "));
        assert!(!shown.contains("secret"), "{shown}");
    }
    for body in [
        "null",
        "[]",
        "\"secret\"",
        "12",
        "{}",
        r#"{"body": null}"#,
        r#"{"body": "secret"}"#,
        r#"{"body": {}}"#,
        r#"{"body": {"changes": null}}"#,
    ] {
        let error = Notification::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error, ParseError::NoChanges);
        assert_eq!(
            error.to_string(),
            "expected a JSON object with a list body.changes"
        );
    }
}

#[test]
fn deep_nesting_is_refused_and_overflows_nothing() {
    let nested = |levels: usize| {
        let body = format!(
            "{{\"body\":{{\"changes\":[]}},\"x\":{}{}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        );
        Notification::parse(body.as_bytes())
    };

    assert!(nested(126).is_ok());
    assert!(matches!(nested(127), Err(ParseError::NotJson { .. })));
    assert!(matches!(nested(1_000_000), Err(ParseError::NotJson { .. })));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let body = "\u{feff}{\"body\":{\"changes\":[{}]}}";

    assert_eq!(
        Notification::parse(body.as_bytes()).unwrap().changes.len(),
        1
    );
    let twice = format!("\u{feff}{body}");
    assert!(Notification::parse(twice.as_bytes()).is_err());
}

#[test]
fn changes_beyond_the_limit_are_only_counted() {
    let changes = vec!["{}"; MAX_CHANGES + 7].join(",");
    let body = format!("{{\"body\":{{\"changes\":[{changes}]}}}}");

    let notification = Notification::parse(body.as_bytes()).unwrap();

    assert_eq!(
        (notification.changes.len(), notification.surplus),
        (MAX_CHANGES, 7)
    );
}

#[test]
fn a_change_without_a_type_is_recognized_by_its_members() {
    let state = json!({"convId": "C", "conversationDetails": {"state": "OPEN"}});
    for (change, kind) in [
        (json!({"result": state}), Kind::Conversation),
        (
            json!({"convId": "C", "conversationDetails": {"state": "OPEN"}}),
            Kind::Conversation,
        ),
        (json!({"dialogId": "D", "event": text()}), Kind::Message),
        (json!({"dialogId": "D"}), Kind::Unknown),
        (json!(7), Kind::Unknown),
    ] {
        for envelope in [
            json!({}),
            json!({"type": null}),
            json!({"type": ""}),
            json!({"kind": "x"}),
        ] {
            let mut body = envelope.clone();
            body["body"] = json!({"changes": [change]});
            let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
            let [read] = <[Change; 1]>::try_from(notification.changes).unwrap();
            assert_eq!(read.kind(), kind, "{body}");
            let is_known = !matches!(read.content(), Content::Unknown(_));
            assert_eq!(is_known, kind != Kind::Unknown, "{body}");
        }
    }
}

#[test]
fn a_change_is_dated_by_its_newest_time_except_the_start() {
    let ms = |change: Change| change.latest_time().map(|at| at.timestamp_millis());
    let state = |details: Value| {
        conversation(&json!({"result": {"convId": "C", "conversationDetails": details}}))
    };

    assert_eq!(
        ms(message(
            &json!({"dialogId": "D", "event": text(), "serverTimestamp": 7})
        )),
        Some(7)
    );
    assert_eq!(
        ms(message(&json!({"dialogId": "D", "event": text()}))),
        None
    );
    assert_eq!(
        ms(state(
            json!({"state": "OPEN", "metaDataLastUpdateTs": 5, "endTs": 9})
        )),
        Some(5)
    );
    let dialogs = json!([{"dialogId": "D", "metaDataLastUpdateTs": 6, "creationTs": 9}, {"dialogId": "E", "endTs": 7}]);
    assert_eq!(
        ms(state(
            json!({"state": "OPEN", "startTs": 9, "dialogs": dialogs})
        )),
        Some(7)
    );
    assert_eq!(ms(state(json!({"state": "OPEN", "startTs": 9}))), None);
}

#[test]
fn a_body_may_hold_no_changes_one_or_several() {
    for (body, changes) in [
        (json!({"body": {"changes": []}}), 0),
        (
            json!({"body": {"changes": {"event": text(), "dialogId": "D"}}}),
            1,
        ),
        (json!({"body": {"changes": [1, {}, null]}}), 3),
    ] {
        let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(notification.changes.len(), changes, "{body}");
    }
}

#[test]
fn an_unreadable_change_gives_a_reason_and_quotes_nothing() {
    for (kind, change, why) in [
        (
            "ms.MessagingEventNotification",
            json!("secret"),
            "the change is not a JSON object",
        ),
        (
            "ms.MessagingEventNotification",
            json!({"dialogId": "D"}),
            "the change has no event",
        ),
        (
            "ms.MessagingEventNotification",
            json!({"event": "secret", "dialogId": "D"}),
            "the change has no event",
        ),
        (
            "ms.MessagingEventNotification",
            json!({"event": text()}),
            "the change has no dialog",
        ),
        (
            "ms.MessagingEventNotification",
            json!({"event": text(), "dialogId": "not an id"}),
            "the change has no dialog",
        ),
        (
            "cqm.ExConversationChangeNotification",
            json!({}),
            "the change has no result",
        ),
        (
            "cqm.ExConversationChangeNotification",
            json!({"result": {}}),
            "the change has no conversation",
        ),
        (
            "cqm.ExConversationChangeNotification",
            json!({"result": {"convId": "C"}}),
            "the change has no state",
        ),
        (
            "routing.TaskNotification",
            json!({"secret": 1}),
            "the notification is of an unknown type",
        ),
        (
            "ms.MessagingEventNotifications",
            json!({}),
            "the notification is of an unknown type",
        ),
    ] {
        let change = read(kind, &change);
        assert_eq!(change.content(), &Content::Unknown(why), "{kind}");
        assert!(!format!("{change:?}").contains("secret"), "{change:?}");
        assert!(change.dedupe_key(&account("1")).is_some());
    }
    let garbled = Change::parse(Kind::Message, "{");
    assert_eq!(
        garbled.content(),
        &Content::Unknown("the change is not JSON")
    );
}

#[test]
fn an_event_name_in_the_notification_type_is_ignored() {
    let change = read(
        "ms.MessagingEventNotification.ContentEvent",
        &json!({"event": text(), "dialogId": "D"}),
    );

    assert_eq!(change.kind(), Kind::Message);
    assert!(matches!(change.content(), Content::Message(_)));
}

#[test]
fn a_change_names_its_conversation_dialog_and_user() {
    let by = |role: &str| json!({"id": "U", "role": role});
    let with = |role: &str| json!({"participants": [by("ASSIGNED_AGENT"), {"id": "C", "role": role}], "state": "OPEN"});
    for (change, conversation, dialog, consumer) in [
        (
            message(
                &json!({"event": text(), "conversationId": "A", "dialogId": "B", "originatorMetadata": by("CONSUMER")}),
            ),
            Some("A"),
            Some("B"),
            Some("U"),
        ),
        (
            message(
                &json!({"event": text(), "dialogId": 12, "originatorId": "U", "originatorMetadata": by("ASSIGNED_AGENT")}),
            ),
            None,
            Some("12"),
            None,
        ),
        (
            conversation(
                &json!({"result": {"convId": "A", "conversationDetails": with("CONSUMER")}}),
            ),
            Some("A"),
            None,
            Some("C"),
        ),
        (
            conversation(
                &json!({"result": {"conversationId": "A", "conversationDetails": with("READER")}}),
            ),
            Some("A"),
            None,
            None,
        ),
        (
            read("new", &json!({"conversationId": "A"})),
            None,
            None,
            None,
        ),
    ] {
        assert_eq!(
            change.conversation_id().map(ConversationId::as_str),
            conversation
        );
        assert_eq!(change.dialog_id().map(DialogId::as_str), dialog);
        assert_eq!(change.consumer_id(), consumer);
    }
}

#[test]
fn a_lone_surrogate_does_not_lose_the_notification() {
    let body = r#"{"type":"ms.MessagingEventNotification","body":{"changes":[{"dialogId":"D","event":{"message":"cut \ud83d"}}]}}"#;

    let notification = Notification::parse(body.as_bytes()).unwrap();

    assert!(notification.changes[0].json().contains("cut \u{fffd}"));
}

#[test]
fn invalid_utf_8_does_not_lose_the_notification() {
    let body = b"{\"type\":\"ms.MessagingEventNotification\",\"body\":{\"changes\":[{\"dialogId\":\"D\",\"event\":{\"message\":\"\xff\"}}]}}";

    let notification = Notification::parse(body).unwrap();

    assert!(notification.changes[0].json().contains('\u{fffd}'));
}

#[test]
fn a_kind_is_read_back_as_it_was_stored() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("Message".parse::<Kind>().is_err());
}

#[test]
fn chat_states_are_never_duplicates() {
    let change = |chat_state: Value| {
        let event = json!({"type": "ChatStateEvent", "chatState": chat_state});
        message(&json!({"event": event, "dialogId": "D", "sequence": 0}))
    };

    for chat_state in [json!("COMPOSING"), json!("NEW"), json!(null)] {
        assert_eq!(change(chat_state).dedupe_key(&account("1")), None);
    }
}

#[test]
fn messages_with_the_same_sequence_in_a_dialog_are_duplicates() {
    let key = |change: Value| message(&change).dedupe_key(&account("1")).unwrap();
    let first = key(json!({"dialogId": "D", "sequence": 0, "event": text()}));

    // The rest does not matter: a repeat may be shortened.
    let repeat =
        json!({"dialogId": "D", "conversationId": "C", "sequence": 0, "event": {"type": "New"}});
    assert_eq!(key(repeat), first);
    // The main dialog has the conversation's id.
    let by_conversation = json!({"conversationId": "D", "sequence": 0, "event": text()});
    assert_eq!(key(by_conversation), first);
    for other in [
        json!({"dialogId": "E", "sequence": 0, "event": text()}),
        json!({"dialogId": "D", "sequence": 1, "event": text()}),
        json!({"dialogId": "D", "event": text()}),
    ] {
        assert_ne!(key(other.clone()), first, "{other}");
    }
}

#[test]
fn conversation_changes_are_duplicates_only_if_identical() {
    let change = |kind: &str, details: Value| {
        conversation(
            &json!({"type": kind, "result": {"convId": "C", "conversationDetails": details}}),
        )
    };
    let key = |change: Change| change.dedupe_key(&account("1")).unwrap();
    let open = key(change(
        "UPSERT",
        json!({"stage": "OPEN", "metaDataLastUpdateTs": 5}),
    ));

    let repeat = change(
        "UPSERT",
        json!({"stage": "OPEN", "metaDataLastUpdateTs": 5}),
    );
    assert_eq!(key(repeat), open);
    for other in [
        // The translation detects that this has no news.
        change(
            "UPSERT",
            json!({"stage": "OPEN", "metaDataLastUpdateTs": 5, "x": 1}),
        ),
        change(
            "UPSERT",
            json!({"stage": "OPEN", "metaDataLastUpdateTs": 6}),
        ),
        change(
            "UPSERT",
            json!({"stage": "CLOSE", "metaDataLastUpdateTs": 5}),
        ),
        change(
            "DELETE",
            json!({"stage": "OPEN", "metaDataLastUpdateTs": 5}),
        ),
        change("UPSERT", json!({"stage": "OPEN"})),
    ] {
        assert_ne!(key(other), open);
    }
}

#[test]
fn undated_changes_are_duplicates_only_if_identical() {
    let undated = |x: u8| {
        let details = json!({"state": "OPEN", "x": x});
        conversation(&json!({"result": {"convId": "C", "conversationDetails": details}}))
    };
    let key = |change: &Change| change.dedupe_key(&account("1"));

    assert_eq!(key(&undated(1)), key(&undated(1)));
    assert_ne!(key(&undated(1)), key(&undated(2)));
    assert_ne!(key(&undated(1)), undated(1).dedupe_key(&account("2")));
}

proptest! {
    #[test]
    fn dedupe_keys_differ_by_account_dialog_and_sequence(
        one in ("[12]{1,2}", "[12]{1,2}", 0_u32..3),
        two in ("[12]{1,2}", "[12]{1,2}", 0_u32..3),
    ) {
        let key = |(account_id, dialog, sequence): &(String, String, u32)| {
            let change = json!({"dialogId": dialog, "sequence": sequence, "event": text()});
            message(&change).dedupe_key(&account(account_id)).unwrap()
        };

        prop_assert_eq!(key(&one) == key(&two), one == two);
    }
}
