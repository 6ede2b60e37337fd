//! The outbox. An answer 202 is a promise: a request that the Cloud cannot accept now is stored,
//! sent in order, never lost and never sent twice.

use liveperson_bridge::store::PageSize;
use std::pin::pin;

use chrono::TimeDelta;
use futures_util::future::{Either, select};
use liveperson_bridge::sandbox::webhooks::DisturbanceKind;
use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply as CloudReply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    a_message_is_queued_after_any_failure_of_the_cloud,
    queued_messages_are_sent_in_order_after_an_outage,
    a_users_queue_does_not_delay_other_users,
    the_retry_after_of_the_cloud_is_respected,
    a_queued_message_is_given_up_after_a_day,
    a_refused_request_does_not_block_the_next_ones,
    an_echo_settles_a_message_with_an_unknown_outcome,
    the_echo_of_an_earlier_equal_message_proves_nothing,
    an_echo_with_changed_white_space_or_escapes_settles_a_message,
    a_masked_or_backdated_echo_settles_a_message_after_ten_seconds,
    a_message_of_another_device_is_not_taken_for_an_echo,
    a_message_without_an_echo_is_resent_soon_if_others_are_reported,
    a_message_is_not_resent_while_notifications_lag,
    a_late_echo_still_settles_a_message,
    a_message_without_an_echo_is_resent_later_if_the_cloud_is_silent,
    a_channel_can_ask_not_to_wait,
    a_channel_can_ask_for_a_shorter_wait,
    receipts_closes_and_ratings_are_queued,
    the_bytes_of_a_queued_file_are_deleted_once_it_is_sent,
    a_queued_message_opens_a_new_conversation_if_its_own_was_closed,
    a_message_that_is_sent_at_once_is_not_stored,
    another_channels_messages_are_not_shown,
    an_erasure_removes_the_users_queued_requests,
    a_queued_message_in_flight_survives_a_kill,
    queued_messages_of_many_users_are_sent_after_an_outage,
    the_first_success_after_an_outage_wakes_all_lanes,
);

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_send_queued_messages_once_and_in_order() {
    const USERS: usize = 6;
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let one = TestApp::start_with(cloud.clone(), database.clone()).await;
    let other = TestApp::start_with(cloud.clone(), database).await;
    let preferring = async |app: &TestApp, user: usize, text: usize| {
        let request = app
            .sms
            .request(Method::POST, &format!("/v1/users/user-{user}/messages"))
            .header("content-type", "application/json")
            .header("prefer", "respond-async")
            .body(json!({"text": text.to_string()}).to_string());
        send(request).await.expect(202);
    };

    for text in 0..5 {
        for user in 0..USERS {
            let app = if (text + user) % 2 == 0 { &one } else { &other };
            preferring(app, user, text).await;
        }
    }

    eventually("all messages are sent", async || {
        let conversations = cloud.sandbox.conversations();
        let mut sent = conversations.iter().map(crate::support::cloud::texts);
        let all = sent.all(|texts| texts == ["0", "1", "2", "3", "4"]);
        (all && conversations.len() == USERS).then_some(())
    })
    .await;
    // Nothing is sent twice.
    one.stop().await;
    other.stop().await;
    let conversations = cloud.sandbox.conversations();
    let sent = conversations.iter().map(crate::support::cloud::texts);
    assert_eq!(sent.map(|texts| texts.len()).sum::<usize>(), 5 * USERS);
}

async fn opened(engine: Engine) -> TestApp {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "first").await.expect(201);
    app
}

fn make_cloud_unavailable(app: &TestApp, times: u32) {
    app.cloud.sandbox.inject(Fault {
        times,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });
}

/// Loses the answer to the next message, which the Cloud accepts.
fn lose_next_answer(app: &TestApp) {
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Send, StatusCode::BAD_GATEWAY)
    });
}

fn texts(app: &TestApp) -> Vec<String> {
    app.cloud.texts(&app.cloud.only_conversation().id)
}

async fn wait_for_texts(app: &TestApp, expected: &[&str]) {
    eventually("the texts are at the Cloud", async || {
        (texts(app) == expected).then_some(())
    })
    .await;
}

#[track_caller]
fn location(reply: Reply) -> String {
    let location = reply.headers["location"].to_str().unwrap().to_owned();
    let queued = reply.expect(202);
    assert_eq!(queued["status"], "queued");
    assert_eq!(queued["sequence"], Value::Null);
    assert_eq!(
        location,
        format!("/v1/messages/{}", queued["id"].as_str().unwrap())
    );
    location
}

async fn events(app: &TestApp, kind: &str) -> Vec<Value> {
    let channel = "sms".parse().unwrap();
    let page = app
        .store()
        .events_after(&channel, 0, PageSize::events(1000))
        .await
        .unwrap();
    let events = page.events.iter();
    events
        .map(|event| serde_json::from_str::<Value>(&event.body).unwrap())
        .filter(|event| event["type"] == kind)
        .collect()
}

async fn notify(app: &TestApp, notification: &Value) {
    send_notification(&app.sms, notification).await.expect(200);
}

/// Builds the echo of a user's text.
fn echo(app: &TestApp, sequence: u32, text: &str, sent_at: i64) -> Value {
    let conversation = app.cloud.only_conversation();
    let consumer = conversation.consumer.lp_consumer_id;
    let mut notification = agent_text(&conversation.id, sequence, text);
    let change = &mut notification["body"]["changes"][0];
    change["originatorId"] = json!(consumer);
    change["originatorMetadata"] = json!({"id": consumer, "role": "CONSUMER"});
    change["serverTimestamp"] = json!(sent_at);
    notification
}

/// Builds the echo of a user's text from a Cloud that alters it.
fn altered_echo(app: &TestApp, disturbance: DisturbanceKind, sequence: u32, text: &str) -> Value {
    let escaped = || {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('\'', "&#39;")
    };
    match disturbance {
        DisturbanceKind::Trim => echo(app, sequence, text.trim(), now(app)),
        DisturbanceKind::Escape => echo(app, sequence, &escaped(), now(app)),
        DisturbanceKind::LineBreaks => echo(app, sequence, &text.replace('\n', "\r\n"), now(app)),
        DisturbanceKind::SlowClock => echo(app, sequence, text, now(app) - 30_000),
        _ => {
            let masked = |c: char| if c.is_ascii_digit() { '*' } else { c };
            let masked: String = text.chars().map(masked).collect();
            echo(app, sequence, &masked, now(app))
        }
    }
}

fn now(app: &TestApp) -> i64 {
    use liveperson_bridge::clock::Clock as _;
    app.cloud.clock.now_ms()
}

async fn a_message_is_queued_after_any_failure_of_the_cloud(engine: Engine) {
    let app = TestApp::start(engine).await;
    let page = CloudReply {
        content_type: Some("text/html".to_owned()),
        ..CloudReply::new(StatusCode::OK)
    };
    let status = |status| Fault::status(Operation::Send, status);
    for (user, fault) in [
        ("a", status(StatusCode::SERVICE_UNAVAILABLE)),
        ("b", status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("c", status(StatusCode::TOO_MANY_REQUESTS)),
        ("d", status(StatusCode::GATEWAY_TIMEOUT)),
        ("e", Fault::new(Operation::Send, Answer::Reply(page))),
    ] {
        let first = app.sms.say(user, "first").await.expect(201);
        app.cloud.sandbox.inject(fault);

        let queued_path = location(app.sms.say(user, "second").await);

        let sent = app.wait_for_status(&queued_path, "sent").await;
        assert_eq!(sent["sequence"], 1, "{user}");
        assert_eq!(sent["conversation_id"], first["conversation_id"]);
        let conversation = first["conversation_id"].as_str().unwrap();
        assert_eq!(app.cloud.texts(conversation), ["first", "second"]);
    }
}

async fn queued_messages_are_sent_in_order_after_an_outage(engine: Engine) {
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 2);

    let second = location(app.sms.say("ada", "second").await);
    // The Cloud would accept these, but they must not overtake the queued one.
    let third = location(app.sms.say("ada", "third").await);
    location(app.sms.say("ada", "fourth").await);
    let shown = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(shown["queued"], 3);
    assert_eq!(texts(&app), ["first"]);

    let sent = app.wait_for_status(&second, "sent").await;
    wait_for_texts(&app, &["first", "second", "third", "fourth"]).await;
    assert_eq!(sent["sequence"], 1);
    let steps: Vec<_> = sent["timeline"].as_array().unwrap().iter().collect();
    let whats: Vec<_> = steps.iter().map(|step| &step["what"]).collect();
    assert_eq!(whats, ["accepted", "postponed", "postponed", "sent"]);
    assert_eq!(steps[1]["why"], "cloud-unavailable");
    app.wait_for_status(&third, "sent").await;
    let sent_events = eventually("the events", async || {
        let sent_events = events(&app, "message.sent").await;
        (sent_events.len() == 3).then_some(sent_events)
    })
    .await;
    assert_eq!(sent_events[0]["data"]["id"], sent["id"]);
    assert_eq!(sent_events[0]["data"]["sequence"], 1);
    assert_eq!(sent_events[0]["user_id"], "ada");
    // The queue is empty: the next message is sent at once.
    app.sms.say("ada", "fifth").await.expect(201);
}

async fn a_users_queue_does_not_delay_other_users(engine: Engine) {
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 1);

    location(app.sms.say("ada", "second").await);

    app.sms.say("bob", "hello").await.expect(201);
}

async fn the_retry_after_of_the_cloud_is_respected(engine: Engine) {
    let app = opened(engine).await;
    let mut throttled = CloudReply::new(StatusCode::TOO_MANY_REQUESTS);
    throttled.retry_after = Some("70".to_owned());
    let fault = Fault::new(Operation::Send, Answer::Reply(throttled));
    app.cloud.sandbox.inject(fault);
    let before = now(&app);

    let queued_path = location(app.sms.say("ada", "second").await);

    app.cloud.clock.advance(TimeDelta::seconds(69));
    let sent = app.wait_for_status(&queued_path, "sent").await;
    let at: chrono::DateTime<chrono::Utc> =
        serde_json::from_value(sent["timeline"][2]["at"].clone()).unwrap();
    assert!(at.timestamp_millis() - before >= 70_000, "{sent:#}");
}

async fn a_queued_message_is_given_up_after_a_day(engine: Engine) {
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 1);
    let queued_path = location(app.sms.say("ada", "second").await);

    app.cloud.clock.advance(TimeDelta::hours(25));

    let failed = app.wait_for_status(&queued_path, "failed").await;
    assert_eq!(failed["failure"], json!({"code": "expired"}));
    let failures = events(&app, "message.failed").await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0]["data"]["id"], failed["id"]);
    assert_eq!(failures[0]["data"]["failure"]["code"], "expired");
    app.sms.say("ada", "third").await.expect(201);
    assert_eq!(texts(&app), ["first", "third"]);
}

async fn a_refused_request_does_not_block_the_next_ones(engine: Engine) {
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 1);
    let mut refusal = CloudReply::new(StatusCode::BAD_REQUEST);
    refusal.body = json!({"code": "BAD_REQUEST", "body": {"msg": "Bad Request"}}).to_string();
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Send, Answer::Reply(refusal)));

    let second = location(app.sms.say("ada", "second").await);
    let third = location(app.sms.say("ada", "third").await);

    let failed = app.wait_for_status(&second, "failed").await;
    assert_eq!(failed["failure"]["code"], "cloud-refused");
    assert_eq!(failed["failure"]["upstream"]["title"], "Bad Request");
    app.wait_for_status(&third, "sent").await;
    assert_eq!(texts(&app), ["first", "third"]);
}

async fn an_echo_settles_a_message_with_an_unknown_outcome(engine: Engine) {
    let app = opened(engine).await;
    lose_next_answer(&app);
    let second = location(app.sms.say("ada", "second").await);
    let third = location(app.sms.say("ada", "third").await);
    assert_eq!(texts(&app), ["first", "second"]);

    // The clock does not advance: only the echo can release the next message.
    notify(&app, &echo(&app, 1, "second", now(&app))).await;

    wait_for_texts(&app, &["first", "second", "third"]).await;
    let sent = app.wait_for_status(&second, "sent").await;
    assert_eq!(sent["sequence"], 1);
    let sent_events = events(&app, "message.sent").await;
    assert_eq!(sent_events[0]["data"]["sequence"], 1);
    app.wait_for_status(&third, "sent").await;
}

async fn the_echo_of_an_earlier_equal_message_proves_nothing(engine: Engine) {
    let app = opened(engine).await;
    app.sms.say("ada", "ok").await.expect(201);
    app.cloud
        .sandbox
        .inject(Fault::status(Operation::Send, StatusCode::BAD_GATEWAY));

    // The Cloud does not receive this one.
    let queued_path = location(app.sms.say("ada", "ok").await);
    notify(&app, &echo(&app, 1, "ok", now(&app))).await;
    app.cloud.clock.advance(TimeDelta::seconds(31));

    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert_eq!(sent["sequence"], 2);
    assert_eq!(texts(&app), ["first", "ok", "ok"]);
}

async fn an_echo_with_changed_white_space_or_escapes_settles_a_message(engine: Engine) {
    let app = opened(engine).await;
    let conversation = app.cloud.only_conversation().id;
    for (number, (disturbance, text)) in (1..).zip([
        (DisturbanceKind::Trim, " it's <late> "),
        (DisturbanceKind::Escape, "it's <late> & cold"),
        (DisturbanceKind::LineBreaks, "one\ntwo"),
    ]) {
        lose_next_answer(&app);
        let queued_path = location(app.sms.say("ada", text).await);

        // The clock does not advance: only the echo can settle the message.
        let echo = altered_echo(&app, disturbance, number, text);
        notify(&app, &echo).await;

        let sent = app.wait_for_status(&queued_path, "sent").await;
        assert_eq!(sent["sequence"], number, "{disturbance:?}");
        assert_eq!(app.cloud.texts(&conversation)[number as usize], text);
    }
    assert_eq!(texts(&app).len(), 4);
}

async fn a_masked_or_backdated_echo_settles_a_message_after_ten_seconds(engine: Engine) {
    let app = opened(engine).await;
    for (number, (disturbance, text)) in (1..).zip([
        (DisturbanceKind::Mask, "my card is 4111 1111 1111 1111"),
        (DisturbanceKind::Mask, "4111 1111 1111 1111"),
        (DisturbanceKind::SlowClock, "where is it?"),
    ]) {
        lose_next_answer(&app);
        let begun = now(&app);
        let queued_path = location(app.sms.say("ada", text).await);

        let echo = altered_echo(&app, disturbance, number, text);
        notify(&app, &echo).await;

        let sent = app.wait_for_status(&queued_path, "sent").await;
        assert_eq!(sent["sequence"], number, "{disturbance:?}");
        assert!(now(&app) - begun >= 10_000, "{}", now(&app) - begun);
    }
    assert_eq!(texts(&app).len(), 4);
}

async fn a_message_of_another_device_is_not_taken_for_an_echo(engine: Engine) {
    let app = opened(engine).await;
    let fault = Fault::status(Operation::Send, StatusCode::BAD_GATEWAY);
    app.cloud.sandbox.inject(fault);

    // The Cloud does not receive this one.
    let queued_path = location(app.sms.say("ada", "my card is 4111").await);
    notify(&app, &echo(&app, 1, "where is my parcel?", now(&app))).await;
    app.cloud.clock.advance(TimeDelta::seconds(11));

    app.wait_for_status(&queued_path, "sent").await;
    assert_eq!(texts(&app), ["first", "my card is 4111"]);
}

async fn a_message_without_an_echo_is_resent_soon_if_others_are_reported(engine: Engine) {
    let app = opened(engine).await;
    let fault = Fault::status(Operation::Send, StatusCode::BAD_GATEWAY);
    app.cloud.sandbox.inject(fault);
    let begun = now(&app);
    let queued_path = location(app.sms.say("ada", "second").await);

    app.cloud.clock.advance(TimeDelta::seconds(2));
    let conversation = app.cloud.only_conversation().id;
    notify(&app, &agent_text(&conversation, 7, "hi")).await;

    app.wait_for_status(&queued_path, "sent").await;
    let passed = now(&app) - begun;
    assert!((10_000..30_000).contains(&passed), "{passed}");
    assert_eq!(texts(&app), ["first", "second"]);
}

async fn a_message_is_not_resent_while_notifications_lag(engine: Engine) {
    let app = opened(engine).await;
    lose_next_answer(&app);
    let begun = now(&app);
    let queued_path = location(app.sms.say("ada", "second").await);
    let conversation = app.cloud.only_conversation().id;

    // As after an outage of the notifications: for 40 s, all reported changes are older than the
    // message.
    for number in 0..20 {
        app.cloud.clock.advance(TimeDelta::seconds(2));
        let mut old = agent_text(&conversation, 100 + number, "hi");
        old["body"]["changes"][0]["serverTimestamp"] = json!(begun - 1000);
        notify(&app, &old).await;
        let shown = app.sms.get(&queued_path).await.expect(200);
        assert_eq!(shown["status"], "queued");
    }
    notify(&app, &echo(&app, 1, "second", begun)).await;

    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert_eq!(sent["sequence"], 1);
    assert_eq!(texts(&app), ["first", "second"]);
}

async fn a_late_echo_still_settles_a_message(engine: Engine) {
    let app = opened(engine).await;
    lose_next_answer(&app);
    let begun = now(&app);
    let queued_path = location(app.sms.say("ada", "second").await);
    let conversation = app.cloud.only_conversation().id;
    // The missing echo leads to a second attempt, which certainly fails.
    make_cloud_unavailable(&app, 1);
    app.cloud.clock.advance(TimeDelta::seconds(2));
    notify(&app, &agent_text(&conversation, 7, "hi")).await;
    eventually("the second attempt", async || {
        let shown = app.sms.get(&queued_path).await.expect(200);
        let steps = shown["timeline"].as_array().unwrap().iter();
        let mut reasons = steps.map(|step| &step["why"]);
        if reasons.any(|why| why == "cloud-unavailable") {
            return Some(());
        }
        app.cloud.clock.advance(TimeDelta::milliseconds(200));
        None
    })
    .await;

    notify(&app, &echo(&app, 1, "second", begun)).await;

    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert_eq!(sent["sequence"], 1);
    assert_eq!(texts(&app), ["first", "second"]);
}

async fn a_message_without_an_echo_is_resent_later_if_the_cloud_is_silent(engine: Engine) {
    let app = opened(engine).await;
    let fault = Fault::status(Operation::Send, StatusCode::BAD_GATEWAY);
    app.cloud.sandbox.inject(fault);
    let begun = now(&app);

    let queued_path = location(app.sms.say("ada", "second").await);

    let sent = app.wait_for_status(&queued_path, "sent").await;
    let passed = now(&app) - begun;
    assert!(passed >= 30_000, "{passed}");
    let whats: Vec<_> = sent["timeline"].as_array().unwrap().iter().collect();
    assert_eq!(whats[1]["what"], "unknown");
    assert_eq!(texts(&app), ["first", "second"]);
}

async fn queued_messages_of_many_users_are_sent_after_an_outage(engine: Engine) {
    const USERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let app = TestApp::start(engine).await;
    for user in USERS {
        app.sms.say(user, "first").await.expect(201);
    }
    // This number of failures in a row opens the circuit breaker.
    make_cloud_unavailable(&app, 5);

    let mut queued_paths = Vec::new();
    for user in &USERS[..5] {
        queued_paths.push(location(app.sms.say(user, "second").await));
    }

    for queued_path in &queued_paths {
        app.wait_for_status(queued_path, "sent").await;
    }
    app.sms.say("f", "second").await.expect(201);
    for conversation in app.cloud.sandbox.conversations() {
        let texts = crate::support::cloud::texts(&conversation);
        assert_eq!(texts, ["first", "second"]);
    }
}

async fn the_first_success_after_an_outage_wakes_all_lanes(engine: Engine) {
    const USERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let app = TestApp::start(engine).await;
    for user in USERS {
        app.sms.say(user, "first").await.expect(201);
    }
    make_cloud_unavailable(&app, u32::MAX);
    let mut queued_paths = Vec::new();
    for user in &USERS[..5] {
        queued_paths.push(location(app.sms.say(user, "second").await));
    }
    // Waits until each has had several attempts, and the back-off is a minute or more.
    for queued_path in &queued_paths {
        eventually("it was attempted often", async || {
            app.cloud.clock.advance(TimeDelta::seconds(20));
            let shown = app.sms.get(queued_path).await.expect(200);
            let steps = shown["timeline"].as_array().unwrap().len();
            (steps > 6).then_some(())
        })
        .await;
    }

    drop(app.cloud.sandbox.withdraw_faults());
    eventually("a request gets through", async || {
        let composing = json!({"state": "composing"});
        let typing = app.sms.put("/v1/users/f/typing", composing).await;
        (typing.status == 204).then_some(())
    })
    .await;

    // The clock does not advance, so no back-off ends.
    for queued_path in &queued_paths {
        eventually("it is sent", async || {
            let shown = app.sms.get(queued_path).await.expect(200);
            (shown["status"] == "sent").then_some(())
        })
        .await;
    }
}

async fn a_channel_can_ask_not_to_wait(engine: Engine) {
    let app = TestApp::start(engine).await;

    let reply = app
        .sms
        .say_preferring("ada", "first", "respond-async")
        .await;

    assert_eq!(reply.headers["preference-applied"], "respond-async");
    let queued_path = location(reply);
    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert_eq!(sent["conversation_id"], *app.cloud.only_conversation().id);
    assert_eq!(texts(&app), ["first"]);
}

async fn a_channel_can_ask_for_a_shorter_wait(engine: Engine) {
    let app = opened(engine).await;
    app.sms.say("grace", "first").await.expect(201);
    app.cloud.sandbox.inject(Fault::stall(Operation::Send));
    app.cloud.sandbox.inject(Fault::stall(Operation::Send));

    let patient = pin!(app.sms.say("grace", "second"));
    let impatient = pin!(app.sms.say_preferring("ada", "second", "wait=1"));
    let Either::Right((reply, _)) = select(patient, impatient).await else {
        panic!("who waits for 5 s is answered before who waits for 1 s");
    };

    assert_eq!(reply.headers["preference-applied"], "wait=1");
    location(reply);
    // A wait out of range gets the nearest allowed value; unknown preferences are ignored.
    for (preference, applied) in [
        ("wait=99, handling=strict", Some("wait=30")),
        ("wait=0", Some("wait=1")),
        ("wait=soon, handling=strict", None),
    ] {
        let reply = app.sms.say_preferring("ada", "third", preference).await;
        let header = reply.headers.get("preference-applied");
        assert_eq!(
            header.map(|header| header.to_str().unwrap()),
            applied,
            "{preference}"
        );
    }
}

async fn receipts_closes_and_ratings_are_queued(engine: Engine) {
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 1);
    let receipts = json!({"status": "read", "sequences": [1]});

    let receipt = app.sms.post("/v1/users/ada/receipts", receipts).await;
    let receipt = location(receipt);
    let closed = app.sms.post("/v1/users/ada/conversation/close", json!({}));
    let closed = location(closed.await);
    let rating = json!({"csat": 5, "fcr": "yes"});
    let rated = app.sms.put("/v1/users/ada/conversation/rating", rating);
    let rated = location(rated.await);
    assert!(app.cloud.only_conversation().close_reason.is_none());

    for queued_path in [&receipt, &closed, &rated] {
        app.wait_for_status(queued_path, "sent").await;
    }
    let kinds: Vec<_> = app
        .cloud
        .bodies(Operation::Send)
        .iter()
        .skip(2)
        .map(|body| body["body"].clone())
        .collect();
    assert_eq!(kinds[0]["event"]["type"], "AcceptStatusEvent");
    assert_eq!(kinds[1]["conversationField"]["conversationState"], "CLOSE");
    assert_eq!(kinds[2]["conversationField"]["csatRate"], 5);
    let unknown_user = app.sms.post("/v1/users/bob/conversation/close", json!({}));
    unknown_user
        .await
        .expect_problem(404, "conversation-not-found");
}

async fn the_bytes_of_a_queued_file_are_deleted_once_it_is_sent(engine: Engine) {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nmarker-of-the-bytes";
    let app = opened(engine).await;
    // One send makes three attempts to obtain an upload URL.
    make_cloud_unavailable(&app, 4);

    let queued_path = location(app.sms.send_file("ada", PNG).await);
    assert!(
        app.database.dump().await.contains("marker-of-the-bytes") || engine == Engine::Postgres
    );

    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert!(sent["file"]["id"].as_str().unwrap().starts_with("file_"));
    assert_eq!(sent["file"]["file_type"], "PNG");
    let path = format!(
        "/v1/users/ada/files/{}",
        sent["file"]["id"].as_str().unwrap()
    );
    app.sms.get(&path).await.expect(200);
    assert!(!app.database.dump().await.contains("marker-of-the-bytes"));
}

async fn a_queued_message_opens_a_new_conversation_if_its_own_was_closed(engine: Engine) {
    let app = opened(engine).await;
    let first = app.cloud.only_conversation().id;
    make_cloud_unavailable(&app, 1);
    let queued_path = location(app.sms.say("ada", "second").await);

    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));

    let sent = app.wait_for_status(&queued_path, "sent").await;
    assert_ne!(sent["conversation_id"], *first);
    let second = sent["conversation_id"].as_str().unwrap();
    assert_eq!(app.cloud.texts(second), ["second"]);
}

async fn a_message_that_is_sent_at_once_is_not_stored(engine: Engine) {
    let app = TestApp::start(engine).await;

    let sent = app.sms.say("ada", "marker").await.expect(201);

    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    let unknown = app.sms.get(&path).await;
    unknown.expect_problem(404, "message-not-found");
    let odd = app.sms.get("/v1/messages/%00").await;
    odd.expect_problem(404, "message-not-found");
    assert!(!app.database.dump().await.contains("marker"));
}

async fn another_channels_messages_are_not_shown(engine: Engine) {
    use crate::support::configuration::WHATSAPP_KEY;
    let app = opened(engine).await;
    make_cloud_unavailable(&app, 1);

    let queued_path = location(app.sms.say("ada", "second").await);

    // They are not even shown to a channel that shares the user.
    let other = app.sms.with_key(WHATSAPP_KEY).get(&queued_path).await;
    other.expect_problem(404, "message-not-found");
}

async fn an_erasure_removes_the_users_queued_requests(engine: Engine) {
    let app = opened(engine).await;
    app.cloud
        .sandbox
        .inject(Fault::status(Operation::Send, StatusCode::BAD_GATEWAY));
    let queued_path = location(app.sms.say("ada", "marker-1").await);
    location(app.sms.say("ada", "marker-2").await);
    notify(&app, &echo(&app, 9, "marker-3", now(&app))).await;

    let erased = app.sms.request(Method::DELETE, "/v1/users/ada");
    send(erased).await.expect(204);

    app.sms
        .get(&queued_path)
        .await
        .expect_problem(404, "message-not-found");
    let dump = app.database.dump().await;
    assert!(!dump.contains("marker"), "{dump}");
}

async fn a_queued_message_in_flight_survives_a_kill(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    sms.say("ada", "first").await.expect(201);
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::stall(Operation::Send)
    });
    let queued_path = location(sms.say_preferring("ada", "second", "respond-async").await);
    let conversation = cloud.only_conversation();
    eventually("the Cloud has the message", async || {
        (cloud.texts(&conversation.id) == ["first", "second"]).then_some(())
    })
    .await;

    process.kill().await;
    let (_process, sms, _) = Process::serve(&toml).await;
    let mut echo = agent_text(&conversation.id, 1, "second");
    let change = &mut echo["body"]["changes"][0];
    change["originatorMetadata"] = json!({"role": "CONSUMER"});
    change["serverTimestamp"] = json!(chrono::DateTime::timestamp_millis(
        &liveperson_bridge::clock::Clock::now(&liveperson_bridge::clock::SystemClock)
    ));
    send_notification(&sms, &echo).await.expect(200);

    // The lease of the dead process expires first.
    let sent = eventually("it is sent", async || {
        let shown = sms.get(&queued_path).await.expect(200);
        (shown["status"] == "sent").then_some(shown)
    })
    .await;
    assert_eq!(sent["sequence"], 1);
    sms.say("ada", "third").await.expect(201);
    assert_eq!(cloud.texts(&conversation.id), ["first", "second", "third"]);
}
