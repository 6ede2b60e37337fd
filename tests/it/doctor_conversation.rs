//! `doctor --conversation`: a whole conversation of a test consumer, reported fact by fact.

use std::collections::BTreeSet;
use std::path::Path;

use liveperson_bridge::sandbox::webhooks::{
    Algorithm, Disturbance, DisturbanceKind, Retry, Webhook,
};
use liveperson_bridge::sandbox::{Answer, Fault, Kind, Operation, Reply, Stage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, agent_text};
use crate::support::configuration::{SEALING_KEY, bridge_toml};
use crate::support::database::{Database, Engine};
use crate::support::patience::PATIENCE;
use crate::support::process::{Ended, Process, configured, run};

on_both_engines!(
    an_opening_without_an_answer_is_looked_for_by_its_consumer,
    doctor_conversation_succeeds_beside_a_running_service,
    doctor_conversation_succeeds_without_a_service,
    an_interrupted_doctor_closes_its_conversation,
    a_doctor_report_contains_no_secrets_or_ids,
    the_doctor_routes_a_conversation_by_its_options,
    a_doctor_with_a_wrong_secret_opens_no_conversation,
    the_doctor_does_not_migrate_an_outdated_schema,
);

/// In seconds: within this machine a notification comes much sooner. A test with a missing
/// notification waits this long.
const WAIT: &str = "4";

/// In seconds: long enough for a notification to come on a busy machine.
const PATIENT: &str = "15";

/// The Cloud, the database and the configuration of the doctor, and the port at which it listens.
struct Setting {
    cloud: Cloud,
    database: Database,
    toml: String,
    port: u16,
}

impl Setting {
    async fn new(engine: Engine) -> Self {
        let cloud = Cloud::start_on_system_time().await;
        let database = Database::create(engine).await;
        // Finds a free port and releases it at once. The Cloud has to know the port before anything
        // listens there.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = port.local_addr().unwrap().port();
        let toml = bridge_toml(&database.location, &cloud.url);
        let toml = toml.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
        let setting = Self {
            cloud,
            database,
            toml,
            port,
        };
        setting.subscribe(Algorithm::Sha256);
        setting
    }

    /// Makes the Cloud notify the configured address. Refused notifications are not repeated.
    fn subscribe(&self, algorithm: Algorithm) {
        let url = format!("http://127.0.0.1:{}/webhooks/{ACCOUNT}", self.port);
        self.cloud.sandbox.subscribe(Webhook {
            account_id: ACCOUNT.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned().into(),
            url: url.parse().unwrap(),
            algorithm,
            retry: Retry::ByNumber(0),
        });
    }

    async fn doctor(&self, arguments: &[&str]) -> Ended {
        self.doctor_within(PATIENT, arguments).await
    }

    /// Runs the doctor with this wait for an echo, in seconds.
    async fn doctor_within(&self, wait: &str, arguments: &[&str]) -> Ended {
        let (_folder, mut command) = configured("doctor", &self.toml);
        command.args(["--conversation", "--echo-wait", wait]);
        command.args(arguments);
        run(command).await
    }

    /// Runs the doctor, and returns its report too.
    async fn reported(&self, arguments: &[&str]) -> (Ended, Value) {
        self.reported_within(PATIENT, arguments).await
    }

    async fn reported_within(&self, wait: &str, arguments: &[&str]) -> (Ended, Value) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let mut all = vec!["--report", path.to_str().unwrap()];
        all.extend(arguments);
        let ended = self.doctor_within(wait, &all).await;
        (ended, read(&path))
    }

    #[track_caller]
    fn assert_all_closed(&self, case: &str) {
        for conversation in self.cloud.sandbox.conversations() {
            assert_eq!(conversation.stage, Stage::Close, "{case}");
        }
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns the verdicts and titles of the lines that are not ok, such as `FAILED echo`.
fn not_ok(ended: &Ended) -> Vec<String> {
    let lines = ended
        .output
        .lines()
        .filter(|line| !line.starts_with("ok     "));
    let lines = lines.map(|line| {
        let (verdict, line) = line.split_at(6);
        let of_account = format!("account {ACCOUNT}: ");
        let line = line.trim_start();
        let line = line.strip_prefix(&of_account).unwrap_or(line);
        let title = line.split(": ").next().unwrap();
        format!("{} {title}", verdict.trim_end())
    });
    // This note only says that a service owns the embedded database.
    lines.filter(|line| line != "note database").collect()
}

/// Returns the names of the facts about the only account in a report.
fn facts(report: &Value) -> Vec<&str> {
    let facts = report["found"]["accounts"][0]["facts"].as_array().unwrap();
    facts
        .iter()
        .map(|fact| fact["fact"].as_str().unwrap())
        .collect()
}

fn fact<'a>(report: &'a Value, name: &str) -> &'a Value {
    let facts = report["found"]["accounts"][0]["facts"].as_array().unwrap();
    let found = facts.iter().find(|fact| fact["fact"] == name);
    found.unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// The facts of a conversation, in the order of the report.
const FACTS: [&str; 25] = [
    "app_token",
    "consumer_token",
    "consumer_token_again",
    "opening",
    "second_opening",
    "text",
    "text_with_metadata",
    "typing",
    "typing_end",
    "file",
    "file_message",
    "receipt",
    "opening_notification",
    "signature",
    "echo",
    "echo_text",
    "echo_sequence",
    "echo_conversation_id",
    "echo_time",
    "echo_metadata",
    "echo_of_file",
    "close",
    "close_notification",
    "second_close",
    "text_after_close",
];

#[track_caller]
fn assert_conversation_report_is_ok(ended: &Ended, report: &Value) {
    assert_eq!(ended.code, 0, "{}{}", ended.output, ended.errors);
    assert_eq!(not_ok(ended), [""; 0], "{}", ended.output);
    let expected = [&FACTS[..], &["left_open"]].concat();
    let found = facts(report);
    let (_, of_conversation) = found.split_at(found.len() - expected.len());
    assert_eq!(of_conversation, expected, "{report:#}");
    assert_eq!(report["failed"], false);
    assert_eq!(report["run"]["whole"], true);
}

async fn doctor_conversation_succeeds_beside_a_running_service(engine: Engine) {
    let setting = Setting::new(engine).await;
    let (mut service, sms, _) = Process::serve(&setting.toml).await;

    let (ended, report) = setting.reported(&[]).await;

    assert_conversation_report_is_ok(&ended, &report);
    assert_eq!(report["run"]["webhooks"], "beside_service");
    assert_eq!(
        fact(&report, "signature")["forms"],
        json!(["sha256 base64"])
    );
    setting.assert_all_closed("beside a service");
    // The service is not disturbed.
    assert!(!service.has_ended());
    sms.say("ada", "hello").await.expect(201);
    if engine == Engine::Postgres {
        assert!(!setting.database.dump().await.contains("Test message"));
    }
}

async fn doctor_conversation_succeeds_without_a_service(engine: Engine) {
    let setting = Setting::new(engine).await;
    setting.subscribe(Algorithm::Sha1);

    let (ended, report) = setting.reported(&[]).await;
    let again = setting.doctor(&[]).await;

    assert_conversation_report_is_ok(&ended, &report);
    assert_eq!(report["run"]["webhooks"], "listening");
    assert_eq!(fact(&report, "signature")["forms"], json!(["sha1 base64"]));
    assert_eq!(again.code, 0, "{}", again.output);
    assert_eq!(setting.cloud.sandbox.conversations().len(), 2);
    setting.assert_all_closed("alone");
    // The stored test data is deleted, and a service can start.
    assert!(!setting.database.dump().await.contains("Test message"));
    Process::serve(&setting.toml).await;
}

async fn an_interrupted_doctor_closes_its_conversation(engine: Engine) {
    let setting = Setting::new(engine).await;
    setting.cloud.sandbox.disturb(Disturbance {
        times: 100,
        ..Disturbance::next(DisturbanceKind::Drop)
    });
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("report.json");
    let (_folder, mut command) = configured("doctor", &setting.toml);
    command
        .args(["--conversation", "--echo-wait", "600", "--report"])
        .arg(&path);

    let mut process = Process::start(command);
    process.output_line(": receipt: ").await;
    process.signal("INT").await;
    let status = process.wait().await;

    let output = process.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("FAILED interrupted: "), "{output}");
    assert!(output.contains(": left open: no conversation"), "{output}");
    assert_eq!(setting.cloud.sandbox.conversations().len(), 1);
    setting.assert_all_closed("interrupted");
    assert_eq!(read(&path)["run"]["whole"], false);
}

async fn a_doctor_report_contains_no_secrets_or_ids(engine: Engine) {
    let setting = Setting::new(engine).await;
    let _service = Process::serve(&setting.toml).await;
    let reply = |status: u16, text: &str| {
        let mut reply = Reply::new(StatusCode::from_u16(status).unwrap());
        let conversation = format!("{text} of {ACCOUNT} and {CLIENT_ID} at le.example.com");
        reply.body = json!({"code": "FORBIDDEN", "body": {"msg": conversation}}).to_string();
        Answer::Reply(reply)
    };
    setting.cloud.sandbox.inject(Fault {
        skip: 1,
        ..Fault::new(Operation::Conversation, reply(403, "Not for you"))
    });

    let (_, report) = setting.reported(&[]).await;

    let refused = &fact(&report, "second_opening")["answer"];
    assert_eq!(refused["status"], 403);
    let text = refused["parts"][0]["words"].as_str().unwrap();
    assert_eq!(text, "Not for you of ••• and ••• at •••");
    let text = report.to_string();
    let conversation = setting.cloud.only_conversation();
    for secret in [
        ACCOUNT,
        CLIENT_ID,
        CLIENT_SECRET,
        SEALING_KEY,
        "127.0.0.1",
        "liveperson-bridge:doctor",
        "Test message",
        &conversation.id,
        &conversation.consumer.lp_consumer_id,
        &conversation.consumer.ext_consumer_id,
    ] {
        assert!(!text.contains(secret), "{secret} in {report:#}");
    }
    // The report describes the fields of the Cloud's notifications.
    let members = fact(&report, "echo")["members"].as_array().unwrap();
    for name in [
        "conversationId",
        "event.contentType",
        "originatorMetadata.role",
    ] {
        assert!(members.contains(&json!(name)), "{name} in {members:?}");
    }
}

async fn an_opening_without_an_answer_is_looked_for_by_its_consumer(engine: Engine) {
    let setting = Setting::new(engine).await;
    setting.cloud.sandbox.inject(Fault {
        skip: 1,
        ..Fault::new(Operation::Conversation, status(StatusCode::BAD_GATEWAY))
    });

    let ended = setting.doctor(&[]).await;

    assert!(ended.output.contains(": left open: no conversation"));
    let consumer = setting.cloud.only_conversation().consumer.ext_consumer_id;
    let requests = setting.cloud.sandbox.requests();
    let mut lookups = requests
        .iter()
        .filter(|request| request.operation == Some(Operation::Engagement))
        .peekable();
    assert!(lookups.peek().is_some(), "{}", ended.output);
    for lookup in lookups {
        let body = lookup.json().unwrap();
        let identity = &body["identities"][0];
        assert_eq!(identity["sub"], *consumer, "{identity}");
    }
}

async fn the_doctor_routes_a_conversation_by_its_options(engine: Engine) {
    let setting = Setting::new(engine).await;
    let skill = ["--skill-id", "2736637412"];
    let campaign = ["--campaign-id", "880524023", "--engagement-id", "880524123"];

    let (to_skill, report) = setting.reported(&skill).await;
    let by_campaign = setting.doctor(&campaign).await;

    for ended in [to_skill, by_campaign] {
        assert_eq!(ended.code, 0, "{}", ended.output);
        for title in ["routed opening", "routed close"] {
            let line = format!("ok     account {ACCOUNT}: {title}: ");
            assert!(ended.output.contains(&line), "{}", ended.output);
        }
    }
    assert_eq!(fact(&report, "routed_opening")["verdict"], "ok");
    let conversations = setting.cloud.sandbox.conversations();
    let openings: Vec<_> = conversations.iter().map(|it| &it.request).collect();
    assert_eq!(openings.len(), 4);
    assert_eq!(openings[1]["skillId"], "2736637412");
    assert_eq!(openings[3]["campaignInfo"]["engagementId"], "880524123");
    setting.assert_all_closed("routed");

    // If an account requires a skill or campaign, the conversation with options still succeeds.
    let mut reply = Reply::new(StatusCode::BAD_REQUEST);
    reply.body = json!({"code": "BAD_REQUEST", "body": {"msg": "No default skill"}}).to_string();
    let refusal = Fault::new(Operation::Conversation, Answer::Reply(reply));
    setting.cloud.sandbox.inject(refusal);
    let (ended, report) = setting.reported(&skill).await;
    assert_eq!(not_ok(&ended), ["FAILED opening"], "{}", ended.output);
    assert_eq!(fact(&report, "text_after_close")["verdict"], "ok");
    setting.assert_all_closed("routed alone");
}

async fn a_doctor_with_a_wrong_secret_opens_no_conversation(engine: Engine) {
    let mut setting = Setting::new(engine).await;
    setting.toml = setting.toml.replace(CLIENT_SECRET, "another-secret");

    let ended = setting.doctor(&[]).await;

    assert_eq!(ended.code, 1);
    let expected = ["FAILED AppJWT", "note not checked"];
    assert_eq!(not_ok(&ended), expected, "{}", ended.output);
    assert!(setting.cloud.sandbox.conversations().is_empty());
}

async fn the_doctor_does_not_migrate_an_outdated_schema(engine: Engine) {
    let setting = Setting::new(engine).await;
    setting.database.store().await.close().await;
    setting
        .database
        .execute("UPDATE _sqlx_migrations SET version = 0 WHERE version = 1")
        .await;

    let ended = setting.doctor(&[]).await;

    assert_eq!(not_ok(&ended), ["FAILED webhooks"], "{}", ended.output);
    assert!(ended.output.contains("run migrate"), "{}", ended.output);
    // The other checks still run.
    assert!(ended.output.contains(": text after close: refused"));
    setting.assert_all_closed("behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reports_a_listening_address_in_use() {
    let setting = Setting::new(Engine::Sqlite).await;
    let address = ("127.0.0.1", setting.port);
    let _other = TcpListener::bind(address).await.unwrap();

    let ended = setting.doctor(&[]).await;

    assert_eq!(not_ok(&ended), ["FAILED webhooks"], "{}", ended.output);
    assert!(ended.output.contains("cannot listen on 127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_refuses_conflicting_options_at_once() {
    let setting = Setting::new(Engine::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("bridge.toml");
    std::fs::write(&other, "listen = 1").unwrap();
    let other = other.to_str().unwrap();

    for (arguments, code) in [
        (&["--campaign-id", "1"][..], 2),
        (&["--engagement-id", "1"], 2),
        (
            &[
                "--skill-id",
                "1",
                "--campaign-id",
                "1",
                "--engagement-id",
                "1",
            ],
            2,
        ),
        (&["--skill-id", "a b"], 2),
        (&["--echo-wait", "0"], 2),
        (&["--account", "87654321"], 2),
        (&["--report", other], 1),
    ] {
        let ended = setting.doctor(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.errors);
        assert_eq!(ended.output, "", "{arguments:?}");
    }
    let (_folder, mut command) = configured("doctor", &setting.toml);
    command.args(["--report", "report.json"]);
    assert_eq!(run(command).await.code, 2);
    assert_eq!(std::fs::read_to_string(other).unwrap(), "listen = 1");
    assert!(setting.cloud.sandbox.conversations().is_empty());
}

/// A fault, and the lines that are not ok because of it.
type Case = (InjectedFault, &'static [&'static str]);

enum InjectedFault {
    Nothing,
    Notification(Disturbance),
    Request(Fault),
}

fn notification(kind: DisturbanceKind, only: Kind, times: u32) -> InjectedFault {
    InjectedFault::Notification(Disturbance {
        times,
        only: Some(only),
        ..Disturbance::next(kind)
    })
}

fn request(operation: Operation, skip: u32, answer: Answer) -> InjectedFault {
    InjectedFault::Request(Fault {
        skip,
        ..Fault::new(operation, answer)
    })
}

/// A refusal with a text that the bridge does not know.
fn refusal() -> Answer {
    let mut reply = Reply::new(StatusCode::BAD_REQUEST);
    reply.body = json!({"code": "BAD_REQUEST", "body": {"msg": "Not today"}}).to_string();
    Answer::Reply(reply)
}

fn acceptance() -> Answer {
    let mut reply = Reply::new(StatusCode::OK);
    reply.body = json!({"code": "OK", "body": {"sequence": 99}}).to_string();
    Answer::Reply(reply)
}

fn status(status: StatusCode) -> Answer {
    Answer::Reply(Reply::new(status))
}

/// Faults of notifications, each with the lines that are not ok.
fn notification_faults() -> Vec<Case> {
    vec![
        (InjectedFault::Nothing, &[]),
        (
            notification(DisturbanceKind::Duplicate, Kind::Content, 2),
            &[],
        ),
        (notification(DisturbanceKind::Batch, Kind::Content, 2), &[]),
        (
            notification(DisturbanceKind::Reorder, Kind::Content, 1),
            &[],
        ),
        (
            notification(DisturbanceKind::Drop, Kind::Content, 1),
            &["FAILED echo"],
        ),
        (
            notification(DisturbanceKind::Delay, Kind::Content, 1),
            &["FAILED echo"],
        ),
        (
            notification(DisturbanceKind::Drop, Kind::Content, 9),
            &["FAILED echo"],
        ),
        (
            notification(DisturbanceKind::OldForm, Kind::Content, 1),
            &["note echo conversation id"],
        ),
        (
            notification(DisturbanceKind::OldForm, Kind::Conversation, 9),
            &[],
        ),
        (
            notification(DisturbanceKind::Mask, Kind::Content, 1),
            &["note echo text"],
        ),
        (
            notification(DisturbanceKind::Trim, Kind::Content, 1),
            &["note echo text"],
        ),
        (
            notification(DisturbanceKind::Escape, Kind::Content, 1),
            &["note echo text"],
        ),
        (
            notification(DisturbanceKind::LineBreaks, Kind::Content, 1),
            &["note echo text"],
        ),
        (
            notification(DisturbanceKind::SlowClock, Kind::Content, 1),
            &["note echo time"],
        ),
        (
            notification(DisturbanceKind::Drop, Kind::Conversation, 1),
            &["FAILED opening notification"],
        ),
        (
            notification(DisturbanceKind::Drop, Kind::Conversation, 9),
            &["FAILED opening notification", "FAILED close notification"],
        ),
    ]
}

/// Faults of requests, each with the lines that are not ok. SEND requests are counted from the
/// first text: 0 text, 1 text with metadata, 2 and 3 typing, 4 upload URL of the file, 5 its
/// message, 6 receipt, 7 and 8 closes, 9 text after the close.
fn request_faults() -> Vec<Case> {
    use Operation::{AppToken, ConsumerToken, Conversation, DomainLookup, Send, Upload};
    let after_applying = Fault {
        after_applying: true,
        ..Fault::new(Conversation, Answer::Cut)
    };
    vec![
        (
            request(DomainLookup, 0, status(StatusCode::NOT_FOUND)),
            &["FAILED domain of asyncMessagingEnt", "note not checked"],
        ),
        (
            request(AppToken, 0, refusal()),
            &["FAILED AppJWT", "note not checked"],
        ),
        (
            request(ConsumerToken, 1, refusal()),
            &["FAILED ConsumerJWS claims"],
        ),
        (
            request(ConsumerToken, 2, refusal()),
            &["FAILED ConsumerJWS, requested again"],
        ),
        (request(Conversation, 0, refusal()), &["FAILED opening"]),
        (
            request(Conversation, 0, status(StatusCode::SERVICE_UNAVAILABLE)),
            &["FAILED opening"],
        ),
        (InjectedFault::Request(after_applying), &["FAILED opening"]),
        (
            request(Conversation, 1, refusal()),
            &["FAILED second opening"],
        ),
        (request(Send, 0, refusal()), &["FAILED text"]),
        (request(Send, 1, refusal()), &["FAILED text with metadata"]),
        (request(Send, 2, refusal()), &["FAILED typing"]),
        (request(Send, 3, refusal()), &["FAILED typing end"]),
        (request(Send, 4, refusal()), &["note file"]),
        (
            request(Upload, 0, status(StatusCode::BAD_REQUEST)),
            &["FAILED file"],
        ),
        (request(Upload, 0, status(StatusCode::UNAUTHORIZED)), &[]),
        (request(Send, 5, refusal()), &["FAILED file message"]),
        (request(Send, 6, refusal()), &["note receipt"]),
        (request(Send, 7, refusal()), &["FAILED close"]),
        (request(Send, 8, refusal()), &["FAILED second close"]),
        (request(Send, 8, acceptance()), &["note second close"]),
        (request(Send, 9, refusal()), &["FAILED text after close"]),
        (request(Send, 9, acceptance()), &["FAILED text after close"]),
    ]
}

/// Runs beside a service that shares PostgreSQL, because that is fastest. Another test above runs
/// without a service.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reports_each_fault_and_closes_its_conversation() {
    let setting = Setting::new(Engine::Postgres).await;
    let (_service, _, _) = Process::serve(&setting.toml).await;

    let cases = notification_faults().into_iter();
    let cases = cases.chain(request_faults());
    for (number, (wrong, expected)) in (1..).zip(cases) {
        setting.cloud.sandbox.reset();
        match wrong {
            InjectedFault::Nothing => {}
            InjectedFault::Notification(disturbance) => setting.cloud.sandbox.disturb(disturbance),
            InjectedFault::Request(fault) => setting.cloud.sandbox.inject(fault),
        }

        // Only a missing notification uses up the whole wait.
        let never_comes = |line: &&&str| line.contains("echo") || line.contains("notification");
        let wait = expected.iter().find(never_comes).map_or(PATIENT, |_| WAIT);
        let (ended, report) = setting.reported_within(wait, &[]).await;

        let case = format!("case {number}: {}", ended.output);
        assert_eq!(not_ok(&ended), expected, "{case}");
        let fails = expected.iter().any(|line| line.starts_with("FAILED"));
        assert_eq!(ended.code, i32::from(fails), "{case}");
        assert_eq!(report["failed"], fails, "{case}");
        assert_eq!(setting.cloud.sandbox.faults().len(), 0, "{case}");
        setting.assert_all_closed(&case);
    }
}

/// Collects the names of all members of a report.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                found.insert(name.clone());
                names(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_and_member_of_a_report_is_documented() {
    let setting = Setting::new(Engine::Sqlite).await;

    let (ended, report) = setting.reported(&["--skill-id", "1"]).await;
    let page = include_str!("../../docs/first-day.md");

    assert_eq!(ended.code, 0, "{}", ended.output);
    let mut members = BTreeSet::new();
    names(&report, &mut members);
    for name in members {
        // As in `answer.status` or `found.accounts[]`.
        let documented = [
            format!("`{name}`"),
            format!(".{name}`"),
            format!("`{name}."),
            format!(".{name}[]`"),
        ];
        assert!(
            documented.iter().any(|it| page.contains(it)),
            "{name} is not in docs/first-day.md"
        );
    }
    for line in ended.output.lines().filter(|it| it.contains(" account ")) {
        let title = line.split(": ").nth(1).unwrap();
        let title = if title.starts_with("domain of") {
            "domain of …"
        } else {
            title
        };
        assert!(
            page.contains(&format!("`{title}`")),
            "{title} is not in docs/first-day.md"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_the_reason_of_refused_notifications() {
    let setting = Setting::new(Engine::Sqlite).await;
    setting.cloud.sandbox.disturb(Disturbance {
        times: 100,
        ..Disturbance::next(DisturbanceKind::BadSignature)
    });

    let (ended, report) = setting.reported(&[]).await;

    let expected = [
        "FAILED opening notification",
        "FAILED echo",
        "FAILED close notification",
    ];
    assert_eq!(not_ok(&ended), expected, "{}", ended.output);
    assert!(
        ended.output.contains("arrived but were refused"),
        "{}",
        ended.output
    );
    let refused = &fact(&report, "echo")["refused"];
    assert_eq!(*refused, json!(["signature_wrong"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reports_an_echo_with_other_content() {
    for (is_same_text, sequence, expected) in [
        (false, 0, "FAILED echo text"),
        (true, 7, "FAILED echo sequence"),
    ] {
        let setting = Setting::new(Engine::Sqlite).await;
        let sandbox = &setting.cloud.sandbox;
        sandbox.disturb(Disturbance {
            only: Some(Kind::Content),
            ..Disturbance::next(DisturbanceKind::Drop)
        });
        let (_folder, mut command) = configured("doctor", &setting.toml);
        command.args(["--conversation", "--echo-wait", "60"]);

        let mut process = Process::start(command);
        // By now it has sent all messages, and waits only for the echo of the first text.
        process.output_line(": receipt: ").await;
        let conversation = setting.cloud.only_conversation();
        let dialog = &conversation.dialogs[0];
        let text = if is_same_text {
            dialog.events[0].event["message"].as_str().unwrap()
        } else {
            "Nobody has sent this"
        };
        let mut echo = agent_text(&conversation.id, sequence, text);
        let change = &mut echo["body"]["changes"][0];
        let consumer = &conversation.consumer.lp_consumer_id;
        change["originatorId"] = json!(consumer);
        change["originatorMetadata"] = json!({"id": consumer, "role": "CONSUMER"});
        change["serverTimestamp"] = json!(dialog.events[0].at.timestamp_millis());
        assert!(sandbox.notify_raw(ACCOUNT, echo.to_string()));
        let status = process.wait().await;

        let ended = Ended {
            code: status.code().unwrap(),
            output: process.output(),
            errors: process.log(),
        };
        assert_eq!(not_ok(&ended), [expected], "{}", ended.output);
        assert_eq!(ended.code, 1);
        setting.assert_all_closed(expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_closes_its_conversation_when_its_output_is_closed() {
    let setting = Setting::new(Engine::Sqlite).await;
    let (_folder, mut command) = configured("doctor", &setting.toml);
    command.args(["--conversation", "--echo-wait", WAIT]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    while !lines
        .next_line()
        .await
        .unwrap()
        .expect("it opens a conversation")
        .contains(": opening: ")
    {}
    drop(lines);
    let status = timeout(PATIENCE, child.wait()).await;

    assert_eq!(status.expect("it does not end").unwrap().code(), Some(1));
    assert_eq!(setting.cloud.sandbox.conversations().len(), 1);
    setting.assert_all_closed("without a reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reports_a_conversation_that_it_cannot_close() {
    let setting = Setting::new(Engine::Sqlite).await;
    setting.cloud.sandbox.inject(Fault {
        skip: 7,
        times: 100,
        ..Fault::new(Operation::Send, refusal())
    });

    let ended = setting.doctor(&[]).await;

    assert_eq!(
        not_ok(&ended),
        ["FAILED close", "FAILED left open"],
        "{}",
        ended.output
    );
    let id = setting.cloud.only_conversation().id;
    assert!(ended.output.contains(&id), "{}", ended.output);
}
