//! The `user_id` of the path: any UTF-8 of 1 to 256 bytes without control characters, percent-encoded.

use liveperson_bridge::sandbox::Operation;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::Reply;
use crate::support::configuration::SMS_KEY;
use crate::support::connection::exchange;
use crate::support::database::Engine;

on_both_engines!(
    a_user_id_reaches_the_cloud_as_it_was_meant,
    what_is_no_user_id_is_refused_before_anything_happens,
);

/// Calls for a user whose id stands in the path exactly so.
async fn call(app: &TestApp, method: &str, user_id: &str, rest: &str, body: &str) -> Reply {
    let line = format!("{method} /v1/users/{user_id}{rest} HTTP/1.1");
    let head = [
        &line,
        &format!("Authorization: Bearer {SMS_KEY}"),
        "Content-Type: application/json",
        &format!("Content-Length: {}", body.len()),
    ];
    exchange(&app.sms, &head, body).await
}

async fn a_user_id_reaches_the_cloud_as_it_was_meant(engine: Engine) {
    let app = TestApp::start(engine).await;
    let longest = "x".repeat(256);
    let longest_of_two_bytes = "%C3%A9".repeat(128);

    for (written, meant) in [
        ("a%2Fb", "a/b"),
        ("%2B15551234567", "+15551234567"),
        ("+15551234568", "+15551234568"),
        ("Ada%20Byron", "Ada Byron"),
        ("%20", " "),
        ("%F0%9F%91%8B%F0%9F%8F%BD", "👋🏽"),
        ("%D7%A9%D7%9C%D7%95%D7%9D", "שלום"),
        ("..", ".."),
        (".", "."),
        ("a%25b", "a%b"),
        ("a%3Fb%23c", "a?b#c"),
        ("a:b", "a:b"),
        ("%22%27;--", "\"';--"),
        ("%EF%BB%BFa", "\u{feff}a"),
        ("conversation", "conversation"),
        (&longest, &longest),
        (&longest_of_two_bytes, &"é".repeat(128)),
    ] {
        let sent = call(&app, "POST", written, "/messages", r#"{"text": "hello"}"#).await;

        assert_eq!(sent.expect(201)["user_id"], meant, "{written}");
        let consumer = app.cloud.bodies(Operation::ConsumerToken).pop();
        assert_eq!(
            consumer,
            Some(json!({"ext_consumer_id": format!("sms:{meant}")}))
        );
        let known = call(&app, "GET", written, "", "").await;
        assert_eq!(known.expect(200)["user_id"], meant, "{written}");
    }
}

async fn what_is_no_user_id_is_refused_before_anything_happens(engine: Engine) {
    let app = TestApp::start(engine).await;

    for written in [
        "",
        "%00",
        "a%00",
        "a%0Ab",
        "a%0D",
        "%1B",
        "%7F",
        "%C2%85",
        "%FF",
        "%C3",
        "%ED%A0%80",
        &"x".repeat(257),
        &"%C3%A9".repeat(129),
    ] {
        let refused = call(&app, "POST", written, "/messages", r#"{"text": "hello"}"#).await;

        let problem = refused.expect_problem(400, "malformed-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("The path's user_id: expected "),
            "{detail}"
        );
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}
