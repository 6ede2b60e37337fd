//! What the Cloud tells reaches the channel's log: once, only if it is signed, and whichever comes first.

use axum::http::StatusCode;
use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply as CloudReply};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::cloud::{
    ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, agent_text, sign, state, tell,
};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    an_agents_text_becomes_an_event_of_its_channel,
    what_is_not_signed_is_refused_and_leaves_nothing,
    what_is_signed_but_no_notification_is_refused,
    what_is_new_to_the_bridge_is_taken_and_harms_nothing,
    what_comes_twice_is_told_once,
    what_comes_all_at_once_is_all_told,
    a_conversation_that_the_cloud_closes_is_replaced_at_once,
    a_lost_opening_is_found_through_what_the_cloud_tells,
    what_a_channel_does_not_want_to_know_is_not_told,
);

/// Posts bytes as the Cloud would; `change` alters the headers.
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
    let events = app.logged("sms").await.into_iter();
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

    let events = app.logged("sms").await;
    let [event] = &events[..] else {
        panic!("{events:#?}")
    };
    assert!(event["id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(event["type"], "message.created");
    assert_eq!(event["channel"], "sms");
    assert_eq!(event["user_id"], "+15551234567");
    assert_eq!(event["conversation_id"], *conversation);
    assert_eq!(event["occurred_at"], "2027-01-15T08:00:00.000Z");
    let data = json!({
        "sequence": 3, "dialog_id": conversation, "text": "Hi 👋",
        "sender": {"id": "agent-1", "role": "agent"},
    });
    assert_eq!(event["data"], data);
}

async fn what_is_not_signed_is_refused_and_leaves_nothing(engine: Engine) {
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

    assert!(app.logged("sms").await.is_empty());
    assert!(!app.database.dump().await.contains("marker"));
    post(&app, body.as_bytes(), &[]).await.expect(200);
    assert_eq!(texts(&app).await, ["marker"]);
}

async fn what_is_signed_but_no_notification_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!(r#"{{"type":"x","body":{deep}}}"#);

    for junk in ["", "marker", "[]", "7", "\u{0}", &deep, &deep_inside] {
        let refused = post(&app, junk.as_bytes(), &[]).await;
        let problem = refused.expect_problem(400, "malformed-request");
        assert!(!problem.to_string().contains("marker"), "{problem}");
    }
    let large = vec![b' '; 2 * 1024 * 1024];
    let refused = post(&app, &large, &[]).await;
    refused.expect_problem(413, "body-too-large");
    app.sms.say("ada", "still here").await.expect(201);
}

async fn what_is_new_to_the_bridge_is_taken_and_harms_nothing(engine: Engine) {
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
        json!({}),
        json!({"type": "ms.Other", "body": {"changes": [{"dialogId": conversation}]}}),
        json!({"type": "ms.MessagingEventNotification", "body": 7}),
        json!({"type": "ms.MessagingEventNotification", "body": {"changes": {}}}),
        several,
    ] {
        notify(&app, &odd).await;
    }

    assert_eq!(texts(&app).await, ["one", "two"]);
}

async fn what_comes_twice_is_told_once(engine: Engine) {
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

    let events = app.logged("sms").await;
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(of("message.created"), 1);
    assert_eq!(of("conversation.opened"), 1);
    // Each is news: there may have been a pause between them.
    assert_eq!(of("typing.changed"), 3);
    assert_eq!(events.len(), 5);
}

async fn what_comes_all_at_once_is_all_told(engine: Engine) {
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

    let mut told = texts(&app).await;
    told.sort();
    told.dedup();
    assert_eq!(told.len(), USERS * TEXTS as usize);
}

async fn a_conversation_that_the_cloud_closes_is_replaced_at_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = open(&app, "ada").await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));

    notify(&app, &state(&first, &consumer, "CLOSE", 9)).await;

    let path = "/v1/users/ada/conversation";
    let known = app.sms.get(path).await.expect(200);
    assert_eq!(known["state"], "closed");
    assert_eq!(known["close_reason"], "agent");
    let before = app.cloud.requests(Operation::Send).len();
    let second = open(&app, "ada").await;
    assert_ne!(second, first);
    // Nothing was tried in the closed one.
    assert_eq!(app.cloud.requests(Operation::Send).len(), before + 1);
    let kinds: Vec<_> = app
        .logged("sms")
        .await
        .into_iter()
        .map(|e| e["type"].clone())
        .collect();
    assert_eq!(kinds, ["conversation.closed"]);
    // What is older than the end is no news.
    notify(&app, &state(&first, &consumer, "OPEN", 8)).await;
    assert_eq!(app.logged("sms").await.len(), 1);
}

async fn a_lost_opening_is_found_through_what_the_cloud_tells(engine: Engine) {
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
    assert!(app.logged("sms").await.is_empty());
    let sent = app.until(lost, "sent").await;
    assert_eq!(sent["conversation_id"], *opened.id);

    assert!(app.cloud.requests(Operation::Engagement).is_empty());
    eventually("what had come before is told", async || {
        (app.logged("sms").await.len() == 3).then_some(())
    })
    .await;
    let events = app.logged("sms").await;
    assert!(
        events
            .iter()
            .any(|event| event["type"] == "conversation.opened")
    );
    assert_eq!(texts(&app).await, ["welcome"]);
    assert_eq!(app.cloud.texts(&opened.id), ["hello"]);
}

async fn what_a_channel_does_not_want_to_know_is_not_told(engine: Engine) {
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

    let events = app.logged("sms").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "message.created");
    // It counts for the mapping all the same.
    let known = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(known["state"], "closed");
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (bridge, sms, _) = Process::serve(&toml).await;
    let sent = sms.say("ada", "hello").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();

    let told = tell(&sms, &agent_text(conversation, 1, "kept")).await;
    told.expect(200);
    bridge.kill().await;

    let store = database.store().await;
    let page = store
        .events_after(&"sms".parse().unwrap(), 0, 9)
        .await
        .unwrap();
    assert_eq!(page.events.len(), 1);
}
