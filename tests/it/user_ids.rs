//! The `user_id` of the path: any UTF-8 of 1 to 256 bytes without control characters,
//! percent-encoded, but neither `.` nor `..`. Also the links in events, which lead back to their
//! user.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iri_string::types::UriStr;
use liveperson_bridge::sandbox::Operation;
use serde_json::json;
use url::Url;

use crate::support::app::TestApp;
use crate::support::channel::Reply;
use crate::support::configuration::SMS_KEY;
use crate::support::connection::exchange;
use crate::support::database::Engine;
use crate::support::patience::eventually;

on_both_engines!(
    a_user_id_reaches_the_cloud_decoded,
    an_invalid_user_id_is_refused_without_side_effects,
    dot_segments_are_not_valid_user_ids,
    a_path_that_is_not_percent_encoded_is_refused,
    a_file_link_is_a_valid_uri_of_its_user,
);

/// Sends a request for a user, with exactly this spelling of the id in the path.
async fn call(app: &TestApp, method: &str, user_id: &str, subpath: &str, body: &str) -> Reply {
    let line = format!("{method} /v1/users/{user_id}{subpath} HTTP/1.1");
    let head = [
        &line,
        &format!("Authorization: Bearer {SMS_KEY}"),
        "Content-Type: application/json",
        &format!("Content-Length: {}", body.len()),
    ];
    exchange(&app.sms, &head, body).await
}

async fn a_user_id_reaches_the_cloud_decoded(engine: Engine) {
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
        ("...", "..."),
        ("..a", "..a"),
        ("%2E%2E%2Fa", "../a"),
        ("%252E%252E", "%2E%2E"),
        ("a%25b", "a%b"),
        ("50%25off", "50%off"),
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
        let shown = call(&app, "GET", written, "", "").await;
        assert_eq!(shown.expect(200)["user_id"], meant, "{written}");
    }
}

async fn an_invalid_user_id_is_refused_without_side_effects(engine: Engine) {
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

async fn dot_segments_are_not_valid_user_ids(engine: Engine) {
    let app = TestApp::start(engine).await;

    for written in [".", "..", "%2E", "%2e", "%2E%2E", ".%2e", "%2E."] {
        for (method, rest) in [("POST", "/messages"), ("GET", ""), ("DELETE", "")] {
            let refused = call(&app, method, written, rest, r#"{"text": "hello"}"#).await;

            let problem = refused.expect_problem(400, "malformed-request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with("The path's user_id: "), "{detail}");
            assert!(detail.ends_with("neither '.' nor '..'."), "{detail}");
        }
    }
    let replay = json!({"since": "2026-11-22T08:00:00Z", "user_id": ".."});
    let refused = app.sms.post("/v1/deliveries/replay", replay).await;
    let problem = refused.expect_problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/user_id");
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_path_that_is_not_percent_encoded_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    // The id `50%off` below must not be taken for this user.
    call(
        &app,
        "POST",
        "50%25off",
        "/messages",
        r#"{"text": "hello"}"#,
    )
    .await
    .expect(201);
    app.cloud.sandbox.clear_requests();

    for written in [
        "%zz", "%", "100%", "50%off", "a%2", "%2", "a%2%62", "%%25", "%C3%A",
    ] {
        for (method, rest) in [
            ("POST", "/messages"),
            ("GET", ""),
            ("GET", "/files/file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f"),
            ("PUT", "/typing"),
        ] {
            let refused = call(&app, method, written, rest, r#"{"text": "hello"}"#).await;

            let problem = refused.expect_problem(400, "malformed-request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.starts_with("The path: expected two hexadecimal digits"),
                "{detail}"
            );
        }
    }
    let authorization = format!("Authorization: Bearer {SMS_KEY}");
    for (channel, target, part) in [
        (&app.sms, "/v1/users/ada/files/%zz", "path"),
        (&app.sms, "/v1/events/evt_%", "path"),
        (&app.sms, "/v1/messages/msg_%2", "path"),
        (&app.sms, "/v1/events?after=%zz", "query"),
        (&app.sms, "/v1/users/ada?100%", "query"),
        (&app.admin, "/api/events/%zz", "path"),
        (&app.admin, "/api/messages/100%", "path"),
        (&app.admin, "/api/audit?channel=%zz", "query"),
    ] {
        let head = [&format!("GET {target} HTTP/1.1"), &*authorization];
        let refused = exchange(channel, &head, "").await;

        let problem = refused.expect_problem(400, "malformed-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with(&format!("The {part}: ")),
            "{target}: {detail}"
        );
    }
    for target in ["/v1/events?after=%ff", "/v1/deliveries?state=%C3"] {
        let refused = app.sms.get(target).await;
        let problem = refused.expect_problem(400, "malformed-request");
        assert_eq!(
            problem["detail"],
            "The query: expected percent-encoded UTF-8."
        );
    }
    // Without a valid key, the answer reveals nothing about the path.
    let unauthorized = exchange(&app.sms, &["GET /v1/users/%zz HTTP/1.1"], "").await;
    unauthorized.expect_problem(401, "unauthorized");
    assert!(app.cloud.sandbox.requests().is_empty());
}

/// Returns ids that broke links in the past, and others made of the same parts.
fn odd_ids() -> Vec<String> {
    let known = [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "google-oauth2|123",
        "a[0]",
        "50%off",
        "%2E%2E",
        "...",
        "a b+c",
        "👋🏽",
    ];
    let parts = [
        "..", ".", "/", "|", "^", "[", "]", "%", "%2e", "\\", "{", "?", "#", "\"", " ", "+", "é",
        "\u{202e}", "a", "~",
    ];
    let part = |n: usize| parts[n % parts.len()];
    let generated = (0..40).map(|n| [part(n), part(7 * n + 3), part(11 * n + 5)].concat());
    known
        .into_iter()
        .map(str::to_owned)
        .chain(generated)
        .collect()
}

async fn a_file_link_is_a_valid_uri_of_its_user(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let ids = odd_ids();
    for id in &ids {
        let written = id.bytes().map(|byte| format!("%{byte:02x}"));
        let written = written.collect::<Vec<_>>().concat();
        let sent = call(&app, "POST", &written, "/messages", r#"{"text": "hello"}"#).await;
        let conversation = sent.expect(201)["conversation_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let content = STANDARD.encode(json!({"for": id}).to_string());
        let file = json!({"type": "file", "content": content, "file_type": "PDF"});
        let file = serde_json::from_value(file).unwrap();
        app.cloud.sandbox.act(&conversation, file).unwrap();
    }

    eventually("the Cloud has sent all notifications", async || {
        (app.cloud.sandbox.pending_notifications() == 0).then_some(())
    })
    .await;
    let mut links = BTreeMap::new();
    for event in app.event_log("sms").await {
        if let Some(link) = event["data"]["file"]["url"].as_str() {
            let user_id = event["user_id"].as_str().unwrap();
            links.insert(user_id.to_owned(), link.to_owned());
        }
    }
    let unlinked: Vec<_> = ids.iter().filter(|id| !links.contains_key(*id)).collect();
    assert!(unlinked.is_empty(), "no link for {unlinked:?}");
    for (user_id, link) in links {
        assert!(UriStr::new(&link).is_ok(), "{link}");
        let url: Url = link.parse().unwrap();
        assert_eq!(url.as_str(), link);
        let head = format!("GET {} HTTP/1.1", url.path());
        let authorization = format!("Authorization: Bearer {SMS_KEY}");
        let fetched = exchange(&app.sms, &[&head, &authorization], "").await;
        assert_eq!(fetched.expect(200), json!({"for": user_id}), "{link}");
    }
}
