//! Clocks that are wrong or that jump. Replicas lose and duplicate nothing, no matter what the
//! clocks of their machines show.
//!
//! `scripts/skewed-clocks` installs libfaketime and runs these tests, which are ignored otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use liveperson_bridge::sandbox::{Answer, Delay, Fault, Operation};
use liveperson_bridge::store::Location;
use reqwest::Method;
use serde_json::json;

use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{Cloud, texts};
use crate::support::configuration::{bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::fake_clock::FakeClock;
use crate::support::patience::eventually;
use crate::support::postgres::Server;
use crate::support::process::{Process, configured, run};
use crate::support::receiver::{Received, Receiver, SECRET};

/// The number of users who write at the same time.
const USERS: usize = 12;

/// The number of messages that each of them sends.
const TEXTS: usize = 8;

/// The beginning of the texts of agents.
const ANSWER: &str = "answer";

/// 4 s: the tolerance for the times of callbacks. It is less than the smallest skew.
const TOLERANCE: u64 = 4;

/// A replica, and the channel `sms` that calls it.
struct Replica {
    process: Process,
    sms: Channel,
    admin: Channel,
}

impl Replica {
    async fn start(toml: &str, shift: Option<&FakeClock>) -> Self {
        let environment = shift.map(FakeClock::environment);
        let environment: Vec<_> = environment
            .iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (process, sms, admin) = Process::serve_with(toml, &environment).await;
        Self {
            process,
            sms,
            admin,
        }
    }

    /// Returns the seconds by which the machine's clock is ahead, as the metric shows them.
    async fn clock_offset(&self) -> f64 {
        let answer = self.admin.request(Method::GET, "/metrics").send().await;
        let text = answer.unwrap().text().await.unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("liveperson_bridge_clock_offset_seconds "));
        value.expect("the metric is shown").parse().unwrap()
    }

    async fn stop(mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.wait().await.code(), Some(0));
    }
}

/// A database, a simulated Cloud and a callback.
struct Scene {
    cloud: Cloud,
    callback: Receiver,
    toml: String,
    /// The time of the start, in seconds since 1970.
    begun: u64,
    _database: Database,
}

impl Scene {
    async fn begin(engine: Engine) -> Self {
        Self::begin_on(Database::create(engine).await).await
    }

    async fn begin_on(database: Database) -> Self {
        let begun = now();
        let cloud = Cloud::start_on_system_time().await;
        let callback = Receiver::start().await;
        let toml = bridge_toml(&database.location, &cloud.url);
        let toml = with_callback(&toml, &callback.url, &format!("\"{SECRET}\""));
        Self {
            cloud,
            callback,
            toml,
            begun,
            _database: database,
        }
    }

    /// Makes the Cloud apply the next messages, and answer each a second later.
    fn delay_answers(&self, times: u32) {
        let answer = Answer::Delay(Delay { seconds: 1 });
        self.cloud.sandbox.inject(Fault {
            times,
            after_applying: true,
            ..Fault::new(Operation::Send, answer)
        });
    }

    /// Makes the Cloud refuse every message with 503 until [`Self::accept_messages`].
    fn refuse_messages(&self) {
        self.cloud.sandbox.inject(Fault {
            times: u32::MAX,
            ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
        });
    }

    fn accept_messages(&self) {
        drop(self.cloud.sandbox.withdraw_faults());
    }

    /// Returns the texts of a user at the Cloud.
    fn texts_of(&self, user: &str) -> Vec<String> {
        let conversations = self.cloud.sandbox.conversations();
        let of_user = conversations
            .iter()
            .filter(|it| it.consumer.ext_consumer_id == format!("sms:{user}"));
        let texts = of_user.flat_map(texts);
        texts.filter(|text| !text.starts_with(ANSWER)).collect()
    }

    /// Waits until a message that was answered 202 is sent. It must not fail.
    async fn wait_until_sent(&self, sms: &Channel, sent: &Sent) {
        let Some(path) = &sent.location else {
            return;
        };
        eventually("the message is sent", async || {
            let shown = sms.get(path).await.expect(200);
            assert_ne!(shown["status"], "failed", "{shown:#}");
            (shown["status"] == "sent").then_some(())
        })
        .await;
    }

    /// Lets an agent answer each user, and waits until the channel has received each answer once.
    async fn agents_answer(&self, round: usize) {
        let mut expected = BTreeSet::new();
        for conversation in self.cloud.sandbox.conversations() {
            let text = format!("{ANSWER} {round} in {}", conversation.id);
            let action = serde_json::from_value(json!({"type": "text", "text": text})).unwrap();
            self.cloud.sandbox.act(&conversation.id, action).unwrap();
            expected.insert(text);
        }
        eventually("the channel receives all answers", async || {
            let received: BTreeSet<_> = self.received_texts().into_iter().collect();
            expected.is_subset(&received).then_some(())
        })
        .await;
        let received = self.received_texts();
        assert_eq!(
            received.len(),
            received.iter().collect::<BTreeSet<_>>().len()
        );
    }

    /// Returns the texts of agents that the callback has received, without repetitions of an event.
    fn received_texts(&self) -> Vec<String> {
        let mut ids = BTreeSet::new();
        let received = self.callback.received();
        let fresh = received
            .iter()
            .filter(|it| it.json()["type"] == "message.created")
            .filter(|it| ids.insert(it.header("webhook-id").to_owned()));
        fresh.map(Received::text).collect()
    }

    /// Asserts that callbacks have the real time, and that no message has failed.
    fn check_callbacks(&self) {
        let real = self.begun - TOLERANCE..=now() + TOLERANCE;
        for received in self.callback.received() {
            let stamp = received.header("webhook-timestamp").parse().unwrap();
            assert!(real.contains(&stamp), "{stamp} is not in {real:?}");
            assert_ne!(received.json()["type"], "message.failed");
        }
    }
}

/// A message that was accepted.
struct Sent {
    /// The path of a message that was answered 202.
    location: Option<String>,
    key: String,
    user: String,
    text: String,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn message(sms: &Channel, user: &str, text: &str) -> reqwest::RequestBuilder {
    sms.request(Method::POST, &format!("/v1/users/{user}/messages"))
        .header("content-type", "application/json")
        .header("idempotency-key", format!("{user}-{text}"))
        .body(json!({"text": text}).to_string())
}

/// Sends a message, and asserts that it is accepted.
async fn send_text(sms: &Channel, user: &str, text: &str, is_queued: bool) -> Sent {
    let mut request = message(sms, user, text);
    if is_queued {
        request = request.header("prefer", "respond-async");
    }
    let reply: Reply = send(request).await;
    assert!([201, 202].contains(&reply.status), "{:#}", reply.body);
    let location = reply.headers.get("location");
    let location = location.filter(|_| reply.status == 202);
    Sent {
        location: location.map(|it| it.to_str().unwrap().to_owned()),
        key: format!("{user}-{text}"),
        user: user.to_owned(),
        text: text.to_owned(),
    }
}

/// Writes as one user, to both replicas in turn. Every other pair of messages is queued.
async fn write_messages(replicas: [Channel; 2], user: String) -> Vec<Sent> {
    let mut sent = Vec::new();
    for text in 0..TEXTS {
        let sms = &replicas[text % 2];
        sent.push(send_text(sms, &user, &text.to_string(), text / 2 % 2 == 0).await);
    }
    sent
}

/// Runs a replica with the right time beside one with a clock that is off by some seconds.
async fn check_skew(seconds: i32) {
    let scene = Scene::begin(Engine::Postgres).await;
    let shift = FakeClock::new(&format!("{seconds:+}"));
    let right = Replica::start(&scene.toml, None).await;
    let skewed = Replica::start(&scene.toml, Some(&shift)).await;
    // The Cloud's notifications come to the replica with the wrong clock.
    scene.cloud.subscribe(&skewed.sms);
    scene.delay_answers(2 * u32::try_from(USERS).unwrap());

    let users: Vec<_> = (0..USERS)
        .map(|user| {
            let replicas = [right.sms.clone(), skewed.sms.clone()];
            tokio::task::spawn(write_messages(replicas, format!("user-{user}")))
        })
        .collect();
    let mut sent = Vec::new();
    for user in users {
        sent.extend(user.await.unwrap());
    }

    for message in &sent {
        scene.wait_until_sent(&right.sms, message).await;
    }
    // Each replica knows the idempotency keys of the other.
    for (
        place,
        Sent {
            user, text, key, ..
        },
    ) in sent.iter().enumerate()
    {
        let other = [&skewed.sms, &right.sms][place % 2];
        let repeated = send(message(other, user, text)).await;
        assert_eq!(repeated.headers["idempotency-replayed"], "true", "{key}");
    }
    scene.agents_answer(1).await;
    let expected: Vec<_> = (0..TEXTS).map(|text| text.to_string()).collect();
    for user in 0..USERS {
        assert_eq!(scene.texts_of(&format!("user-{user}")), expected);
    }
    scene.check_callbacks();
    for replica in [&right, &skewed] {
        replica.admin.get("/readyz").await.expect(200);
    }
    let offset = skewed.clock_offset().await;
    assert!((offset - f64::from(seconds)).abs() < 1.0, "{offset}");
    assert!(right.clock_offset().await.abs() < 1.0);
    skewed.stop().await;
    right.stop().await;
    // Nothing more has arrived after both replicas have finished their work.
    for user in 0..USERS {
        assert_eq!(scene.texts_of(&format!("user-{user}")), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_5_seconds_ahead_loses_and_duplicates_nothing() {
    check_skew(5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_5_seconds_behind_loses_and_duplicates_nothing() {
    check_skew(-5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_10_minutes_ahead_loses_and_duplicates_nothing() {
    check_skew(600).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_10_minutes_behind_loses_and_duplicates_nothing() {
    check_skew(-600).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_a_day_ahead_loses_and_duplicates_nothing() {
    check_skew(86400).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_clock_a_day_behind_loses_and_duplicates_nothing() {
    check_skew(-86400).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn messages_are_sent_despite_a_replica_a_day_ahead() {
    let scene = Scene::begin(Engine::Postgres).await;
    let shift = FakeClock::new("+86400");
    let right = Replica::start(&scene.toml, None).await;
    let skewed = Replica::start(&scene.toml, Some(&shift)).await;
    scene.cloud.subscribe(&right.sms);

    let mut sent = Vec::new();
    for user in 0..80 {
        sent.push(send_text(&right.sms, &format!("user-{user}"), "hello", true).await);
    }

    for message in &sent {
        scene.wait_until_sent(&right.sms, message).await;
    }
    for Sent { user, .. } in &sent {
        assert_eq!(scene.texts_of(user), ["hello"]);
    }
    skewed.stop().await;
    right.stop().await;
}

/// The users who write while the clock is moved.
struct Load {
    replicas: [Channel; 2],
    taken: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    async fn wait_for_more(&self) {
        let enough = self.taken.load(Ordering::Relaxed) + 30;
        eventually("more messages are accepted", async || {
            (self.taken.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    async fn write_messages(&self, user: String) -> Vec<Sent> {
        let mut pauses = tokio::time::interval(Duration::from_millis(50));
        let mut sent = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            pauses.tick().await;
            let text = sent.len();
            let sms = &self.replicas[text % 2];
            sent.push(send_text(sms, &user, &text.to_string(), text / 2 % 2 == 0).await);
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_replicas_clock_may_jump_while_it_runs() {
    let scene = Scene::begin(Engine::Postgres).await;
    let shift = FakeClock::new("+0");
    let steady = Replica::start(&scene.toml, None).await;
    let jumping = Replica::start(&scene.toml, Some(&shift)).await;
    scene.cloud.subscribe(&jumping.sms);
    let load = Arc::new(Load {
        replicas: [steady.sms.clone(), jumping.sms.clone()],
        taken: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let users: Vec<_> = (0..4)
        .map(|user| {
            let load = Arc::clone(&load);
            tokio::task::spawn(async move { load.write_messages(format!("user-{user}")).await })
        })
        .collect();

    for offset in ["+86400", "-86400", "+600", "-5", "+0"] {
        load.wait_for_more().await;
        shift.set(offset);
        scene.delay_answers(4);
    }
    load.wait_for_more().await;
    load.is_over.store(true, Ordering::Relaxed);

    for (user, speaking) in users.into_iter().enumerate() {
        let sent = speaking.await.unwrap();
        for message in &sent {
            scene.wait_until_sent(&steady.sms, message).await;
        }
        let expected: Vec<_> = (0..sent.len()).map(|text| text.to_string()).collect();
        assert_eq!(scene.texts_of(&format!("user-{user}")), expected);
    }
    scene.agents_answer(1).await;
    scene.check_callbacks();
    jumping.admin.get("/readyz").await.expect(200);
    // The replica notices a jump, and logs it.
    shift.set("+86400");
    let warning = "this machine's clock differs from the database's";
    jumping.process.log_line(warning).await;
    jumping.stop().await;
    steady.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn replicas_recover_after_the_databases_clock_is_set_back() {
    let shift = FakeClock::new("+0");
    let server = Server::start_in("", shift.environment().into());
    let scene = Scene::begin_on(Database::at(Location::Postgres {
        url: server.url().into(),
        schema: None,
        max_connections: 8,
    }))
    .await;
    let first = Replica::start(&scene.toml, None).await;
    let second = Replica::start(&scene.toml, None).await;
    scene.cloud.subscribe(&second.sms);
    let mut sent = vec![send_text(&first.sms, "ada", "0", false).await];

    // Puts the replicas ahead by slightly more than the limit, so that they are within it again
    // after some seconds.
    shift.set("-8");
    for replica in [&first, &second] {
        let unready = eventually("it is not ready", async || {
            let health = replica.admin.get("/readyz").await;
            (health.status == 503).then_some(health.body)
        })
        .await;
        let reason = "the clock is ahead of the database's";
        assert_eq!(unready["reasons"], json!([reason]));
    }
    for (text, replica) in [&first, &second, &first, &second].iter().enumerate() {
        let text = (text + 1).to_string();
        sent.push(send_text(&replica.sms, "ada", &text, true).await);
    }

    for replica in [&first, &second] {
        eventually("it is ready again", async || {
            let health = replica.admin.get("/readyz").await;
            (health.status == 200).then_some(())
        })
        .await;
    }
    for message in &sent {
        scene.wait_until_sent(&first.sms, message).await;
    }
    assert_eq!(scene.texts_of("ada"), ["0", "1", "2", "3", "4"]);
    let third = Replica::start(&scene.toml, None).await;
    third.admin.get("/readyz").await.expect(200);
    for replica in [first, second, third] {
        replica.stop().await;
    }
}

/// Queues messages while the machine's clock jumps by an offset in seconds.
async fn check_jump(offset: &str) {
    let scene = Scene::begin(Engine::Sqlite).await;
    let shift = FakeClock::new("+0");
    let replica = Replica::start(&scene.toml, Some(&shift)).await;
    scene.cloud.subscribe(&replica.sms);
    let users: Vec<_> = (0..20).map(|user| format!("user-{user}")).collect();
    let mut sent = Vec::new();
    for user in &users {
        sent.push(send_text(&replica.sms, user, "0", false).await);
    }
    scene.refuse_messages();
    for user in &users {
        sent.push(send_text(&replica.sms, user, "1", true).await);
    }

    shift.set(offset);
    for user in &users {
        sent.push(send_text(&replica.sms, user, "2", true).await);
    }
    scene.accept_messages();

    for message in &sent {
        scene.wait_until_sent(&replica.sms, message).await;
    }
    scene.agents_answer(1).await;
    let warning = "a restart applies the new time at once";
    replica.process.log_line(warning).await;
    for user in &users {
        sent.push(send_text(&replica.sms, user, "3", true).await);
    }
    for message in &sent {
        scene.wait_until_sent(&replica.sms, message).await;
    }
    scene.agents_answer(2).await;
    for user in &users {
        assert_eq!(scene.texts_of(user), ["0", "1", "2", "3"]);
    }
    // A single process is consistent with itself, no matter what its machine's clock shows.
    replica.admin.get("/readyz").await.expect(200);
    scene.check_callbacks();
    // Back at the original time, no difference remains.
    shift.set("+0");
    eventually("the metric is small again", async || {
        (replica.clock_offset().await.abs() < 4.0).then_some(())
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_jump_ahead_with_the_embedded_database_loses_nothing() {
    check_jump("+86400").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn a_jump_back_with_the_embedded_database_loses_nothing() {
    check_jump("-86400").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/skewed-clocks installs libfaketime"]
async fn commands_use_server_time() {
    let scene = Scene::begin(Engine::Postgres).await;
    let shift = FakeClock::new("+86400");
    let run_skewed = async |name: &str| {
        let (_folder, mut command) = configured(name, &scene.toml);
        command.envs(shift.environment());
        run(command).await
    };

    assert_eq!(run_skewed("migrate").await.code, 0);
    assert_eq!(run_skewed("rotate").await.code, 0);
    let doctor = run_skewed("doctor").await;

    let line = doctor
        .output
        .lines()
        .find(|line| line.contains("machine's clock"));
    let line = line.expect(&doctor.output);
    assert!(line.starts_with("note   machine's clock: 86400"), "{line}");
    assert!(line.contains("ahead of the database's"), "{line}");
    assert!(doctor.output.contains("clock: within"), "{}", doctor.output);
    let (_folder, mut audit) = configured("audit", &scene.toml);
    audit.arg("--json");
    let recorded = run(audit).await.output;
    let real = scene.begun - TOLERANCE..=now() + TOLERANCE;
    assert_eq!(recorded.lines().count(), 2, "{recorded}");
    for line in recorded.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = chrono::DateTime::parse_from_rfc3339(entry["at"].as_str().unwrap()).unwrap();
        assert!(real.contains(&u64::try_from(at.timestamp()).unwrap()));
    }
}
