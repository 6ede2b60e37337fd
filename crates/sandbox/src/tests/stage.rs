//! The surroundings of the Cloud: the demo's channel, and a bridge's API whose requests are
//! recorded.

use std::future::ready;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, get, post};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::stage::{Bridge, Demo, Stage, read_bridge};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn demo() -> Cloud {
    demo_with(None)
}

fn demo_with(bridge: Option<Bridge>) -> Cloud {
    let demo = Demo {
        channel: "demo".to_owned(),
        token_key: KEY.to_owned().into(),
        api_key: "demo-key".to_owned().into(),
    };
    Cloud::with(Options {
        stage: Stage {
            bridge,
            demo: Some(demo),
        },
        ..Options::default()
    })
}

#[tokio::test]
async fn a_demo_token_expires_after_an_hour_by_the_machines_clock() {
    let cloud = demo();
    assert!(cloud.sandbox.advance(86_400));

    let answer = cloud
        .call("POST", "/_demo/tokens", &[JSON], r#"{"user": "alice"}"#)
        .await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.body["expires_at"], "2027-01-15T09:00:00Z");
    let token = answer.body["token"].as_str().unwrap();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(KEY.as_bytes());
    let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
    assert_eq!(
        claims,
        json!({"iss": "demo", "user": "alice", "exp": 1_800_003_600})
    );
}

#[tokio::test]
async fn a_demo_token_is_refused_for_an_invalid_user() {
    let cloud = demo();
    let long = json!({"user": "x".repeat(257)}).to_string();

    for (body, complaint) in [
        (r#"{"user": ""}"#, "user: expected 1 to 256 bytes"),
        (r#"{"user": "a\nb"}"#, "user: expected 1 to 256 bytes"),
        (r#"{"user": "."}"#, "neither '.' nor '..'"),
        (r#"{"user": ".."}"#, "neither '.' nor '..'"),
        (&long, "user: expected 1 to 256 bytes"),
        (r#"{"user": 7}"#, "user: invalid type: integer"),
        ("{}", "missing field `user`"),
    ] {
        let answer = cloud
            .call("POST", "/_demo/tokens", &[JSON], body.to_owned())
            .await;

        answer.assert_complaint(422, complaint);
    }
}

#[tokio::test]
async fn the_demo_callback_accepts_events_unless_set_to_fail() {
    let cloud = demo();
    let event = [
        JSON,
        ("webhook-signature", "v1,abc"),
        ("host", "localhost:9400"),
    ];
    let deliver = || cloud.call("POST", "/_demo/callback", &event, r#"{"type": "x"}"#);
    let switch = |failing: bool| {
        let body = json!({"failing": failing}).to_string();
        cloud.call("PUT", "/_demo/callback", &[JSON], body)
    };

    let taken = deliver().await;
    let failing = switch(true).await;
    let refused = deliver().await;
    let shown = cloud.call("GET", "/_demo/callback", &[], "").await;
    switch(false).await;
    let taken_again = deliver().await;

    let statuses = [&taken, &failing, &refused, &taken_again].map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [204, 204, 503, 204]);
    shown.assert(200, json!({"failing": true}));
    let entries = cloud.wire_entries().await;
    let of = |member: &str| -> Vec<Value> {
        let members = entries.iter().map(|entry| entry[member].clone());
        members.collect()
    };
    assert_eq!(of("kind"), ["event", "event", "event"]);
    assert_eq!(of("status"), [204, 503, 204]);
    assert_eq!(of("fault"), [false, true, false]);
    assert_eq!(entries[0]["url"], "http://localhost:9400/_demo/callback");
    assert_eq!(entries[0]["request"]["body"], r#"{"type": "x"}"#);
    assert_eq!(entries[0]["request"]["headers"]["webhook-signature"], "•••");
}

/// Starts a bridge that passes on the API key of each request to resume deliveries.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the test, which nothing waits for"
)]
async fn bridge_with_resumptions() -> (Bridge, mpsc::UnboundedReceiver<String>) {
    let (resumptions, received) = mpsc::unbounded_channel();
    let resume = move |headers: HeaderMap| {
        let key = headers["authorization"].to_str().unwrap().to_owned();
        resumptions.send(key).unwrap();
        ready(())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/deliveries/resume", post(resume));
    tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let url = url.parse().unwrap();
    (Bridge { url }, received)
}

#[tokio::test]
async fn the_demo_channel_resumes_its_deliveries_when_its_callback_works_again() {
    let (bridge, mut resumptions) = bridge_with_resumptions().await;
    let cloud = demo_with(Some(bridge));

    for failing in [false, true, true] {
        let body = json!({"failing": failing}).to_string();
        cloud.call("PUT", "/_demo/callback", &[JSON], body).await;
        assert!(resumptions.is_empty());
    }
    let body = r#"{"failing": false}"#;
    let answer = cloud.call("PUT", "/_demo/callback", &[JSON], body).await;

    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(resumptions.try_recv().unwrap(), "Bearer demo-key");
    assert!(resumptions.is_empty());
}

#[tokio::test]
async fn a_sandbox_without_a_demo_has_no_channel() {
    let cloud = Cloud::new();

    for (method, path, body) in [
        ("POST", "/_demo/tokens", r#"{"user": "a"}"#),
        ("POST", "/_demo/callback", "{}"),
        ("GET", "/_demo/callback", ""),
        ("PUT", "/_demo/callback", r#"{"failing": true}"#),
        ("GET", "/_demo/nowhere", ""),
    ] {
        let answer = cloud.call(method, path, &[JSON], body).await;

        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert!(!answer.complaint().is_empty());
    }
    assert!(cloud.sandbox.requests().is_empty());
}

/// Sends a request to an API whose exchanges the sandbox records.
async fn call_api(cloud: &Cloud, method: &str, path: &str, body: &'static str) -> Response {
    let api = Router::new()
        .route(
            "/v1/echo",
            post(async |body: Bytes| ([("content-type", "application/json")], body)),
        )
        .route(
            "/v1/picture",
            get(async || ([("content-type", "image/png")], "\u{89}PNG")),
        )
        .route("/v1/deaf", post(async || StatusCode::ACCEPTED))
        .route(
            "/v1/events",
            get(async || ([("content-type", "text/event-stream")], "data: x\n\n")),
        )
        .route("/docs/", get(async || "docs"))
        .route("/webhooks/{account}", any(async || "taken"));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer demo-key")
        .header("host", "127.0.0.1:8080")
        .body(Body::from(body))
        .unwrap();
    cloud.sandbox.watch(api).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_wire_shows_channel_requests_to_the_api() {
    let cloud = demo();

    for (method, path, body) in [
        ("POST", "/v1/echo?x=1", r#"{"text": "Hello"}"#),
        ("GET", "/v1/picture", ""),
        ("POST", "/v1/deaf", "never read"),
        ("GET", "/v1/events", ""),
        ("GET", "/v2", ""),
        ("OPTIONS", "/v1/echo", ""),
        ("GET", "/docs/", ""),
        ("POST", "/webhooks/12345678", "{}"),
    ] {
        let answer = call_api(&cloud, method, path, body).await;
        to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    }

    let entries = cloud.wire_entries().await;
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| {
            let body = |side: &str| entry[side]["body"].as_str().unwrap().to_owned();
            (entry["status"].as_u64(), body("request"), body("response"))
        })
        .collect();
    let expected = [
        (200, r#"{"text": "Hello"}"#, r#"{"text": "Hello"}"#),
        (200, "", "(image/png, 5 bytes)"),
        (202, "", ""),
        (200, "", ""),
        (404, "", ""),
    ];
    let expected = expected
        .map(|(status, request, response)| (Some(status), request.to_owned(), response.to_owned()));
    assert_eq!(shown, expected);
    assert_eq!(entries[0]["kind"], "api");
    assert_eq!(entries[0]["operation"], json!(null));
    assert_eq!(entries[0]["url"], "http://127.0.0.1:8080/v1/echo?x=1");
    assert_eq!(
        entries[0]["request"]["headers"]["authorization"],
        "Bearer •••"
    );
}

#[tokio::test]
async fn an_unfinished_response_is_shown_as_far_as_it_was_read() {
    let cloud = demo();

    let answer = call_api(&cloud, "POST", "/v1/echo", "Hello").await;
    assert!(cloud.wire_entries().await.is_empty());
    drop(answer);

    let entries = cloud.wire_entries().await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["status"], 200);
    assert_eq!(entries[0]["response"]["body"], "");
}

#[test]
fn a_bridge_url_is_http_without_credentials_query_or_fragment() {
    assert!(read_bridge("http://127.0.0.1:8080").is_ok());
    assert!(read_bridge("https://bridge.example.com/prefix/").is_ok());
    for bad in [
        "127.0.0.1:8080",
        "ftp://bridge",
        "http://user:pass@bridge",
        "http://bridge/?x=1",
        "http://bridge/#x",
    ] {
        assert!(read_bridge(bad).is_err(), "{bad}");
    }
}
