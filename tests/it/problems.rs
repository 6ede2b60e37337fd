//! Errors: each answer is a complete problem with the status of its code, and the manual has a
//! chapter for each code.

use liveperson_bridge::api::problem::Code;
use reqwest::Method;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::configuration::SMS_KEY;
use crate::support::connection::{Connection, exchange};
use crate::support::database::Engine;

on_both_engines!(
    a_request_without_a_valid_api_key_is_unauthorized,
    an_unknown_path_is_not_found,
    a_wrong_method_is_refused_with_the_allowed_ones,
    a_body_of_another_type_is_refused,
    a_body_over_the_limit_is_refused,
    an_answer_to_head_has_the_same_head_and_no_body,
    invalid_http_is_answered_with_a_problem_at_both_addresses,
    nothing_is_accepted_while_the_database_is_unavailable,
);

const MESSAGES: &str = "/v1/users/ada/messages";

async fn a_request_without_a_valid_api_key_is_unauthorized(engine: Engine) {
    let app = TestApp::start(engine).await;

    for authorization in [
        "X-Nothing: 1",
        "Authorization:",
        "Authorization: Bearer",
        "Authorization: Bearer wrong",
        "Authorization: Bearer key-of-sm",
        "Authorization: Bearer key-of-smss",
        "Authorization: Bearer KEY-OF-SMS",
        "Authorization: Bearer key-of-sms key-of-sms",
        "Authorization: Basic key-of-sms",
        "Authorization: key-of-sms",
        "Authorization: Bearer kéy",
        "X-Api-Key: key-of-sms",
    ] {
        // Without a valid key, the answer reveals nothing about the user or the body.
        for line in [
            "GET /v1/users/ada HTTP/1.1",
            "GET /v1/users/%00 HTTP/1.1",
            "POST /v1/users/ada/messages HTTP/1.1",
        ] {
            let reply = exchange(&app.sms, &[line, authorization, "Content-Length: 0"], "").await;

            assert_eq!(
                reply.headers["www-authenticate"], "Bearer",
                "{authorization}"
            );
            reply.expect_problem(401, "unauthorized");
        }
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let authorization = format!("Authorization: {scheme} {SMS_KEY}");
        let reply = exchange(
            &app.sms,
            &["GET /v1/users/ada HTTP/1.1", &authorization],
            "",
        )
        .await;
        reply.expect_problem(404, "user-not-found");
    }
}

async fn an_unknown_path_is_not_found(engine: Engine) {
    let app = TestApp::start(engine).await;

    for path in [
        "/",
        "/v1",
        "/v1/users",
        "/v1/users/ada/",
        "/v1/users/ada/nothing",
        "/v1/users/a/b/messages",
        "/V1/users/ada",
        "/v2/users/ada",
        // Only the admin address has these.
        "/livez",
        "/readyz",
        "/metrics",
    ] {
        app.sms.get(path).await.expect_problem(404, "not-found");
        app.sms
            .post(path, json!({}))
            .await
            .expect_problem(404, "not-found");
    }
}

async fn a_wrong_method_is_refused_with_the_allowed_ones(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (path, allowed) in [
        ("/v1/users/ada", "DELETE,GET,HEAD"),
        ("/v1/users/ada/conversation", "GET,HEAD,POST"),
        ("/v1/users/ada/conversation/close", "POST"),
        (MESSAGES, "POST"),
        ("/v1/users/ada/typing", "PUT"),
        ("/v1/users/ada/receipts", "POST"),
        ("/v1/users/ada/profile", "PUT"),
        ("/v1/users/ada/conversation/rating", "PUT"),
        ("/v1/users/ada/send", "POST"),
        ("/v1/users/ada/files", "POST"),
        ("/v1/users/ada/files/file_1", "GET,HEAD"),
        ("/files/a", "GET,HEAD"),
        ("/v1/events", "GET,HEAD"),
        ("/v1/events/evt_1", "GET,HEAD"),
        ("/v1/deliveries", "GET,HEAD"),
        ("/v1/deliveries/evt_1/retry", "POST"),
        ("/v1/deliveries/replay", "POST"),
        ("/v1/deliveries/resume", "POST"),
    ] {
        for method in [Method::PATCH, Method::OPTIONS, Method::TRACE] {
            let refused = send(app.sms.request(method, path)).await;

            let mut methods: Vec<_> = refused.headers["allow"]
                .to_str()
                .unwrap()
                .split(',')
                .collect();
            methods.sort_unstable();
            assert_eq!(methods.join(","), allowed, "{path}");
            refused.expect_problem(405, "method-not-allowed");
        }
    }
}

async fn a_body_of_another_type_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;

    for path in [
        MESSAGES,
        "/v1/users/ada/conversation",
        "/v1/users/ada/receipts",
    ] {
        for media_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some(""),
        ] {
            let request = app
                .sms
                .request(Method::POST, path)
                .body(r#"{"text": "hello"}"#);
            let request = match media_type {
                None => request,
                Some(media_type) => request.header("content-type", media_type),
            };

            send(request)
                .await
                .expect_problem(415, "unsupported-media-type");
        }
    }
    for media_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
    ] {
        let request = app.sms.request(Method::POST, MESSAGES);
        let request = request
            .header("content-type", media_type)
            .body(r#"{"text": "hello"}"#);
        send(request).await.expect(201);
    }
}

async fn a_body_over_the_limit_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let body = |length: usize| format!(r#"{{"txt": "{}"}}"#, "x".repeat(length - 11));
    let chunked = async |body: String| {
        let authorization = format!("Authorization: Bearer {SMS_KEY}");
        let head = [
            &format!("POST {MESSAGES} HTTP/1.1"),
            &authorization,
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        ];
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        exchange(&app.sms, &head, &chunk).await
    };

    let limit = 256 * 1024;
    for refused in [
        app.sms.post_text(MESSAGES, &body(limit + 1)).await,
        chunked(body(limit + 1)).await,
    ] {
        let problem = refused.expect_problem(413, "body-too-large");
        assert!(problem["detail"].as_str().unwrap().contains("262144"));
    }
    // A body at the limit is read, and then refused for another reason.
    for read in [
        app.sms.post_text(MESSAGES, &body(limit)).await,
        chunked(body(limit)).await,
    ] {
        read.expect_problem(422, "invalid-request");
    }
}

async fn an_answer_to_head_has_the_same_head_and_no_body(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);

    for (path, status, media_type) in [
        ("/v1/users/ada", 200, "application/json"),
        ("/v1/users/bob", 404, "application/problem+json"),
        ("/nothing", 404, "application/problem+json"),
    ] {
        let response = app.sms.request(Method::HEAD, path).send().await.unwrap();

        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], media_type);
        assert!(response.headers().contains_key("x-request-id"));
        assert!(response.bytes().await.unwrap().is_empty());
    }
}

async fn invalid_http_is_answered_with_a_problem_at_both_addresses(engine: Engine) {
    let app = TestApp::start(engine).await;
    let many = "x: y\r\n".repeat(101);
    let long = "x".repeat(70_000);

    for (channel, path) in [
        (&app.sms, "/v1/events"),
        (&app.admin, "/livez"),
        (&app.admin, "/api/overview"),
    ] {
        for (head, status, code) in [
            (
                format!("GET {path}?{long} HTTP/1.1\r\nHost: bridge\r\n\r\n"),
                414,
                "uri-too-long",
            ),
            (
                format!("GET {path} HTTP/1.1\r\nHost: bridge\r\n{many}\r\n"),
                431,
                "headers-too-large",
            ),
            (
                format!(
                    "GET {path} HTTP/1.1\r\nHost: bridge\r\nx: {}\r\n\r\n",
                    long.repeat(7)
                ),
                431,
                "headers-too-large",
            ),
            (
                format!("GET {path} HTTP/1.1\r\nHost: bridge\r\n: y\r\n\r\n"),
                400,
                "malformed-request",
            ),
            (
                format!("GET {path} HTTP/1.1\r\n\r\n"),
                400,
                "malformed-request",
            ),
            (
                format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
                400,
                "malformed-request",
            ),
            (
                format!("GET {path} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
                400,
                "malformed-request",
            ),
            (
                format!("GET {path} HTTP/1.1\r\nHost: a/b\r\n\r\n"),
                400,
                "malformed-request",
            ),
        ] {
            let mut connection = Connection::open(channel).await.unwrap();
            connection.write(&head).await;
            let refused = connection.read().await;

            let problem = refused.expect_problem(status, code);
            assert_eq!(problem["retryable"], false);
        }
    }
    // HTTP/1.0 does not need a host.
    let mut old = Connection::open(&app.admin).await.unwrap();
    old.write("GET /livez HTTP/1.0\r\n\r\n").await;
    old.read().await.expect(200);
    // These refusals are counted like all others. The caller's own id is used if it can be read.
    let mut connection = Connection::open(&app.sms).await.unwrap();
    connection
        .write("GET /v1/events HTTP/1.1\r\nX-Request-Id: abc\r\n\r\n")
        .await;
    let problem = connection
        .read()
        .await
        .expect_problem(400, "malformed-request");
    assert_eq!(problem["request_id"], "abc");
    let metrics = app
        .admin
        .request(Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "liveperson_bridge_http_problems_total{code=\"uri-too-long\"} 1\n",
        "liveperson_bridge_http_problems_total{code=\"headers-too-large\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

async fn nothing_is_accepted_while_the_database_is_unavailable(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.admin.get("/readyz").await.expect(200);
    app.cloud.sandbox.clear_requests();

    app.store().close().await;

    for refused in every_call(&app.sms).await {
        assert_eq!(refused.headers["retry-after"], "1");
        let problem = refused.expect_problem(503, "storage-unavailable");
        assert_eq!(problem["retryable"], true);
        assert!(
            !problem.to_string().to_lowercase().contains("sql"),
            "{problem}"
        );
    }
    assert!(app.cloud.sandbox.requests().is_empty());
    let unready = app.admin.get("/readyz").await.expect(503);
    assert_eq!(unready["reasons"], json!(["the storage does not answer"]));
    app.admin.get("/livez").await.expect(200);
}

async fn every_call(sms: &Channel) -> Vec<Reply> {
    let receipts = json!({"status": "read", "sequences": [0]});
    vec![
        sms.get("/v1/users/ada").await,
        sms.get("/v1/users/ada/conversation").await,
        sms.post("/v1/users/ada/conversation", json!({})).await,
        sms.post("/v1/users/ada/conversation/close", json!({}))
            .await,
        sms.say("ada", "hello").await,
        sms.put("/v1/users/ada/typing", json!({"state": "active"}))
            .await,
        sms.post("/v1/users/ada/receipts", receipts).await,
        sms.send_file("ada", b"GIF89a").await,
        send(
            sms.request(Method::POST, "/v1/users/ada/conversation")
                .header("idempotency-key", "key"),
        )
        .await,
        sms.get("/v1/users/ada/files/file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")
            .await,
        sms.get("/v1/events").await,
        sms.get("/v1/events?wait=30").await,
        send(
            sms.request(Method::GET, "/v1/events")
                .header("accept", "text/event-stream"),
        )
        .await,
        sms.get("/v1/events/evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")
            .await,
        sms.get("/v1/deliveries?state=failed").await,
        sms.post("/v1/events/test", json!({"type": "message.sent"}))
            .await,
    ]
}

#[test]
fn the_manual_and_the_document_have_every_code() {
    let manual = include_str!("../../docs/problems.md");
    // YAML doubles the apostrophes of some texts.
    let document = include_str!("../../openapi.yaml").replace("''", "'");
    let chapters: Vec<_> = manual.split("\n## ").skip(1).collect();

    for code in Code::ALL {
        let chapter = chapters
            .iter()
            .find(|c| c.starts_with(&format!("`{}`\n", code.as_str())));
        let chapter = chapter.unwrap_or_else(|| panic!("no chapter for {}", code.as_str()));
        let retryable = if code.retryable() {
            "retryable"
        } else {
            "not retryable"
        };
        let facts = format!("{}, {retryable}: {}.", code.status(), code.title());
        assert!(chapter.contains(&facts), "{facts}");
        for part in ["Cause: ", "What to do: "] {
            assert!(chapter.contains(part), "{part} of {}", code.as_str());
        }
        let line = format!("`{}`: {}", code.as_str(), code.title());
        let is_there = document.contains(&line);
        assert_eq!(is_there, !code.is_for_operators(), "{line} in openapi.yaml");
    }
    assert_eq!(chapters.len(), Code::ALL.len(), "a chapter of no code");
}
