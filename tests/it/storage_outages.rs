//! A PostgreSQL server that restarts, fails over, is slow or is silent. The API answers 503 in
//! time, and the service recovers by itself.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::{BoxFuture, join_all};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::Operation;
use liveperson_bridge::store::Store;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::channel::{Reply, send};
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::{bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::events::{Stream, message, user};
use crate::support::patience::{PATIENCE, eventually};
use crate::support::process::Process;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::relay::Relay;

/// The number of connections in the pool: small, so that all exist and all are in use.
const CONNECTIONS: u32 = 3;

/// The number of users: far more than there are connections.
const MANY: usize = 12;

/// The service, with a network between it and its database that the test controls.
struct Bed {
    app: TestApp,
    relay: Relay,
    receiver: Receiver,
    /// The database, reached without that network.
    database: Database,
    conversation: String,
}

impl Bed {
    /// Starts the service with conversations of the users `user-0` and following, and with all
    /// connections of the pool open.
    async fn start() -> Self {
        let database = Database::create(Engine::Postgres).await;
        let (relay, behind) = Relay::before(&database, CONNECTIONS).await;
        let receiver = Receiver::start().await;
        let secret = format!("\"{SECRET}\"");
        let change = |toml: String| with_callback(&toml, &receiver.url, &secret);
        let app = TestApp::start_configured(Cloud::start().await, behind, change).await;
        let opened = join_all((0..MANY).map(|number| {
            let app = &app;
            async move { app.sms.say(&format!("user-{number}"), "hello").await }
        }));
        let mut conversations = opened.await.into_iter().map(|reply| reply.expect(201));
        let conversation = conversations.next().unwrap()["conversation_id"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            app,
            relay,
            receiver,
            database,
            conversation,
        }
    }

    async fn set_profile(&self, number: usize) -> Reply {
        let path = format!("/v1/users/user-{number}/profile");
        self.app.sms.put(&path, json!({"language": "en-US"})).await
    }

    async fn send_text(&self, number: usize) -> Reply {
        self.app.sms.say(&format!("user-{number}"), "again").await
    }

    /// Sends the notification of an agent's message to `user-0`.
    async fn notify(&self, sequence: u32, text: &str) -> Reply {
        let notification = agent_text(&self.conversation, sequence, text);
        send_notification(&self.app.sms, &notification).await
    }

    /// Sends requests of every kind at once. Fails the test if one of them gets no answer in time.
    async fn send_all_kinds(&self) -> Vec<Reply> {
        let mut requests: Vec<BoxFuture<'_, Reply>> = Vec::new();
        for number in 0..MANY {
            requests.push(Box::pin(self.send_text(number)));
            requests.push(Box::pin(self.set_profile(number)));
        }
        requests.push(Box::pin(self.app.sms.get("/v1/users/user-0")));
        requests.push(Box::pin(self.app.sms.get("/v1/events?wait=20")));
        requests.push(Box::pin(self.notify(1, "unheard")));
        timeout(PATIENCE, join_all(requests))
            .await
            .expect("all are answered")
    }

    /// Waits until everything works again.
    async fn wait_for_recovery(&self) {
        eventually("the service is ready", async || {
            (self.app.admin.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        eventually("requests are answered", async || {
            let replies = self.send_all_writes().await;
            replies.iter().all(|status| *status < 300).then_some(())
        })
        .await;
        self.notify(2, "heard").await.expect(200);
        eventually("events are delivered", async || {
            // A lease may have to expire first.
            self.app.cloud.clock.advance(TimeDelta::milliseconds(100));
            self.receiver
                .texts()
                .contains(&"heard".to_owned())
                .then_some(())
        })
        .await;
    }

    async fn send_all_writes(&self) -> Vec<u16> {
        let messages = join_all((0..MANY).map(|number| self.send_text(number))).await;
        let profiles = join_all((0..MANY).map(|number| self.set_profile(number))).await;
        messages
            .iter()
            .chain(&profiles)
            .map(|reply| reply.status)
            .collect()
    }
}

/// Asserts that a reply reports the storage as unavailable, with a `Retry-After`.
#[track_caller]
fn expect_storage_unavailable(reply: Reply) {
    assert_eq!(reply.headers["retry-after"], "1", "{:#}", reply.body);
    let problem = reply.expect_problem(503, "storage-unavailable");
    assert_eq!(problem["retryable"], true);
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

/// Ends all other connections to the database, like a server that stops.
async fn end_other_connections(connection: &mut PgConnection) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    execute(connection, end.to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_recovers_from_a_silent_database_server() {
    let bed = Bed::start().await;

    bed.relay.silence();
    let unready = bed.app.admin.get("/readyz").await;
    let replies = bed.send_all_kinds().await;
    // By now no connection is left, and no new one can be opened.
    let later = bed.send_all_kinds().await;

    let reasons = unready.expect(503);
    assert_eq!(reasons["reasons"], json!(["the storage does not answer"]));
    for reply in replies.into_iter().chain(later) {
        expect_storage_unavailable(reply);
    }
    bed.app.admin.get("/livez").await.expect(200);
    bed.relay.pass();
    bed.wait_for_recovery().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_connections_to_the_database_are_replaced() {
    let bed = Bed::start().await;

    // As when a host vanishes and another takes its address: the old connections are not closed.
    bed.relay.silence_open_connections();
    let replies = bed.send_all_kinds().await;

    for reply in replies {
        if reply.status >= 300 {
            expect_storage_unavailable(reply);
        }
    }
    bed.wait_for_recovery().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_statement_does_not_keep_its_connection() {
    let database = Database::create(Engine::Postgres).await;
    let (relay, behind) = Relay::before(&database, CONNECTIONS).await;
    let store = behind.store().await;
    let query_all = || join_all((0..MANY).map(|_| user(&store, "sms", "ada")));
    query_all().await;
    // All connections have to be unused: one in use would be replaced by a new one, which works.
    eventually("the connections are unused", async || {
        let mut pools = store.connections().into_iter();
        pools.all(|pool| pool.in_use == 0).then_some(())
    })
    .await;

    relay.silence_open_connections();
    let abandoned = timeout(Duration::from_millis(500), query_all()).await;

    assert!(abandoned.is_err());
    eventually("the database is used over new connections", async || {
        store.check(Utc::now()).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_database_restart_a_request_fails_at_most_once() {
    let bed = Bed::start().await;
    let mut connection = bed.database.connection().await;

    for round in 0..4 {
        if round % 2 == 0 {
            bed.relay.cut();
        } else {
            end_other_connections(&mut connection).await;
        }

        let notified = bed.notify(10 + round, "after a restart").await;
        let first = join_all((0..MANY).map(|number| bed.set_profile(number))).await;
        let second = join_all((0..MANY).map(|number| bed.set_profile(number))).await;

        notified.expect(200);
        for reply in first {
            if reply.status != 200 {
                expect_storage_unavailable(reply);
            }
        }
        for reply in second {
            reply.expect(200);
        }
    }
    bed.wait_for_recovery().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_locked_row_is_limited() {
    let bed = Bed::start().await;
    let mut connection = bed.database.connection().await;
    let mut holding = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM users WHERE user_id = 'user-0' FOR UPDATE")
        .execute(&mut *holding)
        .await
        .unwrap();

    let refused = timeout(PATIENCE, bed.set_profile(0)).await;

    expect_storage_unavailable(refused.expect("it is answered"));
    // Other users and readers do not wait, and the server does not count as unavailable.
    bed.set_profile(1).await.expect(200);
    bed.app.sms.get("/v1/users/user-0").await.expect(200);
    bed.app.admin.get("/readyz").await.expect(200);
    holding.rollback().await.unwrap();
    bed.set_profile(0).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_a_temporary_outage() {
    let bed = Bed::start().await;
    let mut connection = bed.database.connection().await;
    let (name,): (String,) = sqlx::query_as("SELECT current_database()::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();

    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    execute(&mut connection, set).await;
    end_other_connections(&mut connection).await;
    eventually("all connections only read", async || {
        let refused = bed.set_profile(0).await;
        (refused.status == 503).then(|| expect_storage_unavailable(refused))
    })
    .await;
    for number in 0..MANY {
        expect_storage_unavailable(bed.set_profile(number).await);
    }
    expect_storage_unavailable(bed.notify(1, "unheard").await);
    bed.app.sms.get("/v1/users/user-0").await.expect(200);
    let unready = bed.app.admin.get("/readyz").await.expect(503);
    assert_eq!(unready["reasons"], json!(["the storage cannot be written"]));

    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    execute(&mut connection, reset).await;
    bed.wait_for_recovery().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn background_work_continues_after_an_outage() {
    let bed = Bed::start().await;
    let Bed { app, relay, .. } = &bed;

    relay.silence();
    expect_storage_unavailable(bed.notify(1, "unheard").await);
    relay.cut();
    relay.pass();
    bed.wait_for_recovery().await;

    // Queued requests are sent:
    let queued = app
        .sms
        .request(Method::POST, "/v1/users/user-1/messages")
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .body(json!({"text": "queued"}).to_string());
    app.wait_until(send(queued).await, "sent").await;
    // Typing is ended:
    let composing = json!({"state": "composing"});
    let composing = app.sms.put("/v1/users/user-2/typing", composing).await;
    composing.expect(204);
    eventually("typing has ended", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        has_received(app, "PAUSE").then_some(())
    })
    .await;
    // An agent learns that their message was not delivered:
    bed.receiver.answer_status(422);
    bed.notify(7, "refused").await.expect(200);
    eventually("the agent learns of it", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        has_received(app, "NACK").then_some(())
    })
    .await;
    // Old events are removed:
    app.cloud.clock.advance(TimeDelta::days(10));
    eventually("old events are removed", async || {
        app.cloud.clock.advance(TimeDelta::seconds(10));
        app.event_log("sms").await.is_empty().then_some(())
    })
    .await;
}

/// Returns true if the Cloud has received a request with this name of a chat state or receipt.
fn has_received(app: &TestApp, name: &str) -> bool {
    let requests = app.cloud.bodies(Operation::Send);
    requests
        .iter()
        .any(|body: &Value| body.to_string().contains(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_work_again_after_an_outage() {
    let bed = Bed::start().await;
    let other = bed.database.store().await;
    let ada = user(&other, "sms", "user-0").await;
    let append_text = async |text: &str| {
        let now = bed.app.cloud.clock.now();
        append(&other, &[message("sms", ada, "user-0", text)], now).await;
    };

    bed.relay.cut();
    bed.wait_for_recovery().await;
    let mut stream = eventually("a stream is open", async || {
        Some(Stream::open(&bed.app.sms, "?after=c0", None).await)
    })
    .await;

    eventually("an event wakes the stream at once", async || {
        // Reads the stored events, up to this one.
        append_text("first").await;
        loop {
            let (_, data) = stream.next_event().await;
            if data.contains("first") {
                break;
            }
        }
        append_text("second").await;
        let after = stream.time_to_next().await;
        (after < Duration::from_millis(250)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_its_end_are_logged_once() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let (relay, behind) = Relay::before(&database, CONNECTIONS).await;
    let toml = bridge_toml(&behind.location, &cloud.url);
    let toml = with_callback(&toml, "http://127.0.0.1:1", &format!("\"{SECRET}\""));
    let (process, sms, _) = Process::serve(&toml).await;
    let lines = || {
        let log = process.log();
        let lines = log.lines().filter(|line| !line.contains("request failed"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = lines().len();

    relay.silence();
    for _ in 0..4 {
        expect_storage_unavailable(sms.get("/v1/users/ada").await);
    }

    let log = lines();
    let new_lines = &log[before..];
    let reports = new_lines
        .iter()
        .filter(|line| line.contains("the database is unavailable; "));
    assert_eq!(reports.count(), 1, "{new_lines:#?}");
    // A second line may warn that events of other replicas are noticed later.
    assert!(new_lines.len() <= 2, "{new_lines:#?}");
    relay.pass();
    process.log_line("the database is available again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_retries_while_a_table_is_locked() {
    let database = Database::create(Engine::Postgres).await;
    drop(database.store().await);
    let mut holder = database.connection().await;
    let mut watcher = database.connection().await;
    let mut holding = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holding)
        .await
        .unwrap();

    let store = Store::connect(&database.location).await.unwrap();
    let starting = tokio::task::spawn(async move { store.migrate().await });
    for waits in [true, false, true] {
        eventually("it waits, stands back, and waits again", async || {
            let (count,): (i64,) = sqlx::query_as(
                "SELECT count(*) FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .fetch_one(&mut watcher)
            .await
            .unwrap();
            ((count > 0) == waits).then_some(())
        })
        .await;
    }
    holding.rollback().await.unwrap();

    starting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unexpected_schema_is_an_internal_error_and_not_an_outage() {
    let bed = Bed::start().await;
    let mut connection = bed.database.connection().await;

    let rename = "ALTER TABLE users RENAME COLUMN profile TO something_else";
    execute(&mut connection, rename.to_owned()).await;
    let failed = bed.set_profile(0).await;

    let problem = failed.expect_problem(500, "internal-error");
    assert!(!problem.to_string().contains("something_else"), "{problem}");
    bed.app.admin.get("/readyz").await.expect(200);
}
