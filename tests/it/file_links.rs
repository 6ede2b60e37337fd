//! Signed links to files: they open one file without a key, for a limited time.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use iri_string::types::UriStr;
use liveperson_bridge::sandbox::{Answer, Fault, Operation};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::Cloud;
use crate::support::configuration::{APP_KEY, SEALING_KEY, bridge_toml};
use crate::support::connection::exchange;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    a_signed_link_opens_its_file_without_a_key,
    a_link_needs_a_key_unless_its_channel_has_signed_links,
    a_signed_link_is_a_short_uri_for_every_user,
    a_wrong_link_is_not_found,
    wrong_links_are_answered_as_slowly_as_wrong_keys,
    an_expired_link_is_gone_and_the_channels_key_still_opens_the_file,
    links_are_no_longer_valid_once_they_are_turned_off,
    a_link_is_valid_for_as_long_as_the_key_that_signed_it_is_configured,
    a_link_to_a_file_of_an_erased_user_is_not_found,
    requests_for_one_link_count_towards_the_rate_limits_of_the_channel,
    one_link_takes_only_the_share_of_one_user,
    a_link_is_answered_503_while_the_database_is_unavailable,
    neither_the_log_nor_the_metrics_show_a_link,
);

/// The content of the agents' files.
const CONTENT: &str = r#"{"a": 1}"#;

const THREE_DAYS: &str = "signed_file_links = \"72h\"";

/// A key that is configured in place of the usual one: the base64 of 32 bytes.
const NEW_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Adds lines to the configuration of the channel `sms`.
fn with_lines(toml: &str, lines: &str) -> String {
    let channel = format!("id = \"sms\"\n{lines}\n");
    toml.replacen("id = \"sms\"\n", &channel, 1)
}

/// Starts a service with these lines in the configuration of the channel `sms`.
async fn start(engine: Engine, lines: &str) -> TestApp {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let app = TestApp::start_configured(cloud, database, |toml| with_lines(&toml, lines)).await;
    app.subscribe_to_the_cloud();
    app
}

/// Lets an agent send a file to a user.
async fn send_from_agent(cloud: &Cloud, channel: &Channel, user: &str) -> String {
    let sent = channel.say(user, "hello").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();
    let content = STANDARD.encode(CONTENT);
    let action = json!({"type": "file", "content": content, "file_type": "PDF"});
    let action = serde_json::from_value(action).unwrap();
    cloud.sandbox.act(conversation, action).unwrap();
    conversation.to_owned()
}

/// Lets an agent send a file to a user of a channel. Returns the file in the channel's event.
async fn file_from_agent(app: &TestApp, channel: &Channel, name: &str, user: &str) -> Value {
    let conversation = send_from_agent(&app.cloud, channel, user).await;
    eventually("the event is logged", async || {
        let events = app.event_log(name).await;
        let event = events.into_iter().find(|event| {
            event["conversation_id"] == conversation.as_str() && event["data"]["file"].is_object()
        });
        event.map(|mut event| event["data"]["file"].take())
    })
    .await
}

/// Returns the path of a file's link.
fn path_of(file: &Value) -> String {
    let link: Url = file["url"].as_str().unwrap().parse().unwrap();
    link.path().to_owned()
}

/// Lets an agent send a file to Ada. Returns the path of its link.
async fn link(app: &TestApp) -> String {
    path_of(&file_from_agent(app, &app.sms, "sms", "ada").await)
}

/// Requests a path as a phone does, without a key.
async fn open(channel: &Channel, path: &str) -> Reply {
    exchange(channel, &[&format!("GET {path} HTTP/1.1")], "").await
}

async fn a_signed_link_opens_its_file_without_a_key(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let file = file_from_agent(&app, &app.sms, "sms", "ada").await;
    let path = path_of(&file);
    let id = file["id"].as_str().unwrap();

    let opened = open(&app.sms, &path).await;

    let expected = [
        ("content-type", "application/pdf".to_owned()),
        ("content-length", CONTENT.len().to_string()),
        (
            "content-disposition",
            format!("attachment; filename=\"{id}.pdf\""),
        ),
        ("x-content-type-options", "nosniff".to_owned()),
        ("cache-control", "private, no-store".to_owned()),
    ];
    for (name, value) in &expected {
        assert_eq!(opened.headers[*name], *value, "{name}");
    }
    let content: Value = serde_json::from_str(CONTENT).unwrap();
    assert_eq!(opened.expect(200), content);
    // The link works any number of times, also with a key that is none, and with parameters that a
    // messenger adds.
    let other = app.sms.with_key("none");
    let tracked = format!("{path}?utm_source=sms&utm_source=mms&sale=50%off");
    assert_eq!(other.get(&tracked).await.expect(200), content);
    let head = other.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), 200);
    for (name, value) in &expected {
        assert_eq!(head.headers()[*name], *value, "{name}");
    }
    assert!(head.bytes().await.unwrap().is_empty());
    // The path with the file's id works with the channel's key, as without signed links.
    let own = app.sms.get(&format!("/v1/users/ada/files/{id}")).await;
    assert_eq!(own.expect(200), content);
}

async fn a_link_needs_a_key_unless_its_channel_has_signed_links(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let other = app.sms.with_key(APP_KEY);

    let file = file_from_agent(&app, &other, "app", "ada").await;

    let path = path_of(&file);
    let id = file["id"].as_str().unwrap();
    assert_eq!(path, format!("/v1/users/ada/files/{id}"));
    let refused = open(&app.sms, &path).await;
    refused.expect_problem(401, "unauthorized");
    other.get(&path).await.expect(200);
}

async fn a_signed_link_is_a_short_uri_for_every_user(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let longest = "%F0%9F%91%8B".repeat(64);

    for user in [
        "%2B15551234567",
        "auth0%7C5f7c",
        "a%2Fb",
        "%2E%2E%2Fa",
        "50%25off",
        &longest,
    ] {
        let file = file_from_agent(&app, &app.sms, "sms", user).await;

        let link = file["url"].as_str().unwrap();
        assert!(UriStr::new(link).is_ok(), "{link}");
        let path = path_of(&file);
        assert!(link.ends_with(&path), "{link}");
        let length = "https://bridge.example.com".len() + path.len();
        assert!(length < 100, "{path}");
        open(&app.sms, &path).await.expect(200);
    }
}

async fn a_wrong_link_is_not_found(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;
    app.cloud.sandbox.clear_requests();
    let replaced = |position: usize| {
        let mut altered = path.clone().into_bytes();
        let character = &mut altered[position];
        *character = if *character == b'A' { b'B' } else { b'A' };
        String::from_utf8(altered).unwrap()
    };
    let start = "/files/".len();

    for wrong in [
        replaced(start),
        // The expiry, the file and the signature.
        replaced(start + 8),
        replaced(start + 20),
        replaced(start + 40),
        path[..path.len() - 1].to_owned(),
        format!("{path}."),
        "/files/file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f".to_owned(),
        "/files/%zz".to_owned(),
        "/files/%ff".to_owned(),
    ] {
        let refused = open(&app.sms, &wrong).await;

        let problem = refused.expect_problem(404, "file-not-found");
        assert_eq!(
            problem["detail"],
            "This link leads to no file; it may be incomplete."
        );
        // A key does not help.
        let refused = app.sms.get(&wrong).await;
        refused.expect_problem(404, "file-not-found");
    }

    assert!(app.cloud.sandbox.requests().is_empty());
    open(&app.sms, &path).await.expect(200);
}

async fn wrong_links_are_answered_as_slowly_as_wrong_keys(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let wrong = format!("/files/{}", "A".repeat(54));
    let begun = Instant::now();

    // Ten a second are answered at once. These would be answered within a few milliseconds.
    for _ in 0..25 {
        let refused = open(&app.sms, &wrong).await;
        refused.expect_problem(404, "file-not-found");
    }

    assert!(begun.elapsed() >= Duration::from_secs(1));
}

async fn an_expired_link_is_gone_and_the_channels_key_still_opens_the_file(engine: Engine) {
    let app = start(engine, "signed_file_links = \"10m\"").await;
    let file = file_from_agent(&app, &app.sms, "sms", "ada").await;
    let path = path_of(&file);

    app.cloud.clock.advance(TimeDelta::minutes(9));
    open(&app.sms, &path).await.expect(200);
    app.cloud.clock.advance(TimeDelta::minutes(1));

    let expired = open(&app.sms, &path).await;
    let problem = expired.expect_problem(410, "file-link-expired");
    assert_eq!(problem["retryable"], false);
    let id = file["id"].as_str().unwrap();
    let own = format!("/v1/users/ada/files/{id}");
    app.sms.get(&own).await.expect(200);
    // The stored event does not change.
    let events = app.event_log("sms").await;
    let mut files = events.iter().map(|event| &event["data"]["file"]);
    assert!(files.any(|stored| *stored == file));
}

async fn links_are_no_longer_valid_once_they_are_turned_off(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;
    let (cloud, database, _) = app.stop().await;

    let app = TestApp::start_with(cloud, database).await;

    let refused = open(&app.sms, &path).await;
    refused.expect_problem(404, "file-not-found");
}

async fn a_link_is_valid_for_as_long_as_the_key_that_signed_it_is_configured(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;
    let with_keys = |keys: String| {
        move |toml: String| {
            let toml = toml.replace(&format!("keys = [\"{SEALING_KEY}\"]"), &keys);
            with_lines(&toml, THREE_DAYS)
        }
    };

    let (cloud, database, _) = app.stop().await;
    let both = with_keys(format!("keys = [\"{NEW_KEY}\", \"{SEALING_KEY}\"]"));
    let app = TestApp::start_configured(cloud, database, both).await;
    open(&app.sms, &path).await.expect(200);

    let (cloud, database, _) = app.stop().await;
    let new_alone = with_keys(format!("keys = [\"{NEW_KEY}\"]"));
    let app = TestApp::start_configured(cloud, database, new_alone).await;
    let refused = open(&app.sms, &path).await;
    refused.expect_problem(404, "file-not-found");
}

async fn a_link_to_a_file_of_an_erased_user_is_not_found(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;
    open(&app.sms, &path).await.expect(200);

    let erase = app.sms.request(Method::DELETE, "/v1/users/ada");
    send(erase).await.expect(204);

    let refused = open(&app.sms, &path).await;
    refused.expect_problem(404, "file-not-found");
}

async fn requests_for_one_link_count_towards_the_rate_limits_of_the_channel(engine: Engine) {
    let limits = "limits = {requests_per_second = 1000, per_user_requests_per_second = 1}";
    let app = start(engine, &format!("{THREE_DAYS}\n{limits}")).await;
    let path = link(&app).await;

    // Both requests have to arrive within the same second; a slow machine may need several
    // attempts.
    let refused = eventually("a request above the limit", async || {
        open(&app.sms, &path).await;
        let second = open(&app.sms, &path).await;
        (second.status == 429).then_some(second)
    })
    .await;

    assert_eq!(refused.headers["ratelimit"], "\"user\";r=0;t=1");
    assert_eq!(
        refused.headers["ratelimit-policy"],
        "\"channel\";q=1000;w=1, \"user\";q=1;w=1"
    );
    refused.expect_problem(429, "too-many-requests");
}

async fn one_link_takes_only_the_share_of_one_user(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::new(Operation::Download, Answer::Stall)
    });

    // A user's share is 16 requests, which wait for the Cloud here.
    let mut requests = JoinSet::new();
    for _ in 0..17 {
        let (channel, path) = (app.sms.clone(), path.clone());
        requests.spawn(async move { open(&channel, &path).await });
    }
    let first_answer = requests.join_next().await.unwrap().unwrap();

    let problem = first_answer.expect_problem(503, "overloaded");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("links to this file"), "{detail}");
    app.sms.get("/v1/users/ada").await.expect(200);
}

async fn a_link_is_answered_503_while_the_database_is_unavailable(engine: Engine) {
    let app = start(engine, THREE_DAYS).await;
    let path = link(&app).await;

    app.store().close().await;

    let refused = open(&app.sms, &path).await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_problem(503, "storage-unavailable");
}

async fn neither_the_log_nor_the_metrics_show_a_link(engine: Engine) {
    for format in ["human", "json"] {
        let cloud = Cloud::start_on_system_time().await;
        let database = Database::create(engine).await;
        let toml = with_lines(&bridge_toml(&database.location, &cloud.url), THREE_DAYS);
        let environment = [("RUST_LOG", "trace"), ("LOG_FORMAT", format)];
        let (process, sms, admin) = Process::serve_with(&toml, &environment).await;
        cloud.subscribe(&sms);
        send_from_agent(&cloud, &sms, "ada").await;
        let file = eventually("the event is logged", async || {
            let page = sms.get("/v1/events").await.expect(200);
            let mut events = page["events"].as_array()?.iter();
            let event = events.find(|event| event["data"]["file"].is_object())?;
            Some(event["data"]["file"].clone())
        })
        .await;
        let path = path_of(&file);
        let token = path.strip_prefix("/files/").unwrap();

        open(&sms, &path).await.expect(200);
        let cut = &path[..path.len() - 1];
        let refused = open(&sms, cut).await;
        let problem = refused.expect_problem(404, "file-not-found");
        let refused = send(sms.request(Method::DELETE, &path)).await;
        let refused_method = refused.expect_problem(405, "method-not-allowed");
        cloud.sandbox.inject(Fault {
            times: u32::MAX,
            ..Fault::new(Operation::Download, Answer::Cut)
        });
        let failed = open(&sms, &path).await;
        assert!(failed.status >= 500, "{failed:?}");
        let metrics = admin.request(Method::GET, "/metrics").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();

        assert!(metrics.contains("route=\"/files/{token}\""), "{metrics}");
        process.log_line("request failed").await;
        let log = process.log();
        for expected in ["request answered", "request refused", "/files/{token}"] {
            assert!(log.contains(expected), "the log lacks {expected}: {log}");
        }
        let part = &token[20..40];
        for text in [&log, &metrics] {
            for line in text.lines() {
                assert!(!line.contains(part), "{line}");
            }
        }
        for problem in [problem, refused_method, failed.body] {
            assert!(!problem.to_string().contains(part), "{problem}");
        }
    }
}
