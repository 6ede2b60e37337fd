//! The export of spans to an OpenTelemetry collector. The spans have the ids that other systems
//! received, contain nothing about users, and do no harm if the collector is unavailable.

use std::collections::HashMap;

use liveperson_bridge::sandbox::Operation;
use reqwest::Method;
use serde_json::json;

use crate::support::channel::send;
use crate::support::cloud::{CLIENT_SECRET, Cloud, agent_text, send_notification};
use crate::support::configuration::{SMS_KEY, bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::process::{Process, command, run};
use crate::support::receiver::{Receiver, SECRET};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID: &str = "b7ad6b7169203331";
const USER: &str = "user-15550001111";
const TEXT: &str = "my card is 4111";

#[derive(Debug)]
struct Span {
    trace_id: String,
    id: String,
    parent_id: String,
    name: String,
    attributes: HashMap<String, Vec<u8>>,
}

/// Returns the length-delimited fields of a protobuf message with their numbers: strings, bytes and
/// messages.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("no number");
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        if tag & 7 == 2 {
            found.push((tag >> 3, field));
        }
    }
    found
}

/// Returns all fields with a number.
fn all(bytes: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    let found = fields(bytes).into_iter();
    found.filter_map(move |(found, field)| (found == number).then_some(field))
}

fn one(bytes: &[u8], number: u64) -> &[u8] {
    all(bytes, number).next().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(digit).collect()
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Decodes key-value pairs; each value stays encoded.
fn attributes<'a>(pairs: impl Iterator<Item = &'a [u8]>) -> HashMap<String, Vec<u8>> {
    pairs
        .map(|pair| (string(one(pair, 1)), one(pair, 2).to_vec()))
        .collect()
}

fn spans(bodies: &[Vec<u8>]) -> Vec<Span> {
    let of_resource = bodies.iter().flat_map(|body| all(body, 1));
    let of_scope = of_resource.flat_map(|resource| all(resource, 2));
    of_scope
        .flat_map(|scope| all(scope, 2))
        .map(|span| Span {
            trace_id: hex(one(span, 1)),
            id: hex(one(span, 2)),
            parent_id: hex(one(span, 4)),
            name: string(one(span, 5)),
            attributes: attributes(all(span, 9)),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_both_directions_are_exported_without_user_data() {
    let (collector, callback) = (Receiver::start().await, Receiver::start().await);
    let endpoint = collector.url.strip_suffix("/callback").unwrap();
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let toml = with_callback(&toml, &callback.url, &format!("\"{SECRET}\""));
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        // The log level does not decide which spans are exported.
        ("RUST_LOG", "warn,liveperson_bridge::cli=info"),
    ];
    let (mut process, sms, _) = Process::serve_with(&toml, &environment).await;

    let sampled = sms
        .request(Method::POST, &format!("/v1/users/{USER}/messages"))
        .header("content-type", "application/json")
        .header("x-request-id", USER)
        .header("traceparent", format!("00-{TRACE_ID}-{SPAN_ID}-01"))
        .body(json!({"text": TEXT}).to_string());
    send(sampled).await.expect(201);
    let unsampled = sms
        .request(Method::GET, &format!("/v1/users/{USER}"))
        .header("traceparent", format!("00-{TRACE_ID}-{SPAN_ID}-00"));
    send(unsampled).await.expect(200);
    let conversation = cloud.only_conversation().id;
    send_notification(&sms, &agent_text(&conversation, 1, TEXT))
        .await
        .expect(200);
    let delivered = callback.wait_for(1).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let received = collector.received();
    assert!(received.iter().all(|request| request.path == "/v1/traces"
        && request.header("content-type") == "application/x-protobuf"));
    let bodies: Vec<_> = received
        .iter()
        .map(|request| request.body.to_vec())
        .collect();
    let spans = spans(&bodies);
    let named = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
    };
    // From the channel to the Cloud.
    let request = named("POST /v1/users/{user_id}/messages");
    assert_eq!(
        (&*request.trace_id, &*request.parent_id),
        (TRACE_ID, SPAN_ID)
    );
    assert!(request.attributes["channel.id"].ends_with(b"sms"));
    for call in cloud.requests(Operation::Conversation) {
        let traceparent = call.header("traceparent").unwrap();
        let id = traceparent.split('-').nth(2).unwrap();
        let span = spans.iter().find(|span| span.id == id).unwrap();
        assert_eq!((&*span.trace_id, &span.parent_id), (TRACE_ID, &request.id));
        assert!(span.name.starts_with("cloud."), "{span:?}");
    }
    // From the Cloud to the channel.
    let webhook = named("POST /webhooks/{account_id}");
    let attempt = named("delivery.attempt");
    let post = named("delivery.post");
    assert_eq!(
        (&attempt.trace_id, &attempt.parent_id),
        (&webhook.trace_id, &webhook.id)
    );
    assert_eq!(
        (&post.trace_id, &post.parent_id),
        (&webhook.trace_id, &attempt.id)
    );
    let traceparent = delivered[0].header("traceparent");
    assert_eq!(traceparent, format!("00-{}-{}-01", post.trace_id, post.id));
    // A trace that its caller does not sample is not exported.
    assert!(
        spans
            .iter()
            .all(|span| span.name != "GET /v1/users/{user_id}")
    );
    let resource = one(one(&bodies[0], 1), 1);
    let resource = attributes(all(resource, 1));
    assert!(resource["service.name"].ends_with(b"liveperson-bridge"));
    assert!(resource["deployment.environment.name"].ends_with(b"test"));
    for secret in [USER, TEXT, SMS_KEY, CLIENT_SECRET, SECRET] {
        let has_secret = |body: &Vec<u8>| {
            body.windows(secret.len())
                .any(|part| part == secret.as_bytes())
        };
        assert!(!bodies.iter().any(has_secret), "{secret} was exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_collector_costs_one_line_of_log() {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let (mut process, sms, _) = Process::serve_with(&toml, &environment).await;

    sms.say("ada", "hello").await.expect(201);
    process.log_line("spans could not be exported").await;
    sms.say("ada", "hello again").await.expect(201);
    process.signal("TERM").await;

    assert!(process.wait().await.success());
    let log = process.log();
    assert_eq!(
        log.matches("spans could not be exported").count(),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn an_invalid_collector_address_is_reported() {
    let mut command = command(&["openapi"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[");

    let ended = run(command).await;

    assert_eq!(ended.code, 2, "{}", ended.errors);
    assert!(
        ended.errors.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{}",
        ended.errors
    );
}
