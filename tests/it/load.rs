//! Bounds under load. Requests above a bound are refused with 503 and `Retry-After`, accepted ones
//! are served, and the service recovers.

use liveperson_bridge::sandbox::{Fault, Operation};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send, try_send};
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::{APP_KEY, SMS_KEY};
use crate::support::connection::Connection;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(
    requests_beyond_the_users_queue_limit_are_refused,
    requests_beyond_the_channels_queue_limit_are_refused,
    a_failed_message_is_refused_when_the_queue_is_full,
);

/// 256 KiB: the limit on a JSON body.
const BODY: usize = 256 * 1024;

/// The number of such bodies that one channel may have in memory, 48 MiB in total.
const BODIES: usize = 192;

const MESSAGE: &str = r#"{"text": "hello"}"#;

const PATH: &str = "/v1/users/ada/messages";

/// Starts a service with these limits on the queued requests of the channel `sms`.
async fn bounded(engine: Engine, bounds: &str) -> TestApp {
    let change = |toml: String| {
        let end = "api_keys = [\"key-of-sms\"]\n";
        toml.replacen(end, &format!("{end}limits = {{{bounds}}}\n"), 1)
    };
    let cloud = Cloud::start().await;
    TestApp::start_configured(cloud, Database::create(engine).await, change).await
}

/// Makes the Cloud refuse every message with 503 until the faults are withdrawn.
fn make_cloud_unavailable(app: &TestApp) {
    app.cloud.sandbox.inject(Fault {
        times: 1000,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });
}

async fn queue(app: &TestApp, user: &str, text: &str) -> Reply {
    let path = format!("/v1/users/{user}/messages");
    let request = app
        .sms
        .request(Method::POST, &path)
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .body(json!({"text": text}).to_string());
    send(request).await
}

#[track_caller]
fn expect_queue_full(reply: Reply, limited: &str) {
    assert_eq!(reply.headers["retry-after"], "30");
    let problem = reply.expect_problem(503, "queue-full");
    assert_eq!(problem["retryable"], true);
    assert!(problem["detail"].as_str().unwrap().contains(limited));
}

async fn requests_beyond_the_users_queue_limit_are_refused(engine: Engine) {
    let app = bounded(engine, "per_user_queued_requests = 3").await;
    app.sms.say("ada", "0").await.expect(201);
    make_cloud_unavailable(&app);
    for text in ["1", "2", "3"] {
        queue(&app, "ada", text).await.expect(202);
    }

    expect_queue_full(queue(&app, "ada", "refused").await, "of this user");
    expect_queue_full(app.sms.say("ada", "refused").await, "of this user");
    // Other users are not refused.
    queue(&app, "bob", "hello").await.expect(202);

    drop(app.cloud.sandbox.withdraw_faults());
    eventually("there is room again", async || {
        app.cloud.clock.advance(chrono::TimeDelta::seconds(1));
        let reply = queue(&app, "ada", "4").await;
        (reply.status != 503).then_some(reply)
    })
    .await
    .expect(202);
    let ada = app.cloud.sandbox.conversations().remove(0);
    eventually("all messages are sent", async || {
        app.cloud.clock.advance(chrono::TimeDelta::seconds(1));
        (app.cloud.texts(&ada.id) == ["0", "1", "2", "3", "4"]).then_some(())
    })
    .await;
}

async fn requests_beyond_the_channels_queue_limit_are_refused(engine: Engine) {
    let app = bounded(engine, "queued_requests = 3").await;
    make_cloud_unavailable(&app);
    app.cloud.sandbox.inject(Fault {
        times: 1000,
        ..Fault::status(Operation::Conversation, StatusCode::SERVICE_UNAVAILABLE)
    });
    for user in ["a", "b", "c"] {
        queue(&app, user, "hello").await.expect(202);
    }

    expect_queue_full(queue(&app, "d", "refused").await, "of this channel");
    // Other channels have their own bounds.
    let other = app.sms.with_key("key-of-app");
    let request = other.request(Method::POST, "/v1/users/d/messages");
    let request = request
        .header("content-type", "application/json")
        .header("prefer", "respond-async");
    send(request.body(MESSAGE)).await.expect(202);

    drop(app.cloud.sandbox.withdraw_faults());
    eventually("there is room again", async || {
        app.cloud.clock.advance(chrono::TimeDelta::seconds(1));
        let reply = queue(&app, "d", "hello").await;
        (reply.status == 202).then_some(())
    })
    .await;
}

/// A message that the Cloud does not accept gets 202 only if there is room to queue it.
async fn a_failed_message_is_refused_when_the_queue_is_full(engine: Engine) {
    let app = bounded(engine, "queued_requests = 1").await;
    app.sms.say("ada", "first").await.expect(201);
    app.sms.say("bob", "first").await.expect(201);
    make_cloud_unavailable(&app);
    queue(&app, "bob", "waits").await.expect(202);

    let refused = app.sms.say("ada", "second").await;

    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_problem(503, "cloud-unavailable");
    drop(app.cloud.sandbox.withdraw_faults());
    eventually("it can be sent again", async || {
        app.cloud.clock.advance(chrono::TimeDelta::seconds(1));
        let reply = app.sms.say("ada", "third").await;
        (reply.status == 201).then_some(())
    })
    .await;
    let ada = app.cloud.sandbox.conversations().remove(0);
    assert_eq!(app.cloud.texts(&ada.id), ["first", "third"]);
}

/// Sends a request except for its last byte.
async fn begin(app: &TestApp, path: &str) -> Connection {
    let mut connection = Connection::open(&app.sms).await.unwrap();
    let head = [
        &format!("POST {path} HTTP/1.1"),
        &format!("Authorization: Bearer {SMS_KEY}"),
        "Content-Type: application/json",
        &format!("Content-Length: {BODY}"),
    ];
    connection.write_head(&head).await;
    let padding = " ".repeat(BODY - 1 - MESSAGE.len());
    connection.write(&format!("{MESSAGE}{padding}")).await;
    connection
}

/// Begins requests until another one is refused, and returns them with the refusal.
async fn fill(app: &TestApp) -> (Vec<Connection>, Reply) {
    let mut in_progress = Vec::new();
    for _ in 0..BODIES {
        in_progress.push(begin(app, PATH).await);
    }
    let refused = eventually("it is full", async || {
        let reply = app.sms.say("bob", "hello").await;
        if reply.status != 201 {
            return Some(reply);
        }
        // This request may have been accepted before one of the others.
        in_progress.push(begin(app, PATH).await);
        None
    });
    let refused = refused.await;
    (in_progress, refused)
}

/// Completes the request that was begun first, which has been accepted.
async fn end_first(in_progress: &mut Vec<Connection>) {
    let mut first = in_progress.remove(0);
    first.write(" ").await;
    first.read().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_memory_bound_are_refused() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.sms.say("ada", "first").await.expect(201);

    let (mut under_way, refused) = fill(&app).await;

    assert_eq!(refused.headers["retry-after"], "1");
    let problem = refused.expect_problem(503, "overloaded");
    assert_eq!(problem["retryable"], true);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("this channel's requests"), "{detail}");
    // Another channel has its own share. Health checks are never refused. Event readers, files and
    // webhooks have permits of their own.
    let other = app.sms.with_key(APP_KEY);
    other.say("ada", "hello").await.expect(201);
    app.admin.get("/livez").await.expect(200);
    app.admin.get("/readyz").await.expect(200);
    app.sms.get("/v1/events").await.expect(200);
    app.sms.send_file("ada", b"no image").await.expect(415);
    let notification = agent_text("a-conversation", 0, "hello");
    send_notification(&app.sms, &notification).await.expect(200);
    // A request in progress is served, and then makes room.
    end_first(&mut under_way).await;
    app.sms.say("ada", "there is room").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_holds_its_permit_after_a_hang_up() {
    let app = TestApp::start(Engine::Sqlite).await;
    app.sms.say("ada", "first").await.expect(201);
    let (mut under_way, _) = fill(&app).await;
    end_first(&mut under_way).await;
    let sent = app.cloud.requests(Operation::Send).len();
    app.cloud.sandbox.inject(Fault::stall(Operation::Send));
    let request = app.sms.request(Method::POST, PATH);
    let request = request
        .header("content-type", "application/json")
        .header("idempotency-key", "key")
        .body(format!("{MESSAGE}{}", " ".repeat(BODY - MESSAGE.len())));
    let caller = tokio::task::spawn(try_send(request));
    eventually("it is at the Cloud", async || {
        (app.cloud.requests(Operation::Send).len() > sent).then_some(())
    })
    .await;

    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let refused = app.sms.say("bob", "refused").await;

    refused.expect_problem(503, "overloaded");
    eventually("its work is complete", async || {
        let reply = app.sms.say("bob", "hello").await;
        (reply.status == 201).then_some(())
    })
    .await;
}
