//! The sandbox as the tests of other projects use it: a process, its control interface, and the
//! examples of the documentation.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use liveperson_bridge::store::Location;

use crate::support::channel::{Channel, send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET};
use crate::support::configuration::{SMS_KEY, bridge_toml};
use crate::support::patience::PATIENCE;
use crate::support::process::{Process, command};

/// Starts a sandbox in its own process, and returns it with its URL.
async fn start(arguments: &[&str]) -> (Process, String) {
    let mut all = vec!["sandbox", "--listen=127.0.0.1:0"];
    all.extend(arguments);
    let process = Process::start(command(&all));
    let listens = process.output_line("listens on http://").await;
    let url = listens.split_whitespace().last().unwrap().to_owned();
    (process, url)
}

/// Runs an example of the documentation until it ends.
async fn run_example(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let mut command = Command::new(examples.join(name));
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .kill_on_drop(true);
    let output = timeout(PATIENCE * 2, command.output()).await;
    output.expect("the example does not end").unwrap()
}

#[track_caller]
fn assert_passed(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_shell_tests_a_channel_through_a_bridge() {
    let (_sandbox, url) = start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Embedded {
        data_dir: folder.path().to_owned(),
    };
    let (_bridge, sms, _admin) = Process::serve(&bridge_toml(&location, &url)).await;
    let bridge = format!("http://{}", sms.address());
    let webhook = json!({"account_id": ACCOUNT, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        "url": format!("{bridge}/webhooks/{ACCOUNT}")});
    let cloud = Channel::new(&url, "none");
    assert_eq!(cloud.put("/_sandbox/webhooks", webhook).await.status, 204);

    let output = run_example("sandbox.sh", &[&url, &bridge], &[("BRIDGE_KEY", SMS_KEY)]).await;

    assert_passed(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("passed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_tests_a_connector_without_a_bridge() {
    let (_sandbox, url) = start(&[]).await;

    let output = run_example("sandbox.py", &[&url], &[]).await;

    assert_passed(&output);
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(report.contains("Ran 3 tests"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_example_that_finds_no_sandbox_fails() {
    for name in ["sandbox.sh", "sandbox.py"] {
        let nowhere = "http://127.0.0.1:1";

        let output = run_example(name, &[nowhere, nowhere], &[]).await;

        assert!(!output.status.success(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_sandboxs_traffic_does_not_delay_a_stop() {
    let (mut process, url) = start(&["--agent", "--bridge-url=http://127.0.0.1:8080/"]).await;
    let cloud = Channel::new(&url, "none");
    let settings = cloud.get("/_sandbox/page/settings").await.expect(200);
    assert_eq!(
        settings,
        json!({"mode": "sandbox", "bridge":
            {"url": "http://127.0.0.1:8080", "channel": null, "mints_tokens": false}})
    );
    cloud.get("/nowhere").await;
    let request = cloud.request(reqwest::Method::GET, "/_sandbox/wire");
    let mut wire = request.send().await.unwrap();
    let first = timeout(PATIENCE, wire.chunk()).await.unwrap().unwrap();
    let first = first.unwrap();
    assert!(first.starts_with(b"data: {") && first.ends_with(b"}\nid: 1\n\n"));

    process.signal("TERM").await;

    assert_eq!(process.wait().await.code(), Some(0));
    assert_eq!(wire.chunk().await.unwrap(), None, "the stream has an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_accepts_only_its_configured_host_names() {
    for (arguments, environment) in [
        (&["--host=sandbox", "--host=cloud.internal"][..], ""),
        (&[], "sandbox,cloud.internal"),
    ] {
        let mut command = command(&["sandbox", "--listen=127.0.0.1:0"]);
        command.args(arguments);
        if !environment.is_empty() {
            command.env("SANDBOX_HOSTS", environment);
        }
        let process = Process::start(command);
        let listens = process.output_line("listens on http://").await;
        let cloud = Channel::new(listens.split_whitespace().last().unwrap(), "none");

        for (host, status) in [
            ("sandbox:9400", 200),
            ("cloud.internal", 200),
            ("evil", 421),
        ] {
            let request = cloud.request(reqwest::Method::GET, "/_sandbox/requests");
            let reply = send(request.header("host", host)).await;
            assert_eq!(reply.status, status, "{host} {:?}", reply.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_a_running_sandbox_can_be_switched_off() {
    let (_process, url) = start(&["--agent"]).await;
    let cloud = Channel::new(&url, "none");

    let before = cloud.get("/_sandbox/agent").await.expect(200);
    let off = cloud
        .put("/_sandbox/agent", json!({"script": "none"}))
        .await;
    let after = cloud.get("/_sandbox/agent").await.expect(200);

    assert_eq!(before, json!({"script": "built-in", "pace_ms": 600}));
    assert_eq!((off.status, &after["script"]), (204, &Value::from("none")));
}
