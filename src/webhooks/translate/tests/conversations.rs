use super::*;
use crate::types::conversation::CloseReason;

/// Returns the type of the event for a fixture, or the reason why it is ignored. `newest` is the
/// time of the newest known state, in milliseconds after the start of the conversation.
fn event_type(name: &str, announced: Option<Announced>, newest: Option<i64>) -> Value {
    let known = KnownState {
        announced,
        updated_at: newest.map(|after| at(BEGIN + after)),
        ..known()
    };
    let seen = seen(&change(name), &known);
    seen.get("type").unwrap_or(&seen["ignored"]).clone()
}

#[test]
fn a_conversation_is_opened_once_then_updated_and_closed_once() {
    let opened = Some(Announced::Opened);
    let closed = Some(Announced::Closed);
    for (name, announced, newest, expected) in [
        ("conversation_opened", None, None, "conversation.opened"),
        // The opening was lost or comes later.
        ("conversation_assigned", None, None, "conversation.opened"),
        (
            "conversation_assigned",
            opened,
            Some(0),
            "conversation.updated",
        ),
        (
            "conversation_assigned",
            opened,
            None,
            "conversation.updated",
        ),
        // As old as the newest known state, or older.
        ("conversation_assigned", opened, Some(20_000), "stale"),
        ("conversation_opened", opened, Some(20_000), "stale"),
        (
            "conversation_in_survey",
            opened,
            Some(300_000),
            "conversation.updated",
        ),
        (
            "conversation_closed",
            opened,
            Some(301_000),
            "conversation.closed",
        ),
        ("conversation_closed", None, None, "conversation.closed"),
        // An end is valid even if it arrives late.
        (
            "conversation_closed",
            opened,
            Some(999_000),
            "conversation.closed",
        ),
        (
            "conversation_deleted",
            opened,
            Some(20_000),
            "conversation.closed",
        ),
        ("conversation_closed", closed, Some(301_000), "ended"),
        ("conversation_assigned", closed, None, "ended"),
        ("conversation_deleted", closed, None, "ended"),
    ] {
        assert_eq!(
            event_type(name, announced, newest),
            expected,
            "{name} after {announced:?}, {newest:?}"
        );
    }
}

fn mapping(name: &str, known: &KnownState<'_>) -> ConversationChange {
    translate(&change(name), known).unwrap().mapping.unwrap()
}

#[test]
fn the_mapping_records_the_survey_dialog() {
    let mapping = mapping("conversation_in_survey", &known());

    assert_eq!(mapping.announced, Announced::Opened);
    assert_eq!(mapping.closed, None);
    assert_eq!(mapping.updated_at, Some(at(BEGIN + 301_000)));
    let dialogs: Vec<_> = mapping
        .dialogs
        .iter()
        .map(|dialog| {
            (
                dialog.id.as_str(),
                dialog.kind,
                dialog.opened_at,
                dialog.closed_at,
            )
        })
        .collect();
    assert_eq!(
        dialogs,
        [
            (
                CONVERSATION,
                DialogKind::Main,
                at(BEGIN),
                Some(at(BEGIN + 300_000))
            ),
            (SURVEY, DialogKind::PostSurvey, at(BEGIN + 301_000), None),
        ]
    );
}

#[test]
fn the_mapping_records_the_end_from_any_available_time() {
    let reason = |name: &str| Some(CloseReason(name.to_owned()));
    for (name, after, reason) in [
        ("conversation_closed", 399_000, reason("agent")),
        ("conversation_closed_2018", 400_000, None),
        ("conversation_deleted", 500_000, None),
    ] {
        let mapping = mapping(name, &known());
        let closed = mapping.closed.unwrap();

        assert_eq!(mapping.announced, Announced::Closed, "{name}");
        assert_eq!(closed.at, at(BEGIN + after), "{name}");
        assert_eq!(closed.reason, reason, "{name}");
        assert!(
            mapping.dialogs.iter().all(|it| it.closed_at.is_some()),
            "{name}"
        );
    }
}

#[test]
fn a_late_end_does_not_move_the_update_time_back() {
    let newest = at(BEGIN + 999_000);
    let known = KnownState {
        updated_at: Some(newest),
        announced: Some(Announced::Opened),
        ..known()
    };

    assert_eq!(
        mapping("conversation_closed", &known).updated_at,
        Some(newest)
    );
    assert_eq!(
        mapping("conversation_deleted", &known).updated_at,
        Some(newest)
    );
}

/// Builds a conversation change with these details.
fn change_of(details: &Value) -> Change {
    let result = json!({"convId": CONVERSATION, "conversationDetails": details});
    let body = json!({"type": "cqm.ExConversationChangeNotification", "body":
        {"changes": [{"type": "UPSERT", "result": result}]}});
    let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
    notification.changes.into_iter().next().unwrap()
}

#[test]
fn the_stage_decides_the_end_with_the_state_as_fallback() {
    for (details, expected) in [
        (json!({"state": "OPEN", "stage": "OPEN"}), "open"),
        (json!({"state": "CLOSE", "stage": "OPEN"}), "open"),
        (json!({"state": "CLOSE", "stage": "CLOSE"}), "closed"),
        (json!({"state": "OPEN", "stage": "CLOSE"}), "closed"),
        (json!({"state": "CLOSE"}), "closed"),
        (json!({"state": "OPEN"}), "open"),
        (json!({"stage": "LOCKED", "state": "CLOSE"}), "open"),
        (json!({"stage": null, "state": "CLOSE"}), "closed"),
    ] {
        let seen = seen(&change_of(&details), &known());
        assert_eq!(seen["data"]["state"], expected, "{details}");
    }
    for details in [json!({}), json!({"stage": 1}), json!(null)] {
        assert_eq!(
            seen(&change_of(&details), &known())["ignored"],
            "unsupported",
            "{details}"
        );
    }
}

#[test]
fn a_skill_id_is_text_or_a_number_except_minus_one() {
    for (details, expected) in [
        (json!({"skillId": "2736637412"}), json!("2736637412")),
        (json!({"skillId": 2_736_637_412_u64}), json!("2736637412")),
        (
            json!({"conversationHandlerDetails": {"skillId": "5"}}),
            json!("5"),
        ),
        (json!({"skillId": "-1"}), json!(null)),
        (json!({"skillId": -1}), json!(null)),
        (json!({"skillId": null}), json!(null)),
        (json!({}), json!(null)),
    ] {
        let mut open = details.clone();
        open["stage"] = json!("OPEN");
        assert_eq!(
            seen(&change_of(&open), &known())["data"]["skill_id"],
            expected,
            "{details}"
        );
    }
}

#[test]
fn participants_come_from_the_dialogs_if_the_conversation_lists_none() {
    let detail =
        |id: &str, role: &str, state: &str| json!({"id": id, "role": role, "state": state});
    let dialog = |state: &str, details: Value| json!({"dialogId": CONVERSATION, "state": state, "participantsDetails": details});
    let details = json!({"stage": "OPEN", "dialogs": [
        dialog("OPEN", json!([detail(CONSUMER, "CONSUMER", "ACTIVE"), detail(AGENT, "ASSIGNED_AGENT", "SUGGESTED")])),
        {"participantsDetails": "none"},
        "no dialog",
    ]});

    let seen = seen(&change_of(&details), &known());

    assert_eq!(
        seen["data"]["participants"],
        json!([sender(CONSUMER, "consumer"), sender(AGENT, "agent")])
    );
    assert_eq!(seen["data"]["agent"], json!(null));
    assert_eq!(
        seen["data"]["dialogs"],
        json!([{"id": CONVERSATION, "type": "main", "state": "open"}])
    );
}

#[test]
fn only_a_participant_with_the_assigned_role_is_the_agent() {
    let with = |role: Value| {
        let participants = json!([{"id": CONSUMER}, {"id": AGENT, "role": role}, {"id": AGENT}, 7]);
        let change = change_of(&json!({"stage": "OPEN", "participants": participants}));
        seen(&change, &known())["data"].clone()
    };

    assert_eq!(with(json!("ASSIGNED_AGENT"))["agent"], json!({"id": AGENT}));
    assert_eq!(with(json!("READER"))["agent"], json!(null));
    assert_eq!(
        with(json!("READER"))["participants"],
        json!([sender(CONSUMER, "consumer"), sender(AGENT, "reader")])
    );
}

#[test]
fn impossible_times_are_replaced_by_the_present_time() {
    for ts in [
        json!(u64::MAX),
        json!(-5),
        json!(0),
        json!("soon"),
        json!(9e99),
    ] {
        let change = change_of(&json!({
            "stage": "CLOSE", "startTs": ts, "endTs": ts, "metaDataLastUpdateTs": ts,
            "dialogs": [{"dialogId": CONVERSATION, "creationTs": ts, "endTs": ts}],
        }));

        let mapping = translate(&change, &known()).unwrap().mapping.unwrap();

        assert_eq!(mapping.updated_at, None, "{ts}");
        assert_eq!(mapping.closed.unwrap().at, known().now, "{ts}");
        assert_eq!(mapping.dialogs[0].opened_at, known().now, "{ts}");
    }
}

/// Returns the known state after a change was translated.
fn after(details: &Value, known: &KnownState<'_>) -> (Announced, Option<DateTime<Utc>>, String) {
    let translation = translate(&change_of(details), known).unwrap();
    let mapping = translation.mapping.unwrap();
    (mapping.announced, mapping.updated_at, mapping.fingerprint)
}

#[test]
fn a_second_state_of_the_same_time_counts_if_it_differs() {
    let state = |skill: &str, stage: &str, ts: i64| json!({"stage": stage, "skillId": skill, "metaDataLastUpdateTs": ts});
    let (announced, updated_at, fingerprint) = after(&state("1", "OPEN", 7), &known());
    let known = KnownState {
        announced: Some(announced),
        updated_at,
        fingerprint: Some(&fingerprint),
        ..known()
    };
    let event_type = |details: Value| {
        let seen = seen(&change_of(&details), &known);
        seen.get("type").unwrap_or(&seen["ignored"]).clone()
    };

    assert_eq!(event_type(state("1", "OPEN", 7)), "stale");
    assert_eq!(event_type(state("2", "OPEN", 7)), "conversation.updated");
    assert_eq!(event_type(state("2", "OPEN", 6)), "stale");
    assert_eq!(event_type(state("1", "OPEN", 8)), "conversation.updated");
    assert_eq!(event_type(state("1", "CLOSE", 7)), "conversation.closed");
    // Stored by a version without fingerprints.
    let unmarked = KnownState {
        fingerprint: None,
        ..known.clone()
    };
    let seen = seen(&change_of(&state("2", "OPEN", 7)), &unmarked);
    assert_eq!(seen["ignored"], "stale");
}

#[test]
fn a_rating_after_the_end_is_reported_once() {
    let csat = json!({"csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"});
    let closed =
        |csat: Value, ts: i64| json!({"stage": "CLOSE", "csat": csat, "metaDataLastUpdateTs": ts});
    let (announced, updated_at, fingerprint) = after(&closed(json!(null), 7), &known());
    let ended = KnownState {
        announced: Some(announced),
        updated_at,
        fingerprint: Some(&fingerprint),
        ..known()
    };

    let rated = seen(&change_of(&closed(csat.clone(), 9)), &ended);
    assert_eq!(rated["type"], "conversation.updated");
    assert_eq!(rated["data"]["state"], "closed");
    let expected = json!({"score": 5, "fcr": "yes", "status": "filled"});
    assert_eq!(rated["data"]["csat"], expected);
    for (details, reason) in [
        (closed(json!(null), 9), "ended"),
        (closed(csat.clone(), 6), "ended"),
        (
            json!({"stage": "OPEN", "csat": csat, "metaDataLastUpdateTs": 9}),
            "ended",
        ),
    ] {
        assert_eq!(
            seen(&change_of(&details), &ended)["ignored"],
            reason,
            "{details}"
        );
    }

    let (announced, updated_at, fingerprint) = after(&closed(csat.clone(), 9), &ended);
    let rated = KnownState {
        announced: Some(announced),
        updated_at,
        fingerprint: Some(&fingerprint),
        ..known()
    };
    let mut again = closed(csat.clone(), 10);
    again["participants"] = json!([{"id": AGENT, "role": "MANAGER"}]);
    assert_eq!(seen(&change_of(&again), &rated)["ignored"], "ended");
    let other = closed(json!({"csatRate": "1"}), 10);
    assert_eq!(
        seen(&change_of(&other), &rated)["data"]["csat"],
        json!({"score": 1})
    );
}

#[test]
fn only_readable_members_of_a_rating_are_reported() {
    for (csat, expected) in [
        (
            json!({"csatRate": 0, "status": "SKIPPED"}),
            json!({"status": "skipped"}),
        ),
        (
            json!({"csatRate": 6, "csatResolutionConfirmation": false}),
            json!({"fcr": "no"}),
        ),
        (json!({"csatRate": null, "status": null}), json!(null)),
        (json!("5"), json!(null)),
    ] {
        let details = json!({"stage": "CLOSE", "csat": csat});
        let seen = seen(&change_of(&details), &known());
        assert_eq!(seen["data"]["csat"], expected, "{csat}");
    }
}

#[test]
fn participants_may_be_grouped_by_role() {
    for name in ["participants", "participantsPId"] {
        let by_role = json!({"CONSUMER": [CONSUMER], "assigned_agent": [{"id": AGENT}], "MANAGER": 7, "READER": [null, "not an id"]});
        let mut details = json!({"stage": "OPEN"});
        details[name] = by_role;

        let change = change_of(&details);
        let seen = seen(&change, &known());

        assert_eq!(change.consumer_id(), Some(CONSUMER));
        assert_eq!(seen["data"]["agent"], json!({"id": AGENT}), "{seen}");
        let participants = seen["data"]["participants"].as_array().unwrap();
        let mut roles: Vec<_> = participants
            .iter()
            .map(|it| it["role"].as_str().unwrap())
            .collect();
        roles.sort_unstable();
        assert_eq!(roles, ["agent", "consumer", "manager"]);
    }
}

#[test]
fn a_dialog_among_agents_is_hidden_from_the_channel() {
    let person = |id: &str, role: &str| json!({"id": id, "role": role});
    let dialog = |id: &str, kind: &str, channel: &str, participant: Value| json!({"dialogId": id, "dialogType": kind, "channelType": channel, "state": "OPEN", "participantsDetails": [participant]});
    let mut marked = dialog("d3", "OTHER", "MESSAGING", person("expert", "AGENT"));
    marked["audience"] = json!("AGENTS_AND_MANAGERS");
    let details = json!({"stage": "OPEN", "dialogs": [
        dialog(CONVERSATION, "MAIN", "MESSAGING", person(AGENT, "ASSIGNED_AGENT")),
        dialog("d1", "OTHER", "COBROWSE", person(CONSUMER, "CONSUMER")),
        dialog("d2", "Agent", "MESSAGING", person("colleague", "AGENT")),
        marked,
    ]});

    let data = seen(&change_of(&details), &known())["data"].clone();
    let mapping = translate(&change_of(&details), &known())
        .unwrap()
        .mapping
        .unwrap();

    assert_eq!(
        data["dialogs"],
        json!([
            {"id": CONVERSATION, "type": "main", "channel_type": "messaging", "state": "open"},
            {"id": "d1", "type": "other", "channel_type": "cobrowse", "state": "open"},
        ])
    );
    assert_eq!(
        data["participants"],
        json!([sender(AGENT, "agent"), sender(CONSUMER, "consumer")])
    );
    assert_eq!(mapping.dialogs.len(), 1);
    let side = mapping
        .side_dialogs
        .iter()
        .map(|it| (it.id.as_str(), it.is_private));
    assert_eq!(
        side.collect::<Vec<_>>(),
        [("d1", false), ("d2", true), ("d3", true)]
    );
}
