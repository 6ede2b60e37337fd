//! Secrecy. The log, the metrics, the audit log and the problems show no key, no token, no text and
//! no identity of a user, even at the most detailed log level. No credential is stored as plain
//! text.

use std::path::Path;

use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header, encode};
use liveperson_bridge::clock::{Clock as _, SystemClock};
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::store::Location;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

use crate::support::channel::{Channel, Part, Reply, send};
use crate::support::cloud::{CLIENT_SECRET, Cloud, agent_text, send_notification};
use crate::support::configuration::{APP_KEY, SEALING_KEY, SMS_KEY, bridge_toml};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::{Process, run_configured};

on_both_engines!(
    log_metrics_and_problems_show_no_secrets_and_no_texts,
    an_erasure_removes_all_data_of_the_user,
);

const DATABASE_PASSWORD: &str = "password-of-the-database";
const CALLBACK_SECRET: &str = "c2VjcmV0LXRoYXQtc2lnbnMtY2FsbGJhY2tz";
const WRONG_KEY: &str = "key-of-nobody";
const PHONE: &str = "15550001111";
const TEXT: &str = "my card is 4111";
const NAME: &str = "Lovelace";
const AGENT_TEXT: &str = "your code is 8128";
const JWT_SECRET: &str = "the-shared-secret-of-tokens-of-sms";
const IDEMPOTENCY_KEY: &str = "key-of-a-request";
const CALLBACK_PASSWORD: &str = "password-of-the-callback";
const CALLBACK_TOKEN: &str = "token-of-the-callback";

async fn log_metrics_and_problems_show_no_secrets_and_no_texts(engine: Engine) {
    for (level, format) in [("info", "human"), ("trace", "human"), ("trace", "json")] {
        let cloud = Cloud::start().await;
        let database = Database::create(engine).await;
        let toml = planted(&database, &cloud);
        let environment = [("RUST_LOG", level), ("LOG_FORMAT", format)];
        let (mut process, sms, admin) = Process::serve_with(&toml, &environment).await;

        let token = agents_and_operators(&sms).await;
        let problems = scenario(&sms, &cloud).await;
        let metrics = admin.request(Method::GET, "/metrics").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("# TYPE"), "{metrics}");
        process.signal("TERM").await;
        assert!(process.wait().await.success());
        let audit = run_configured("audit", &toml).await;
        assert_eq!(audit.output.matches("user.erase").count(), 1, "{audit:?}");

        let mut credentials = all_credentials(&cloud);
        credentials.push(token);
        let stored = stored_data(&database).await;
        assert!(stored.contains("agent-1"), "the stored data was not found");
        for secret in &credentials {
            let hex = secret.bytes().map(|byte| format!("{byte:02x}"));
            let hex = hex.collect::<Vec<_>>().concat();
            assert!(!stored.contains(secret), "{secret} is at rest");
            assert!(!stored.contains(&hex), "{secret} is at rest as bytes");
        }
        let target = match format {
            "json" => "\"target\":\"audit\"",
            _ => " audit: ",
        };
        let log = [process.log(), metrics, audit.output, audit.errors].join("\n");
        for expected in [
            "request answered",
            "request refused",
            "request failed",
            target,
        ] {
            assert!(log.contains(expected), "the log lacks {expected}: {log}");
        }
        let personal_data = [PHONE, TEXT, NAME, AGENT_TEXT].map(str::to_owned);
        for secret in credentials.into_iter().chain(personal_data) {
            for line in log.lines() {
                assert!(!line.contains(&secret), "{secret} at {level} in: {line}");
            }
            for problem in &problems {
                let problem = problem.to_string();
                assert!(!problem.contains(&secret), "{secret} in {problem}");
            }
        }
    }
}

/// Creates the data of one of many users: texts of both sides, a profile, and the answer to a keyed
/// request.
async fn create_user_data(sms: &Channel, number: u32) {
    let user = format!("/v1/users/%2B{PHONE}{number:04}");
    let messages = format!("{user}/messages");
    let name = format!("{NAME}{number:04}");
    let open = json!({"profile": {"last_name": name, "contacts": [{"phone": PHONE}]}});
    let first = json!({"text": format!("{TEXT}{number:04}"), "open": open});
    let first = sms
        .request(Method::POST, &messages)
        .header("content-type", "application/json")
        .header("idempotency-key", format!("{IDEMPOTENCY_KEY}-{number:04}"))
        .body(first.to_string());
    let opened = send(first).await.expect(201);
    let conversation = opened["conversation_id"].as_str().unwrap().to_owned();
    for sequence in 0..6 {
        let text = format!("{AGENT_TEXT}{number:04}{}", "+".repeat(40 << sequence));
        let reply = send_notification(sms, &agent_text(&conversation, 10 + sequence, &text)).await;
        reply.expect(200);
        let queued = sms
            .request(Method::POST, &messages)
            .header("content-type", "application/json")
            .header("prefer", "respond-async")
            .body(json!({"text": format!("{TEXT}{number:04}")}).to_string());
        send(queued).await.expect(202);
    }
}

/// Returns the markers in the data of `create_user_data` that some bytes contain.
fn traces(bytes: &str, number: u32) -> Vec<String> {
    let markers = [PHONE, TEXT, NAME, AGENT_TEXT].map(|marker| format!("{marker}{number:04}"));
    let found = markers.into_iter().filter(|marker| bytes.contains(marker));
    found.collect()
}

async fn an_erasure_removes_all_data_of_the_user(engine: Engine) {
    const USERS: u32 = 60;
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let toml = planted(&database, &cloud);
    let (process, sms, _) = Process::serve_with(&toml, &[("RUST_LOG", "debug")]).await;
    let sms = &sms;
    join_all((0..USERS).map(|number| create_user_data(sms, number))).await;
    let stored_data = async || stored_data(&database).await;
    // The text of a sent request is deleted even without an erasure, so three of the four markers
    // are enough.
    let has_data = |bytes: &str| traces(bytes, 7).len() >= 3;
    assert!(has_data(&stored_data().await));

    let erased: Vec<u32> = (0..USERS).filter(|number| number % 7 != 0).collect();
    for number in &erased {
        let path = format!("/v1/users/%2B{PHONE}{number:04}");
        send(sms.request(Method::DELETE, &path)).await.expect(204);
    }

    eventually("none of their data remains", async || {
        let stored = stored_data().await;
        let mut remaining = erased.iter().flat_map(|number| traces(&stored, *number));
        remaining.next().is_none().then_some(())
    })
    .await;
    assert!(
        has_data(&stored_data().await),
        "the other users' data is deleted"
    );
    for number in erased {
        assert!(!process.log().contains(&format!("{PHONE}{number:04}")));
    }
}

/// Returns a configuration with every kind of secret.
fn planted(database: &Database, cloud: &Cloud) -> String {
    let mut location = database.location.clone();
    if let Location::Postgres { url, .. } = &mut location {
        let mut with_password = Url::parse(url.expose_secret()).unwrap();
        with_password.set_password(Some(DATABASE_PASSWORD)).unwrap();
        *url = with_password.to_string().into();
    }
    let key = format!("api_keys = [\"{SMS_KEY}\"]");
    let callback = format!(
        "{key}\ncallback_url = \"http://name:{CALLBACK_PASSWORD}@127.0.0.1:1/?key={CALLBACK_TOKEN}\"\n\
         callback_secret = \"whsec_{CALLBACK_SECRET}\"\n\
         jwt = {{algorithm = \"HS256\", key = \"{JWT_SECRET}\"}}"
    );
    let toml = bridge_toml(&location, &cloud.url).replace(&key, &callback);
    format!("allow_private_callbacks = [\"127.0.0.0/8\"]\n{toml}")
}

/// Returns all credentials: those in the configuration and in requests, and the tokens that the
/// bridge obtained.
fn all_credentials(cloud: &Cloud) -> Vec<String> {
    let mut secrets: Vec<String> = [
        DATABASE_PASSWORD,
        CALLBACK_SECRET,
        SMS_KEY,
        APP_KEY,
        WRONG_KEY,
        CLIENT_SECRET,
        SEALING_KEY,
        CALLBACK_PASSWORD,
        CALLBACK_TOKEN,
        JWT_SECRET,
        IDEMPOTENCY_KEY,
    ]
    .map(str::to_owned)
    .into();
    let mut tokens = 0;
    for request in cloud.sandbox.requests() {
        for name in ["authorization", "x-lp-on-behalf"] {
            if let Some(token) = request.header(name) {
                tokens += 1;
                secrets.push(token.to_owned());
                // The signature alone is a secret, too.
                secrets.push(token.rsplit('.').next().unwrap().to_owned());
            }
        }
        secrets.extend(request.parameter("temp_url_sig"));
    }
    assert!(tokens > 1);
    secrets
}

/// Lets an agent write and an operator act, and returns the token that authorized some of the
/// requests.
async fn agents_and_operators(sms: &Channel) -> String {
    let exp = SystemClock.now().timestamp() + 600;
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let claims = json!({"iss": "sms", "exp": exp, "name": NAME});
    let token = encode(&Header::default(), &claims, &key).unwrap();
    let bearer = sms.with_key(&token);
    let first = sms
        .request(Method::POST, "/v1/users/kept/messages")
        .header("content-type", "application/json")
        .header("idempotency-key", IDEMPOTENCY_KEY)
        .body(json!({"text": TEXT}).to_string());
    let sent = send(first).await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();
    let reply = send_notification(sms, &agent_text(conversation, 5, AGENT_TEXT)).await;
    reply.expect(200);
    let sample = json!({"type": "message.created"});
    bearer.post("/v1/events/test", sample).await.expect(201);
    let since = json!({"since": "2026-01-01T00:00:00Z", "state": "pending", "user_id": "kept"});
    bearer
        .post("/v1/deliveries/replay", since)
        .await
        .expect(200);
    sms.post_text("/v1/deliveries/resume", "").await.expect(200);
    let erased = format!("%2B{PHONE}0");
    sms.say(&erased, TEXT).await.expect(201);
    let erase = sms.request(Method::DELETE, &format!("/v1/users/{erased}"));
    send(erase).await.expect(204);
    token
}

/// Returns all stored data. For the embedded database this includes every byte of its files.
async fn stored_data(database: &Database) -> String {
    let rows = database.dump().await;
    let Location::Embedded { data_dir } = &database.location else {
        return rows;
    };
    // The write-ahead log disappears when the last connection closes, and its contents are then in
    // another file. In that case, all files are read again.
    let files = eventually("no file disappears meanwhile", async || {
        bytes_of_files(data_dir).ok()
    })
    .await;
    rows + files.as_str()
}

fn bytes_of_files(folder: &Path) -> std::io::Result<String> {
    let mut all = String::new();
    for file in std::fs::read_dir(folder)? {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(file?.path())?));
    }
    Ok(all)
}

/// Sends requests of every kind that succeed or fail in many ways, and returns the problems.
async fn scenario(sms: &Channel, cloud: &Cloud) -> Vec<Value> {
    let user = format!("/v1/users/%2B{PHONE}");
    let messages = format!("{user}/messages");
    let open = json!({"profile": {"last_name": NAME, "contacts": [{"phone": PHONE}]}});
    let sequences = json!({"status": "read", "sequences": [0]});
    let unauthorized = sms.with_key(WRONG_KEY);
    let mut replies: Vec<Reply> = vec![
        sms.get(&user).await,
        sms.post(&messages, json!({"text": TEXT, "open": open}))
            .await,
        sms.get(&user).await,
        // Not `composing`: that state ends by itself, and the request that ends it would consume
        // one of the faults below.
        sms.put(&format!("{user}/typing"), json!({"state": "active"}))
            .await,
        sms.post(&format!("{user}/receipts"), sequences).await,
        unauthorized.post(&messages, json!({"text": TEXT})).await,
        sms.get(&format!("{user}/nothing")).await,
        sms.put(&messages, json!({"text": TEXT})).await,
        sms.post_text(&messages, &format!("{{\"text\": \"{TEXT}\""))
            .await,
        sms.post(&messages, json!({"text": [TEXT], "open": open}))
            .await,
        sms.post(&messages, json!({"text": TEXT, "open": TEXT}))
            .await,
        sms.get(&format!("/v1/users/{PHONE}%00")).await,
        // This text is longer than the Cloud accepts.
        sms.post(&messages, json!({"text": TEXT.repeat(500)})).await,
    ];
    let file = Part {
        name: "file",
        file_name: Some(TEXT),
        content: b"GIF89a",
    };
    let caption = Part {
        name: "caption",
        file_name: None,
        content: TEXT.as_bytes(),
    };
    let files = format!("{user}/files");
    let sent = sms.post_form(&files, &[file, caption]).await.expect(201);
    let id = sent["file"]["id"].as_str().unwrap();
    sms.get(&format!("{files}/{id}")).await.expect(200);
    replies.push(sms.post_form(&files, &[caption, caption]).await);
    for operation in [Operation::Upload, Operation::Download] {
        let mut unauthorized = Fault::status(operation, StatusCode::UNAUTHORIZED);
        unauthorized.times = 2;
        cloud.sandbox.inject(unauthorized);
    }
    replies.push(sms.post_form(&files, &[file]).await);
    replies.push(sms.get(&format!("{files}/{id}")).await);
    cloud.sandbox.revoke_app_tokens();
    cloud.sandbox.revoke_consumer_tokens();
    replies.push(sms.post(&messages, json!({"text": TEXT})).await);
    for status in [429, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        cloud.sandbox.inject(Fault::status(Operation::Send, status));
        let typing = format!("{user}/typing");
        replies.push(sms.put(&typing, json!({"state": "composing"})).await);
        cloud.sandbox.inject(Fault::status(Operation::Send, status));
        sms.post(&messages, json!({"text": TEXT})).await.expect(202);
    }
    replies.push(
        sms.post(&format!("{user}/conversation/close"), json!({}))
            .await,
    );

    replies.retain(|reply| reply.status >= 400);
    assert_eq!(replies.len(), 15);
    replies.into_iter().map(|reply| reply.body).collect()
}
