//! Webhooks: each change that the Cloud reports becomes one event in the channel's log, if it is
//! signed. The order of arrival does not matter.

use axum::http::StatusCode;
use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::agent::{AcceptStatus, Action, Text};
use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use liveperson_bridge::sandbox::{Answer, Fault, Kind, Operation, Reply as CloudReply};
use liveperson_bridge::store::PageSize;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::cloud::{
    ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, agent_text, send_notification, sign, state,
};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    an_agents_text_becomes_an_event_of_its_channel,
    a_notification_without_a_valid_signature_is_refused,
    a_signed_but_useless_notification_is_accepted_and_ignored,
    a_notification_up_to_the_size_limit_is_accepted,
    valid_changes_among_very_many_become_events,
    a_change_too_old_for_duplicate_detection_is_ignored,
    a_recent_change_of_an_old_conversation_is_accepted,
    operators_see_the_reasons_of_rejected_notifications,
    messages_among_agents_reach_no_channel,
    a_rating_after_the_end_is_an_event,
    a_notification_without_a_type_is_understood,
    rare_forms_of_notifications_are_accepted,
    unknown_members_and_changes_are_ignored,
    a_repeated_change_gives_one_event,
    concurrent_notifications_all_become_events,
    a_message_after_the_clouds_close_opens_a_new_conversation,
    a_lost_opening_is_found_through_a_notification,
    events_of_unwanted_types_are_not_logged,
);

/// Posts bytes as the Cloud does; `change` alters the headers.
async fn post(app: &TestApp, body: &[u8], change: &[(&str, &str)]) -> Reply {
    let signature = sign(body, CLIENT_SECRET);
    let mut headers = vec![
        ("x-liveperson-account-id", ACCOUNT),
        ("x-liveperson-client-id", CLIENT_ID),
        ("x-liveperson-signature", &signature),
    ];
    for (name, value) in change {
        headers.retain(|(known, _)| known != name);
        headers.push((name, value));
    }
    let mut request = app
        .sms
        .with_key("none")
        .request(Method::POST, &format!("/webhooks/{ACCOUNT}"));
    for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name, value);
    }
    send(request.body(body.to_vec())).await
}

async fn notify(app: &TestApp, notification: &Value) {
    let reply = post(app, notification.to_string().as_bytes(), &[]).await;
    reply.expect(200);
}

async fn texts(app: &TestApp) -> Vec<String> {
    let events = app.event_log("sms").await.into_iter();
    events
        .filter_map(|event| Some(event["data"]["text"].as_str()?.to_owned()))
        .collect()
}

async fn open(app: &TestApp, user: &str) -> String {
    let sent = app.sms.say(user, "hello").await.expect(201);
    sent["conversation_id"].as_str().unwrap().to_owned()
}

async fn an_agents_text_becomes_an_event_of_its_channel(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "+15551234567").await;

    notify(&app, &agent_text(&conversation, 3, "Hi 👋\n")).await;

    let events = app.event_log("sms").await;
    let [event] = &events[..] else {
        panic!("{events:#?}")
    };
    assert!(event["id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(event["type"], "message.created");
    assert_eq!(event["channel"], "sms");
    assert_eq!(event["user_id"], "+15551234567");
    assert_eq!(event["conversation_id"], *conversation);
    assert_eq!(event["occurred_at"], "2096-10-02T07:06:40.000Z");
    let data = json!({
        "sequence": 3, "dialog_id": conversation, "text": "Hi 👋",
        "sender": {"id": "agent-1", "role": "agent"},
    });
    assert_eq!(event["data"], data);
}

async fn a_notification_without_a_valid_signature_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let body = agent_text(&conversation, 1, "marker").to_string();
    let other = sign(body.as_bytes(), "another secret");
    let tampered = sign(body.replace("marker", "Marker").as_bytes(), CLIENT_SECRET);

    for change in [
        ("x-liveperson-signature", ""),
        ("x-liveperson-signature", "sha256="),
        ("x-liveperson-signature", "md5=AAAA"),
        ("x-liveperson-signature", &other),
        ("x-liveperson-signature", &tampered),
        ("x-liveperson-account-id", ""),
        ("x-liveperson-account-id", "87654321"),
        ("x-liveperson-client-id", ""),
        ("x-liveperson-client-id", "another"),
    ] {
        let refused = post(&app, body.as_bytes(), &[change]).await;
        refused.expect_problem(401, "signature-refused");
    }
    let unknown = app.sms.request(Method::POST, "/webhooks/87654321");
    let unknown = send(unknown.body(body.clone())).await;
    unknown.expect_problem(401, "signature-refused");

    assert!(app.event_log("sms").await.is_empty());
    assert!(!app.database.dump().await.contains("marker"));
    post(&app, body.as_bytes(), &[]).await.expect(200);
    assert_eq!(texts(&app).await, ["marker"]);
}

/// Guards the flow of notifications: the Cloud repeats a refused one, and delays all that follow.
async fn a_signed_but_useless_notification_is_accepted_and_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!(r#"{{"type":"x","body":{deep}}}"#);

    for (junk, reason) in [
        (&b""[..], "not_json"),
        (b"marker", "not_json"),
        (b"\0", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b"\xef\xbb\xbf", "not_json"),
        (deep.as_bytes(), "not_json"),
        (deep_inside.as_bytes(), "not_json"),
        (b"[]", "no_changes"),
        (b"7", "no_changes"),
        (b"\"x\"", "no_changes"),
        (b"{}", "no_changes"),
        (b"{\"body\": 7}", "no_changes"),
        (
            b"{\"type\": \"ms.MessagingEventNotification\", \"body\": {}}",
            "no_changes",
        ),
        (
            b"{\"type\": \"brand.New\", \"body\": {\"changes\": [{\"a\": 1}]}}",
            "not_understood",
        ),
        (b"{\"body\": {\"changes\": [7]}}", "not_understood"),
    ] {
        let before = rejected(&app, ACCOUNT, reason).await;
        post(&app, junk, &[]).await.expect(200);
        let shown = String::from_utf8_lossy(&junk[..junk.len().min(60)]).into_owned();
        assert_eq!(rejected(&app, ACCOUNT, reason).await, before + 1, "{shown}");
    }
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend(
        agent_text(&conversation, 0, "behind a mark")
            .to_string()
            .into_bytes(),
    );
    post(&app, &marked, &[]).await.expect(200);

    assert_eq!(texts(&app).await, ["behind a mark"]);
}

/// Returns the number of rejected notifications of an account with this reason.
async fn rejected(app: &TestApp, account: &str, reason: &str) -> u32 {
    let shown = app.admin.request(Method::GET, "/metrics").send().await;
    let shown = shown.unwrap().text().await.unwrap();
    let labels = format!("{{account=\"{account}\",reason=\"{reason}\"}} ");
    let series = format!("liveperson_bridge_webhook_rejected_total{labels}");
    let value = shown.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

async fn a_notification_up_to_the_size_limit_is_accepted(engine: Engine) {
    const LIMIT: usize = 4 * 1024 * 1024;
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let room = LIMIT - agent_text(&conversation, 0, "").to_string().len();
    // Each quotation mark takes two bytes in JSON.
    let text = "\"".repeat(room / 2);

    let body = agent_text(&conversation, 0, &text).to_string();
    post(&app, body.as_bytes(), &[]).await.expect(200);
    let too_large = vec![b' '; LIMIT + 1];
    let refused = post(&app, &too_large, &[]).await;

    refused.expect_problem(413, "body-too-large");
    let logged = texts(&app).await;
    assert_eq!(logged.len(), 1);
    assert!(logged[0] == text, "{} bytes came", logged[0].len());
    assert_eq!(rejected(&app, ACCOUNT, "too_large").await, 1);
}

async fn valid_changes_among_very_many_become_events(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let text = |sequence: u32| agent_text(&conversation, sequence, &sequence.to_string());
    let mut many = text(0);
    let changes = many["body"]["changes"].as_array_mut().unwrap();
    changes.extend((1..2500).map(|n| text(n)["body"]["changes"][0].take()));
    let mut empty = text(2500);
    let changes = empty["body"]["changes"].as_array_mut().unwrap();
    changes.extend(std::iter::repeat_n(json!({}), 350_000));

    notify(&app, &many).await;
    notify(&app, &empty).await;

    let channel = "sms".parse().unwrap();
    let page = app
        .store()
        .events_after(&channel, 0, PageSize::events(9999))
        .await
        .unwrap();
    assert_eq!(page.events.len(), 2501);
    // A body counts once, no matter how many of its changes are not understood.
    assert_eq!(rejected(&app, ACCOUNT, "not_understood").await, 1);
}

async fn a_change_too_old_for_duplicate_detection_is_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let now = app.cloud.clock.now();
    let mut text = agent_text(&conversation, 0, "once");
    text["body"]["changes"][0]["serverTimestamp"] = json!(now.timestamp_millis());
    let mut opened = state(&conversation, &consumer, "OPEN", 0);
    let details = &mut opened["body"]["changes"][0]["result"]["conversationDetails"];
    details["metaDataLastUpdateTs"] = json!(now.timestamp_millis());
    let mut typing = text.clone();
    typing["body"]["changes"][0] = json!({
        "originatorMetadata": {"id": "agent-1", "role": "ASSIGNED_AGENT"}, "dialogId": conversation,
        "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"},
    });
    typing["body"]["sentTs"] = json!(now.timestamp_millis());
    let captured = [&text, &opened, &typing];

    for body in captured {
        notify(&app, body).await;
    }
    // Until this moment, the captured notifications are recognized as duplicates.
    app.cloud.clock.advance(TimeDelta::days(4));
    let before = app.event_log("sms").await.len();
    for body in [&text, &opened] {
        notify(&app, body).await;
    }
    assert_eq!(app.event_log("sms").await.len(), before);
    app.cloud.clock.advance(TimeDelta::hours(2));
    let store = app.store();
    eventually("old duplicate records are removed", async || {
        let now = app.cloud.clock.now();
        let old = now - TimeDelta::days(4);
        (store.remove_seen_changes(old, 500).await.unwrap() == 0).then_some(())
    })
    .await;
    for body in captured {
        notify(&app, body).await;
    }

    assert_eq!(before, 3);
    assert_eq!(app.event_log("sms").await.len(), before);
    assert_eq!(rejected(&app, ACCOUNT, "too_old").await, 3);
}

async fn a_recent_change_of_an_old_conversation_is_accepted(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let began = app.cloud.clock.now().timestamp_millis();
    app.cloud.clock.advance(TimeDelta::days(90));
    let now = app.cloud.clock.now().timestamp_millis();
    let dated = |updated: Value| {
        let mut notification = state(&conversation, &consumer, "OPEN", 0);
        let details = &mut notification["body"]["changes"][0]["result"]["conversationDetails"];
        details["startTs"] = json!(began);
        details["dialogs"][0]["creationTs"] = json!(began);
        details["metaDataLastUpdateTs"] = updated;
        notification
    };

    notify(&app, &dated(json!(now))).await;
    // A state without an update time of its own is always accepted.
    notify(&app, &dated(json!(null))).await;

    assert_eq!(app.event_log("sms").await.len(), 2);
}

async fn operators_see_the_reasons_of_rejected_notifications(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let body = agent_text(&conversation, 1, "hi").to_string();
    let wrong = sign(body.as_bytes(), "another secret");

    let mut answers = Vec::new();
    for (change, reason) in [
        (("x-liveperson-signature", ""), "signature_missing"),
        (
            ("x-liveperson-signature", "md5=AAAA"),
            "signature_malformed",
        ),
        (("x-liveperson-signature", &*wrong), "signature_wrong"),
        (("x-liveperson-account-id", ""), "account_header"),
        (("x-liveperson-account-id", "87654321"), "account_header"),
        (("x-liveperson-client-id", "another"), "client_id"),
    ] {
        let before = rejected(&app, ACCOUNT, reason).await;
        answers.push(post(&app, body.as_bytes(), &[change]).await);
        assert_eq!(rejected(&app, ACCOUNT, reason).await, before + 1);
    }
    for account in ["87654321", "%2e%2e%2fetc"] {
        let request = app
            .sms
            .request(Method::POST, &format!("/webhooks/{account}"));
        answers.push(send(request.body(body.clone())).await);
    }
    assert_eq!(rejected(&app, "unknown", "unknown_account").await, 2);
    // The sender gets the same answer in each case.
    let problems = answers.into_iter().map(|reply| {
        let mut problem = reply.expect_problem(401, "signature-refused");
        problem["request_id"].take();
        problem["instance"].take();
        problem
    });
    let problems: Vec<_> = problems.collect();
    assert!(
        problems.windows(2).all(|pair| pair[0] == pair[1]),
        "{problems:#?}"
    );

    let overview = eventually("the overview shows all", async || {
        let overview = app.admin.get("/api/overview").await.expect(200);
        let foreign = &overview["foreign_notifications"];
        let account = &overview["accounts"][0]["rejected_notifications"];
        let all = account.as_array().unwrap().len() == 5 && foreign[0]["count"] == 2;
        all.then_some(overview)
    })
    .await;
    let shown = overview["accounts"][0]["rejected_notifications"]
        .as_array()
        .unwrap();
    let of = |reason: &str| {
        shown
            .iter()
            .find(|it| it["reason"] == reason)
            .unwrap()
            .clone()
    };
    assert_eq!(of("account_header")["count"], 2);
    assert_eq!(of("signature_wrong")["count"], 1);
    assert_eq!(of("signature_wrong")["refused"], true);
    assert_eq!(
        overview["foreign_notifications"][0]["reason"],
        "unknown_account"
    );
    // The database contains no account id that a caller has made up.
    assert!(!app.database.dump().await.contains("87654321"));
}

/// Builds the state of a conversation that has one more dialog beside the main one.
fn with_dialog(conversation: &str, consumer: &str, after: i64, dialog: &Value) -> Value {
    let mut notification = state(conversation, consumer, "OPEN", after);
    let dialogs = "/body/changes/0/result/conversationDetails/dialogs";
    let dialogs = notification.pointer_mut(dialogs).unwrap();
    dialogs.as_array_mut().unwrap().push(dialog.clone());
    notification
}

fn in_dialog(conversation: &str, dialog: &str, sequence: u32, text: &str) -> Value {
    let mut notification = agent_text(conversation, sequence, text);
    notification["body"]["changes"][0]["dialogId"] = json!(dialog);
    notification
}

async fn messages_among_agents_reach_no_channel(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let dialog =
        |id: &str, kind: &str| json!({"dialogId": id, "dialogType": kind, "state": "OPEN"});
    let mut marked = agent_text(&conversation, 8, "marker");
    marked["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    let mut file = agent_text(&conversation, 9, "");
    file["body"]["changes"][0]["event"] = json!({
        "type": "ContentEvent", "contentType": "hosted/file", "audience": "AGENTS_AND_MANAGERS",
        "message": {"relativePath": "/marker.pdf", "fileType": "PDF"},
    });

    // These come before the types of the dialogs are known.
    notify(&app, &in_dialog(&conversation, "consulting", 0, "marker")).await;
    notify(&app, &in_dialog(&conversation, "survey", 0, "How was it?")).await;
    notify(&app, &in_dialog(&conversation, "lost", 0, "Still there?")).await;
    notify(&app, &marked).await;
    notify(&app, &file).await;
    assert!(app.event_log("sms").await.is_empty());
    notify(
        &app,
        &with_dialog(&conversation, &consumer, 1, &dialog("consulting", "AGENT")),
    )
    .await;
    notify(
        &app,
        &with_dialog(
            &conversation,
            &consumer,
            2,
            &dialog("survey", "POST_SURVEY"),
        ),
    )
    .await;
    notify(&app, &in_dialog(&conversation, "consulting", 1, "marker")).await;

    eventually("the survey's question is logged", async || {
        (texts(&app).await == ["How was it?"]).then_some(())
    })
    .await;
    app.cloud.clock.advance(TimeDelta::minutes(3));
    eventually("the withheld message is released", async || {
        (texts(&app).await == ["How was it?", "Still there?"]).then_some(())
    })
    .await;
    assert!(!app.database.dump().await.contains("marker"));
    for event in app.event_log("sms").await {
        assert!(!event.to_string().contains("consulting"), "{event}");
    }
}

async fn a_rating_after_the_end_is_an_event(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let rated = |after: i64| {
        let mut notification = state(&conversation, &consumer, "CLOSE", after);
        notification["body"]["changes"][0]["result"]["conversationDetails"]["csat"] =
            json!({"csatRate": 4, "csatResolutionConfirmation": false, "status": "FILLED"});
        notification
    };

    notify(&app, &state(&conversation, &consumer, "CLOSE", 1)).await;
    notify(&app, &rated(2)).await;
    notify(&app, &rated(3)).await;

    let events = app.event_log("sms").await;
    let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["conversation.closed", "conversation.updated"]);
    assert_eq!(events[1]["data"]["state"], "closed");
    let csat = json!({"score": 4, "fcr": "no", "status": "filled"});
    assert_eq!(events[1]["data"]["csat"], csat);
}

async fn a_notification_without_a_type_is_understood(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;

    let of_one_time = [
        state(&conversation, &consumer, "OPEN", 5),
        with_dialog(
            &conversation,
            &consumer,
            5,
            &json!({"dialogId": "d1", "dialogType": "OTHER"}),
        ),
        agent_text(&conversation, 0, "hi"),
    ];
    for mut notification in of_one_time {
        let members = notification.as_object_mut().unwrap();
        members.remove("type");
        members.remove("kind");
        notify(&app, &notification).await;
        notify(&app, &notification).await;
    }

    let events = app.event_log("sms").await;
    let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
    let expected = [
        "conversation.opened",
        "conversation.updated",
        "message.created",
    ];
    assert_eq!(kinds, expected);
}

async fn rare_forms_of_notifications_are_accepted(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let conversation = open(&app, "ada").await;
    let sandbox = &app.cloud.sandbox;
    let kinds = async |kind: &str| {
        let events = app.event_log("sms").await;
        events.iter().filter(|event| event["type"] == kind).count()
    };
    eventually("the open state is delivered", async || {
        (kinds("conversation.opened").await == 1).then_some(())
    })
    .await;

    sandbox.disturb(Disturbance {
        only: Some(Kind::Conversation),
        ..Disturbance::next(DisturbanceKind::TwoStates)
    });
    sandbox.act(&conversation, Action::Join {}).unwrap();
    eventually("both states are delivered", async || {
        (kinds("conversation.updated").await >= 1).then_some(())
    })
    .await;
    let private = Text {
        private: true,
        ..Text::new("marker")
    };
    for (disturbance, text) in [
        (DisturbanceKind::Empty, Text::new("empty")),
        (DisturbanceKind::ByteOrderMark, Text::new("marked")),
        (DisturbanceKind::Untyped, Text::new("untyped")),
        (DisturbanceKind::AudienceInEvent, private),
        (DisturbanceKind::Old, Text::new("marker")),
        (DisturbanceKind::AudienceInEvent, Text::new("for everybody")),
    ] {
        sandbox.disturb(Disturbance {
            only: Some(Kind::Content),
            ..Disturbance::next(disturbance)
        });
        sandbox.act(&conversation, Action::Text(text)).unwrap();
    }
    sandbox.disturb(Disturbance::next(DisturbanceKind::NumbersAsText));
    let read = Action::Receipt {
        status: AcceptStatus::Read,
        sequences: vec![0],
    };
    sandbox.act(&conversation, read).unwrap();

    eventually("the receipt arrives", async || {
        (kinds("receipt.changed").await == 1).then_some(())
    })
    .await;
    let expected = ["empty", "marked", "untyped", "for everybody"];
    assert_eq!(texts(&app).await, expected);
    assert!(
        sandbox
            .notifications()
            .iter()
            .all(|it| it.status == Some(200))
    );
    assert!(!app.database.dump().await.contains("marker"));
}

async fn unknown_members_and_changes_are_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let mut several = agent_text(&conversation, 1, "one");
    let mut second = agent_text(&conversation, 2, "two")["body"]["changes"][0].take();
    second["brandNew"] = json!({"member": [1]});
    second["event"]["quickReplies"] = Value::Null;
    let changes = several["body"]["changes"].as_array_mut().unwrap();
    changes.insert(0, json!("no object"));
    changes.push(json!({"event": {"type": "Brand.New"}, "dialogId": conversation}));
    changes.push(second);

    for odd in [
        json!({"type": "ms.Other", "body": {"changes": [{"dialogId": conversation}]}}),
        json!({"type": "ms.MessagingEventNotification", "body": 7}),
        json!({"type": "ms.MessagingEventNotification", "body": {"changes": {}}}),
        several,
    ] {
        notify(&app, &odd).await;
    }

    assert_eq!(texts(&app).await, ["one", "two"]);
}

async fn a_repeated_change_gives_one_event(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let mut composing = agent_text(&conversation, 0, "");
    composing["body"]["changes"][0] = json!({
        "originatorMetadata": {"id": "agent-1", "role": "ASSIGNED_AGENT"}, "dialogId": conversation,
        "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"},
    });

    for _ in 0..3 {
        notify(&app, &agent_text(&conversation, 1, "one")).await;
        notify(&app, &state(&conversation, &consumer, "OPEN", 5)).await;
        notify(&app, &composing).await;
    }

    let events = app.event_log("sms").await;
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(of("message.created"), 1);
    assert_eq!(of("conversation.opened"), 1);
    // Each is new, because the typing may have paused in between.
    assert_eq!(of("typing.changed"), 3);
    assert_eq!(events.len(), 5);
}

async fn concurrent_notifications_all_become_events(engine: Engine) {
    const USERS: usize = 5;
    const TEXTS: u32 = 40;
    let app = std::sync::Arc::new(TestApp::start(engine).await);
    let mut tasks = JoinSet::new();
    for user in 0..USERS {
        let conversation = open(&app, &user.to_string()).await;
        for sequence in 0..TEXTS {
            let app = std::sync::Arc::clone(&app);
            let text = agent_text(&conversation, sequence, &format!("{user}-{sequence}"));
            tasks.spawn(async move { notify(&app, &text).await });
        }
    }

    tasks.join_all().await;

    let mut logged = texts(&app).await;
    logged.sort();
    logged.dedup();
    assert_eq!(logged.len(), USERS * TEXTS as usize);
}

async fn a_message_after_the_clouds_close_opens_a_new_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));

    notify(&app, &state(&first, &consumer, "CLOSE", 9)).await;

    let path = "/v1/users/ada/conversation";
    let closed = app.sms.get(path).await.expect(200);
    assert_eq!(closed["state"], "closed");
    assert_eq!(closed["close_reason"], "agent");
    let before = app.cloud.requests(Operation::Send).len();
    let second = open(&app, "ada").await;
    assert_ne!(second, first);
    // No attempt was made in the closed conversation.
    assert_eq!(app.cloud.requests(Operation::Send).len(), before + 1);
    let kinds: Vec<_> = app
        .event_log("sms")
        .await
        .into_iter()
        .map(|e| e["type"].clone())
        .collect();
    assert_eq!(kinds, ["conversation.closed"]);
    // A state from before the close is ignored.
    notify(&app, &state(&first, &consumer, "OPEN", 8)).await;
    assert_eq!(app.event_log("sms").await.len(), 1);
}

async fn a_lost_opening_is_found_through_a_notification(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::new(
            Operation::Conversation,
            Answer::Reply(CloudReply::new(StatusCode::BAD_GATEWAY)),
        )
    });
    let lost = app.sms.say("ada", "hello").await;
    let opened = app.cloud.only_conversation();
    let consumer = &opened.consumer.lp_consumer_id;

    notify(&app, &state(&opened.id, consumer, "OPEN", 5)).await;
    notify(&app, &agent_text(&opened.id, 0, "welcome")).await;
    assert!(app.event_log("sms").await.is_empty());
    let sent = app.wait_until(lost, "sent").await;
    assert_eq!(sent["conversation_id"], *opened.id);

    assert!(app.cloud.requests(Operation::Engagement).is_empty());
    eventually("the unmatched changes are delivered", async || {
        (app.event_log("sms").await.len() == 3).then_some(())
    })
    .await;
    let events = app.event_log("sms").await;
    assert!(
        events
            .iter()
            .any(|event| event["type"] == "conversation.opened")
    );
    assert_eq!(texts(&app).await, ["welcome"]);
    assert_eq!(app.cloud.texts(&opened.id), ["hello"]);
}

async fn events_of_unwanted_types_are_not_logged(engine: Engine) {
    let database = Database::create(engine).await;
    let app = TestApp::start_configured(Cloud::start().await, database, |toml| {
        let wanted = "id = \"sms\"\nevents = [\"message.created\"]";
        toml.replace("id = \"sms\"", wanted)
    })
    .await;
    let conversation = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;

    notify(&app, &state(&conversation, &consumer, "CLOSE", 9)).await;
    notify(&app, &agent_text(&conversation, 1, "bye")).await;

    let events = app.event_log("sms").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "message.created");
    // The change still updates the state of the conversation.
    let conversation = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(conversation["state"], "closed");
}

#[tokio::test]
async fn an_acknowledged_notification_survives_a_kill() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (bridge, sms, _) = Process::serve(&toml).await;
    let sent = sms.say("ada", "hello").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();

    let reply = send_notification(&sms, &agent_text(conversation, 1, "kept")).await;
    reply.expect(200);
    bridge.kill().await;

    let store = database.store().await;
    let page = store
        .events_after(&"sms".parse().unwrap(), 0, PageSize::events(9))
        .await
        .unwrap();
    assert_eq!(page.events.len(), 1);
}
