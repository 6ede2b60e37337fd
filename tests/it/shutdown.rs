//! Stops, and starts that cannot succeed. Requests in flight finish, nothing else is waited for,
//! and the exit code shows the result.

use std::time::Duration;

use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::store::Location;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::channel::{Channel, FORM, Reply};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, sign};
use crate::support::configuration::{SMS_KEY, bridge_toml};
use crate::support::connection::Connection;
use crate::support::database::{Database, Engine};
use crate::support::demo::Demo;
use crate::support::patience::eventually;
use crate::support::process::{Process, command, run_configured};

on_both_engines!(
    a_stop_finishes_requests_in_flight_and_accepts_no_new_ones,
    a_stop_finishes_the_requests_of_all_threads,
    a_stop_serves_the_first_request_of_a_fresh_connection,
    idle_connections_do_not_delay_a_stop,
    slow_senders_and_unread_answers_do_not_delay_a_stop,
    slowly_sent_bodies_do_not_delay_a_stop,
    a_stop_answers_requests_that_wait_for_the_cloud_with_202,
    a_stop_answers_callers_that_wait_for_events,
    an_interrupt_stops_like_a_sigterm,
    other_signals_are_ignored_and_logged,
    a_second_signal_aborts_requests_in_flight,
    a_start_on_an_address_in_use_is_refused,
);

const MESSAGE: &str = r#"{"text": "hello"}"#;

/// Starts the service. Returns it with its channel, its admin address, and the Cloud and the
/// database, which must outlive it.
async fn serve(engine: Engine) -> (Process, Channel, Channel, (Cloud, Database)) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let (process, sms, admin) = Process::serve(&bridge_toml(&database.location, &cloud.url)).await;
    (process, sms, admin, (cloud, database))
}

/// Begins a request that cannot be answered yet: the service has asked for its body.
async fn begin_message(sms: &Channel) -> Connection {
    let mut connection = Connection::open(sms).await.unwrap();
    let head = [
        "POST /v1/users/ada/messages HTTP/1.1",
        &format!("Authorization: Bearer {SMS_KEY}"),
        "Content-Type: application/json",
        &format!("Content-Length: {}", MESSAGE.len()),
        "Expect: 100-continue",
    ];
    connection.write_head(&head).await;
    assert_eq!(connection.read().await.status, 100);
    connection
}

async fn a_stop_finishes_requests_in_flight_and_accepts_no_new_ones(engine: Engine) {
    let (mut process, sms, admin, (cloud, _database)) = serve(engine).await;
    let mut in_flight = begin_message(&sms).await;
    admin.get("/readyz").await.expect(200);

    process.signal("TERM").await;

    let unready = eventually("not ready", async || {
        let reply: Reply = admin.get("/readyz").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(
        unready.expect(503)["reasons"],
        json!(["the service is stopping"])
    );
    admin.get("/livez").await.expect(200);
    eventually("no new connection", async || {
        Connection::open(&sms).await.is_err().then_some(())
    })
    .await;
    in_flight.write(MESSAGE).await;
    in_flight.read().await.expect(201);
    assert_eq!(process.wait().await.code(), Some(0));
    assert_eq!(cloud.texts(&cloud.only_conversation().id), ["hello"]);
}

async fn a_stop_finishes_the_requests_of_all_threads(engine: Engine) {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let toml = bridge_toml(&database.location, &cloud.url);
    let threads = [("TOKIO_WORKER_THREADS", "4")];
    let (mut process, sms, _admin) = Process::try_serve_with(&toml, &threads).await.unwrap();
    let mut in_flight = Vec::new();
    for _ in 0..8 {
        in_flight.push(begin_message(&sms).await);
    }

    process.signal("TERM").await;

    for connection in &mut in_flight {
        connection.write(MESSAGE).await;
    }
    for connection in &mut in_flight {
        connection.read().await.expect(201);
    }
    assert_eq!(process.wait().await.code(), Some(0));
    assert_eq!(cloud.texts(&cloud.only_conversation().id), ["hello"; 8]);
}

async fn slow_senders_and_unread_answers_do_not_delay_a_stop(engine: Engine) {
    let (mut process, sms, _admin, _backends) = serve(engine).await;
    let mut slow = Connection::open(&sms).await.unwrap();
    slow.write("GET /v1/users/ada HTTP/1.1\r\nx: ").await;
    // More answers than fit into the buffers of the connection.
    let mut deaf = Connection::open(&sms).await.unwrap();
    for _ in 0..200 {
        deaf.write_head(&["GET /openapi.json HTTP/1.1"]).await;
    }

    process.signal("TERM").await;

    assert_eq!(process.wait().await.code(), Some(0));
}

/// Covers callers that send a body byte by byte: without a key, with a signature that may be right,
/// and with a key.
async fn slowly_sent_bodies_do_not_delay_a_stop(engine: Engine) {
    let (mut process, sms, _admin, _backends) = serve(engine).await;
    let key = format!("Authorization: Bearer {SMS_KEY}");
    let notification = format!("POST /webhooks/{ACCOUNT} HTTP/1.1");
    let account = format!("x-liveperson-account-id: {ACCOUNT}");
    let client_id = format!("x-liveperson-client-id: {CLIENT_ID}");
    let signature = format!("x-liveperson-signature: {}", sign(b"x", CLIENT_SECRET));
    let form = format!("Content-Type: {FORM}");
    let mut trickling = Vec::new();
    for (count, head) in [
        (100, vec!["POST /webhooks/nobody HTTP/1.1"]),
        (100, vec![&*notification]),
        (100, vec![&*notification, &account, &client_id, &signature]),
        (
            20,
            vec![
                "POST /v1/users/ada/messages HTTP/1.1",
                &key,
                "Content-Type: application/json",
            ],
        ),
        (10, vec!["POST /v1/users/ada/files HTTP/1.1", &key, &form]),
    ] {
        for _ in 0..count {
            let mut connection = Connection::open(&sms).await.unwrap();
            let mut head = head.clone();
            head.push("Content-Length: 10000");
            connection.write_head(&head).await;
            trickling.push(connection);
        }
    }
    let trickle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            for connection in &mut trickling {
                drop(connection.try_write("x").await);
            }
        }
    };

    process.signal("TERM").await;

    let ended = tokio::select! {
        ended = process.wait() => ended,
        () = trickle => unreachable!("it goes on for ever"),
    };
    assert_eq!(ended.code(), Some(0), "{}", process.log());
}

async fn a_stop_answers_requests_that_wait_for_the_cloud_with_202(engine: Engine) {
    let (mut process, sms, _admin, (cloud, database)) = serve(engine).await;
    let users = ["ada", "bob", "eve"];
    for user in users {
        sms.say(user, "before").await.expect(201);
    }
    for _ in users {
        cloud.sandbox.inject(Fault::stall(Operation::Send));
    }
    let mut waiting = Vec::new();
    for (user, more) in users
        .into_iter()
        .zip([None, Some("Idempotency-Key: a-key"), None])
    {
        let mut connection = Connection::open(&sms).await.unwrap();
        let line = format!("POST /v1/users/{user}/messages HTTP/1.1");
        let key = format!("Authorization: Bearer {SMS_KEY}");
        let length = format!("Content-Length: {}", MESSAGE.len());
        let mut head = vec![&*line, &key, "Content-Type: application/json", &length];
        head.push("Prefer: wait=30");
        head.extend(more);
        connection.write_head(&head).await;
        connection.write(MESSAGE).await;
        waiting.push(connection);
    }
    eventually("the messages are at the Cloud", async || {
        let sent = cloud.requests(Operation::Send).len();
        (sent == 2 * users.len()).then_some(())
    })
    .await;

    process.signal("TERM").await;

    let mut queued = Vec::new();
    for mut connection in waiting {
        let reply = connection.read().await;
        queued.push(reply.headers["location"].to_str().unwrap().to_owned());
        assert_eq!(reply.expect(202)["status"], "queued");
    }
    assert_eq!(process.wait().await.code(), Some(0), "{}", process.log());
    // The next process knows the queued requests.
    let toml = bridge_toml(&database.location, &cloud.url);
    let (_process, sms, _) = Process::serve(&toml).await;
    for location in queued {
        sms.get(&location).await.expect(200);
    }
}

async fn a_stop_answers_callers_that_wait_for_events(engine: Engine) {
    let (mut process, sms, _admin, _backends) = serve(engine).await;
    let key = format!("Authorization: Bearer {SMS_KEY}");
    let mut stream = Connection::open(&sms).await.unwrap();
    let head = ["GET /v1/events HTTP/1.1", &key, "Accept: text/event-stream"];
    stream.write_head(&head).await;
    assert_eq!(stream.read().await.status, 200);
    let mut waiting = Connection::open(&sms).await.unwrap();
    waiting
        .write_head(&["GET /v1/events?wait=30 HTTP/1.1", &key])
        .await;

    process.signal("TERM").await;

    assert_eq!(waiting.read().await.expect(200)["events"], json!([]));
    assert_eq!(process.wait().await.code(), Some(0));
}

/// Protects the requests of a proxy. A proxy does not repeat a POST that it has sent, so a
/// connection that the proxy has opened must not be closed before its first request.
async fn a_stop_serves_the_first_request_of_a_fresh_connection(engine: Engine) {
    let (mut process, sms, _, (cloud, _database)) = serve(engine).await;
    sms.say("ada", "before").await.expect(201);
    let mut connected = Connection::open(&sms).await.unwrap();

    process.signal("TERM").await;
    eventually("no new connection", async || {
        Connection::open(&sms).await.is_err().then_some(())
    })
    .await;
    let head = [
        "POST /v1/users/ada/messages HTTP/1.1",
        &format!("Authorization: Bearer {SMS_KEY}"),
        "Content-Type: application/json",
        &format!("Content-Length: {}", MESSAGE.len()),
    ];
    connected.write_head(&head).await;
    connected.write(MESSAGE).await;

    connected.read().await.expect(201);
    assert_eq!(process.wait().await.code(), Some(0));
    let texts = cloud.texts(&cloud.only_conversation().id);
    assert_eq!(texts, ["before", "hello"]);
}

async fn idle_connections_do_not_delay_a_stop(engine: Engine) {
    let (mut process, sms, admin, _backends) = serve(engine).await;
    let _never_used = Connection::open(&sms).await.unwrap();
    let mut kept_alive = Connection::open(&sms).await.unwrap();
    kept_alive
        .write_head(&["GET /v1/users/ada HTTP/1.1", "Content-Length: 0"])
        .await;
    kept_alive.read().await.expect_problem(401, "unauthorized");
    let _idle_probe = Connection::open(&admin).await.unwrap();

    process.signal("TERM").await;

    // This is far below the time limit of a stop, after which the exit code would be different.
    assert_eq!(process.wait().await.code(), Some(0));
}

async fn an_interrupt_stops_like_a_sigterm(engine: Engine) {
    let (mut process, _, _, _backends) = serve(engine).await;

    process.signal("INT").await;

    assert_eq!(process.wait().await.code(), Some(0));
}

/// The signals that process managers, terminals and log rotation send. Each ends a process that
/// does not handle it, except SIGPIPE, which Rust programs ignore by default.
const IGNORED_SIGNALS: [&str; 4] = ["HUP", "USR1", "USR2", "PIPE"];

async fn other_signals_are_ignored_and_logged(engine: Engine) {
    let (mut process, sms, _, _backends) = serve(engine).await;
    let mut in_flight = begin_message(&sms).await;

    for name in IGNORED_SIGNALS {
        process.signal(name).await;
    }
    expect_ignored(&process).await;

    in_flight.write(MESSAGE).await;
    in_flight.read().await.expect(201);
    sms.say("ada", "again").await.expect(201);
    process.signal("TERM").await;
    assert_eq!(process.wait().await.code(), Some(0));
}

/// Waits for the log line of each ignored signal.
async fn expect_ignored(process: &Process) {
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"] {
        let line = eventually(name, async || {
            let log = process.log();
            let mut lines = log.lines().map(str::to_owned);
            lines.find(|line| line.contains("signal ignored") && line.contains(name))
        })
        .await;
        assert!(
            line.contains("to apply changes, restart one replica after the other"),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_and_the_sandbox_ignore_other_signals() {
    let mut demo = Demo::start().await;
    let mut alone = Process::start(command(&["sandbox", "--listen", "127.0.0.1:0"]));
    alone.output_line("listens on").await;

    for process in [&mut demo.process, &mut alone] {
        for name in IGNORED_SIGNALS {
            process.signal(name).await;
        }
        expect_ignored(process).await;
        assert!(!process.has_ended());
        process.signal("TERM").await;
        assert_eq!(process.wait().await.code(), Some(0));
    }
}

async fn a_second_signal_aborts_requests_in_flight(engine: Engine) {
    let (mut process, sms, _, _backends) = serve(engine).await;
    let _in_flight = begin_message(&sms).await;

    process.signal("TERM").await;
    process.log_line("a second signal aborts them").await;
    process.signal("TERM").await;

    assert_eq!(process.wait().await.code(), Some(1));
    assert!(process.log().contains("aborted by a second signal"));
}

async fn a_start_on_an_address_in_use_is_refused(engine: Engine) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();

    for key in ["\nlisten", "admin_listen"] {
        let database = Database::create(engine).await;
        let toml = bridge_toml(&database.location, "http://127.0.0.1:1");
        let free = format!("{key} = \"127.0.0.1:0\"");
        let toml = toml.replace(&free, &format!("{key} = \"{address}\""));

        let ended = run_configured("serve", &toml).await;

        assert_eq!(ended.code, 1, "{}", ended.errors);
        let expected = format!("error: cannot listen on {address}: Address already in use");
        assert!(ended.errors.contains(&expected), "{}", ended.errors);
        let hint = format!("; {} sets another address\n", key.trim_start());
        assert!(ended.errors.ends_with(&hint), "{}", ended.errors);
        assert!(!ended.errors.contains("migrate"), "{}", ended.errors);
    }
}

#[tokio::test]
async fn an_unreachable_postgresql_is_reported_without_its_password() {
    let location = Location::Postgres {
        url: "postgres://bridge:pa55word@127.0.0.1:1/bridge"
            .to_owned()
            .into(),
        schema: None,
        max_connections: 8,
    };

    let ended = run_configured("serve", &bridge_toml(&location, "http://127.0.0.1:1")).await;

    assert_eq!(ended.code, 1);
    assert!(
        ended
            .errors
            .contains("error: the database is unavailable: "),
        "{}",
        ended.errors
    );
    assert!(
        ended.errors.contains("Connection refused"),
        "{}",
        ended.errors
    );
    assert!(!ended.errors.contains("pa55word"), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_embedded_database_refuses_to_start() {
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, "http://127.0.0.1:1");
    let (mut process, _, _) = Process::serve(&toml).await;

    let second = run_configured("serve", &toml).await;

    assert_eq!(second.code, 1);
    let expected = "error: another process uses the embedded database in ";
    assert!(second.errors.contains(expected), "{}", second.errors);
    // The first process still runs. When it has stopped, the next one can use the database.
    process.signal("TERM").await;
    assert_eq!(process.wait().await.code(), Some(0));
    Process::serve(&toml).await;
}
