//! The deployment files: probes, ports, variables and options in them have to exist in the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use liveperson_bridge::config::{self, Config, Environment};
use yaml_serde::Value;

use crate::support::app::TestApp;
use crate::support::database::Engine;
use crate::support::process::{command, run};

/// 30 s: the longest time of a shutdown.
const STOP_SECONDS: u64 = 30;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn yaml(text: &str) -> Value {
    let mut value: Value = yaml_serde::from_str(text).unwrap();
    value.apply_merge().unwrap();
    value
}

/// Returns the objects of `deploy/kubernetes` by kind.
fn objects() -> BTreeMap<String, Value> {
    let folder = root().join("deploy/kubernetes");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "yaml"));
    let objects: BTreeMap<_, _> = files
        .iter()
        .map(|file| {
            let object = yaml(&fs::read_to_string(file).unwrap());
            (text(&object["kind"]), object)
        })
        .collect();
    assert_eq!(objects.len(), files.len(), "two of a kind");
    objects
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[track_caller]
fn items(value: &Value) -> &Vec<Value> {
    value.as_sequence().expect("a list")
}

/// Returns a mapping of texts.
#[track_caller]
fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_mapping().expect("a mapping").iter();
    pairs.map(|(name, it)| (text(name), text(it))).collect()
}

fn pod(objects: &BTreeMap<String, Value>) -> &Value {
    &objects["Deployment"]["spec"]["template"]["spec"]
}

fn container(objects: &BTreeMap<String, Value>) -> &Value {
    &pod(objects)["containers"][0]
}

/// Returns the ports of the container by name.
fn ports(objects: &BTreeMap<String, Value>) -> BTreeMap<String, u64> {
    let ports = items(&container(objects)["ports"]).iter();
    ports
        .map(|port| {
            let number = port["containerPort"].as_u64().unwrap();
            (text(&port["name"]), number)
        })
        .collect()
}

/// Parses the container's configuration, with the values of its Secret.
fn configuration(objects: &BTreeMap<String, Value>) -> Config {
    let container = container(objects);
    // The only variable that is not part of the configuration; `tests/it/logs.rs` tests it.
    let variables = items(&container["env"]).iter();
    let variables = variables.map(|it| (text(&it["name"]), text(&it["value"])));
    let log_format = ("LOG_FORMAT".to_owned(), "json".to_owned());
    assert_eq!(variables.collect::<Vec<_>>(), [log_format]);
    let source = &items(&container["envFrom"])[0]["secretRef"]["name"];
    assert_eq!(source, &objects["Secret"]["metadata"]["name"]);
    let volume = &items(&pod(objects)["volumes"])[0]["configMap"]["name"];
    assert_eq!(volume, &objects["ConfigMap"]["metadata"]["name"]);
    let environment: Environment = texts(&objects["Secret"]["stringData"])
        .into_iter()
        .collect();
    let file = text(&objects["ConfigMap"]["data"]["bridge.toml"]);
    for name in environment.keys() {
        assert!(
            file.contains(&format!("${{{name}}}")),
            "{name} is not used: {file}"
        );
    }
    config::parse("bridge.toml", &file, &environment).unwrap()
}

#[test]
fn the_kubernetes_configuration_is_valid() {
    let objects = objects();

    let config = configuration(&objects);

    assert!(config.database.url.is_some(), "replicas share PostgreSQL");
    let ports = ports(&objects);
    assert_eq!(u64::from(config.listen.port()), ports["api"]);
    assert_eq!(u64::from(config.admin_listen.port()), ports["admin"]);
    for address in [config.listen, config.admin_listen] {
        assert!(address.ip().is_unspecified(), "it is reached from outside");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_probes_use_existing_admin_paths() {
    let app = TestApp::start(Engine::Sqlite).await;
    let objects = objects();

    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let request = &container(&objects)[probe]["httpGet"];

        assert_eq!(text(&request["port"]), "admin", "{probe}");
        app.admin.get(&text(&request["path"])).await.expect(200);
    }
    let scraped = &objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0];
    assert_eq!(text(&scraped["port"]), "admin");
    assert_eq!(text(&scraped["path"]), "/metrics");
}

#[test]
fn the_kubernetes_service_exposes_only_the_api() {
    let objects = objects();
    let service = &objects["Service"];

    let led_to: Vec<_> = items(&service["spec"]["ports"])
        .iter()
        .map(|port| text(&port["targetPort"]))
        .collect();

    assert_eq!(led_to, ["api"]);
    let labels = texts(&objects["Deployment"]["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(texts(&service["spec"]["selector"]), labels);
    for kind in ["Deployment", "PodDisruptionBudget", "PodMonitor"] {
        let selector = &objects[kind]["spec"]["selector"]["matchLabels"];
        assert_eq!(texts(selector), labels, "{kind}");
    }
    let selector = &objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"];
    assert_eq!(texts(selector), labels);
    assert_eq!(pod(&objects)["enableServiceLinks"], Value::Bool(false));
}

#[test]
fn kubernetes_allows_time_for_a_graceful_shutdown() {
    let objects = objects();
    let sleep = &container(&objects)["lifecycle"]["preStop"]["sleep"]["seconds"];

    let grace_period = &pod(&objects)["terminationGracePeriodSeconds"];

    assert!(grace_period.as_u64().unwrap() > sleep.as_u64().unwrap() + STOP_SECONDS);
    let update = &objects["Deployment"]["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(update["maxUnavailable"].as_u64(), Some(0));
}

/// Checks that the program accepts these arguments, without running the command.
async fn is_understood(arguments: &[String]) {
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    arguments.push("--help");
    let ended = run(command(&arguments)).await;
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.errors);
    for option in arguments.iter().filter(|it| it.starts_with("--")) {
        assert!(ended.output.contains(option), "{option} is not an option");
    }
}

fn arguments(list: &Value) -> Vec<String> {
    items(list).iter().map(text).collect()
}

#[tokio::test]
async fn deployment_files_use_existing_command_line_options() {
    let objects = objects();
    is_understood(&arguments(&container(&objects)["args"])).await;
    let compose = yaml(&read("docker-compose.yml"));
    for service in ["migrate", "sandbox", "demo"] {
        is_understood(&arguments(&compose["services"][service]["command"])).await;
    }
}

/// Replaces `${NAME:-default}` and `${NAME:?why}` like compose.
fn interpolated(text: &str, settings: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once('}').unwrap();
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside.split(":?").next().unwrap(), None),
        };
        let value = settings.get(name).map(String::as_str).or(default);
        result += value.unwrap_or_else(|| panic!("{name} is not set"));
        result += rest;
    }
    result
}

/// Returns the environment of a service in the compose file, with the settings for the sandbox.
fn environment(compose: &Value, service: &str) -> Environment {
    let settings: BTreeMap<_, _> = read("deploy/compose/sandbox.env")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    texts(&compose["services"][service]["environment"])
        .into_iter()
        .map(|(name, value)| (name, interpolated(&value, &settings)))
        .collect()
}

#[test]
fn the_compose_configuration_is_valid() {
    let compose = yaml(&read("docker-compose.yml"));
    let file = read("deploy/compose/bridge.toml");

    for service in ["bridge", "migrate"] {
        let environment = environment(&compose, service);
        let config = config::parse("bridge.toml", &file, &environment).unwrap();

        assert!(config.database.url.is_some());
        assert!(
            config.admin_listen.ip().is_unspecified(),
            "the probes come from outside"
        );
        for name in environment.keys() {
            assert!(file.contains(&format!("${{{name}}}")), "{name} is not used");
        }
        let nginx = read("deploy/compose/nginx.conf");
        let server = format!("server bridge:{} resolve", config.listen.port());
        assert!(nginx.contains(&server), "nginx uses another server");
    }
    let grace = text(&compose["services"]["bridge"]["stop_grace_period"]);
    let grace: u64 = grace.strip_suffix('s').unwrap().parse().unwrap();
    assert!(grace > STOP_SECONDS);
}

#[tokio::test]
async fn the_compose_sandbox_uses_existing_variables() {
    let compose = yaml(&read("docker-compose.yml"));

    let help = run(command(&["sandbox", "--help"])).await.output;

    for name in environment(&compose, "sandbox").keys() {
        // The help shows variables for secrets without their values.
        let shown = [format!("[env: {name}="), format!("[env: {name}]")];
        assert!(shown.iter().any(|it| help.contains(it)), "{name}: {help}");
    }
}
