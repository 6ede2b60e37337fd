//! Crowds of clients. Clients without credentials, with a token for one user, or of one channel do
//! not block others.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::support::channel::{Channel, FORM, send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, Cloud, agent_text, send_notification, sign};
use crate::support::configuration::{APP_KEY, SMS_KEY, bridge_toml};
use crate::support::connection::Connection;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

const SECRET: &str = "a-shared-secret-of-at-least-32-bytes";
const MESSAGES: &str = "/v1/users/mallory/messages";

/// The service, as a process.
struct Target {
    process: Process,
    sms: Channel,
    /// Another channel.
    app: Channel,
    admin: Channel,
    _backends: (Cloud, Database),
}

impl Target {
    /// Starts a service whose channel `sms` has tokens, with this line added to its configuration.
    async fn start(line: &str) -> Self {
        let cloud = Cloud::start().await;
        let database = Database::create(Engine::Sqlite).await;
        let toml = bridge_toml(&database.location, &cloud.url);
        let tokens = format!("id = \"sms\"\njwt = {{algorithm = \"HS256\", key = \"{SECRET}\"}}\n");
        let toml = toml.replacen("id = \"sms\"\n", &tokens, 1);
        let (process, sms, admin) = Process::serve(&format!("{line}\n{toml}")).await;
        Self {
            process,
            app: sms.with_key(APP_KEY),
            sms,
            admin,
            _backends: (cloud, database),
        }
    }

    /// Checks that notifications are accepted.
    async fn expect_notifications_accepted(&self) {
        for sequence in 0..10 {
            let notification = agent_text("a-conversation", sequence, "hello");
            send_notification(&self.sms, &notification)
                .await
                .expect(200);
        }
    }

    /// Opens `count` connections and sends this request head on each.
    async fn crowd(&self, count: usize, head: &[&str]) -> Vec<Connection> {
        let mut crowd = Vec::new();
        for _ in 0..count {
            let mut connection = Connection::open(&self.sms).await.unwrap();
            connection.write_head(head).await;
            crowd.push(connection);
        }
        crowd
    }

    /// Returns the channel `sms` with a token for the user `mallory` only, and the token.
    fn mallory(&self) -> (Channel, String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = json!({"iss": "sms", "user": "mallory", "exp": now.as_secs() + 600});
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        (self.sms.with_key(&token), token)
    }
}

/// Returns the head of a 1 MiB notification that has the signature of another body.
fn notification(account: &str, client_id: &str) -> Vec<String> {
    vec![
        format!("POST /webhooks/{account} HTTP/1.1"),
        format!("x-liveperson-account-id: {account}"),
        format!("x-liveperson-client-id: {client_id}"),
        format!("x-liveperson-signature: {}", sign(b"another body", "guess")),
        "Content-Length: 1048576".to_owned(),
    ]
}

fn lines(head: &[String]) -> Vec<&str> {
    head.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_requests_do_not_block_notifications() {
    let target = Target::start("").await;
    for (count, account, client_id) in [
        (64, "nobody", CLIENT_ID),
        (600, "nobody", CLIENT_ID),
        (600, ACCOUNT, "another"),
    ] {
        let head = notification(account, client_id);
        let mut crowd = target.crowd(count, &lines(&head)).await;

        target.expect_notifications_accepted().await;

        for connection in &mut crowd {
            let refused = connection.read().await;
            refused.expect_problem(401, "signature-refused");
        }
    }
    let metrics = target.admin.request(Method::GET, "/metrics").send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    for (account, reason, count) in [
        ("unknown", "unknown_account", 664),
        (ACCOUNT, "client_id", 600),
    ] {
        let line = format!(
            "liveperson_bridge_webhook_rejected_total{{account=\"{account}\",reason=\"{reason}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_notifications_with_bad_signatures_do_not_block_others() {
    let target = Target::start("").await;
    for count in [64, 600] {
        let mut head = notification(ACCOUNT, CLIENT_ID);
        head.push("Expect: 100-continue".to_owned());
        let mut crowd = target.crowd(count, &lines(&head)).await;
        for connection in &mut crowd {
            assert_eq!(connection.read().await.status, 100);
        }

        for _ in 0..10 {
            for connection in &mut crowd {
                // The service may have closed it already because it is too slow.
                drop(connection.try_write("x").await);
            }
            target.expect_notifications_accepted().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_answered_408_and_its_connection_closed() {
    let target = Target::start("").await;
    let notification = notification(ACCOUNT, CLIENT_ID);
    let key = format!("Authorization: Bearer {SMS_KEY}");
    let form = format!("Content-Type: {FORM}");
    let mut slow = Vec::new();
    for head in [
        lines(&notification),
        vec![
            "POST /v1/users/ada/messages HTTP/1.1",
            &key,
            "Content-Type: application/json",
            "Content-Length: 100000",
        ],
        vec![
            "POST /v1/users/ada/messages HTTP/1.1",
            &key,
            "Content-Type: application/json",
            "Idempotency-Key: a-key",
            "Content-Length: 100",
        ],
        vec![
            "POST /v1/users/ada/files HTTP/1.1",
            &key,
            &form,
            "Content-Length: 100000",
        ],
    ] {
        let mut connection = Connection::open(&target.sms).await.unwrap();
        connection.write_head(&head).await;
        connection.write("--").await;
        slow.push(connection);
    }

    for mut connection in slow {
        let refused = connection.read().await;
        assert_eq!(refused.headers["connection"], "close");
        refused.expect_problem(408, "request-timeout");
        assert!(connection.reads_end().await);
    }
    target.sms.say("ada", "hello").await.expect(201);
    // The refused notification is counted under its account.
    let refused = format!("account=\"{ACCOUNT}\",reason=\"incomplete\"}} 1");
    let metrics = target.admin.request(Method::GET, "/metrics").send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    assert!(metrics.contains(&refused), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_of_one_users_token_are_bounded() {
    let target = Target::start("").await;
    let (mallory, token) = target.mallory();
    let key = format!("Authorization: Bearer {token}");
    let head = [
        &format!("POST {MESSAGES} HTTP/1.1"),
        &*key,
        "Content-Type: application/json",
        "Content-Length: 262144",
        "Expect: 100-continue",
    ];
    let mut crowd = target.crowd(300, &head).await;

    let (mut let_in, mut refused) = (0, 0);
    for connection in &mut crowd {
        let reply = connection.read().await;
        if reply.status == 100 {
            let_in += 1;
            // After this much of the body, the server allows a minute for the rest.
            connection.write(&"x".repeat(64 * 1024)).await;
            continue;
        }
        refused += 1;
        let problem = reply.expect_problem(503, "overloaded");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("tokens for this user"), "{detail}");
    }

    assert_eq!((let_in, refused), (16, 284));
    mallory
        .say("mallory", "one more")
        .await
        .expect_problem(503, "overloaded");
    target.app.say("ada", "hello").await.expect(201);
    target.sms.say("mallory", "hello").await.expect(201);
    // The permits are released when the connections close.
    drop(crowd);
    eventually("there is room again", async || {
        (mallory.say("mallory", "again").await.status == 201).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_readers_of_one_users_token_are_bounded() {
    let target = Target::start("").await;
    let (mallory, token) = target.mallory();
    let key = format!("Authorization: Bearer {token}");
    let head = [
        "GET /v1/events HTTP/1.1",
        &*key,
        "Accept: text/event-stream",
    ];
    let mut streams = target.crowd(8, &head).await;
    for stream in &mut streams {
        assert_eq!(stream.read().await.status, 200);
    }

    let stream = mallory.request(Method::GET, "/v1/events");
    let stream = stream.header("accept", "text/event-stream");
    for refused in [send(stream).await, mallory.get("/v1/events?wait=30").await] {
        let problem = refused.expect_problem(503, "too-many-readers");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("tokens for this user"), "{detail}");
    }
    mallory.get("/v1/events").await.expect(200);
    for channel in [&target.sms, &target.app] {
        channel.get("/v1/events?wait=1").await.expect(200);
    }
    drop(streams);
    eventually("there is room again", async || {
        let read = mallory.get("/v1/events?wait=1").await;
        (read.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_of_one_users_token_are_bounded() {
    let target = Target::start("").await;
    let (mallory, token) = target.mallory();
    let key = format!("Authorization: Bearer {token}");
    let form = format!("Content-Type: {FORM}");
    let head = [
        "POST /v1/users/mallory/files HTTP/1.1",
        &*key,
        &*form,
        "Content-Length: 1000000",
        "Expect: 100-continue",
    ];
    let mut crowd = target.crowd(2, &head).await;
    for connection in &mut crowd {
        assert_eq!(connection.read().await.status, 100);
        let part = "Content-Disposition: form-data; name=\"file\"; filename=\"file\"";
        let begun = "x".repeat(100 * 1024);
        connection
            .write(&format!("--a-line-between-parts\r\n{part}\r\n\r\n{begun}"))
            .await;
    }

    let refused = mallory.send_file("mallory", b"GIF89a").await;

    let problem = refused.expect_problem(503, "too-many-files");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("tokens for this user"), "{detail}");
    let other = target.sms.send_file("ada", b"no image").await;
    other.expect_problem(415, "unsupported-media-type");
}

/// Opens a connection from another address of this machine.
async fn from_elsewhere(channel: &Channel) -> Connection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let address: SocketAddr = channel.address().parse().unwrap();
    Connection::of(socket.connect(address).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_requests_are_bounded_per_address() {
    let target = Target::start("pending_connections_per_address = 5").await;
    let mut halves = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(&target.sms).await.unwrap();
        connection.write("GET /v1/users/ada HTTP/1.1\r\n").await;
        halves.push(connection);
    }
    let complete_head = ["GET /v1/users/ada HTTP/1.1"];

    // The service may close the connection before or after the write.
    let mut one_more = Connection::open(&target.sms).await.unwrap();
    drop(one_more.try_write("GET / HTTP/1.1\r\n").await);
    assert!(one_more.reads_end().await);
    let mut other = from_elsewhere(&target.sms).await;
    other.write_head(&complete_head).await;
    other.read().await.expect_problem(401, "unauthorized");
    target.admin.get("/livez").await.expect(200);
    target.process.log_line("connections refused").await;

    // A connection with a complete head is no longer counted, even while it stays open.
    halves[0].write("Host: bridge\r\n\r\n").await;
    let answered = halves[0].read().await;
    answered.expect_problem(401, "unauthorized");
    let mut next = Connection::open(&target.sms).await.unwrap();
    next.write_head(&complete_head).await;
    next.read().await.expect_problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_keys_does_not_slow_down_other_callers() {
    let target = Target::start("operator_keys = [\"operator\"]").await;
    let resume = json!({"channel": "sms"});
    // More requests than are answered at once.
    let mut guessing = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (channel, operator) = (
            target.sms.with_key(&format!("guess-{n}")),
            target.admin.with_key(&format!("guess-{n}")),
        );
        let resume = resume.clone();
        guessing.spawn(async move {
            let refused = channel.get("/v1/events").await;
            refused.expect_problem(401, "unauthorized");
            let refused = operator.post("/api/resume", resume).await;
            if refused.status != 503 {
                refused.expect_problem(401, "operator-key-refused");
            }
        });
    }

    target.sms.say("ada", "hello").await.expect(201);
    eventually("an operator acts", async || {
        let operator = target.admin.with_key("operator");
        let resumed = operator.post("/api/resume", resume.clone()).await;
        (resumed.status != 503).then(|| assert!(resumed.status < 500))
    })
    .await;
    let all = timeout(Duration::from_mins(1), guessing.join_all());
    assert_eq!(all.await.unwrap().len(), 200);
}
