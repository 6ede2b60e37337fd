//! The header `X-Request-Id`: taken from the request or generated, returned with every answer, and
//! sent on to the Cloud.

use reqwest::Method;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::send;
use crate::support::configuration::SMS_KEY;
use crate::support::connection::exchange;
use crate::support::database::Engine;

on_both_engines!(
    a_request_id_of_the_caller_is_sent_on_to_the_cloud,
    a_missing_or_malformed_request_id_is_replaced_by_a_generated_one,
    every_answer_has_the_request_id,
);

async fn a_request_id_of_the_caller_is_sent_on_to_the_cloud(engine: Engine) {
    let app = TestApp::start(engine).await;

    for id in ["1", "order-4711/retry:2", &"x".repeat(128)] {
        app.cloud.sandbox.clear_requests();
        let request = app.sms.request(Method::POST, "/v1/users/ada/messages");
        let request = request
            .header("x-request-id", id)
            .header("content-type", "application/json")
            .body(json!({"text": "hello"}).to_string());

        let sent = send(request).await;

        assert_eq!(sent.headers["x-request-id"], id);
        sent.expect(201);
        let requests = app.cloud.sandbox.requests();
        assert!(!requests.is_empty());
        for request in requests {
            assert_eq!(request.header("x-request-id"), Some(id), "{}", request.path);
        }
    }
}

async fn a_missing_or_malformed_request_id_is_replaced_by_a_generated_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut ids = Vec::new();

    for header in [
        "X-Nothing: 1",
        "X-Request-Id:",
        "X-Request-Id: a b",
        "X-Request-Id: a\tb",
        "X-Request-Id: né",
        &format!("X-Request-Id: {}", "x".repeat(129)),
    ] {
        let authorization = format!("Authorization: Bearer {SMS_KEY}");
        let head = ["GET /v1/users/ada HTTP/1.1", &authorization, header];

        let reply = exchange(&app.sms, &head, "").await;

        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
        reply.expect_problem(404, "user-not-found");
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

async fn every_answer_has_the_request_id(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    let authorization = format!("Authorization: Bearer {SMS_KEY}");

    for (line, status) in [
        ("GET /v1/users/ada", 200),
        ("GET /v1/users/bob", 404),
        ("GET /nothing", 404),
        ("PATCH /v1/users/ada", 405),
        ("POST /v1/users/ada/messages", 415),
        ("GET /v1/users/%00", 400),
        ("GET /openapi.json", 200),
        ("GET /docs/nothing", 404),
    ] {
        let line = format!("{line} HTTP/1.1");
        let head = [
            &line,
            &authorization,
            "X-Request-Id: abc",
            "Content-Length: 0",
        ];

        let reply = exchange(&app.sms, &head, "").await;

        assert_eq!(reply.status, status, "{line}");
        assert_eq!(reply.headers["x-request-id"], "abc", "{line}");
    }
    let unauthorized = exchange(
        &app.sms,
        &["GET /v1/users/ada HTTP/1.1", "X-Request-Id: abc"],
        "",
    );
    let unauthorized = unauthorized.await;
    assert_eq!(
        unauthorized.expect_problem(401, "unauthorized")["request_id"],
        "abc"
    );
}
