//! The log, in human-readable form or as JSON. In both forms a line is one event, no matter what
//! text the Cloud or a caller sends.

use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply as CloudReply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::channel::{Channel, send};
use crate::support::cloud::Cloud;
use crate::support::configuration::{bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::{Process, command, configured, run};
use crate::support::receiver::SECRET;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Text that would begin a line in either format, clear a screen, and reverse the direction of
/// text.
const HOSTILE: &str = "no\u{202e}\n2026-01-01T00:00:00.000000Z ERROR forged: forged\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{1b}[2J";

async fn hostile_cloud() -> (Cloud, String) {
    let cloud = Cloud::start().await;
    let mut refusal = CloudReply::new(StatusCode::BAD_REQUEST);
    refusal.body = json!({"code": HOSTILE, "body": {"code": HOSTILE, "msg": HOSTILE}}).to_string();
    let answer = Answer::Reply(refusal);
    cloud.sandbox.inject(Fault::new(Operation::Send, answer));
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    (cloud, toml)
}

/// Sends requests that succeed, are not authorized, find nothing, and are refused by the Cloud.
async fn scenario(sms: &Channel) {
    sms.get("/nothing").await.expect(404);
    let opened = sms.post("/v1/users/ada/conversation", json!({})).await;
    opened.expect(201);
    let refused = sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;
    assert!(refused.status >= 400, "{refused:?}");
    let traced = sms
        .request(Method::GET, "/v1/users/ada")
        .header("traceparent", TRACEPARENT)
        .header("x-request-id", "{\"level\":\"ERROR\"}");
    send(traced).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_json_log_has_the_common_members() {
    let (_cloud, toml) = hostile_cloud().await;
    let (mut process, sms, _) = Process::serve_with(&toml, &[("LOG_FORMAT", "json")]).await;

    scenario(&sms).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let lines: Vec<Value> = process
        .log()
        .lines()
        .map(|line| {
            assert!(!line.contains('\u{202e}'), "{line}");
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
        })
        .collect();
    for line in &lines {
        let timestamp = line["timestamp"].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(timestamp).unwrap();
        assert!(timestamp.ends_with('Z'), "{line}");
        for name in ["level", "target", "message"] {
            assert!(line[name].is_string(), "{name} in {line}");
        }
        let target = line["target"].as_str().unwrap();
        let is_ours = target == "audit" || target.starts_with("liveperson_bridge");
        assert!(is_ours, "{line}");
        assert!(
            !line["message"].as_str().unwrap().contains("forged"),
            "{line}"
        );
    }
    let with = |message: &'static str| lines.iter().filter(move |line| line["message"] == message);
    assert_eq!(with("serving").count(), 1);
    assert_eq!(
        with("stopping: finishing requests in flight; a second signal aborts them").count(),
        1
    );
    let traced = with("request answered")
        .find(|line| line["request_id"] == "{\"level\":\"ERROR\"}")
        .unwrap();
    assert_eq!(traced["http.route"], "/v1/users/{user_id}");
    assert_eq!(traced["channel.id"], "sms");
    assert_eq!(traced["status"], 200);
    assert_eq!(traced["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(traced["parent_id"], "b7ad6b7169203331");
    assert_eq!(traced["span_id"].as_str().unwrap().len(), 16);
    let forged = lines
        .iter()
        .filter(|line| line["error"].as_str().is_some_and(|e| e.contains("forged")));
    assert!(forged.count() > 0, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_does_not_forge_lines_of_the_human_log() {
    let (_cloud, toml) = hostile_cloud().await;
    let (mut process, sms, _) = Process::serve_with(&toml, &[("LOG_FORMAT", "human")]).await;

    scenario(&sms).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let log = process.log();
    assert!(log.contains("forged"), "{log}");
    for line in log.lines() {
        let (timestamp, _) = line.split_once(' ').unwrap();
        assert!(
            chrono::DateTime::parse_from_rfc3339(timestamp).is_ok(),
            "{line}"
        );
        assert!(
            !line.contains(" ERROR forged") || line.contains("request_id="),
            "{line}"
        );
        let is_shown = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(is_shown), "{line:?}");
        assert!(line.matches(" status=").count() <= 1, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_warns_of_a_callback_whose_address_is_not_allowed() {
    let (_cloud, toml) = hostile_cloud().await;
    for (host, allowed, is_warned) in [
        ("127.0.0.1", "10.0.0.0/8", true),
        ("localhost", "10.0.0.0/8", true),
        ("127.0.0.1", "127.0.0.0/8", false),
    ] {
        let url = format!("http://{host}:1/t0ken");
        let toml = with_callback(&toml, &url, &format!("\"{SECRET}\""));
        let toml = toml.replace("127.0.0.0/8", allowed);

        let (mut process, _, _) = Process::serve(&toml).await;

        if is_warned {
            let line = process.log_line("allow_private_callbacks").await;
            assert!(
                line.contains(" WARN ") && line.contains("channel.id=sms"),
                "{line}"
            );
        }
        process.signal("TERM").await;
        assert!(process.wait().await.success());
        let log = process.log();
        assert_eq!(log.contains("allow_private_callbacks"), is_warned, "{log}");
        assert!(!log.contains("t0ken"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_of_a_callback_is_logged_and_its_retry_is_not() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let toml = with_callback(&toml, "http://127.0.0.1:1/", &format!("\"{SECRET}\""));
    let filter = ("RUST_LOG", "info,liveperson_bridge::delivery=debug");
    let (process, sms, _) = Process::serve_with(&toml, &[filter]).await;

    let sample = sms.post("/v1/events/test", json!({"type": "message.created"}));
    sample.await.expect(201);

    let count = |text: &str| process.log().matches(text).count();
    eventually("an attempt and a retry", async || {
        (count("delivery attempted") >= 2).then_some(())
    })
    .await;
    assert_eq!(count("a delivery to the callback failed"), 1);
    let line = process.log_line("a delivery to the callback failed").await;
    assert!(line.contains("Connection refused"), "{line}");
}

/// A caller without a key adds to a count, and only causes an occasional line in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unauthorized_requests_does_not_flood_the_log() {
    const EACH: usize = 200;
    let (_cloud, toml) = hostile_cloud().await;
    let (mut process, sms, _) = Process::serve(&toml).await;
    let unauthorized = sms.with_key("none");

    for _ in 0..EACH {
        unauthorized
            .get("/v1/users/ada")
            .await
            .expect_problem(401, "unauthorized");
        unauthorized
            .get("/nothing")
            .await
            .expect_problem(404, "not-found");
        let refused = unauthorized.post("/webhooks/nobody", json!({})).await;
        refused.expect_problem(401, "signature-refused");
        assert_eq!(unauthorized.get("/openapi.json").await.status, 200);
    }
    for _ in 0..30 {
        sms.get("/v1/users/nobody")
            .await
            .expect_problem(404, "user-not-found");
    }
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let log = process.log();
    let lines = log.lines().filter(|line| line.contains("request "));
    let (known, unknown): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("channel.id"));
    // At most twenty of each kind in 10 s are logged.
    assert!((80..EACH * 2).contains(&unknown.len()), "{}", unknown.len());
    assert_eq!(known.len(), 30);
}

#[tokio::test]
async fn an_invalid_log_format_or_filter_is_reported() {
    for (name, value, expected) in [
        ("LOG_FORMAT", "xml", "expected human or json"),
        ("LOG_FORMAT", "JSON", "expected human or json"),
        (
            "RUST_LOG",
            "info,a=b=c",
            "error: RUST_LOG: expected a level",
        ),
    ] {
        let mut command = command(&["openapi"]);
        command.env(name, value);

        let ended = run(command).await;

        assert_eq!(ended.code, 2, "{}", ended.errors);
        assert!(ended.errors.contains(expected), "{}", ended.errors);
        assert_eq!(ended.output, "");
    }
    let mut empty = command(&["openapi"]);
    empty.env("RUST_LOG", "");
    assert_eq!(run(empty).await.code, 0);
}

#[tokio::test]
async fn the_error_of_a_failed_command_is_logged_as_json() {
    let (_folder, mut command) = configured("migrate", "listen = 1\nadmin_listen = \"x\"\n");
    command.args(["--log-format", "json"]);

    let ended = run(command).await;

    assert_eq!(ended.code, 2);
    assert!(!ended.errors.is_empty());
    for line in ended.errors.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert!(
            line["message"].as_str().unwrap().contains("bridge.toml"),
            "{line}"
        );
    }
}
