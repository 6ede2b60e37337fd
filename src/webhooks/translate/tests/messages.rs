use super::*;

/// Builds a message change, with the members of `change` in place of the usual ones.
fn message(change: &Value) -> Change {
    let mut whole = json!({
        "sequence": 3,
        "originatorId": AGENT,
        "originatorMetadata": {"id": AGENT, "role": "ASSIGNED_AGENT"},
        "serverTimestamp": BEGIN,
        "event": {"type": "ContentEvent", "contentType": "text/plain", "message": "Hello"},
        "conversationId": CONVERSATION,
        "dialogId": CONVERSATION,
        "messageAudience": "ALL",
    });
    for (name, value) in change.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let body = json!({"kind": "notification", "type": "ms.MessagingEventNotification", "body": {"changes": [whole]}});
    let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
    notification.changes.into_iter().next().unwrap()
}

fn event(event: &Value) -> Change {
    message(&json!({"event": event}))
}

/// Returns the text of the message for an event.
fn text(event: &Value) -> Value {
    seen(&self::event(event), &known())["data"]["text"].clone()
}

#[test]
fn the_role_identifies_the_sender_and_unknown_roles_lose_no_reply() {
    for (role, expected) in [
        (json!("ASSIGNED_AGENT"), "agent"),
        (json!("AGENT"), "bot"),
        (json!("MANAGER"), "manager"),
        (json!("AGENT_MANAGER"), "manager"),
        (json!("ASSIGNED_MANAGER"), "manager"),
        (json!("CONTROLLER"), "system"),
        (json!("ASTROLOGER"), "agent"),
        (json!(null), "agent"),
        (json!(7), "agent"),
    ] {
        let change = message(&json!({"originatorMetadata": {"id": AGENT, "role": role}}));
        let seen = seen(&change, &known());
        assert_eq!(seen["type"], "message.created", "{role}");
        assert_eq!(seen["data"]["sender"], sender(AGENT, expected), "{role}");
    }
}

#[test]
fn the_user_is_recognized_by_role_or_id() {
    let by_role = json!({"originatorId": "another", "originatorMetadata": {"role": "CONSUMER"}});
    let by_id = json!({"originatorId": CONSUMER, "originatorMetadata": null});
    let by_id_in_metadata = json!({"originatorId": null, "originatorMetadata": {"id": CONSUMER}});
    let by_id_despite_role = json!({"originatorId": CONSUMER});

    for change in [by_role, by_id, by_id_in_metadata, by_id_despite_role] {
        let seen = seen(&message(&change), &known());
        assert_eq!(seen["type"], "message.echoed", "{change}");
        assert_eq!(seen["data"]["sender"]["role"], "consumer", "{change}");
    }
}

#[test]
fn a_sender_without_an_id_is_not_the_user() {
    let anonymous = message(&json!({"originatorId": null, "originatorMetadata": null}));
    let known = KnownState {
        consumer_id: None,
        ..known()
    };

    let seen = seen(&anonymous, &known);

    assert_eq!(seen["type"], "message.created");
    assert_eq!(seen["data"]["sender"], json!({"role": "agent"}));
}

#[test]
fn a_sender_is_identified_by_any_of_its_ids() {
    for (names, role) in [
        (
            json!({"originatorId": null, "originatorPId": CONSUMER}),
            "consumer",
        ),
        (
            json!({"originatorId": CONSUMER, "originatorMetadata": null}),
            "consumer",
        ),
        (
            json!({"originatorId": null, "originatorPId": AGENT, "originatorMetadata": null}),
            "agent",
        ),
        (
            json!({"originatorId": AGENT, "originatorMetadata": {"role": "MANAGER"}}),
            "manager",
        ),
    ] {
        let seen = seen(&message(&names), &known());
        assert_eq!(seen["data"]["sender"]["role"], role, "{names}");
        let id = if role == "consumer" { CONSUMER } else { AGENT };
        assert_eq!(seen["data"]["sender"]["id"], id, "{names}");
    }
}

#[test]
fn the_sequences_of_a_receipt_may_be_text() {
    let event = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": ["0", 1, "2", "x", "-1", 1.5, null]});

    let seen = seen(&message(&json!({"event": event})), &known());

    assert_eq!(seen["type"], "receipt.changed");
    assert_eq!(seen["data"]["sequences"], json!([0, 1, 2]));
}

#[test]
fn a_summary_for_agents_is_not_reported() {
    let summary = json!([{"type": "ExternalId", "id": "1"}, {"type": "ConversationSummary"}]);
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Ada wants", "metadata": summary});
    for change in [
        json!({"metadata": summary, "originatorMetadata": {"id": "c", "role": "CONTROLLER"}}),
        json!({"metadata": {"type": "conversationsummary"}}),
        json!({"event": event}),
    ] {
        let seen = seen(&message(&change), &known());
        assert_eq!(seen["ignored"], "private", "{change}");
    }
    // Members with such names in a brand's content are not marks.
    let content = json!({"type": "text", "text": "hi", "audience": "everyone"});
    let event = json!({"type": "RichContentEvent", "content": content});
    let metadata = json!([{"type": "Campaign", "audience": "new customers"}]);
    let seen = seen(
        &message(&json!({"event": event, "metadata": metadata, "messageAudience": "all"})),
        &known(),
    );
    assert_eq!(seen["type"], "message.created");
}

#[test]
fn a_change_for_a_limited_audience_is_never_reported() {
    for audience in [
        json!("AGENTS_AND_MANAGERS"),
        json!("everyone"),
        json!(" ALL"),
        json!(""),
        json!(0),
        json!(false),
        json!(["ALL"]),
        json!({"type": "ALL"}),
    ] {
        for event in [
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Hello"}),
            json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}),
            json!({"type": "ChatStateEvent", "chatState": "COMPOSING"}),
            json!({"type": "New"}),
        ] {
            let change = message(&json!({"event": event, "messageAudience": audience}));
            assert_eq!(
                seen(&change, &known())["ignored"],
                "private",
                "{audience} {event}"
            );
        }
    }
    for audience in [json!("ALL"), json!(null)] {
        let change = message(&json!({"messageAudience": audience}));
        assert_eq!(
            seen(&change, &known())["type"],
            "message.created",
            "{audience}"
        );
    }
}

#[test]
fn events_of_a_reader_are_ignored() {
    for event in [
        json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Hello"}),
        json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}),
        json!({"type": "ChatStateEvent", "chatState": "COMPOSING"}),
    ] {
        let reader = json!({"id": AGENT, "role": "READER"});
        let change = message(&json!({"event": event, "originatorMetadata": reader}));
        assert_eq!(seen(&change, &known())["ignored"], "reader", "{event}");
    }
}

#[test]
fn only_line_breaks_at_the_end_of_a_text_are_removed() {
    for (message, expected) in [
        ("Hi\n", "Hi"),
        ("Hi\r\n\r\n", "Hi"),
        ("  Hi,\n\nthere \n", "  Hi,\n\nthere "),
        ("\nHi\t", "\nHi\t"),
        ("\n", ""),
        ("", ""),
    ] {
        let event =
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": message});
        assert_eq!(text(&event), expected, "{message:?}");
    }
}

#[test]
fn replies_of_unknown_kinds_are_not_lost() {
    for (event, expected) in [
        (
            json!({"type": "ContentEvent", "message": "no type"}),
            "no type",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/html", "message": "<b>x</b>"}),
            "<b>x</b>",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": 42}),
            "42",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": {"text": "inside"}}),
            "inside",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": null}),
            "[unsupported content: text/plain]",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "x/y", "message": "{\"title\": \"as text\"}"}),
            "as text",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "x/y", "message": {"title": "\n", "a": 1}}),
            "[unsupported content: x/y]",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "x/y", "message": [1]}),
            "[unsupported content: x/y]",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"caption": "no path"}}),
            "no path",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"fileType": "PNG"}}),
            "[unsupported content: hosted/file]",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"relativePath": "/a\u{0}b"}}),
            "[unsupported content: hosted/file]",
        ),
        (
            json!({"type": "ContentEvent"}),
            "[unsupported content: ContentEvent]",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "forms/secure-invitation", "message": null}),
            "[secure form]",
        ),
        (
            json!({"type": "RichContentEvent"}),
            "[unsupported content: RichContentEvent]",
        ),
        (
            json!({"type": "RichContentEvent", "content": {"type": "vertical"}}),
            "[unsupported content: RichContentEvent]",
        ),
        (
            json!({"type": "RichContentEvent", "content": "no JSON", "message": "but a text"}),
            "but a text",
        ),
        (
            json!({"type": "RichContentEvent", "content": [{"text": "a"}, {"text": "b"}]}),
            "a\nb",
        ),
        (
            json!({"type": "HologramEvent", "message": "Hello"}),
            "Hello",
        ),
        (
            json!({"type": "HologramEvent", "content": {"text": "Hello"}}),
            "Hello",
        ),
        (
            json!({"type": "HologramEvent", "contentType": "x/y", "content": {"text": "Hello"}}),
            "Hello",
        ),
        (
            json!({"type": "HologramEvent", "message": {"title": "Hello", "elements": [{"text": "there"}]}}),
            "Hello\nthere",
        ),
        (json!({"message": "no type at all"}), "no type at all"),
        (
            json!({"quickReplies": {"replies": [{"title": "Yes", "click": {"actions": [{"type": "publishText"}]}}]}}),
            "1. Yes",
        ),
    ] {
        assert_eq!(text(&event), expected, "{event}");
    }
}

#[test]
fn structured_content_becomes_one_element_from_any_form() {
    let element = json!({"type": "text", "text": "Hello"});
    let replies = json!({"type": "quickReplies", "replies": []});
    for (content, expected) in [
        (
            element.clone(),
            json!({"type": "text", "text": "Hello", "quickReplies": replies}),
        ),
        (
            json!(element.to_string()),
            json!({"type": "text", "text": "Hello", "quickReplies": replies}),
        ),
        (
            json!([element]),
            json!({"type": "vertical", "elements": [element], "quickReplies": replies}),
        ),
    ] {
        let rich = json!({"type": "RichContentEvent", "content": content, "quickReplies": replies});
        assert_eq!(
            seen(&event(&rich), &known())["data"]["rich"],
            expected,
            "{content}"
        );
    }
    let list = json!({"type": "ContentEvent", "contentType": "x/y", "message": [1]});
    assert_eq!(seen(&event(&list), &known())["data"].get("rich"), None);
}

#[test]
fn choices_of_unknown_content_and_quick_replies_share_one_numbering() {
    let click = |text: &str| json!({"actions": [{"type": "publishText", "text": text}]});
    let replies =
        json!({"type": "quickReplies", "replies": [{"title": "No", "click": click("no")}]});
    for (message, expected) in [
        (
            json!({"title": "Yes", "click": click("yes")}),
            json!({"text": "1. Yes\n2. No", "choices": ["yes", "no"]}),
        ),
        (
            json!({"a": 1}),
            json!({"text": "[unsupported content: x/y]\n1. No", "choices": ["no"]}),
        ),
    ] {
        let event = json!({"type": "ContentEvent", "contentType": "x/y", "message": message, "quickReplies": replies});
        let data = seen(&self::event(&event), &known())["data"].clone();
        let choices = data["choices"].as_array().unwrap().iter();
        let choices: Vec<_> = choices.map(|choice| &choice["text"]).collect();
        assert_eq!(json!({"text": data["text"], "choices": choices}), expected);
        assert_eq!(data["rich"], message);
    }
}

#[test]
fn an_agents_plain_text_is_passed_on_unchanged() {
    for message in [
        "R&amp;D",
        "&#x1F449; here",
        "#md#[here](https://e.com)#/md#",
        "<a href=\"https://e.com\">here</a>",
    ] {
        let event =
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": message});
        assert_eq!(text(&event), message);
    }
}

#[test]
fn events_without_usable_content_are_ignored() {
    for event in [
        json!({}),
        json!({"type": "HologramEvent"}),
        json!({"type": "AcceptStatusEvent", "sequenceList": [1]}),
        json!({"type": "AcceptStatusEvent", "status": "READ"}),
        json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": ["x", -1, null]}),
        json!({"type": "ChatStateEvent"}),
    ] {
        assert_eq!(
            seen(&self::event(&event), &known())["ignored"],
            "unsupported",
            "{event}"
        );
    }
}

#[test]
fn unknown_statuses_are_passed_on_in_lower_case() {
    let receipt =
        json!({"type": "AcceptStatusEvent", "status": "NACK", "sequenceList": [4, "x", 5]});
    let single = json!({"type": "AcceptStatusEvent", "status": "VIEWED", "sequenceList": 4});
    let typing = json!({"type": "ChatStateEvent", "chatState": "BACKGROUND"});

    let seen = [receipt, single, typing].map(|it| seen(&event(&it), &known())["data"].clone());

    assert_eq!(seen[0]["status"], "nack");
    assert_eq!(seen[0]["sequences"], json!([4, 5]));
    assert_eq!(seen[1]["status"], "viewed");
    assert_eq!(seen[1]["sequences"], json!([4]));
    assert_eq!(seen[2]["state"], "background");
}

#[test]
fn a_file_without_a_link_is_reported_as_unsupported_content() {
    let known = KnownState {
        file: None,
        ..known()
    };

    let with_caption = seen(&change("file_of_the_user"), &known);
    let without = seen(&change("file"), &known);

    assert_eq!(with_caption["data"]["text"], "The receipt");
    assert_eq!(
        without["data"]["text"],
        "[unsupported content: hosted/file]"
    );
    assert_eq!(without["data"].get("file"), None);
}

#[test]
fn a_file_is_found_by_its_path_with_or_without_a_type() {
    for (message, file_type) in [
        (
            json!({"relativePath": "/v1/a.PNG", "fileType": "JPG"}),
            "JPG",
        ),
        (json!({"relativePath": "/v1/a.PNG"}), "PNG"),
        (json!({"relativePath": "/v1/a.PNG", "fileType": {}}), "PNG"),
        (json!({"relativePath": "/v1/a"}), "UNKNOWN"),
        (json!({"relativePath": "/v1.2/a"}), "UNKNOWN"),
        (json!("{\"relativePath\": \"/v1/a.PNG\"}"), "PNG"),
    ] {
        let event =
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
        let change = self::event(&event);

        assert!(change.file().unwrap().relative_path.starts_with("/v1"));
        assert_eq!(
            change.file().unwrap().file_type.as_str(),
            file_type,
            "{message}"
        );
        assert_eq!(
            seen(&change, &known())["data"]["file"]["file_type"],
            file_type
        );
    }
}

#[test]
fn only_metadata_that_could_be_sent_back_is_passed_on() {
    let with = |metadata: Value| {
        let change = message(&json!({"metadata": metadata}));
        seen(&change, &known())["data"].get("metadata").cloned()
    };
    let item = json!({"type": "ExternalId", "id": "1"});

    assert_eq!(with(json!([item, 7])), Some(json!([item])));
    assert_eq!(with(item.clone()), Some(json!([item])));
    assert_eq!(
        with(json!(vec![item.clone(); 20])),
        Some(json!(vec![item; 16]))
    );
    for none in [json!(null), json!([]), json!([1]), json!("x")] {
        assert_eq!(with(none.clone()), None, "{none}");
    }
}

#[test]
fn a_message_without_a_dialog_id_belongs_to_the_main_dialog() {
    let change = message(&json!({"dialogId": null}));

    assert_eq!(change.dialog_id(), None);
    assert_eq!(seen(&change, &known())["data"]["dialog_id"], CONVERSATION);
}

#[test]
fn debugging_a_translated_message_does_not_show_its_text() {
    let change = message(&json!({}));
    let translation = translate(&change, &known()).unwrap();

    let shown = format!(
        "{change:?} {:?} {translation:?} {:?}",
        change.content(),
        known()
    );

    assert!(shown.contains("sequence: Some(3)"), "{shown}");
    assert!(!shown.contains("Hello"), "{shown}");
    assert!(!shown.contains("bridge.example.com"), "{shown}");
}
