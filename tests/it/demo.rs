//! The `demo` command: the printed lines work as printed, its options choose the addresses, and no
//! files remain.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::channel::{Channel, send};
use crate::support::demo::{ARGUMENTS, Demo};
use crate::support::patience::{PATIENCE, eventually};
use crate::support::process::{Process, command, run};

/// Sends the request that a curl line describes.
async fn send_as_curl_would(line: &str) -> Value {
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let (base, path) = url.split_at(url.find("/v1").unwrap());
    let quoted: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    let [authorization, content_type, body] = quoted[..] else {
        panic!("{line}")
    };
    let key = authorization
        .strip_prefix("Authorization: Bearer ")
        .unwrap();
    let media_type = content_type.strip_prefix("Content-Type: ").unwrap();
    let request = Channel::new(base, key).request(Method::POST, path);
    let request = request
        .header("content-type", media_type)
        .body(body.to_owned());
    send(request).await.expect(201)
}

/// Runs a line in a shell; `None` if the machine has no curl.
async fn run_in_shell(line: &str) -> Option<Value> {
    Command::new("curl").arg("--version").output().await.ok()?;
    let output = Command::new("sh")
        .arg("-c")
        .arg(line)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_curl_line_sends_a_message() {
    let mut demo = Demo::start().await;
    let probes = demo.address("Probes").await;
    assert!(!is_empty(demo.folder.path()), "where is the database?");

    let line = demo.process.output_line("curl -sS ").await;
    let sent = send_as_curl_would(&line).await;

    assert_eq!(sent["status"], "sent");
    assert_eq!(sent["user_id"], "alice");
    if let Some(again) = run_in_shell(&line).await {
        assert_eq!(again["conversation_id"], sent["conversation_id"]);
        assert!(again["sequence"].as_u64() > sent["sequence"].as_u64());
    }
    let docs = Channel::new(&demo.api, "none").get("/docs/").await;
    assert_eq!(docs.status, 200);
    Channel::new(&probes, "none").get("").await.expect(200);
    let operator = demo.process.output_line("Operator's page").await;
    let key = operator.rsplit_once(": ").unwrap().1.trim_end_matches(')');
    let page = demo.address("Operator's page").await;
    let page = Channel::new(page.trim_end_matches('/'), key);
    assert_eq!(page.get("/").await.status, 200);
    let channel = serde_json::json!({"channel": "demo"});
    let callback = page.post("/api/resume", channel).await.expect(200);
    assert_eq!(callback["state"], "active");

    demo.process.signal("INT").await;
    assert_eq!(demo.process.wait().await.code(), Some(0));
    assert!(is_empty(demo.folder.path()), "the database is still there");
}

/// Returns the names of a process's threads.
#[cfg(target_os = "linux")]
fn threads(id: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let names = threads.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_single_core_runs_without_worker_threads() {
    let mut demo = Demo::start_on_one_core().await;
    let names = threads(demo.process.id());
    assert!(
        !names.iter().any(|name| name == "tokio-rt-worker"),
        "{names:?}"
    );

    send_as_curl_would(&demo.process.output_line("curl -sS ").await).await;

    let channel = Channel::new(&demo.api, "demo-key");
    let events = eventually("the agent answers", async || {
        let events = channel
            .get("/v1/events?wait=1")
            .await
            .expect(200)
            .to_string();
        events.contains("You said: Hello").then_some(events)
    });
    assert!(events.await.contains("conversation.opened"));
    demo.process.signal("TERM").await;
    assert_eq!(demo.process.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_stream_line_shows_the_agents_answer() {
    let demo = Demo::start().await;
    let process = &demo.process;
    let watching = process.output_line("curl -sSN ").await;
    let url = watching
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    let (base, path) = url.unwrap().split_at(url.unwrap().find("/v1").unwrap());
    let channel = Channel::new(base, "demo-key");
    assert!(watching.contains("'Authorization: Bearer demo-key'"));
    let request = channel.request(Method::GET, path);
    let mut events = request
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();

    send_as_curl_would(&process.output_line("curl -sS ").await).await;

    let mut received = String::new();
    while !received.contains(r#""text":"You said: Hello""#) {
        let chunk = timeout(PATIENCE, events.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        received.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        received.contains("event: conversation.opened"),
        "{received}"
    );
    assert!(received.contains("event: message.created"), "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_demos_run_at_once() {
    let first = Demo::start().await;
    let second = Demo::start().await;

    for name in ["API", "Probes", "Simulated Cloud"] {
        assert_ne!(first.address(name).await, second.address(name).await);
    }
    for demo in [&first, &second] {
        send_as_curl_would(&demo.process.output_line("curl -sS ").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_ignores_configuration_files_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bridge.toml"), "not TOML").unwrap();
    let mut command = command(&ARGUMENTS);
    command
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .env("BRIDGE_NOTHING", "x")
        .env("BRIDGE_CONFIG", "/nowhere/bridge.toml")
        .env("DATABASE_URL", "not a URL")
        .env("HTTP_PROXY", "http://127.0.0.1:1");
    let process = Process::start(command);

    send_as_curl_would(&process.output_line("curl -sS ").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_an_error_that_names_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    for option in ["--listen", "--admin-listen", "--cloud-listen"] {
        let arguments = ARGUMENTS.map(|argument| match argument.split_once('=') {
            Some((name, _)) if name == option => format!("{option}={address}"),
            _ => argument.to_owned(),
        });

        let ended = run(command(&arguments.each_ref().map(String::as_str))).await;

        assert_eq!(ended.code, 1, "{}", ended.errors);
        let expected = format!("error: cannot listen on {address}: Address already in use");
        assert!(ended.errors.starts_with(&expected), "{}", ended.errors);
        let hint = format!("; {option} sets another address\n");
        assert!(ended.errors.ends_with(&hint), "{}", ended.errors);
        assert_eq!(ended.output, "");
    }
}

#[tokio::test]
async fn a_configuration_file_for_a_demo_is_refused() {
    let ended = run(command(&["demo", "--config", "bridge.toml"])).await;

    assert_eq!(ended.code, 2);
    let expected =
        "error: this command reads no configuration, so it cannot be used with '--config'";
    assert!(ended.errors.starts_with(expected), "{}", ended.errors);
    assert_eq!(ended.output, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_set_the_addresses_of_a_demo_which_shows_where_it_is_reached() {
    let mut command = command(&["demo", "--cloud-listen=0.0.0.0:0"]);
    command
        .env("BRIDGE_LISTEN", "0.0.0.0:0")
        .env("BRIDGE_ADMIN_LISTEN", "127.0.0.2:0");
    let demo = Demo::start_command(command).await;

    for (name, ip) in [
        ("API", "127.0.0.1"),
        ("Simulated Cloud", "127.0.0.1"),
        ("Operator's page", "127.0.0.2"),
    ] {
        let url = demo.address(name).await;
        assert!(url.starts_with(&format!("http://{ip}:")), "{name}: {url}");
    }
    send_as_curl_would(&demo.process.output_line("curl -sS ").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_lines_of_a_demo_are_its_addresses() {
    let mut demo = Demo::start().await;
    demo.process.signal("TERM").await;
    demo.process.wait().await;

    assert!(demo.process.output().starts_with("\nThe demo is ready.\n"));
    let log = demo.process.log();
    let first = log.lines().next().unwrap();
    assert!(first.contains("stopping: "), "{log}");
}

/// Returns the requests that the demo's page shows.
async fn wire(cloud: &Channel) -> Vec<Value> {
    let request = cloud.request(Method::GET, "/_sandbox/wire");
    let shown = send(request.header("accept", "application/json")).await;
    shown.expect(200)["entries"].as_array().unwrap().clone()
}

/// Returns a token for one user of the demo's channel.
async fn token(cloud: &Channel, user: &str) -> String {
    let reply = cloud.post("/_demo/tokens", json!({"user": user})).await;
    reply.expect(200)["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_page_uses_a_users_token_and_lists_all_requests() {
    let demo = Demo::start().await;
    let origin = demo.address("Simulated Cloud").await;
    let cloud = Channel::new(&origin, "none");
    let settings = cloud.get("/_sandbox/page/settings").await.expect(200);
    let bridge = &settings["bridge"];
    assert_eq!(bridge["url"], demo.api);
    assert_eq!(
        (&settings["mode"], &bridge["mints_tokens"]),
        (&json!("demo"), &json!(true))
    );
    let token = token(&cloud, "alice").await;
    let alice = Channel::new(bridge["url"].as_str().unwrap(), &token);

    let by_name = origin.replace("127.0.0.1", "localhost");
    for origin in [&origin, &by_name] {
        let request = alice.request(Method::POST, "/v1/users/alice/messages");
        let sent = send(
            request
                .header("origin", origin)
                .header("content-type", "application/json")
                .body(r#"{"text": "Hello"}"#),
        )
        .await;

        assert_eq!(sent.headers["access-control-allow-origin"], origin.as_str());
        sent.expect(201);
    }
    alice
        .get("/v1/users/bob/conversation")
        .await
        .expect_problem(403, "forbidden");

    let entries = eventually("all four kinds", async || {
        let entries = wire(&cloud).await;
        let kinds = ["api", "cloud", "notification", "event"];
        let all = kinds
            .iter()
            .all(|kind| entries.iter().any(|entry| entry["kind"] == *kind));
        all.then_some(entries)
    })
    .await;
    let shown = json!(entries).to_string();
    assert!(
        !shown.contains(&token) && !shown.contains("demo-secret"),
        "{shown}"
    );
    let api = entries.iter().find(|entry| entry["kind"] == "api").unwrap();
    assert_eq!(
        (&api["method"], &api["status"]),
        (&json!("POST"), &json!(201))
    );
    assert_eq!(api["request"]["headers"]["authorization"], "Bearer •••");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_events_are_delivered_after_its_callback_recovers() {
    let demo = Demo::start().await;
    let cloud = Channel::new(&demo.address("Simulated Cloud").await, "none");
    let alice = Channel::new(&demo.api, &token(&cloud, "alice").await);
    let statuses = async |wanted: u64| {
        eventually("an attempt", async || {
            let entries = wire(&cloud).await;
            let mut events = entries.iter().filter(|entry| entry["kind"] == "event");
            events.any(|event| event["status"] == wanted).then_some(())
        })
        .await;
    };

    let failing = cloud.put("/_demo/callback", json!({"failing": true})).await;
    alice.say("alice", "Hello").await.expect(201);
    statuses(503).await;
    let working = cloud
        .put("/_demo/callback", json!({"failing": false}))
        .await;
    statuses(204).await;
    eventually("the channel resumes its deliveries", async || {
        let entries = wire(&cloud).await;
        let mut resumptions = entries.iter().filter(|entry| {
            let url = entry["url"].as_str().unwrap_or_default();
            url.ends_with("/v1/deliveries/resume")
        });
        resumptions.any(|it| it["status"] == 200).then_some(())
    })
    .await;

    assert_eq!((failing.status, working.status), (204, 204));
    let shown = cloud.get("/_demo/callback").await.expect(200);
    assert_eq!(shown, json!({"failing": false}));
}
