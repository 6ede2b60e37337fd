//! The audit log: an action is done only if it is recorded, entries name no user, and they are
//! removed after 400 days.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{EncodingKey, Header, encode};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::types::event::EventId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{ACCOUNT, Cloud};
use crate::support::configuration::{SEALING_KEY, bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::{Ended, command, configured, run};

on_both_engines!(
    the_audit_log_records_each_action_with_its_actor,
    the_audit_log_omits_refused_dry_run_and_empty_actions,
    an_action_fails_when_the_audit_log_cannot_be_written,
    audit_entries_are_removed_after_400_days,
    commands_are_recorded_and_listed_by_the_audit_command,
);

const SECRET: &str = "a-shared-secret-of-at-least-32-bytes";

/// The first digits of the output of `printf key-of-sms | sha256sum`.
const DIGITS_OF_SMS: &str = "key:ad609cca";

/// Starts a service. Its channel `sms` has tokens and a callback URL at which nothing listens.
async fn start(engine: Engine) -> TestApp {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    TestApp::start_configured(cloud, database, |toml| {
        let secret = "\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
        let jwt = format!("id = \"sms\"\njwt = {{algorithm = \"HS256\", key = \"{SECRET}\"}}\n");
        with_callback(&toml, "http://127.0.0.1:1/events", secret).replacen(
            "id = \"sms\"\n",
            &jwt,
            1,
        )
    })
    .await
}

fn with_token(app: &TestApp, mut claims: Value) -> Channel {
    claims["exp"] = (app.cloud.clock.now() + TimeDelta::minutes(1))
        .timestamp()
        .into();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    app.sms
        .with_key(&encode(&Header::default(), &claims, &key).unwrap())
}

/// Returns the recorded actions except migrations, as JSON without ids and times.
async fn recorded(app: &TestApp) -> Vec<Value> {
    let since = DateTime::<Utc>::UNIX_EPOCH;
    let records = app.store().recorded_actions(since, None, 99).await.unwrap();
    let records = records.into_iter().map(|record| {
        let mut record = serde_json::to_value(record).unwrap();
        let members = record.as_object_mut().unwrap();
        assert!(members["id"].as_str().unwrap().starts_with("aud_"));
        members.retain(|name, _| name != "id" && name != "at");
        record
    });
    records
        .filter(|record| record["action"] != "database.migrate")
        .collect()
}

/// Sends a request with a request id.
async fn send_with_id(
    channel: &Channel,
    method: Method,
    path: &str,
    body: Value,
    id: &str,
) -> Reply {
    let request = channel.request(method, path).header("x-request-id", id);
    let request = if body.is_null() {
        request
    } else {
        request
            .header("content-type", "application/json")
            .body(body.to_string())
    };
    send(request).await
}

async fn the_audit_log_records_each_action_with_its_actor(engine: Engine) {
    let app = start(engine).await;
    let token = with_token(&app, json!({"iss": "sms"}));
    let own = with_token(&app, json!({"iss": "sms", "user": "+15550002222"}));
    app.sms.say("+15550001111", "hello").await.expect(201);
    own.say("+15550002222", "hello").await.expect(201);
    let since = app.cloud.clock.now() - TimeDelta::minutes(1);

    let body = json!({"type": "message.created"});
    let sample = send_with_id(&app.sms, Method::POST, "/v1/events/test", body, "r1").await;
    let id = sample.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/deliveries/{id}/retry");
    let retried = send_with_id(&token, Method::POST, &path, Value::Null, "r2").await;
    let replay = json!({"since": since, "state": "pending"});
    let replayed = send_with_id(
        &app.sms,
        Method::POST,
        "/v1/deliveries/replay",
        replay,
        "r3",
    )
    .await;
    let path = "/v1/deliveries/resume";
    let resumed = send_with_id(&app.sms, Method::POST, path, Value::Null, "r4").await;
    let path = "/v1/users/+15550001111";
    let erased = send_with_id(&app.sms, Method::DELETE, path, Value::Null, "r5").await;
    let path = "/v1/users/+15550002222";
    let erased_oneself = send_with_id(&own, Method::DELETE, path, Value::Null, "r6").await;

    retried.expect(202);
    assert_eq!(replayed.expect(200)["count"], 1);
    resumed.expect(200);
    erased.expect(204);
    erased_oneself.expect(204);
    let at = since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let entry = |actor: &str, action: &str, subject: Value, details: Value, request_id: &str| {
        json!({
            "actor": actor, "channel": "sms", "action": action, "subject": subject,
            "details": details, "request_id": request_id,
        })
    };
    let kind = json!({"type": "message.created"});
    let replay =
        json!({"since": at, "until": null, "state": "pending", "of_one_user": false, "count": 1});
    let (key, no_subject) = (DIGITS_OF_SMS, Value::Null);
    let by_own_token = |own: bool| json!({"by_own_token": own});
    let mut entries = recorded(&app).await;
    entries.sort_by_key(|entry| entry["request_id"].to_string());
    assert_eq!(
        entries,
        [
            entry(key, "event.test", json!(id), kind.clone(), "r1"),
            entry("jwt", "delivery.retry", json!(id), kind, "r2"),
            entry(key, "deliveries.replay", no_subject.clone(), replay, "r3"),
            entry(
                key,
                "deliveries.resume",
                no_subject.clone(),
                json!({}),
                "r4"
            ),
            entry(
                key,
                "user.erase",
                no_subject.clone(),
                by_own_token(false),
                "r5"
            ),
            entry("jwt", "user.erase", no_subject, by_own_token(true), "r6"),
        ]
    );
    let dump = app.database.dump().await;
    assert!(!dump.contains("1555000"), "a user was erased, and is named");
}

async fn the_audit_log_omits_refused_dry_run_and_empty_actions(engine: Engine) {
    let app = start(engine).await;
    let unauthorized = app.sms.with_key("key-of-nobody");
    let since = app.cloud.clock.now() - TimeDelta::minutes(1);
    let unknown = EventId::new(app.cloud.clock.uuid());
    let dry = json!({"since": since, "state": "pending", "dry_run": true});
    let of_unknown_user = json!({"since": since, "user_id": "nobody"});

    let replay = "/v1/deliveries/replay";
    app.sms.post(replay, dry).await.expect(200);
    app.sms.post(replay, of_unknown_user).await.expect(200);
    let retry = format!("/v1/deliveries/{unknown}/retry");
    app.sms.post_text(&retry, "").await.expect(404);
    let resume = "/v1/deliveries/resume";
    unauthorized.post_text(resume, "").await.expect(401);
    let erase = app.sms.request(Method::DELETE, "/v1/users/nobody");
    send(erase).await.expect(204);

    assert_eq!(recorded(&app).await, [] as [Value; 0]);
}

async fn an_action_fails_when_the_audit_log_cannot_be_written(engine: Engine) {
    let app = start(engine).await;
    let (sms, now) = ("sms".parse().unwrap(), app.cloud.clock.now());
    app.sms.say("ada", "hello").await.expect(201);
    let body = json!({"type": "message.created"});
    let sample = app.sms.post("/v1/events/test", body.clone()).await;
    let id: EventId = sample.expect(201)["id"].as_str().unwrap().parse().unwrap();
    app.store().pause_callback(&sms, now).await.unwrap();
    let until = async || {
        let event = app.store().event(&sms, id).await.unwrap().unwrap();
        event.deliver_until.unwrap()
    };
    let before = until().await;
    // From here on each of the actions would move the deadline.
    app.cloud.clock.advance(TimeDelta::seconds(1));
    let replay = json!({"since": now - TimeDelta::minutes(1), "state": "pending"});
    let retry = format!("/v1/deliveries/{id}/retry");
    let all = async || {
        let erase = app.sms.request(Method::DELETE, "/v1/users/ada");
        [
            app.sms.post("/v1/events/test", body.clone()).await.status,
            app.sms.post_text(&retry, "").await.status,
            app.sms
                .post("/v1/deliveries/replay", replay.clone())
                .await
                .status,
            app.sms.post_text("/v1/deliveries/resume", "").await.status,
            send(erase).await.status,
        ]
    };

    let database = &app.database;
    database
        .execute("ALTER TABLE audit RENAME TO elsewhere")
        .await;
    let refused = all().await;
    database
        .execute("ALTER TABLE elsewhere RENAME TO audit")
        .await;

    assert_eq!(refused, [500; 5]);
    assert_eq!(app.event_log("sms").await.len(), 1);
    assert_eq!(until().await, before);
    assert!(app.store().callback_schedule(&sms).await.unwrap().paused);
    app.sms.get("/v1/users/ada").await.expect(200);
    assert_eq!(recorded(&app).await.len(), 1, "the sample from before");
    // The actions succeed once they can be recorded.
    assert_eq!(all().await, [201, 202, 200, 200, 204]);
    assert_eq!(app.event_log("sms").await.len(), 2);
    assert_eq!(until().await, before + TimeDelta::seconds(1));
    assert!(!app.store().callback_schedule(&sms).await.unwrap().paused);
    app.sms.get("/v1/users/ada").await.expect(404);
    assert_eq!(recorded(&app).await.len(), 6);
}

async fn audit_entries_are_removed_after_400_days(engine: Engine) {
    let app = start(engine).await;
    let resume = async || {
        let resumed = app.sms.post_text("/v1/deliveries/resume", "").await;
        resumed.expect(200);
    };
    let wait_for_entries = async |count: usize| {
        eventually(&format!("{count} entries remain"), async || {
            (recorded(&app).await.len() == count).then_some(())
        })
        .await;
    };

    resume().await;
    app.cloud.clock.advance(TimeDelta::days(399));
    resume().await;
    assert_eq!(recorded(&app).await.len(), 2);
    app.cloud.clock.advance(TimeDelta::days(2));

    wait_for_entries(1).await;
    app.cloud.clock.advance(TimeDelta::days(399));
    wait_for_entries(0).await;
}

async fn with_arguments(name: &str, arguments: &[&str], toml: &str) -> Ended {
    let (_folder, mut command) = configured(name, toml);
    command.args(arguments);
    run(command).await
}

async fn commands_are_recorded_and_listed_by_the_audit_command(engine: Engine) {
    let database = Database::create(engine).await;
    // None of these commands calls the Cloud.
    let toml = bridge_toml(&database.location, "http://127.0.0.1:1");
    let shown = async |arguments: &[&str]| {
        let ended = with_arguments("audit", arguments, &toml).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        (lines, ended.errors)
    };
    let refused = with_arguments("audit", &[], &toml).await;
    assert_eq!(refused.code, 1);
    let hint = "check that the schema is up to date";
    assert!(refused.errors.contains(hint), "{}", refused.errors);

    for _ in 0..2 {
        let migrated = with_arguments("migrate", &[], &toml).await;
        assert_eq!(migrated.code, 0, "{}", migrated.errors);
    }
    let app = TestApp::start_with(Cloud::start().await, database.clone()).await;
    for user in ["ada", "bob"] {
        app.sms.say(user, "hello").await.expect(201);
    }
    let sample = json!({"type": "message.created"});
    app.sms.post("/v1/events/test", sample).await.expect(201);
    app.stop().await;
    let other = "YWJjZGVmMDEyMzQ1Njc4OTAxMjM0NTY3ODlhYmNkZWY=";
    let both = toml.replace(SEALING_KEY, &format!("{other}\", \"{SEALING_KEY}"));
    let rotated = with_arguments("rotate", &[], &both).await;
    assert_eq!(rotated.code, 0, "{}", rotated.errors);
    assert!(
        rotated.errors.contains(" audit: audit entry recorded ")
            && rotated.errors.contains("keys.rotate"),
        "{}",
        rotated.errors
    );

    let (lines, _) = shown(&[]).await;
    let actions: Vec<_> = lines
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    let expected = ["database.migrate", "event.test", "keys.rotate"];
    assert_eq!(actions, expected, "{lines:#?}");
    assert!(lines[0].contains(" actor=command subject="), "{lines:?}");
    assert!(lines[1].contains(&format!(" actor={DIGITS_OF_SMS} channel=sms ")));
    assert!(lines[2].ends_with(r#" {"sealed_anew":2,"unopened":0}"#));
    let (json, errors) = shown(&["--json", "--limit", "1"]).await;
    let entry: Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!((json.len(), &entry["action"]), (1, &json!("keys.rotate")));
    assert!(errors.contains("older entries are not shown"), "{errors}");
    assert_eq!(shown(&["--channel", "sms"]).await.0, lines[1..2]);
    assert_eq!(shown(&["--channel", "web"]).await.0, [""; 0]);
    let at = entry["at"].as_str().unwrap();
    assert_eq!(shown(&["--since", at]).await.0, lines[2..]);
    let all = lines.concat();
    for secret in [ACCOUNT, SEALING_KEY, other, "ada", "bob", "key-of-sms"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test]
async fn the_audit_command_refuses_invalid_arguments() {
    for (arguments, expected) in [
        (["--since", "yesterday"], "such as 2026-11-22T08:00:00Z"),
        (["--channel", ""], "letters, digits"),
        (["--limit", "0"], "is not in 1..="),
        (["--limit", "many"], "invalid digit"),
        (["--user", "ada"], "unexpected argument"),
    ] {
        let ended = run(command(&["audit", arguments[0], arguments[1]])).await;

        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(expected), "{}", ended.errors);
    }
}
