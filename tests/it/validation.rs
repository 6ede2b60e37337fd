//! Request bodies: an invalid one is refused with a pointer to the member, and has no effect.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::database::Engine;

on_both_engines!(
    an_invalid_opening_names_the_member,
    a_date_outside_the_years_0001_to_9999_is_refused,
    an_invalid_message_names_the_member,
    an_invalid_receipt_or_typing_names_the_member,
    a_violation_quotes_nothing_of_the_body,
    a_body_that_is_not_json_is_malformed,
    a_lone_surrogate_is_replaced_and_the_text_is_sent,
    text_with_u_0000_is_refused,
    a_body_may_be_absent_if_all_members_are_optional,
    values_at_the_limits_are_accepted,
);

const OPEN: &str = "/v1/users/ada/conversation";
const MESSAGES: &str = "/v1/users/ada/messages";
const RECEIPTS: &str = "/v1/users/ada/receipts";

/// Returns the pointer and the detail of a refused body's only violation.
#[track_caller]
fn violation(reply: Reply) -> (String, String) {
    let problem = reply.expect_problem(422, "invalid-request");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{problem}");
    let member = |name: &str| problem["errors"][0][name].as_str().unwrap().to_owned();
    (member("pointer"), member("detail"))
}

async fn an_invalid_opening_names_the_member(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (body, pointer) in [
        (json!({"profil": {}}), "/profil"),
        (json!({"a/b~c": 1}), "/a~1b~0c"),
        (json!([]), ""),
        (json!(null), ""),
        (json!("text"), ""),
        (json!(7), ""),
        (json!({"profile": []}), "/profile"),
        (
            json!({"profile": {"firstname": "Ada"}}),
            "/profile/firstname",
        ),
        (json!({"profile": {"first_name": 1}}), "/profile/first_name"),
        (
            json!({"profile": {"first_name": "a\u{0}b"}}),
            "/profile/first_name",
        ),
        (json!({"profile": {"gender": "f"}}), "/profile/gender"),
        (json!({"profile": {"gender": 1}}), "/profile/gender"),
        (
            json!({"profile": {"gender": {"female": null}}}),
            "/profile/gender",
        ),
        (
            json!({"profile": {"birth_date": "10.12.1815"}}),
            "/profile/birth_date",
        ),
        (
            json!({"profile": {"birth_date": "1815-13-10"}}),
            "/profile/birth_date",
        ),
        (json!({"profile": {"contacts": {}}}), "/profile/contacts"),
        (
            json!({"profile": {"contacts": [["a@b.example"]]}}),
            "/profile/contacts/0",
        ),
        (
            json!({"profile": {"contacts": [{}, {"phone_type": "car"}]}}),
            "/profile/contacts/1/phone_type",
        ),
        (
            json!({"profile": {"contacts": [{"address": {"city": "X"}}]}}),
            "/profile/contacts/0/address/city",
        ),
        (
            json!({"profile": {"customer": {"balance": "1"}}}),
            "/profile/customer/balance",
        ),
        (
            json!({"profile": {"customer": {"company_size": -1}}}),
            "/profile/customer/company_size",
        ),
        (
            json!({"profile": {"customer": {"login_status": 3_000_000_000_u32}}}),
            "/profile/customer/login_status",
        ),
        (json!({"routing": {}}), "/routing"),
        (json!({"routing": {"campaign_id": "1"}}), "/routing"),
        (json!({"routing": {"engagement_id": "1"}}), "/routing"),
        (
            json!({"routing": {"skill_id": "1", "campaign_id": "1", "engagement_id": "1"}}),
            "/routing",
        ),
        (json!({"routing": {"skill_id": 1}}), "/routing/skill_id"),
        (json!({"routing": {"skill_id": ""}}), "/routing/skill_id"),
        (
            json!({"routing": {"skill_id": "x".repeat(65)}}),
            "/routing/skill_id",
        ),
        (json!({"routing": {"skil_id": "1"}}), "/routing/skil_id"),
        (json!({"context": {"lang": "en-US"}}), "/context/lang"),
        (json!({"urgency": "soon"}), "/urgency"),
        (json!({"urgency": "NORMAL"}), "/urgency"),
        (json!({"features": "AUTO_MESSAGES"}), "/features"),
        (json!({"features": ["auto_messages"]}), "/features"),
        (json!({"features": [1]}), "/features/0"),
        (json!({"features": vec!["A"; 17]}), "/features"),
    ] {
        let refused = app.sms.post(OPEN, body.clone()).await;

        assert_eq!(violation(refused).0, pointer, "{body}");
    }
    assert!(app.cloud.sandbox.requests().is_empty());
    app.sms
        .get("/v1/users/ada")
        .await
        .expect_problem(404, "user-not-found");
}

async fn a_date_outside_the_years_0001_to_9999_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;

    for date in [
        "+12345-01-01",
        "12345-01-01",
        "10000-01-01",
        "0000-01-01",
        "-0001-01-01",
        "-001-01-01",
        "1815-1-1",
        "1815-12-10T00:00:00Z",
    ] {
        for (profile, pointer) in [
            (json!({"birth_date": date}), "/birth_date"),
            (
                json!({"customer": {"last_payment_date": date}}),
                "/customer/last_payment_date",
            ),
            (
                json!({"customer": {"registration_date": date}}),
                "/customer/registration_date",
            ),
        ] {
            let opening = json!({"profile": profile});
            let refused = app.sms.post(OPEN, opening.clone()).await;
            assert_eq!(violation(refused).0, format!("/profile{pointer}"), "{date}");
            let message = json!({"text": "hello", "open": opening});
            let refused = app.sms.post(MESSAGES, message).await;
            assert_eq!(violation(refused).0, format!("/open/profile{pointer}"));
            let refused = app.sms.put("/v1/users/ada/profile", profile).await;
            let (named, detail) = violation(refused);
            assert_eq!(named, pointer);
            assert!(detail.contains("of the years 0001 to 9999"), "{detail}");
        }
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn an_invalid_message_names_the_member(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (body, pointer) in [
        (json!({}), "/text"),
        (json!({"text": null}), "/text"),
        (json!({"text": ""}), "/text"),
        (json!({"text": 1}), "/text"),
        (json!({"text": {"text": "hello"}}), "/text"),
        (json!({"text": "a\u{0}"}), "/text"),
        (json!(["hello"]), ""),
        (json!({"text": "hello", "txt": 1}), "/txt"),
        (json!({"text": "hello", "open": []}), "/open"),
        (
            json!({"text": "hello", "open": {"routing": {"skill_id": 1}}}),
            "/open/routing/skill_id",
        ),
        (
            json!({"text": "hello", "open": {"profile": {"contacts": [{}, {"phone_type": "car"}]}}}),
            "/open/profile/contacts/1/phone_type",
        ),
    ] {
        let refused = app.sms.post(MESSAGES, body.clone()).await;

        assert_eq!(violation(refused).0, pointer, "{body}");
    }
    let twice = app.sms.post_text(MESSAGES, r#"{"text": "a", "text": "b"}"#);
    assert_eq!(violation(twice.await).0, "/text");
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn an_invalid_receipt_or_typing_names_the_member(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();

    for (body, pointer) in [
        (json!({"sequences": [1]}), "/status"),
        (json!({"status": "read"}), "/sequences"),
        (json!({"status": "seen", "sequences": [1]}), "/status"),
        (json!({"status": "read", "sequences": 1}), "/sequences"),
        (json!({"status": "read", "sequences": []}), "/sequences"),
        (
            json!({"status": "read", "sequences": vec![1; 1001]}),
            "/sequences",
        ),
        (
            json!({"status": "read", "sequences": [1, -2]}),
            "/sequences/1",
        ),
        (
            json!({"status": "read", "sequences": [1.0]}),
            "/sequences/0",
        ),
        (
            json!({"status": "read", "sequences": ["1"]}),
            "/sequences/0",
        ),
        (
            json!({"status": "read", "sequences": [4_294_967_296_u64]}),
            "/sequences/0",
        ),
        (
            json!({"status": "read", "sequences": [1], "dialog": "x"}),
            "/dialog",
        ),
    ] {
        let refused = app.sms.post(RECEIPTS, body.clone()).await;

        assert_eq!(violation(refused).0, pointer, "{body}");
    }
    for (body, pointer) in [
        (json!({}), "/state"),
        (json!({"state": "typing"}), "/state"),
        (json!({"state": 1}), "/state"),
        (json!({"state": "gone", "for": 3}), "/for"),
    ] {
        let refused = app.sms.put("/v1/users/ada/typing", body.clone()).await;

        assert_eq!(violation(refused).0, pointer, "{body}");
    }
    let survey = app
        .sms
        .post("/v1/users/ada/conversation/close", json!({"surveys": true}));
    assert_eq!(violation(survey.await).0, "/surveys");
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_violation_quotes_nothing_of_the_body(engine: Engine) {
    let app = TestApp::start(engine).await;
    let secret = "my card is 1234";

    for body in [
        json!({"text": "hello", "open": secret}),
        json!({"text": [secret]}),
        json!({"text": "hello", "open": {"urgency": secret}}),
        json!({"text": "hello", "open": {"features": [secret]}}),
        json!({"text": "hello", "open": {"profile": {"birth_date": secret}}}),
        json!({"text": "hello", "open": {"profile": {"customer": {"company_size": secret}}}}),
        json!(secret),
    ] {
        let refused = app.sms.post(MESSAGES, body.clone()).await;

        let (_, detail) = violation(refused);
        assert!(!detail.contains("1234"), "{body}: {detail}");
        // The detail reveals no internals of the service either.
        assert!(!detail.contains("struct"), "{body}: {detail}");
    }
}

async fn a_body_that_is_not_json_is_malformed(engine: Engine) {
    let app = TestApp::start(engine).await;

    for body in [
        "",
        "{",
        "}",
        "{\"text\": \"hello\"",
        "{\"text\": \"hello\",}",
        "{'text': 'hello'}",
        "{\"text\": \"hello\"} trailing",
        "{\"text\": \"hello\"}{}",
        "{\"text\": \"a\nb\"}",
        "{\"text\": \"hello\", \"open\": {\"profile\": {\"customer\": {\"balance\": 1e999}}}}",
        "text=hello",
    ] {
        let refused = app.sms.post_text(MESSAGES, body).await;

        let problem = refused.expect_problem(400, "malformed-request");
        assert!(!problem.to_string().contains("hello"), "{problem}");
    }
    let deep = format!("{{\"text\": {}", "[".repeat(200_000));
    assert_eq!(
        violation(app.sms.post_text(MESSAGES, &deep).await).0,
        "/text"
    );
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_lone_surrogate_is_replaced_and_the_text_is_sent(engine: Engine) {
    let app = TestApp::start(engine).await;

    // `JSON.stringify` and `json.dumps` write such bodies for a text that was cut within a UTF-16
    // pair.
    for (body, text) in [
        (r#"{"text": "cut \ud83d"}"#, "cut \u{fffd}"),
        (
            r#"{"text": "\udc4d\ud83d\udc4d\ud83d\ud83d"}"#,
            "\u{fffd}👍\u{fffd}\u{fffd}",
        ),
        (
            r#"{"text": "\\ud83d \ud83d", "reply_to": {"sequence": 0, "metadata": [{"type": "ExternalId", "id": "\udc4d"}]}}"#,
            "\\ud83d \u{fffd}",
        ),
    ] {
        app.sms.post_text(MESSAGES, body).await.expect(201);

        let sent = app.cloud.texts(&app.cloud.only_conversation().id).pop();
        assert_eq!(sent.as_deref(), Some(text), "{body}");
    }
    let profile = r#"{"first_name": "A\ud83d", "contacts": [{"email": "\udc4d"}]}"#;
    let request = app.sms.request(Method::PUT, "/v1/users/ada/profile");
    let request = request.header("content-type", "application/json");
    let stored = send(request.body(profile)).await.expect(200);
    assert_eq!(
        stored,
        json!({"first_name": "A\u{fffd}", "contacts": [{"email": "\u{fffd}"}]})
    );
    let raw = r#"{"type": "ms.PublishEvent", "body": {"event": {"type": "ContentEvent", "contentType": "text/plain", "message": "\ud83d"}}}"#;
    app.sms
        .post_text("/v1/users/ada/send", raw)
        .await
        .expect(200);
    let sent = app.cloud.texts(&app.cloud.only_conversation().id).pop();
    assert_eq!(sent.as_deref(), Some("\u{fffd}"));
    // The fingerprint covers the bytes of the body, not the text that was read from them.
    let keyed = async |body: &'static str| {
        let request = app.sms.request(Method::POST, MESSAGES);
        let request = request.header("content-type", "application/json");
        send(request.header("idempotency-key", "key").body(body)).await
    };
    let first = keyed(r#"{"text": "\ud83d"}"#).await.expect(201);
    assert_eq!(keyed(r#"{"text": "\ud83d"}"#).await.expect(201), first);
    keyed(r#"{"text": "\ufffd"}"#)
        .await
        .expect_problem(422, "idempotency-key-reused");
}

async fn text_with_u_0000_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();
    let reply_to =
        |metadata: Value| json!({"text": "x", "reply_to": {"sequence": 0, "metadata": metadata}});

    for (path, body, pointer) in [
        (MESSAGES, json!({"text": "a\0"}), "/text"),
        (
            MESSAGES,
            reply_to(json!([{"id": "\0"}])),
            "/reply_to/metadata/0/id",
        ),
        (
            MESSAGES,
            reply_to(json!([{"id": {"a": ["b\0"]}}])),
            "/reply_to/metadata/0/id/a/0",
        ),
        (
            MESSAGES,
            reply_to(json!([{"a\0": 1}])),
            "/reply_to/metadata/0",
        ),
        (
            OPEN,
            json!({"profile": {"company": "\0"}}),
            "/profile/company",
        ),
        (
            OPEN,
            json!({"profile": {"customer": {"role": "a\0b"}}}),
            "/profile/customer/role",
        ),
        (
            OPEN,
            json!({"context": {"visitor_id": "\0"}}),
            "/context/visitor_id",
        ),
        (
            "/v1/users/ada/send",
            json!({"type": "a\0", "body": {}}),
            "/type",
        ),
        (
            "/v1/users/ada/send",
            json!({"type": "a", "body": {"b": ["\0"]}}),
            "/body/b/0",
        ),
        (
            "/v1/users/ada/send",
            json!({"type": "a", "body": {"b": {"c\0": 1}}}),
            "/body/b",
        ),
        (
            "/v1/users/ada/send",
            json!({"type": "a", "body": {}, "metadata": [{"\0": 1}]}),
            "/metadata/0",
        ),
    ] {
        // Also if the request would be queued.
        for prefer in ["wait=5", "respond-async"] {
            let request = app.sms.request(Method::POST, path);
            let request = request
                .header("content-type", "application/json")
                .header("prefer", prefer)
                .header("idempotency-key", "key")
                .body(body.to_string());
            let (found, detail) = violation(send(request).await);

            assert_eq!(found, pointer, "{body}");
            assert_eq!(detail, "expected text without U+0000", "{body}");
        }
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_body_may_be_absent_if_all_members_are_optional(engine: Engine) {
    let app = TestApp::start(engine).await;
    let close = format!("{OPEN}/close");

    for body in [None, Some(json!({}))] {
        for (path, status) in [(OPEN, 201), (&*close, 200)] {
            let request = app.sms.request(Method::POST, path);
            let request = match &body {
                None => request,
                Some(body) => request
                    .header("content-type", "application/json; charset=utf-8")
                    .body(body.to_string()),
            };
            send(request).await.expect(status);
        }
    }
    assert_eq!(app.cloud.sandbox.conversations().len(), 2);
}

async fn values_at_the_limits_are_accepted(engine: Engine) {
    let app = TestApp::start(engine).await;

    let opening = json!({
        "profile": {"first_name": "", "birth_date": "0001-01-01", "contacts": [], "customer": {
            "balance": -1.5, "login_status": -1, "registration_date": "9999-12-31",
        }},
        "routing": {"skill_id": "x".repeat(64)}, "context": {}, "urgency": null, "features": vec!["A_1"; 16],
    });
    app.sms.post(OPEN, opening).await.expect(201);
    for text in [" .", "👋🏽", "\u{1}\u{feff}\u{2028}\"\\", &"x".repeat(4000)] {
        app.sms.say("ada", text).await.expect(201);
        assert_eq!(
            app.cloud
                .texts(&app.cloud.only_conversation().id)
                .pop()
                .unwrap(),
            text
        );
    }
    let read: Value = json!({"status": "read", "sequences": (0..1000).collect::<Vec<u32>>()});
    app.sms.post(RECEIPTS, read).await.expect(204);
}
