//! The metrics: shown on the admin address, free of personal data, and the same as in the
//! documents.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use chrono::TimeDelta;
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::telemetry::metrics::{ALL, Definition, Kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::send;
use crate::support::cloud::{
    ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, agent_text, send_notification,
};
use crate::support::configuration::{SMS_KEY, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::receiver::{Receiver, SECRET};

on_both_engines!(
    the_metrics_count_all_activity_without_personal_data,
    metric_labels_have_few_values_for_arbitrary_requests,
    the_metrics_show_the_number_and_age_of_pending_work,
    the_metrics_are_served_while_the_database_is_unavailable,
);

const PHONE: &str = "15550001111";
const TEXT: &str = "my card is 4111";
const ANSWER: &str = "your card is safe";
const NAME: &str = "Lovelace";
const WRONG_KEY: &str = "key-of-nobody";

/// A sample: one line of the text format.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The metrics that a service shows.
#[derive(Debug)]
struct Shown {
    text: String,
    samples: Vec<Sample>,
}

impl Shown {
    async fn by(app: &TestApp) -> Self {
        let request = app.admin.request(Method::GET, "/metrics");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let media_type = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(answer.headers()["content-type"], media_type);
        let text = answer.text().await.unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        let samples = lines.filter(|line| !line.starts_with('#')).map(sample);
        Self {
            samples: samples.collect(),
            text,
        }
    }

    /// Returns the sum of a metric's series that have these labels; `None` if there is no such
    /// series.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                let mut labels = labels.iter();
                labels.all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
            })
            .map(|sample| sample.value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    #[track_caller]
    fn expect(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let shown = self.value(&format!("liveperson_bridge_{name}"), labels);
        let is_it = shown.is_some_and(|shown| (shown - value).abs() < 1e-9);
        assert!(is_it, "{name} {labels:?}: {shown:?}\n{}", self.text);
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let labels = labels.split("\",").filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, value) = label.split_once("=\"").unwrap();
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().unwrap(),
    }
}

/// Starts a service with a channel `sms` that has a callback.
async fn with_receiver(engine: Engine) -> (TestApp, Receiver) {
    let receiver = Receiver::start().await;
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let secrets = format!("\"{SECRET}\"");
    let app = TestApp::start_configured(cloud, database, |toml| {
        with_callback(&toml, &receiver.url, &secrets)
    });
    (app.await, receiver)
}

/// Sends a notification to the service, as the Cloud does.
async fn notify(app: &TestApp, notification: &Value) {
    send_notification(&app.sms, notification).await.expect(200);
}

async fn the_metrics_count_all_activity_without_personal_data(engine: Engine) {
    let (app, receiver) = with_receiver(engine).await;
    let messages = format!("/v1/users/%2B{PHONE}/messages");
    let send_text = |key: &str| {
        let open = json!({"profile": {"last_name": NAME}});
        let body = json!({"text": TEXT, "open": open}).to_string();
        let request = app.sms.request(Method::POST, &messages);
        let request = request.header("content-type", "application/json");
        send(request.header("idempotency-key", key).body(body))
    };

    let sent = send_text("key-1").await.expect(201);
    send_text("key-1").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();
    let notification = agent_text(conversation, 3, ANSWER);
    notify(&app, &notification).await;
    notify(&app, &notification).await;
    notify(&app, &agent_text("of-another-connector", 1, ANSWER)).await;
    let unauthorized = app.sms.with_key(WRONG_KEY);
    let refused = unauthorized.post(&messages, json!({"text": TEXT})).await;
    refused.expect(401);
    receiver.wait_for(1).await;
    // A delivery is counted after the channel has received it, and before it is settled.
    let shown = eventually("the delivery is counted", async || {
        let shown = Shown::by(&app).await;
        let name = "liveperson_bridge_delivery_lag_seconds_count";
        shown.value(name, &[("channel", "sms")]).and(Some(shown))
    })
    .await;

    let route = ("route", "/v1/users/{user_id}/messages");
    let requests = "http_request_seconds_count";
    shown.expect(requests, &[route, ("status", "201")], 2.0);
    shown.expect(requests, &[route, ("status", "401")], 1.0);
    let webhooks = [("route", "/webhooks/{account_id}"), ("method", "POST")];
    shown.expect(requests, &webhooks, 3.0);
    shown.expect("http_problems_total", &[("code", "unauthorized")], 1.0);
    let keyed = "idempotency_requests_total";
    shown.expect(keyed, &[("channel", "sms"), ("outcome", "fresh")], 1.0);
    shown.expect(keyed, &[("channel", "sms"), ("outcome", "replayed")], 1.0);
    let sent = [("operation", "cloud.publish_text"), ("outcome", "ok")];
    shown.expect("cloud_request_seconds_count", &sent, 1.0);
    let account = ("account", ACCOUNT);
    let renewed = [account, ("outcome", "renewed")];
    shown.expect("cloud_app_token_renewals_total", &renewed, 1.0);
    shown.expect("cloud_hosts_away", &[account], 0.0);
    for fate in ["taken", "duplicate", "unmatched"] {
        shown.expect("webhook_changes_total", &[account, ("fate", fate)], 1.0);
    }
    let stored = [("outcome", "stored")];
    let commits = shown.value("liveperson_bridge_webhook_commit_seconds_count", &stored);
    assert!(commits.is_some_and(|count| count >= 3.0), "{commits:?}");
    shown.expect("webhook_batch_changes_sum", &[], 3.0);
    let delivered = [("channel", "sms"), ("outcome", "delivered")];
    shown.expect("delivery_attempt_seconds_count", &delivered, 1.0);
    shown.expect("storage_up", &[], 1.0);
    let connections = shown.value("liveperson_bridge_storage_connections", &[]);
    assert!(connections.is_some_and(|count| count > 0.0));
    shown.expect("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    for secret in [
        PHONE,
        TEXT,
        ANSWER,
        NAME,
        SMS_KEY,
        WRONG_KEY,
        "key-1",
        conversation,
        CLIENT_SECRET,
        CLIENT_ID,
        SECRET,
        "eyJ",
        &receiver.url,
        &app.cloud.url,
    ] {
        assert!(!shown.text.contains(secret), "{secret} in {}", shown.text);
    }
    assert_all_documented(&shown);
}

/// Asserts that the table defines all metrics that are shown.
fn assert_all_documented(shown: &Shown) {
    for sample in &shown.samples {
        let metric = defined(&sample.name);
        let labels: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
        let mut expected: BTreeSet<_> = metric.labels.iter().copied().collect();
        if sample.name.ends_with("_bucket") {
            expected.insert("le");
        }
        assert_eq!(labels, expected, "{sample:?}");
        let kind = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(shown.text.contains(&kind), "{kind}");
        let help = format!("# HELP {} {}", metric.name, metric.help);
        assert!(shown.text.contains(&help), "{help}");
    }
}

/// Returns the metric that a series belongs to.
#[track_caller]
fn defined(series: &str) -> Definition {
    let found = ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| series.strip_suffix(suffix) == Some(metric.name)),
        Kind::Counter | Kind::Gauge => series == metric.name,
    });
    *found.unwrap_or_else(|| panic!("{series} is no metric"))
}

async fn metric_labels_have_few_values_for_arbitrary_requests(engine: Engine) {
    let app = TestApp::start(engine).await;

    for number in 0..5 {
        app.sms.get(&format!("/nothing/{number}")).await.expect(404);
        let user = app.sms.get(&format!("/v1/users/user-{number}")).await;
        user.expect(404);
        let method = Method::from_bytes(format!("MAKE{number}").as_bytes()).unwrap();
        send(app.sms.request(method, "/v1/events"))
            .await
            .expect(405);
    }

    let shown = Shown::by(&app).await;
    let requests = "http_request_seconds_count";
    shown.expect(requests, &[("route", "none"), ("status", "404")], 5.0);
    let user = [("route", "/v1/users/{user_id}"), ("status", "404")];
    shown.expect(requests, &user, 5.0);
    shown.expect(requests, &[("method", "other"), ("status", "405")], 5.0);
    let count = format!("liveperson_bridge_{requests}");
    let series = shown.samples.iter().filter(|sample| sample.name == count);
    assert_eq!(series.count(), 3, "{}", shown.text);
}

async fn the_metrics_show_the_number_and_age_of_pending_work(engine: Engine) {
    let (app, receiver) = with_receiver(engine).await;
    let sent = app.sms.say("ada", "first").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();
    receiver.answer_status(410);
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });

    let sms = [("channel", "sms")];
    let before = Shown::by(&app).await;
    app.sms.say("ada", "second").await.expect(202);
    app.sms.say("ada", "third").await.expect(202);
    notify(&app, &agent_text(conversation, 9, "hello")).await;
    eventually("the callback is paused", async || {
        let shown = Shown::by(&app).await;
        let paused = shown.value("liveperson_bridge_callback_paused", &sms);
        (paused == Some(1.0)).then_some(())
    })
    .await;
    app.cloud.clock.advance(TimeDelta::minutes(7));

    let gauges = [
        "queued_requests",
        "oldest_queued_request_seconds",
        "delivery_lanes",
        "oldest_undelivered_event_seconds",
        "callback_paused",
        "callback_failures",
    ];
    for gauge in gauges {
        before.expect(gauge, &sms, 0.0);
    }
    before.expect("queued_lanes", &[], 0.0);
    let shown = Shown::by(&app).await;
    shown.expect("queued_requests", &sms, 2.0);
    shown.expect("queued_lanes", &[], 1.0);
    shown.expect("oldest_queued_request_seconds", &sms, 420.0);
    shown.expect("delivery_lanes", &sms, 1.0);
    shown.expect("oldest_undelivered_event_seconds", &sms, 420.0);
    shown.expect("queued_requests", &[("channel", "app")], 0.0);
    let gone = [("channel", "sms"), ("outcome", "gone")];
    shown.expect("delivery_attempt_seconds_count", &gone, 1.0);
}

async fn the_metrics_are_served_while_the_database_is_unavailable(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    Shown::by(&app).await.expect("storage_up", &[], 1.0);

    app.store().close().await;

    let refused = app.sms.say("ada", "hello").await;
    refused.expect_problem(503, "storage-unavailable");
    let shown = Shown::by(&app).await;
    shown.expect("storage_up", &[], 0.0);
    let problems = [("code", "storage-unavailable")];
    shown.expect("http_problems_total", &problems, 1.0);
    shown.expect("queued_requests", &[("channel", "sms")], 0.0);
}

/// Returns the rows of the table in the documentation: name, type, labels, meaning.
fn documented() -> Vec<[String; 4]> {
    let rows = include_str!("../../docs/metrics.md").lines();
    let rows = rows
        .skip_while(|line| !line.starts_with("| name |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        let [_, name, kind, labels, meaning, _] = <[String; 6]>::try_from(cells).unwrap();
        [name, kind, labels, meaning]
    };
    rows.map(cells).collect()
}

#[test]
fn the_documented_table_is_the_one_in_the_code() {
    let in_code = ALL.iter().map(|metric| {
        let labels = metric.labels.iter().map(|label| format!("`{label}`"));
        [
            format!("`{}`", metric.name),
            metric.kind.as_str().to_owned(),
            labels.collect::<Vec<_>>().join(", "),
            metric.help.to_owned(),
        ]
    });

    assert_eq!(documented(), in_code.collect::<Vec<_>>());
}

/// Returns the series that a query names, each with the labels of its matchers.
fn series_in(query: &str) -> Vec<(String, Vec<String>)> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut remaining = query;
    while let Some(start) = remaining.find(is_name_char) {
        let from_name = &remaining[start..];
        let end = from_name
            .find(|c| !is_name_char(c))
            .unwrap_or(from_name.len());
        let (name, after) = from_name.split_at(end);
        remaining = after;
        if !name.starts_with("liveperson_bridge_") && !name.starts_with("process_") {
            continue;
        }
        let mut labels = Vec::new();
        if let Some(matchers) = after.strip_prefix('{') {
            let (matchers, after) = matchers.split_once("\"}").unwrap();
            let matchers = matchers.split("\",");
            labels.extend(matchers.map(|matcher| {
                let end = matcher.find(['=', '!']).unwrap();
                matcher[..end].trim().to_owned()
            }));
            remaining = after;
        }
        found.push((name.to_owned(), labels));
    }
    found
}

/// Returns the labels that a query groups by.
fn grouped_by(query: &str) -> Vec<&str> {
    let groups = query.split(" by (").skip(1);
    let names = groups.flat_map(|rest| rest.split_once(')').unwrap().0.split(','));
    names.map(str::trim).collect()
}

/// Asserts that all metrics and labels of a query exist, and returns the metrics.
fn check(query: &str) -> Vec<&'static str> {
    let series = series_in(query);
    assert!(!series.is_empty(), "{query}");
    let metrics: Vec<_> = series.iter().map(|(name, _)| defined(name)).collect();
    for (metric, (name, labels)) in metrics.iter().zip(&series) {
        for label in labels {
            let is_one = metric.labels.contains(&label.as_str());
            assert!(is_one, "{name} has no label {label}");
        }
    }
    // Prometheus adds `instance`, and the buckets of a histogram have `le`.
    let mut labels: Vec<_> = vec!["instance", "le"];
    labels.extend(metrics.iter().flat_map(|metric| metric.labels));
    for label in grouped_by(query) {
        assert!(labels.contains(&label), "no label {label} in {query}");
    }
    metrics.iter().map(|metric| metric.name).collect()
}

/// Returns the expressions of the alerts.
fn alerts() -> Vec<String> {
    let text = include_str!("../../deploy/prometheus/alerts.yml");
    let rules = text.split("      - alert: ").skip(1);
    let expressions = rules.map(|rule| {
        for part in ["labels:", "severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{part} is missing in {rule}");
        }
        let expression = rule.split_once("        expr: ").unwrap().1;
        let lines = expression.lines();
        let more = lines
            .clone()
            .skip(1)
            .take_while(|line| line.starts_with("          "));
        lines.take(1).chain(more).collect::<Vec<_>>().join("\n")
    });
    expressions.collect()
}

#[test]
fn alerts_use_existing_metrics_and_labels() {
    let alerts = alerts();

    assert!(alerts.len() >= 10);
    for alert in alerts {
        check(&alert);
    }
}

#[test]
fn the_dashboard_shows_all_metrics_and_no_unknown_ones() {
    let dashboard = include_str!("../../deploy/grafana/liveperson-bridge.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();

    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        for target in targets {
            shown.extend(check(target["expr"].as_str().unwrap()));
        }
    }

    let all: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(shown, all);
}

#[test]
fn metric_queries_are_parsed() {
    let query = "sum by (code, le) (rate(liveperson_bridge_x_total{code=~\"a\",b!=\"c}\"}[5m])) / process_y";

    let series = [
        (
            "liveperson_bridge_x_total".to_owned(),
            vec!["code".to_owned(), "b".to_owned()],
        ),
        ("process_y".to_owned(), vec![]),
    ];
    assert_eq!(series_in(query), series);
    assert_eq!(grouped_by(query), ["code", "le"]);
}
