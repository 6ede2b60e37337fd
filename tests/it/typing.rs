//! Typing: sent to the Cloud, but not too often, and always ended.

use chrono::TimeDelta;
use liveperson_bridge::sandbox::{Fault, Operation};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::TestApp;
use crate::support::channel::Channel;
use crate::support::cloud::Cloud;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(
    typing_ends_after_thirty_seconds_without_a_message,
    repeated_typing_does_not_end,
    typing_is_sent_at_most_every_five_seconds,
    a_message_ends_typing,
    typing_that_has_ended_is_not_ended_again,
    typing_ends_after_its_replica_has_stopped,
    a_pause_that_the_cloud_does_not_accept_is_attempted_again,
    typing_is_sent_again_after_a_failed_attempt,
    a_closed_conversation_gets_no_pause,
);

async fn set(channel: &Channel, state: &str) -> u16 {
    let body = json!({"state": state});
    channel.put("/v1/users/ada/typing", body).await.status
}

/// Returns the chat states and texts of a user that the Cloud received, in order.
fn sent_by(cloud: &Cloud, user: &str) -> Vec<String> {
    let conversations = cloud.sandbox.conversations();
    let consumer = format!("sms:{user}");
    let theirs = |send: &&Value| {
        conversations.iter().any(|conversation| {
            conversation.consumer.ext_consumer_id == consumer
                && send["body"]["conversationId"] == *conversation.id
        })
    };
    let summary = |send: &Value| {
        let event = &send["body"]["event"];
        let summary = event["chatState"].as_str().or(event["message"].as_str());
        summary.unwrap_or("other").to_owned()
    };
    let sends = cloud.bodies(Operation::Send);
    sends.iter().filter(theirs).map(summary).collect()
}

fn sent(cloud: &Cloud) -> Vec<String> {
    sent_by(cloud, "ada")
}

async fn wait_until_sent(cloud: &Cloud, expected: &[&str]) {
    eventually(&format!("{expected:?}"), async || {
        (sent(cloud) == expected).then_some(())
    })
    .await;
}

/// Asserts that the service has looked up due typing and sent nothing more. Two other users are
/// probes: a round of the worker after this call ends the typing of the first, and a later round
/// that of the second.
async fn expect_nothing_more(app: &TestApp, expected: &[&str]) {
    for probe in [Uuid::new_v4().to_string(), Uuid::new_v4().to_string()] {
        app.sms.say(&probe, "one").await.expect(201);
        let typing = format!("/v1/users/{probe}/typing");
        let composing = json!({"state": "composing"});
        app.sms.put(&typing, composing).await.expect(204);
        app.sms.say(&probe, "two").await.expect(201);
        eventually("the probe's typing ends", async || {
            let sent = sent_by(&app.cloud, &probe);
            (sent == ["one", "COMPOSING", "two", "PAUSE"]).then_some(())
        })
        .await;
    }
    assert_eq!(sent(&app.cloud), expected);
}

async fn typing_user(engine: Engine) -> TestApp {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    assert_eq!(set(&app.sms, "composing").await, 204);
    assert_eq!(sent(&app.cloud), ["hello", "COMPOSING"]);
    app
}

async fn typing_ends_after_thirty_seconds_without_a_message(engine: Engine) {
    let app = typing_user(engine).await;

    app.cloud.clock.advance(TimeDelta::seconds(29));
    expect_nothing_more(&app, &["hello", "COMPOSING"]).await;
    app.cloud.clock.advance(TimeDelta::seconds(1));

    wait_until_sent(&app.cloud, &["hello", "COMPOSING", "PAUSE"]).await;
    app.cloud.clock.advance(TimeDelta::seconds(60));
    expect_nothing_more(&app, &["hello", "COMPOSING", "PAUSE"]).await;
}

async fn repeated_typing_does_not_end(engine: Engine) {
    let app = typing_user(engine).await;

    for _ in 0..3 {
        app.cloud.clock.advance(TimeDelta::seconds(20));
        assert_eq!(set(&app.sms, "composing").await, 204);
    }

    let composing = ["hello", "COMPOSING", "COMPOSING", "COMPOSING", "COMPOSING"];
    expect_nothing_more(&app, &composing).await;
}

async fn typing_is_sent_at_most_every_five_seconds(engine: Engine) {
    let app = typing_user(engine).await;

    for _ in 0..4 {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        assert_eq!(set(&app.sms, "composing").await, 204);
    }
    assert_eq!(sent(&app.cloud), ["hello", "COMPOSING"]);
    app.cloud.clock.advance(TimeDelta::seconds(1));
    assert_eq!(set(&app.sms, "composing").await, 204);

    assert_eq!(sent(&app.cloud), ["hello", "COMPOSING", "COMPOSING"]);
}

async fn a_message_ends_typing(engine: Engine) {
    let app = typing_user(engine).await;

    app.sms.say("ada", "done").await.expect(201);

    wait_until_sent(&app.cloud, &["hello", "COMPOSING", "done", "PAUSE"]).await;
    // New typing is sent at once.
    eventually("the typing state is cleared", async || {
        let state = set(&app.sms, "composing").await;
        (state == 204 && sent(&app.cloud).len() == 5).then_some(())
    })
    .await;
    assert_eq!(sent(&app.cloud)[4], "COMPOSING");
}

async fn typing_that_has_ended_is_not_ended_again(engine: Engine) {
    let app = typing_user(engine).await;

    assert_eq!(set(&app.sms, "pause").await, 204);
    app.sms.say("ada", "done").await.expect(201);
    app.cloud.clock.advance(TimeDelta::seconds(60));

    expect_nothing_more(&app, &["hello", "COMPOSING", "PAUSE", "done"]).await;
}

async fn typing_ends_after_its_replica_has_stopped(engine: Engine) {
    let app = typing_user(engine).await;

    let (cloud, database, _): (Cloud, Database, _) = app.stop().await;
    cloud.clock.advance(TimeDelta::seconds(30));
    let app = TestApp::start_with(cloud, database).await;

    wait_until_sent(&app.cloud, &["hello", "COMPOSING", "PAUSE"]).await;
}

async fn a_pause_that_the_cloud_does_not_accept_is_attempted_again(engine: Engine) {
    let app = typing_user(engine).await;
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));

    app.cloud.clock.advance(TimeDelta::seconds(30));
    wait_until_sent(&app.cloud, &["hello", "COMPOSING", "PAUSE"]).await;
    expect_nothing_more(&app, &["hello", "COMPOSING", "PAUSE"]).await;
    app.cloud.clock.advance(TimeDelta::seconds(10));

    wait_until_sent(&app.cloud, &["hello", "COMPOSING", "PAUSE", "PAUSE"]).await;
}

async fn typing_is_sent_again_after_a_failed_attempt(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));

    assert_eq!(set(&app.sms, "composing").await, 503);
    assert_eq!(set(&app.sms, "composing").await, 204);

    assert_eq!(sent(&app.cloud), ["hello", "COMPOSING", "COMPOSING"]);
}

async fn a_closed_conversation_gets_no_pause(engine: Engine) {
    let app = typing_user(engine).await;
    let close = "/v1/users/ada/conversation/close";
    app.sms.post(close, json!({})).await.expect(200);

    app.cloud.clock.advance(TimeDelta::seconds(30));

    expect_nothing_more(&app, &["hello", "COMPOSING", "other"]).await;
}
