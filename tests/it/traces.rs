//! The trace context: passed on in both directions, even if a request is carried out later.

use liveperson_bridge::sandbox::{Fault, Operation, RecordedRequest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::send;
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, agent_text, sign};
use crate::support::configuration::with_callback;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::receiver::{Receiver, SECRET};

on_both_engines!(
    a_channels_trace_reaches_the_cloud,
    a_queued_request_and_its_event_continue_the_channels_trace,
    the_clouds_trace_reaches_the_channel,
    an_unmatched_change_keeps_the_clouds_trace,
    a_missing_or_malformed_trace_is_replaced_by_a_new_one,
);

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID: &str = "b7ad6b7169203331";
const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// Starts a service with a callback that accepts everything.
async fn start(engine: Engine) -> (TestApp, Receiver) {
    let receiver = Receiver::start().await;
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let secret = format!("\"{SECRET}\"");
    let app = TestApp::start_configured(cloud, database, |toml| {
        with_callback(&toml, &receiver.url, &secret)
    })
    .await;
    (app, receiver)
}

/// Sends a text of `ada` within the trace.
async fn send_traced(app: &TestApp, headers: &[(&str, &str)]) -> crate::support::channel::Reply {
    let mut request = app
        .sms
        .request(Method::POST, "/v1/users/ada/messages")
        .header("content-type", "application/json")
        .header("traceparent", traceparent());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(json!({"text": "hello"}).to_string())).await
}

/// Sends a notification within the trace, as the Cloud does.
async fn notify_traced(app: &TestApp, notification: &Value) {
    let body = notification.to_string();
    let request = app
        .sms
        .with_key("none")
        .request(Method::POST, &format!("/webhooks/{ACCOUNT}"))
        .header("x-liveperson-account-id", ACCOUNT)
        .header("x-liveperson-client-id", CLIENT_ID)
        .header(
            "x-liveperson-signature",
            sign(body.as_bytes(), CLIENT_SECRET),
        )
        .header("traceparent", traceparent())
        .header("tracestate", STATE);
    send(request.body(body)).await.expect(200);
}

fn traceparent() -> String {
    format!("00-{TRACE_ID}-{SPAN_ID}-01")
}

/// Asserts that a request continues the trace, and returns its span id.
#[track_caller]
fn continued(traceparent: &str, tracestate: &str) -> String {
    let parts: Vec<_> = traceparent.split('-').collect();
    let [version, trace_id, span_id, flags] = parts[..] else {
        panic!("{traceparent}");
    };
    assert_eq!((version, trace_id, flags), ("00", TRACE_ID, "01"));
    assert_ne!(span_id, SPAN_ID);
    assert_eq!(tracestate, STATE);
    span_id.to_owned()
}

fn header<'a>(request: &'a RecordedRequest, name: &str) -> &'a str {
    let value = request.header(name);
    value.unwrap_or_else(|| panic!("no {name} at {}", request.path))
}

async fn a_channels_trace_reaches_the_cloud(engine: Engine) {
    let app = TestApp::start(engine).await;

    // Two headers form one list.
    let (first, second) = STATE.split_once(',').unwrap();
    send_traced(&app, &[("tracestate", first), ("tracestate", second)])
        .await
        .expect(201);

    let requests = app.cloud.sandbox.requests();
    let mut spans: Vec<_> = requests
        .iter()
        .map(|request| {
            continued(
                header(request, "traceparent"),
                header(request, "tracestate"),
            )
        })
        .collect();
    let count = spans.len();
    assert!(count > 3, "domains, tokens, an opening and a text");
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), count, "each call is a span of its own");
}

async fn a_queued_request_and_its_event_continue_the_channels_trace(engine: Engine) {
    let (app, receiver) = start(engine).await;
    app.sms.say("ada", "before").await.expect(201);
    let away = Fault {
        times: 3,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    };
    app.cloud.sandbox.inject(away);
    app.cloud.sandbox.clear_requests();

    let queued = send_traced(&app, &[("tracestate", STATE)]).await;
    app.wait_until(queued, "sent").await;
    let events = receiver.wait_for(1).await;

    let sent = app.cloud.requests(Operation::Send);
    assert!(sent.len() >= 2);
    for request in &sent {
        continued(
            header(request, "traceparent"),
            header(request, "tracestate"),
        );
    }
    let event = &events[0];
    assert_eq!(event.json()["type"], "message.sent");
    continued(event.header("traceparent"), event.header("tracestate"));
}

async fn the_clouds_trace_reaches_the_channel(engine: Engine) {
    let (app, receiver) = start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    let conversation = app.cloud.only_conversation().id;

    notify_traced(&app, &agent_text(&conversation, 1, "hi")).await;

    let event = &receiver.wait_for(1).await[0];
    continued(event.header("traceparent"), event.header("tracestate"));
}

async fn an_unmatched_change_keeps_the_clouds_trace(engine: Engine) {
    let (app, receiver) = start(engine).await;
    // A service with another database opens the conversation, so that its id is known here.
    let other = TestApp::start_with(app.cloud.clone(), Database::create(engine).await).await;
    other.sms.say("ada", "hello").await.expect(201);
    let conversation = app.cloud.only_conversation().id;

    notify_traced(&app, &agent_text(&conversation, 1, "hi")).await;
    assert!(app.event_log("sms").await.is_empty());
    // This service finds the open conversation.
    app.sms.say("ada", "hello").await.expect(201);

    let event = eventually("the event of the agent's text", async || {
        app.cloud
            .clock
            .advance(chrono::TimeDelta::milliseconds(200));
        let events = receiver.received();
        events
            .into_iter()
            .find(|event| event.json()["data"]["text"] == "hi")
    })
    .await;
    continued(event.header("traceparent"), event.header("tracestate"));
}

async fn a_missing_or_malformed_trace_is_replaced_by_a_new_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    let two = traceparent();

    for (headers, state_passed) in [
        // Of two parents, neither is used, and the state is dropped because it has no trace.
        (vec![("traceparent", &*two), ("tracestate", STATE)], None),
        // A malformed state is dropped, but the trace continues.
        (vec![("tracestate", "rojo")], Some(None)),
        (vec![("tracestate", STATE)], Some(Some(STATE))),
    ] {
        app.cloud.sandbox.clear_requests();

        send_traced(&app, &headers).await.expect(201);

        let sent = &app.cloud.requests(Operation::Send)[0];
        let traceparent = header(sent, "traceparent");
        assert_eq!(
            traceparent.contains(TRACE_ID),
            state_passed.is_some(),
            "{traceparent}"
        );
        assert_eq!(sent.header("tracestate"), state_passed.flatten());
    }
}
