//! A rolling update: the previous version and this one run on one database, as real processes.
//! Nothing is lost or duplicated.
//!
//! `scripts/rolling-update` builds the previous version and names its program in `FORMER_BRIDGE`.
//! Without it these tests are ignored. The previous version starts first, on its own schema. Then
//! this version migrates the schema while the previous one runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveperson_bridge::sandbox::webhooks::{Algorithm, Retry, Webhook};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::channel::{Channel, Reply, send, try_send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, texts};
use crate::support::configuration::{bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::{PATIENCE, eventually};
use crate::support::process::{PROGRAM, Process};
use crate::support::receiver::{Receiver, SECRET};

/// A process of either version, and the channel `sms` that calls it.
struct Replica {
    process: Process,
    sms: Channel,
    admin: Channel,
}

/// A database and a simulated Cloud for replicas of both versions.
struct Update {
    cloud: Cloud,
    callback: Receiver,
    toml: String,
}

impl Update {
    async fn begin() -> Self {
        let cloud = Cloud::start().await;
        let callback = Receiver::start().await;
        let database = Database::create(Engine::Postgres).await;
        let toml = bridge_toml(&database.location, &cloud.url);
        let toml = with_callback(&toml, &callback.url, &format!("\"{SECRET}\""));
        Self {
            cloud,
            callback,
            toml,
        }
    }

    /// Starts a replica of the previous version.
    async fn former(&self) -> Replica {
        let program = std::env::var_os("FORMER_BRIDGE")
            .expect("FORMER_BRIDGE names the program; scripts/rolling-update builds it");
        let program = PathBuf::from(program);
        let is_this = std::fs::read(&program).unwrap() == std::fs::read(PROGRAM).unwrap();
        assert!(!is_this, "FORMER_BRIDGE is this version");
        Replica::new(Process::serve_program(&program, &self.toml).await)
    }

    /// Starts a replica of this version.
    async fn this(&self) -> Replica {
        Replica::new(Process::serve(&self.toml).await)
    }

    /// Makes the Cloud send its notifications to this replica only.
    fn subscribe(&self, replica: &Replica) {
        let url = format!("http://{}/webhooks/{ACCOUNT}", replica.sms.address());
        self.cloud.sandbox.subscribe(Webhook {
            account_id: ACCOUNT.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned().into(),
            url: url.parse().unwrap(),
            algorithm: Algorithm::Sha256,
            retry: Retry::TimeToLive(86400),
        });
    }

    /// Sends an agent's message, and waits until a replica has accepted its notification.
    async fn agent_writes(&self, conversation: &str, text: &str) {
        let action = json!({"type": "text", "text": text});
        let action = serde_json::from_value(action).unwrap();
        self.cloud.sandbox.act(conversation, action).unwrap();
        eventually("the Cloud has sent all notifications", async || {
            (self.cloud.sandbox.pending_notifications() == 0).then_some(())
        })
        .await;
    }

    /// Returns the texts of users at the Cloud, by user.
    fn texts_by_user(&self) -> BTreeMap<String, Vec<String>> {
        let conversations = self.cloud.sandbox.conversations();
        let of_user = conversations.iter().map(|conversation| {
            let user = &conversation.consumer.ext_consumer_id;
            (
                user.strip_prefix("sms:").unwrap().to_owned(),
                texts(conversation),
            )
        });
        let texts: BTreeMap<_, _> = of_user.collect();
        assert_eq!(texts.len(), conversations.len(), "a user has two");
        texts
    }

    async fn wait_until_sent(&self, user: &str, expected: &[&str]) {
        eventually("all messages are at the Cloud", async || {
            let texts = self.texts_by_user();
            (texts.get(user)? == expected).then_some(())
        })
        .await;
    }

    /// Waits until the channel has received exactly these texts, in this order.
    async fn wait_until_received(&self, expected: &[&str]) {
        eventually("the channel has received the texts", async || {
            (self.received_texts() == expected).then_some(())
        })
        .await;
    }

    /// Returns the texts of agents that the channel has received, without repetitions.
    fn received_texts(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let mut texts = Vec::new();
        for received in self.callback.received() {
            let (id, event) = (received.header("webhook-id").to_owned(), received.json());
            if event["type"] == "message.created" && !ids.contains(&id) {
                ids.push(id);
                texts.push(received.text());
            }
        }
        texts
    }
}

impl Replica {
    fn new((process, sms, admin): (Process, Channel, Channel)) -> Self {
        Self {
            process,
            sms,
            admin,
        }
    }

    /// Sends a message that is queued, even if the Cloud could accept it.
    async fn queue(&self, user: &str, text: &str) {
        let request = message(&self.sms, user, text).header("prefer", "respond-async");
        send(request).await.expect(202);
    }

    async fn stop(mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.wait().await.code(), Some(0));
    }

    async fn crash(self) {
        self.process.kill().await;
    }
}

fn message(sms: &Channel, user: &str, text: &str) -> reqwest::RequestBuilder {
    sms.request(Method::POST, &format!("/v1/users/{user}/messages"))
        .header("content-type", "application/json")
        .body(json!({"text": text}).to_string())
}

async fn keyed(replica: &Replica, key: &str, text: &str) -> Reply {
    let request = message(&replica.sms, "ada", text);
    send(request.header("idempotency-key", key)).await
}

fn is_replay_of(repeat: Reply, first: &Value) -> bool {
    repeat.headers["idempotency-replayed"] == "true" && repeat.expect(201) == *first
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn both_versions_send_to_the_same_conversation() {
    let update = Update::begin().await;
    let former = update.former().await;
    former.sms.say("ada", "1").await.expect(201);

    let this = update.this().await;
    this.sms.say("ada", "2").await.expect(201);
    this.sms.say("bob", "1").await.expect(201);
    former.sms.say("ada", "3").await.expect(201);
    former.sms.say("bob", "2").await.expect(201);
    let shown = this.sms.get("/v1/users/ada").await.expect(200);
    assert_eq!(former.sms.get("/v1/users/ada").await.expect(200), shown);
    let closed = "/v1/users/ada/conversation/close";
    this.sms.post(closed, json!({})).await.expect(200);

    former
        .sms
        .get("/v1/users/ada/conversation")
        .await
        .expect(200)["state"]
        .as_str()
        .filter(|state| *state == "closed")
        .expect("the former version does not see the close");
    let conversations = update.cloud.sandbox.conversations();
    let texts_at_cloud: Vec<_> = conversations.iter().map(texts).collect();
    assert_eq!(texts_at_cloud, [vec!["1", "2", "3"], vec!["1", "2"]]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn each_version_sends_requests_that_the_other_has_queued() {
    let update = Update::begin().await;
    let former = update.former().await;
    let this = update.this().await;
    let users = ["a", "b", "c", "d"];

    for text in 0..6 {
        for (index, user) in users.iter().enumerate() {
            let replica = if (text + index) % 2 == 0 {
                &former
            } else {
                &this
            };
            replica.queue(user, &text.to_string()).await;
        }
    }

    for user in users {
        update
            .wait_until_sent(user, &["0", "1", "2", "3", "4", "5"])
            .await;
    }
    // If a replica dies, the other version sends its queued requests. First the previous version
    // dies, then this one.
    former.queue("a", "6").await;
    former.crash().await;
    update
        .wait_until_sent("a", &["0", "1", "2", "3", "4", "5", "6"])
        .await;
    let former = update.former().await;
    this.queue("b", "6").await;
    this.crash().await;
    update
        .wait_until_sent("b", &["0", "1", "2", "3", "4", "5", "6"])
        .await;
    former.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn each_version_knows_the_idempotency_keys_of_the_other() {
    let update = Update::begin().await;
    let former = update.former().await;
    let before = keyed(&former, "before", "1").await.expect(201);

    let this = update.this().await;
    let of_former = keyed(&former, "of-former", "2").await.expect(201);
    let of_this = keyed(&this, "of-this", "3").await.expect(201);

    assert!(is_replay_of(keyed(&this, "before", "1").await, &before));
    assert!(is_replay_of(
        keyed(&this, "of-former", "2").await,
        &of_former
    ));
    assert!(is_replay_of(keyed(&former, "of-this", "3").await, &of_this));
    for replica in [&former, &this] {
        for key in ["of-former", "of-this"] {
            let reused = keyed(replica, key, "another").await;
            reused.expect_problem(422, "idempotency-key-reused");
        }
    }
    update.wait_until_sent("ada", &["1", "2", "3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn each_version_delivers_events_that_the_other_has_stored() {
    let update = Update::begin().await;
    let former = update.former().await;
    update.subscribe(&former);
    let opened = former.sms.say("ada", "hello").await.expect(201);
    let conversation = opened["conversation_id"].as_str().unwrap();
    update.callback.answer_status(503);
    update.agent_writes(conversation, "1").await;

    // The previous version has stored the message but could not deliver it. Then it dies.
    former.crash().await;
    let this = update.this().await;
    update.callback.answer_status(200);
    update.wait_until_received(&["1"]).await;
    // The same with the versions swapped.
    update.callback.answer_status(503);
    update.subscribe(&this);
    update.agent_writes(conversation, "2").await;
    this.crash().await;
    let former = update.former().await;
    update.callback.answer_status(200);
    update.wait_until_received(&["1", "2"]).await;
    // With both versions running, any replica may get the notification and any may deliver.
    let this = update.this().await;
    for (number, replica) in [&former, &this, &former, &this].into_iter().enumerate() {
        update.subscribe(replica);
        update
            .agent_writes(conversation, &(number + 3).to_string())
            .await;
    }
    update
        .wait_until_received(&["1", "2", "3", "4", "5", "6"])
        .await;
    let read = |replica: &Replica| {
        let sms = replica.sms.clone();
        async move { sms.get("/v1/events?limit=1000").await.expect(200) }
    };
    assert_eq!(read(&former).await, read(&this).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn the_previous_version_starts_on_the_new_schema() {
    let update = Update::begin().await;
    let former = update.former().await;
    former.sms.say("ada", "1").await.expect(201);
    let this = update.this().await;

    // A crash during the update.
    former.crash().await;
    this.sms.say("ada", "2").await.expect(201);
    let former = update.former().await;
    former.sms.say("ada", "3").await.expect(201);
    // A rollback.
    this.stop().await;
    former.sms.say("ada", "4").await.expect(201);
    former.stop().await;
    let former = update.former().await;
    former.sms.say("ada", "5").await.expect(201);
    former.admin.get("/readyz").await.expect(200);
    // Finally the update.
    let this = update.this().await;
    former.stop().await;
    this.sms.say("ada", "6").await.expect(201);

    update
        .wait_until_sent("ada", &["1", "2", "3", "4", "5", "6"])
        .await;
}

/// Users send without a pause during the update. Each message has a key, and is repeated at the
/// next replica until it is accepted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/rolling-update builds the version before"]
async fn an_update_under_load_loses_and_duplicates_nothing() {
    const USERS: usize = 6;
    let update = Update::begin().await;
    let (first, second) = (update.former().await, update.former().await);
    // The replicas to which the load balancer sends requests.
    let replicas = vec![first.sms.clone(), second.sms.clone()];
    let load = Arc::new(Load {
        replicas: Mutex::new(replicas),
        taken: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let users: Vec<_> = (0..USERS)
        .map(|user| {
            let load = Arc::clone(&load);
            tokio::task::spawn(async move { load.write(&format!("user-{user}")).await })
        })
        .collect();

    load.wait_for_more().await;
    let third = update.this().await;
    load.replace(&first, &third);
    first.stop().await;
    load.wait_for_more().await;
    let fourth = update.this().await;
    load.replace(&second, &fourth);
    load.wait_for_more().await;
    second.stop().await;
    load.wait_for_more().await;
    load.is_over.store(true, Ordering::Relaxed);

    let mut expected = BTreeMap::new();
    for (user, speaking) in users.into_iter().enumerate() {
        let texts = (0..speaking.await.unwrap()).map(|text| text.to_string());
        expected.insert(format!("user-{user}"), texts.collect::<Vec<_>>());
    }
    eventually("all messages are at the Cloud", async || {
        (update.texts_by_user() == expected).then_some(())
    })
    .await;
    // Nothing more has arrived after the replicas have finished their work.
    third.stop().await;
    fourth.stop().await;
    assert_eq!(update.texts_by_user(), expected);
}

/// The messages that users send, and the replicas that they go through.
struct Load {
    replicas: Mutex<Vec<Channel>>,
    taken: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Waits until 50 more messages have been accepted.
    async fn wait_for_more(&self) {
        let enough = self.taken.load(Ordering::Relaxed) + 50;
        eventually("more messages are accepted", async || {
            (self.taken.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Tells the load balancer to use another replica instead of one that is about to stop.
    fn replace(&self, old: &Replica, new: &Replica) {
        let mut replicas = self.replicas.lock().unwrap();
        replicas.retain(|sms| sms.address() != old.sms.address());
        replicas.push(new.sms.clone());
    }

    /// Writes as one user until the test is over, and returns the number of messages.
    async fn write(&self, user: &str) -> usize {
        let mut count = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let taken = tokio::time::timeout(PATIENCE, self.persist(user, count)).await;
            taken.expect("no replica accepts the message");
            self.taken.fetch_add(1, Ordering::Relaxed);
            count += 1;
        }
        count
    }

    /// Sends a message until it is accepted, each time to another replica.
    async fn persist(&self, user: &str, text: usize) {
        let mut pauses = tokio::time::interval(Duration::from_millis(10));
        for index in text.. {
            pauses.tick().await;
            let sms = {
                let replicas = self.replicas.lock().unwrap();
                replicas[index % replicas.len()].clone()
            };
            let request = message(&sms, user, &text.to_string());
            let request = request.header("idempotency-key", format!("{user}-{text}"));
            match try_send(request).await.map(|reply| reply.status) {
                Ok(201 | 202) => return,
                // It is in progress, it was not accepted, or the replica has stopped.
                Ok(409 | 503) | Err(_) => {}
                Ok(status) => panic!("{status}"),
            }
        }
    }
}
