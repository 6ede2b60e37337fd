//! Idempotency keys: a POST with an `Idempotency-Key` takes effect once, however often it is sent.

use chrono::TimeDelta;
use jsonwebtoken::{EncodingKey, Header, encode};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::store::Location;
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, FORM, Part, Reply, form, send, try_send};
use crate::support::cloud::Cloud;
use crate::support::configuration::{APP_KEY, SMS_KEY, bridge_toml};
use crate::support::connection::exchange;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::postgres::Server;
use crate::support::process::Process;
use crate::support::relay::Relay;

on_both_engines!(
    a_retry_gets_the_first_answer,
    every_successful_answer_is_replayed_unchanged,
    the_fingerprint_of_a_form_ignores_its_boundary,
    another_request_under_the_same_key_is_refused,
    two_spellings_of_one_address_are_one_request,
    an_invalid_request_under_a_used_key_is_refused_as_reuse,
    a_retry_after_the_conversation_ended_gets_the_first_answer,
    the_write_ahead_record_follows_a_text_to_its_new_conversation,
    the_write_ahead_record_is_stored_after_the_token_is_obtained,
    an_unknown_outcome_is_not_retried_and_keeps_the_key_in_use,
    a_request_without_effect_does_not_use_up_its_key,
    each_channel_has_its_own_idempotency_keys,
    each_user_with_a_token_has_their_own_idempotency_keys,
    the_keys_of_users_and_of_the_channel_are_separate,
    malformed_keys_are_refused,
    the_idempotency_key_of_an_unauthorized_caller_is_ignored,
    the_idempotency_key_counts_only_for_posts_of_a_channel,
    idempotency_keys_survive_a_restart,
    an_idempotency_key_is_valid_for_24_hours,
    forty_concurrent_requests_under_one_key_take_effect_once,
    a_caller_that_hangs_up_gets_the_answer_by_a_retry,
    a_slow_request_renews_the_lease_of_its_key,
    a_retry_completes_the_request_of_a_killed_replica,
    a_retry_sends_the_text_of_a_replica_killed_before_the_send,
    a_retry_does_not_send_again_what_a_killed_replica_sent,
    a_retry_sends_what_did_not_arrive_from_a_killed_replica,
    an_erasure_removes_the_users_idempotency_keys,
);

const MESSAGES: &str = "/v1/users/ada/messages";
const TOKEN_KEY: &str = "a-shared-secret-of-at-least-32-bytes";

/// Builds a POST with an idempotency key.
fn keyed(channel: &Channel, key: &str, path: &str, body: &Value) -> RequestBuilder {
    channel
        .request(Method::POST, path)
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn post(channel: &Channel, key: &str, path: &str, body: Value) -> Reply {
    send(keyed(channel, key, path, &body)).await
}

async fn post_text(channel: &Channel, key: &str, text: &str) -> Reply {
    post(channel, key, MESSAGES, json!({"text": text})).await
}

fn texts(cloud: &Cloud) -> Vec<String> {
    cloud.texts(&cloud.only_conversation().id)
}

impl Reply {
    #[track_caller]
    fn expect_fresh(self, status: u16) -> Value {
        assert_eq!(self.headers.get("idempotency-replayed"), None);
        self.expect(status)
    }

    #[track_caller]
    fn expect_replay(self, status: u16) -> Value {
        let replayed = self.headers.get("idempotency-replayed");
        assert_eq!(replayed, Some(&HeaderValue::from_static("true")));
        self.expect(status)
    }
}

async fn a_retry_gets_the_first_answer(engine: Engine) {
    let app = TestApp::start(engine).await;

    let first = post_text(&app.sms, "key 1", "hello").await;
    let second = post_text(&app.sms, "key 1", "hello").await;
    let other = post_text(&app.sms, "key 2", "hello").await;

    let id_of_request = |reply: &Reply| reply.headers["x-request-id"].clone();
    assert_ne!(id_of_request(&first), id_of_request(&second));
    assert_eq!(second.headers["content-type"], "application/json");
    let first = first.expect_fresh(201);
    assert!(first["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(second.expect_replay(201), first);
    assert_ne!(other.expect_fresh(201)["id"], first["id"]);
    assert_eq!(texts(&app.cloud), ["hello", "hello"]);
}

async fn every_successful_answer_is_replayed_unchanged(engine: Engine) {
    let app = TestApp::start(engine).await;
    let read = json!({"status": "read", "sequences": [0]});
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "raw"});
    let raw = json!({"type": "ms.PublishEvent", "body": {"event": event}});

    for (path, body, status) in [
        ("/v1/users/ada/conversation", json!({}), 201),
        ("/v1/users/ada/receipts", read, 204),
        ("/v1/users/ada/send", raw, 200),
        ("/v1/users/ada/conversation/close", json!({}), 200),
    ] {
        let first = post(&app.sms, path, path, body.clone()).await;
        let first = first.expect_fresh(status);
        app.cloud.sandbox.clear_requests();

        let second = post(&app.sms, path, path, body).await;

        assert_eq!(second.expect_replay(status), first, "{path}");
        assert!(app.cloud.sandbox.requests().is_empty(), "{path}");
    }
}

async fn the_fingerprint_of_a_form_ignores_its_boundary(engine: Engine) {
    let app = TestApp::start(engine).await;
    let part = |name, content| Part {
        name,
        file_name: (name == "file").then_some("a.gif"),
        content,
    };
    let send_form = async |parts: &[Part<'_>], line: &str| {
        let usual = "a-line-between-parts";
        let body = String::from_utf8(form(parts)).unwrap();
        let request = app
            .sms
            .request(Method::POST, "/v1/users/ada/files")
            .header("idempotency-key", "key")
            .header("content-type", FORM.replace(usual, line))
            .body(body.replace(usual, line));
        send(request).await
    };
    let (file, caption) = (part("file", b"GIF89a"), part("caption", b"look"));

    let first = send_form(&[file, caption], "one").await.expect_fresh(201);
    let second = send_form(&[caption, file], "two").await;
    let other_file = send_form(&[part("file", b"GIF87a"), caption], "one").await;
    let other_caption = send_form(&[file, part("caption", b"there")], "one").await;
    let no_caption = send_form(&[file], "one").await;

    assert_eq!(second.expect_replay(201), first);
    for other in [other_file, other_caption, no_caption] {
        other.expect_problem(422, "idempotency-key-reused");
    }
    assert_eq!(app.cloud.only_conversation().dialogs[0].events.len(), 1);
}

async fn another_request_under_the_same_key_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let hello = json!({"text": "hello"});
    post_text(&app.sms, "key", "hello").await.expect_fresh(201);

    for (path, body) in [
        (MESSAGES, json!({"text": "hello!"})),
        ("/v1/users/bob/messages", hello.clone()),
        ("/v1/users/ada/conversation/close", json!({})),
    ] {
        let refused = post(&app.sms, "key", path, body).await;

        let problem = refused.expect_problem(422, "idempotency-key-reused");
        assert_eq!(problem["retryable"], false);
    }
    // No POST takes query parameters, so a different query gets the usual refusal.
    let refused = post(&app.sms, "key", "/v1/users/ada/messages?a=b", hello).await;
    refused.expect_problem(422, "invalid-request");
    post_text(&app.sms, "key", "hello").await.expect_replay(201);
    assert_eq!(texts(&app.cloud), ["hello"]);
}

async fn two_spellings_of_one_address_are_one_request(engine: Engine) {
    let app = TestApp::start(engine).await;
    let body = r#"{"text": "hello"}"#;
    let send_to = async |key: &str, target: &str| {
        let head = [
            &format!("POST {target} HTTP/1.1"),
            &format!("Authorization: Bearer {SMS_KEY}"),
            "Content-Type: application/json",
            &format!("Content-Length: {}", body.len()),
            &format!("Idempotency-Key: {key}"),
        ];
        exchange(&app.sms, &head, body).await
    };

    for (key, user, spellings) in [
        (
            "plus",
            "+1555",
            &["+1555", "%2b1555", "%2B1555", "%2b%31%35%355"][..],
        ),
        (
            "letters",
            "ada~1",
            &["ada~1", "%61da~1", "%61%64%61%7E1", "ada%7e1"],
        ),
        ("slash", "a/b", &["a%2fb", "a%2Fb"]),
        ("umlaut", "zoë", &["zo%c3%ab", "zo%C3%AB", "zo%c3%AB"]),
    ] {
        let first = send_to(key, &format!("/v1/users/{}/messages", spellings[0])).await;
        let first = first.expect_fresh(201);
        assert_eq!(first["user_id"], user);
        for spelling in spellings {
            for target in [
                format!("/v1/users/{spelling}/messages"),
                format!("/v1/users/{spelling}/messages?"),
                format!("http://bridge/v1/users/{spelling}/messages"),
            ] {
                let repeat = send_to(key, &target).await;

                assert_eq!(repeat.expect_replay(201), first, "{target}");
            }
        }
    }
    // The path of another user is another request.
    for (key, target) in [
        ("plus", "/v1/users/%201555/messages"),
        ("plus", "/v1/users/%252B1555/messages"),
        ("letters", "/v1/users/Ada~1/messages"),
        ("slash", "/v1/users/a%252Fb/messages"),
        ("umlaut", "/v1/users/zoe%CC%88/messages"),
    ] {
        let other = send_to(key, target).await;
        other.expect_problem(422, "idempotency-key-reused");
    }
    assert_eq!(app.cloud.sandbox.conversations().len(), 4);
}

async fn an_invalid_request_under_a_used_key_is_refused_as_reuse(engine: Engine) {
    let app = TestApp::start(engine).await;
    post_text(&app.sms, "key", "hello").await.expect_fresh(201);
    let too_long = json!({"text": "x".repeat(9000)}).to_string();
    let bad = ["{", r#"{"txt": "hello"}"#, r#"{"text": ""}"#, &too_long];

    let under = async |key: &str, body: &str, path: &str| {
        let request = keyed(&app.sms, key, path, &Value::Null);
        send(request.body(body.to_owned())).await
    };
    for body in bad {
        let used = under("key", body, MESSAGES).await;
        used.expect_problem(422, "idempotency-key-reused");
        let free = under("another key", body, MESSAGES).await;
        assert_ne!(free.body["code"], "idempotency-key-reused", "{body}");
        assert!(free.status == 400 || free.status == 422, "{body}");
    }
    let elsewhere = under("key", "{}", "/v1/users/%00/messages").await;
    elsewhere.expect_problem(422, "idempotency-key-reused");

    post_text(&app.sms, "key", "hello").await.expect_replay(201);
    post_text(&app.sms, "another key", "there")
        .await
        .expect_fresh(201);
    assert_eq!(texts(&app.cloud), ["hello", "there"]);
}

async fn a_retry_after_the_conversation_ended_gets_the_first_answer(engine: Engine) {
    let app = TestApp::start(engine).await;
    let opening = post_text(&app.sms, "1", "one").await.expect_fresh(201);
    let first = post_text(&app.sms, "2", "two").await.expect_fresh(201);
    let close = "/v1/users/ada/conversation/close";
    app.sms.post(close, json!({})).await.expect(200);
    app.cloud.sandbox.clear_requests();

    let reopening = post_text(&app.sms, "1", "one").await;
    let second = post_text(&app.sms, "2", "two").await;

    assert_eq!(reopening.expect_replay(201), opening);
    assert_eq!(second.expect_replay(201), first);
    assert!(app.cloud.sandbox.requests().is_empty());
}

/// Sends a text under a key while the Cloud does not answer. Returns the content of the database
/// while the text is in flight.
async fn dump_while_in_flight(app: &TestApp, sends_before: u32) -> String {
    app.cloud.sandbox.clear_requests();
    app.cloud.sandbox.inject(Fault {
        skip: sends_before,
        ..Fault::stall(Operation::Send)
    });
    let sms = app.sms.clone();
    let sending = tokio::task::spawn(async move { post_text(&sms, "key", "marker").await });
    eventually("the Cloud receives the request", async || {
        let sends = app.cloud.requests(Operation::Send).len();
        (sends > sends_before as usize).then_some(())
    })
    .await;
    let dump = app.database.dump().await;
    sending.await.unwrap().expect_fresh(202);
    // PostgreSQL doubles the quotes of a text within a row.
    dump.replace("\"\"", "\"")
}

async fn the_write_ahead_record_follows_a_text_to_its_new_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    let first = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));

    // The first attempt finds the conversation closed.
    let dump = dump_while_in_flight(&app, 1).await;

    let conversations = app.cloud.sandbox.conversations();
    let second = conversations.last().unwrap().id.clone();
    assert_ne!(first, second);
    assert!(dump.contains("marker"), "{dump}");
    let recorded = format!("\"conversation_id\":\"{second}\"");
    assert!(dump.contains(&recorded), "{dump}");
    let recorded = format!("\"conversation_id\":\"{first}\"");
    assert!(!dump.contains(&recorded), "{dump}");
}

async fn the_write_ahead_record_is_stored_after_the_token_is_obtained(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.database
        .execute("UPDATE users SET token = NULL, token_key_id = NULL, consumer_id = NULL")
        .await;
    app.cloud.sandbox.clear_requests();
    app.cloud
        .sandbox
        .inject(Fault::stall(Operation::ConsumerToken));

    let sms = app.sms.clone();
    let sending = tokio::task::spawn(async move { post_text(&sms, "key", "marker").await });
    eventually("a token is requested", async || {
        (!app.cloud.requests(Operation::ConsumerToken).is_empty()).then_some(())
    })
    .await;
    assert!(!app.database.dump().await.contains("marker"));
    sending.await.unwrap().expect_fresh(201);
}

async fn an_unknown_outcome_is_not_retried_and_keeps_the_key_in_use(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::stall(Operation::Send)
    });

    let sms = app.sms.clone();
    let first = tokio::task::spawn(async move { post_text(&sms, "key", "lost").await });
    eventually("the Cloud receives the request", async || {
        (!app.cloud.requests(Operation::Send).is_empty()).then_some(())
    })
    .await;
    let concurrent = post_text(&app.sms, "key", "lost").await;
    let first = first.await.unwrap();
    let repeat = post_text(&app.sms, "key", "lost").await;

    assert_eq!(concurrent.headers["retry-after"], "1");
    let problem = concurrent.expect_problem(409, "idempotency-key-in-use");
    assert_eq!(problem["retryable"], true);
    let location = &first.headers["location"];
    assert_eq!(repeat.headers["location"], location);
    let first = first.expect(202);
    assert_eq!(first["status"], "queued");
    assert_eq!(repeat.expect_replay(202), first);
    assert_eq!(texts(&app.cloud), ["hello", "lost"]);
}

async fn a_request_without_effect_does_not_use_up_its_key(engine: Engine) {
    let app = TestApp::start(engine).await;
    let read = json!({"status": "read", "sequences": [0]});
    let path = "/v1/users/ada/receipts";

    let conflict = post(&app.sms, "key", path, read).await;
    conflict.expect_problem(409, "no-open-conversation");
    let invalid = post(&app.sms, "key", MESSAGES, json!({"txt": "hello"})).await;
    invalid.expect_problem(422, "invalid-request");
    let bad_path = post(&app.sms, "key", "/v1/users/%00/messages", json!({})).await;
    bad_path.expect_problem(400, "malformed-request");
    let away = Fault::status(Operation::Conversation, StatusCode::SERVICE_UNAVAILABLE);
    app.cloud.sandbox.inject(away);
    let opening = post(&app.sms, "key", "/v1/users/ada/conversation", json!({})).await;
    opening.expect_problem(503, "cloud-unavailable");

    post_text(&app.sms, "key", "other words")
        .await
        .expect_fresh(201);
    assert_eq!(texts(&app.cloud), ["other words"]);
}

async fn each_channel_has_its_own_idempotency_keys(engine: Engine) {
    let app = TestApp::start(engine).await;
    let other = app.sms.with_key(APP_KEY);

    let first = post_text(&app.sms, "key", "from sms")
        .await
        .expect_fresh(201);
    let second = post_text(&other, "key", "from app").await.expect_fresh(201);

    assert_ne!(first["conversation_id"], second["conversation_id"]);
}

/// Starts a service with a channel `sms` that accepts tokens.
async fn with_tokens(engine: Engine) -> TestApp {
    let lines = format!("id = \"sms\"\njwt = {{algorithm = \"HS256\", key = \"{TOKEN_KEY}\"}}\n");
    let change = |toml: String| toml.replacen("id = \"sms\"\n", &lines, 1);
    TestApp::start_configured(Cloud::start().await, Database::create(engine).await, change).await
}

/// Returns the channel `sms` with a token instead of its API key. A token without a user is valid
/// for the whole channel.
fn token_of(app: &TestApp, user: Option<&str>) -> Channel {
    let exp = (app.cloud.clock.now() + TimeDelta::minutes(1)).timestamp();
    let mut claims = json!({"iss": "sms", "exp": exp});
    if let Some(user) = user {
        claims["user"] = user.into();
    }
    let key = EncodingKey::from_secret(TOKEN_KEY.as_bytes());
    app.sms
        .with_key(&encode(&Header::default(), &claims, &key).unwrap())
}

async fn each_user_with_a_token_has_their_own_idempotency_keys(engine: Engine) {
    let app = with_tokens(engine).await;
    let (ada, bob) = (token_of(&app, Some("ada")), token_of(&app, Some("bob")));
    let body = json!({"text": "Where is my order?"});
    let of_bob = "/v1/users/bob/messages";

    let first = post(&ada, "order-1001", MESSAGES, body.clone()).await;
    let first = first.expect_fresh(201);
    let of_other_user = post(&bob, "order-1001", of_bob, body.clone()).await;
    of_other_user.expect_fresh(201);

    // The key belongs to the user, not to the token. So a repeat with another token is recognized,
    // also by another replica and after a restart.
    let repeat = post(
        &token_of(&app, Some("ada")),
        "order-1001",
        MESSAGES,
        body.clone(),
    )
    .await;
    assert_eq!(repeat.expect_replay(201), first);
    let reused = post(&ada, "order-1001", MESSAGES, json!({"text": "Hello?"})).await;
    reused.expect_problem(422, "idempotency-key-reused");
    // A forbidden request uses up no key, neither the caller's own nor the other user's.
    let foreign = post(&ada, "order-1002", of_bob, body.clone()).await;
    foreign.expect_problem(403, "forbidden");
    post(&bob, "order-1002", of_bob, body.clone())
        .await
        .expect_fresh(201);
    post(&ada, "order-1002", MESSAGES, body)
        .await
        .expect_fresh(201);
}

async fn the_keys_of_users_and_of_the_channel_are_separate(engine: Engine) {
    let app = with_tokens(engine).await;
    let ada = token_of(&app, Some("ada"));
    let order = json!({"text": "Your order has been sent"});
    let to_bob = "/v1/users/bob/messages";

    post(&ada, "order-1001", MESSAGES, json!({"text": "hello"}))
        .await
        .expect_fresh(201);
    let to_another = post(&app.sms, "order-1001", to_bob, order.clone()).await;
    let to_another = to_another.expect_fresh(201);

    // A token without a user is equivalent to the channel's API key, and shares its idempotency
    // keys.
    let server = token_of(&app, None);
    let repeat = post(&server, "order-1001", to_bob, order.clone()).await;
    assert_eq!(repeat.expect_replay(201), to_another);
    // The keys are separate even for identical requests.
    post(&app.sms, "order-1002", MESSAGES, order.clone())
        .await
        .expect_fresh(201);
    post(&ada, "order-1002", MESSAGES, order)
        .await
        .expect_fresh(201);
}

async fn malformed_keys_are_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let body = r#"{"text": "hello"}"#;
    let send_under = async |headers: &[&str]| {
        let authorization = format!("Authorization: Bearer {SMS_KEY}");
        let length = format!("Content-Length: {}", body.len());
        let mut head = vec![
            "POST /v1/users/ada/messages HTTP/1.1",
            authorization.as_str(),
            "Content-Type: application/json",
            length.as_str(),
        ];
        head.extend(headers);
        exchange(&app.sms, &head, body).await
    };

    let long = format!("Idempotency-Key: {}", "x".repeat(256));
    for headers in [
        &["Idempotency-Key:"][..],
        &["Idempotency-Key:   "],
        &[long.as_str()],
        &["Idempotency-Key: a\tb"],
        &["Idempotency-Key: \u{85}"],
        &["Idempotency-Key: a", "Idempotency-Key: a"],
    ] {
        let refused = send_under(headers).await;

        let problem = refused.expect_problem(400, "malformed-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("The header Idempotency-Key: expected "),
            "{detail}"
        );
    }
    assert!(app.cloud.sandbox.requests().is_empty());
    let longest = format!("Idempotency-Key: {}", "é".repeat(255));
    send_under(&[&longest]).await.expect_fresh(201);
    send_under(&[&longest]).await.expect_replay(201);
}

async fn the_idempotency_key_of_an_unauthorized_caller_is_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    post_text(&app.sms, "key", "hello").await.expect_fresh(201);

    let unauthorized = app.sms.with_key("no key");
    let refused = post_text(&unauthorized, "key", "hello").await;

    assert_eq!(refused.headers.get("idempotency-replayed"), None);
    refused.expect_problem(401, "unauthorized");
}

async fn the_idempotency_key_counts_only_for_posts_of_a_channel(engine: Engine) {
    let app = TestApp::start(engine).await;
    post_text(&app.sms, "key", "hello").await.expect_fresh(201);
    let too_long = "x".repeat(256);
    let bearing = async |method: Method, path: &str, body: &'static str| {
        let request = app.sms.request(method, path);
        let request = request.header("idempotency-key", &too_long);
        let request = request.header("content-type", "application/json");
        send(request.body(body)).await
    };

    for _ in 0..2 {
        bearing(Method::GET, "/v1/users/ada", "")
            .await
            .expect_fresh(200);
        let typing = r#"{"state": "active"}"#;
        let shown = bearing(Method::PUT, "/v1/users/ada/typing", typing).await;
        shown.expect_fresh(204);
        let unsigned = bearing(Method::POST, "/webhooks/12345678", "{}").await;
        unsigned.expect_problem(401, "signature-refused");
        let nowhere = bearing(Method::POST, "/v1/nothing", "").await;
        nowhere.expect_problem(404, "not-found");
        let wrong = bearing(Method::POST, "/v1/users/ada/typing", typing).await;
        assert!(wrong.headers.contains_key("allow"));
        wrong.expect_problem(405, "method-not-allowed");
        bearing(Method::DELETE, "/v1/users/bob", "")
            .await
            .expect_fresh(204);
    }
}

async fn idempotency_keys_survive_a_restart(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = post_text(&app.sms, "key", "hello").await.expect_fresh(201);

    let (cloud, database, _) = app.stop().await;
    let app = TestApp::start_with(cloud, database).await;

    let second = post_text(&app.sms, "key", "hello").await;
    assert_eq!(second.expect_replay(201), first);
    assert_eq!(texts(&app.cloud), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_requests_at_two_replicas_under_one_key_take_effect_once() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let first = TestApp::start_with(cloud.clone(), database.clone()).await;
    let second = TestApp::start_with(cloud.clone(), database).await;

    let channels = [first.sms, second.sms];
    send_forty(&channels, "opening").await;
    // Now the conversation is known, and the write-ahead record is stored with the claim.
    send_forty(&channels, "second").await;

    assert_eq!(texts(&cloud), ["hello", "hello"]);
}

async fn forty_concurrent_requests_under_one_key_take_effect_once(engine: Engine) {
    let app = TestApp::start(engine).await;

    let channels = std::slice::from_ref(&app.sms);
    send_forty(channels, "opening").await;
    send_forty(channels, "second").await;

    assert_eq!(texts(&app.cloud), ["hello", "hello"]);
}

/// Sends one message forty times at once, over these channels in turn, and asserts that it took
/// effect once.
async fn send_forty(channels: &[Channel], key: &'static str) {
    let mut sends = JoinSet::new();
    for number in 0..40 {
        let channel = channels[number % channels.len()].clone();
        sends.spawn(async move { post_text(&channel, key, "hello").await });
    }
    let replies = sends.join_all().await;

    let settled = post_text(&channels[0], key, "hello")
        .await
        .expect_replay(201);
    let mut fresh = 0;
    for reply in replies {
        match (reply.status, reply.headers.get("idempotency-replayed")) {
            (409, _) => {
                reply.expect_problem(409, "idempotency-key-in-use");
            }
            (_, replayed) => {
                fresh += usize::from(replayed.is_none());
                assert_eq!(reply.expect(201), settled);
            }
        }
    }
    assert_eq!(fresh, 1);
}

async fn an_idempotency_key_is_valid_for_24_hours(engine: Engine) {
    let app = TestApp::start(engine).await;
    post_text(&app.sms, "key", "hello").await.expect_fresh(201);
    post_text(&app.sms, "forgotten", "once")
        .await
        .expect_fresh(201);
    assert_eq!(keys(&app.database).await, 2);

    app.cloud
        .clock
        .advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    post_text(&app.sms, "key", "hello").await.expect_replay(201);
    app.cloud.clock.advance(TimeDelta::seconds(1));

    post_text(&app.sms, "key", "hello again")
        .await
        .expect_fresh(201);
    // A key that is not used again is removed, here or after a restart.
    let (cloud, database, _) = app.stop().await;
    let app = TestApp::start_with(cloud, database).await;
    eventually("the old key is removed", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        (keys(&app.database).await == 1).then_some(())
    })
    .await;
    post_text(&app.sms, "key", "hello again")
        .await
        .expect_replay(201);
}

/// Counts the stored answers. Each contains its message id twice: in the answer and in a column of
/// its own.
async fn keys(database: &Database) -> usize {
    database.dump().await.matches("msg_").count() / 2
}

async fn a_caller_that_hangs_up_gets_the_answer_by_a_retry(engine: Engine) {
    let app = TestApp::start(engine).await;
    {
        let impatient = keyed(&app.sms, "key", MESSAGES, &json!({"text": "hello"}));
        let sending = std::pin::pin!(impatient.send());
        let requested = eventually("the Cloud receives the request", async || {
            let requests = app.cloud.requests(Operation::Conversation);
            (!requests.is_empty()).then_some(())
        });
        // In both cases the caller has disconnected afterwards.
        tokio::select! {
            _ = sending => {}
            () = requested => {}
        }
    }

    let reply = eventually("the answer", async || {
        let reply = post_text(&app.sms, "key", "hello").await;
        (reply.status != 409).then_some(reply)
    })
    .await;

    reply.expect_replay(201);
    assert_eq!(texts(&app.cloud), ["hello"]);
}

async fn a_slow_request_renews_the_lease_of_its_key(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault::stall(Operation::Upload));
    let send_file = |channel: Channel| async move {
        let file = Part {
            name: "file",
            file_name: Some("a.gif"),
            content: b"GIF89a",
        };
        let request = channel
            .request(Method::POST, "/v1/users/ada/files")
            .header("idempotency-key", "key")
            .header("prefer", "wait=30")
            .header("content-type", FORM);
        send(request.body(form(&[file]))).await
    };
    let first = tokio::task::spawn(send_file(app.sms.clone()));
    eventually("the file is being sent", async || {
        (!app.cloud.requests(Operation::Upload).is_empty()).then_some(())
    })
    .await;

    app.cloud.clock.advance(TimeDelta::seconds(14));
    let renewed = app.cloud.clock.now() + TimeDelta::seconds(15);
    eventually("the lease is renewed", async || {
        let dump = app.database.dump().await;
        let until = renewed.timestamp_millis().to_string();
        dump.contains(&until).then_some(())
    })
    .await;
    app.cloud.clock.advance(TimeDelta::seconds(14));
    let repeat = send_file(app.sms.clone()).await;

    repeat.expect_problem(409, "idempotency-key-in-use");
    assert!(!first.is_finished());
    assert_eq!(app.cloud.requests(Operation::Upload).len(), 1);
    first.abort();
}

async fn a_retry_completes_the_request_of_a_killed_replica(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.sandbox.inject(Fault::stall(Operation::Conversation));
    let unanswered = tokio::task::spawn(async move {
        try_send(keyed(&sms, "key", MESSAGES, &json!({"text": "hello"}))).await
    });
    eventually("the Cloud receives the request", async || {
        (!cloud.requests(Operation::Conversation).is_empty()).then_some(())
    })
    .await;

    process.kill().await;
    assert!(unanswered.await.unwrap().is_err());
    let begun = database.dump().await;
    let (_process, sms, _) = Process::serve(&toml).await;

    let concurrent = post_text(&sms, "key", "hello").await;
    concurrent.expect_problem(409, "idempotency-key-in-use");
    let other = post_text(&sms, "key", "other words").await;
    other.expect_problem(422, "idempotency-key-reused");
    // The lease of the dead process expires.
    let reply = eventually("the repeated request is answered", async || {
        let reply = post_text(&sms, "key", "hello").await;
        (reply.status != 409).then_some(reply)
    })
    .await;
    let sent = reply.expect_fresh(201);
    assert!(begun.contains(sent["id"].as_str().unwrap()), "another name");
    assert_eq!(texts(&cloud), ["hello"]);
    let again = post_text(&sms, "key", "hello").await;
    assert_eq!(again.expect_replay(201), sent);
}

async fn a_retry_sends_the_text_of_a_replica_killed_before_the_send(engine: Engine) {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    sms.say("ada", "first").await.expect(201);
    process.kill().await;
    // The next process has to obtain an AppJWT before it can send.
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.sandbox.clear_requests();
    cloud.sandbox.inject(Fault::stall(Operation::AppToken));
    let unanswered = tokio::task::spawn(async move {
        try_send(text_of_ada(&sms).header("idempotency-key", "key")).await
    });
    eventually("a token is requested", async || {
        (!cloud.requests(Operation::AppToken).is_empty()).then_some(())
    })
    .await;

    process.kill().await;
    assert!(unanswered.await.unwrap().is_err());
    assert!(cloud.requests(Operation::Send).is_empty());
    let begun = database.dump().await;
    let (_process, sms, _) = Process::serve(&toml).await;
    cloud.subscribe(&sms);
    cloud.sandbox.retry_now();

    let reply = repeat(&sms, "key", text_of_ada).await;
    let id = reply.body["id"].as_str().unwrap().to_owned();
    assert!(begun.contains(&id), "another name");
    // The Cloud sends a notification about another user. Its silence about this text therefore
    // means that the text did not arrive.
    sms.say("eve", "hello").await.expect(201);
    sent(&sms, reply).await;
    let again = repeat(&sms, "key", text_of_ada).await.expect_replay(202);
    assert_eq!(again["id"], id.as_str());
    let conversations = cloud.sandbox.conversations();
    assert_eq!(cloud.texts(&conversations[0].id), ["first", "hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_and_the_write_ahead_record_are_stored_in_one_statement() {
    let app = TestApp::start(Engine::Postgres).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();
    app.cloud.sandbox.inject(Fault::stall(Operation::Send));
    let sms = app.sms.clone();
    let sending = tokio::task::spawn(async move { post_text(&sms, "key", "marker").await });
    eventually("the Cloud receives the request", async || {
        (!app.cloud.requests(Operation::Send).is_empty()).then_some(())
    })
    .await;

    let mut connection = app.database.connection().await;
    let row = sqlx::query_as(
        "SELECT k.ctid::text, write_ahead, u.user_id FROM idempotency_keys k JOIN users u ON u.id = k.user_ref",
    );
    let (version, begun, user_id): (String, String, String) =
        row.fetch_one(&mut connection).await.unwrap();

    // This is the first row version of the first page, so the row has not changed since its
    // insertion.
    assert_eq!(version, "(0,1)");
    assert!(begun.contains("marker"), "{begun}");
    assert_eq!(user_id, "ada");
    sending.await.unwrap().expect_fresh(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_for_a_user_who_is_erased_before_the_key_is_claimed() {
    let app = TestApp::start(Engine::Postgres).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();
    let mut connection = app.database.connection().await;
    let run = async |connection: &mut PgConnection, sql: &'static str| {
        sqlx::query(sql).execute(connection).await.unwrap();
    };
    run(&mut connection, "BEGIN").await;
    run(&mut connection, "DELETE FROM users WHERE user_id = 'ada'").await;

    let sms = app.sms.clone();
    let sending = tokio::task::spawn(async move { post_text(&sms, "key", "marker").await });
    let mut other = app.database.connection().await;
    eventually("the claim waits for the erasure", async || {
        let waiting = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        let waiting: i64 = waiting.fetch_one(&mut other).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
    run(&mut connection, "COMMIT").await;

    let refused = sending.await.unwrap();
    refused.expect_problem(409, "idempotency-key-in-use");
    assert!(app.cloud.requests(Operation::Send).is_empty());
    assert!(!app.database.dump().await.contains("marker"));
    // The user is created again.
    post_text(&app.sms, "key", "marker").await.expect_fresh(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_queued_once_when_the_commits_answer_is_lost() {
    let database = Database::create(Engine::Postgres).await;
    let (relay, behind) = Relay::before(&database, 4).await;
    let app = TestApp::start_with(Cloud::start().await, behind).await;
    app.sms.say("ada", "first").await.expect(201);
    let away = Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE);
    app.cloud.sandbox.inject(Fault { times: 2, ..away });
    app.sms.say("ada", "second").await.expect(202);
    let send_third = async || post_text(&app.sms, "a key", "third").await;

    // The text is queued behind the second one. The transaction that stores it commits, but the
    // bridge does not receive the answer.
    relay.lose_response_to(b"COMMIT");
    let unsure = send_third().await;
    unsure.expect_problem(503, "storage-unavailable");
    let waiting = "SELECT state, id FROM requests WHERE state = 'waiting' ORDER BY ordinal";
    let waiting = database.pairs(waiting).await;
    assert_eq!(waiting.len(), 2, "{waiting:?}");

    let queued = eventually("the storage is back", async || {
        let repeated = send_third().await;
        (repeated.status == 202).then_some(repeated)
    })
    .await;
    assert_eq!(queued.body["id"], waiting[1].1);
    let conversation = app.cloud.only_conversation().id;
    eventually("all messages are sent", async || {
        app.cloud.clock.advance(TimeDelta::milliseconds(200));
        (app.cloud.texts(&conversation).len() == 3).then_some(())
    })
    .await;
    app.stop().await;
    let unsent = "SELECT state, id FROM requests WHERE state <> 'sent'";
    assert_eq!(database.pairs(unsent).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_finds_a_text_that_arrived_during_a_storage_outage() {
    let server = tokio::task::block_in_place(Server::start);
    let location = Location::Postgres {
        url: server.url().into(),
        schema: None,
        max_connections: 8,
    };
    let cloud = Cloud::start_on_system_time().await;
    let (_process, sms, _) = Process::serve(&bridge_toml(&location, &cloud.url)).await;
    cloud.subscribe(&sms);
    sms.say("ada", "first").await.expect(201);
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::stall(Operation::Send)
    });
    let keyed = |sms: &Channel| text_of_ada(sms).header("idempotency-key", "a key");
    let request = keyed(&sms).header("prefer", "wait=2");
    let unsure = tokio::task::spawn(async move { send(request).await });
    eventually("the Cloud receives the request", async || {
        (cloud.requests(Operation::Send).len() == 2).then_some(())
    })
    .await;

    tokio::task::block_in_place(|| server.crash());
    unsure
        .await
        .unwrap()
        .expect_problem(504, "cloud-outcome-unknown");
    tokio::task::block_in_place(|| server.start_again());

    let taken = eventually("the repeated request is accepted", async || {
        let reply = send(keyed(&sms)).await;
        (reply.status == 202).then_some(reply.body)
    })
    .await;
    cloud.sandbox.retry_now();
    let location = format!("/v1/messages/{}", taken["id"].as_str().unwrap());
    eventually("it is known to be sent", async || {
        let shown = sms.get(&location).await;
        (shown.body["status"] == "sent").then_some(())
    })
    .await;
    let conversation = cloud.only_conversation();
    assert_eq!(cloud.texts(&conversation.id), ["first", "hello"]);
}

/// Opens a conversation of the user `dan`, and sends each of these requests under its own key. The
/// Cloud lets the given number of sends of each request pass, and leaves the next one unanswered.
/// Then the process is killed. Returns the process that replaces it, and its channel.
async fn kill_during_requests(
    cloud: &Cloud,
    database: &Database,
    requests: &[(&str, RequestOf, u32)],
    after_applying: bool,
) -> (Process, Channel) {
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.subscribe(&sms);
    sms.say("dan", "first").await.expect(201);
    let mut unanswered = JoinSet::new();
    let mut sends = 1;
    for &(key, request, skip) in requests {
        sends += skip as usize + 1;
        cloud.sandbox.inject(Fault {
            after_applying,
            skip,
            ..Fault::stall(Operation::Send)
        });
        let request = request(&sms).header("idempotency-key", key);
        let request = request.header("prefer", "wait=30");
        unanswered.spawn(async move { try_send(request).await });
        eventually("the Cloud receives the request", async || {
            (cloud.requests(Operation::Send).len() == sends).then_some(())
        })
        .await;
    }

    process.kill().await;
    for answer in unanswered.join_all().await {
        assert!(answer.is_err());
    }
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.subscribe(&sms);
    cloud.sandbox.retry_now();
    (process, sms)
}

type RequestOf = fn(&Channel) -> RequestBuilder;

fn json_request(channel: &Channel, path: &str, body: &Value) -> RequestBuilder {
    let request = channel.request(Method::POST, path);
    let request = request.header("content-type", "application/json");
    request.body(body.to_string())
}

fn text_of_ada(channel: &Channel) -> RequestBuilder {
    json_request(channel, MESSAGES, &json!({"text": "hello"}))
}

/// A text of a user with an open conversation.
fn text_of_dan(channel: &Channel) -> RequestBuilder {
    json_request(channel, "/v1/users/dan/messages", &json!({"text": "hello"}))
}

/// A text that is too long for one message at the Cloud.
fn two_texts_of_bob(channel: &Channel) -> RequestBuilder {
    let text = format!("{} {}", "a".repeat(4000), "b".repeat(4000));
    let body = json!({"text": text, "split": true});
    json_request(channel, "/v1/users/bob/messages", &body)
}

fn file_of_cyd(channel: &Channel) -> RequestBuilder {
    let file = Part {
        name: "file",
        file_name: Some("a.gif"),
        content: b"GIF89a",
    };
    let request = channel.request(Method::POST, "/v1/users/cyd/files");
    request.header("content-type", FORM).body(form(&[file]))
}

fn raw_of_ada(channel: &Channel) -> RequestBuilder {
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "raw"});
    let body = json!({"type": "ms.PublishEvent", "body": {"event": event}});
    json_request(channel, "/v1/users/ada/send", &body)
}

/// Repeats a request until the lease of its key has expired, and returns the first other answer.
async fn repeat(sms: &Channel, key: &str, request: RequestOf) -> Reply {
    eventually("the repeated request is accepted", async || {
        let reply = send(request(sms).header("idempotency-key", key)).await;
        (reply.status != 409).then_some(reply)
    })
    .await
}

/// Waits until a queued request is sent.
async fn sent(sms: &Channel, queued: Reply) -> Value {
    let location = queued.headers.get("location").cloned();
    queued.expect_fresh(202);
    let location = location.unwrap().to_str().unwrap().to_owned();
    eventually("it is sent", async || {
        let shown = sms.get(&location).await.expect(200);
        (shown["status"] == "sent").then_some(shown)
    })
    .await
}

async fn a_retry_does_not_send_again_what_a_killed_replica_sent(engine: Engine) {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let requests: [(&str, RequestOf, u32); 5] = [
        ("1", text_of_ada, 0),
        ("2", two_texts_of_bob, 1),
        ("3", file_of_cyd, 1), // after the request for an upload URL
        ("4", raw_of_ada, 0),
        ("5", text_of_dan, 0),
    ];

    let (_process, sms) = kill_during_requests(&cloud, &database, &requests, true).await;

    let text = repeat(&sms, "1", text_of_ada).await;
    let texts = repeat(&sms, "2", two_texts_of_bob).await;
    let file = repeat(&sms, "3", file_of_cyd).await;
    let raw = repeat(&sms, "4", raw_of_ada).await;
    let of_dan = repeat(&sms, "5", text_of_dan).await;
    raw.expect_problem(504, "cloud-outcome-unknown");
    let id = sent(&sms, text).await["id"].clone();
    sent(&sms, texts).await;
    sent(&sms, of_dan).await;
    let file = sent(&sms, file).await;
    assert_eq!(file["file"]["file_type"], "GIF");

    let again = repeat(&sms, "1", text_of_ada).await.expect_replay(202);
    assert_eq!(again["id"], id);
    let again = repeat(&sms, "4", raw_of_ada).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let mut lengths: Vec<Vec<usize>> = Vec::new();
    for conversation in cloud.sandbox.conversations() {
        let events = conversation
            .dialogs
            .iter()
            .flat_map(|dialog| &dialog.events);
        let text = |event: &Value| event["message"].as_str().map_or(0, str::len);
        lengths.push(events.map(|event| text(&event.event)).collect());
    }
    lengths.sort();
    // A file; a text and a raw request; two texts of `dan`; a text in two parts, with the space
    // between. Each arrived once.
    let expected = [vec![0], vec![5, 3], vec![5, 5], vec![4001, 4000]];
    assert_eq!(lengths, expected);
}

async fn a_retry_sends_what_did_not_arrive_from_a_killed_replica(engine: Engine) {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let requests: [(&str, RequestOf, u32); 3] = [
        ("1", text_of_ada, 0),
        ("2", two_texts_of_bob, 1),
        ("3", text_of_dan, 0),
    ];

    let (_process, sms) = kill_during_requests(&cloud, &database, &requests, false).await;
    let text = repeat(&sms, "1", text_of_ada).await;
    let texts = repeat(&sms, "2", two_texts_of_bob).await;
    let of_dan = repeat(&sms, "3", text_of_dan).await;

    // The Cloud sends a notification about another user. Its silence about these texts therefore
    // means that they did not arrive.
    sms.say("eve", "hello").await.expect(201);
    sent(&sms, text).await;
    sent(&sms, of_dan).await;
    let texts = sent(&sms, texts).await;
    assert_eq!(texts["sequences"], json!([0, 1]));
    let conversations = cloud.sandbox.conversations();
    let events = conversations.iter().flat_map(|known| &known.dialogs);
    assert_eq!(events.map(|dialog| dialog.events.len()).sum::<usize>(), 6);
}

async fn an_erasure_removes_the_users_idempotency_keys(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = post_text(&app.sms, "key", "hello").await.expect_fresh(201);
    let id = first["id"].as_str().unwrap();
    assert!(app.database.dump().await.contains(id));

    let erasure = app.sms.request(Method::DELETE, "/v1/users/ada");
    send(erasure).await.expect(204);

    assert!(!app.database.dump().await.contains(id));
    let second = post_text(&app.sms, "key", "hello").await.expect_fresh(201);
    assert_ne!(second["conversation_id"], first["conversation_id"]);
}
