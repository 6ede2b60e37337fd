//! A full disk. The API answers 503 while the disk is full. Once there is room, the service
//! recovers by itself and completes all that it accepted.
//!
//! `scripts/full-disk` mounts small file systems and names their folder in `FULL_DISK`. Without it
//! these tests are ignored.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use liveperson_bridge::sandbox::Operation;
use liveperson_bridge::store::Location;
use reqwest::Method;
use serde_json::json;

use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::bridge_toml;
use crate::support::patience::eventually;
use crate::support::postgres::Server;
use crate::support::process::Process;

const USERS: usize = 4;

/// One of the small file systems.
struct Disk(PathBuf);

impl Disk {
    fn named(name: &str) -> Self {
        let folder = std::env::var("FULL_DISK").expect("scripts/full-disk names the folder");
        Self(Path::new(&folder).join(name))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut options = OpenOptions::new();
        let mut filler = options
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let bytes = vec![0x55; size];
            while filler.write_all(&bytes).is_ok() {}
        }
    }

    fn free_space(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

/// The service, a conversation for each user, and the texts that were accepted so far.
struct Scene {
    process: Process,
    sms: Channel,
    admin: Channel,
    cloud: Cloud,
    conversations: Vec<String>,
    /// The texts of users and of agents that were answered 2xx.
    accepted: [Vec<String>; 2],
    refused: usize,
    count: u32,
}

impl Scene {
    async fn start(location: &Location) -> Self {
        let cloud = Cloud::start_on_system_time().await;
        let (process, sms, admin) = Process::serve(&bridge_toml(location, &cloud.url)).await;
        // Without echoes, a text with an outcome that could not be recorded would be sent again.
        cloud.subscribe(&sms);
        let mut conversations = Vec::new();
        for user in 0..USERS {
            let opened = sms.say(&format!("user-{user}"), "hello").await.expect(201);
            conversations.push(opened["conversation_id"].as_str().unwrap().to_owned());
        }
        admin.get("/readyz").await.expect(200);
        Self {
            process,
            sms,
            admin,
            cloud,
            conversations,
            accepted: Default::default(),
            refused: 0,
            count: 0,
        }
    }

    /// Sends the notification of an agent's message to a user.
    async fn agent_writes(&mut self) {
        self.count += 1;
        let conversation = &self.conversations[self.count as usize % USERS];
        let text = format!("agent {} {}", self.count, "+".repeat(2000));
        let reply = send_notification(
            &self.sms,
            &agent_text(conversation, 100 + self.count, &text),
        )
        .await;
        self.record_reply(1, text, &reply, 200);
    }

    /// Sends a user's message that the bridge queues.
    async fn user_writes(&mut self) {
        self.count += 1;
        let text = format!("user {} {}", self.count, "+".repeat(2000));
        let user = self.count as usize % USERS;
        let queued = self
            .sms
            .request(Method::POST, &format!("/v1/users/user-{user}/messages"))
            .header("content-type", "application/json")
            .header("prefer", "respond-async")
            .body(json!({"text": text}).to_string());
        let queued = send(queued).await;
        self.record_reply(0, text, &queued, 202);
    }

    fn record_reply(&mut self, side: usize, text: String, reply: &Reply, success: u16) {
        if reply.status == success {
            self.accepted[side].push(text);
        } else {
            let log = self.process.log();
            assert_eq!(reply.status, 503, "{:#}\n{log}", reply.body);
            self.refused += 1;
        }
    }

    /// Counts the copies of each text at the Cloud.
    fn sent(&self) -> BTreeMap<String, usize> {
        let mut sent = BTreeMap::new();
        for body in self.cloud.bodies(Operation::Send) {
            if let Some(text) = body["body"]["event"]["message"].as_str() {
                *sent.entry(text.to_owned()).or_default() += 1;
            }
        }
        sent
    }

    /// Counts the copies of each text in the channel's event log.
    async fn logged(&self) -> BTreeMap<String, usize> {
        let mut logged = BTreeMap::new();
        let page = self
            .sms
            .get("/v1/events?after=c0&limit=1000")
            .await
            .expect(200);
        for event in page["events"].as_array().unwrap() {
            if let Some(text) = event["data"]["text"].as_str() {
                *logged.entry(text.to_owned()).or_default() += 1;
            }
        }
        logged
    }
}

async fn recovers_from_a_full_disk(location: &Location, disk: &Disk, server_is_up: impl Fn()) {
    let mut scene = Scene::start(location).await;
    for _ in 0..20 {
        scene.agent_writes().await;
    }
    assert_eq!(scene.refused, 0);

    for round in 1..=2 {
        disk.fill();
        // A few more writes may fit into space that the database has already reserved.
        let mut attempts = 0;
        while scene.refused < 60 * round {
            attempts += 1;
            assert!(attempts < 2000, "the disk is not full");
            scene.agent_writes().await;
            scene.user_writes().await;
        }
        eventually("the service is not ready", async || {
            let ready: Reply = scene.admin.get("/readyz").await;
            (ready.status == 503).then_some(())
        })
        .await;
        disk.free_space();
        server_is_up();

        eventually("the service is ready", async || {
            let ready: Reply = scene.admin.get("/readyz").await;
            (ready.status == 200).then_some(())
        })
        .await;
        let before = scene.refused;
        for _ in 0..12 {
            scene.agent_writes().await;
            scene.user_writes().await;
        }
        assert_eq!(scene.refused, before, "{}", scene.process.log());
        scene.refused = 60 * round;
    }

    eventually("all accepted texts of users are sent", async || {
        let sent = scene.sent();
        let mut accepted = scene.accepted[0].iter();
        accepted.all(|text| sent.contains_key(text)).then_some(())
    })
    .await;
    let sent = scene.sent();
    let accepted = scene.accepted[0].iter();
    let doubled: Vec<_> = accepted.filter(|text| sent[*text] > 1).collect();
    assert_eq!(doubled, [""; 0]);
    let logged = scene.logged().await;
    let lost: Vec<&String> = scene.accepted[1]
        .iter()
        .filter(|text| logged.get(*text) != Some(&1))
        .collect();
    assert_eq!(lost, [""; 0]);
    let log = scene.process.log();
    assert!(log.contains("the database is unavailable"), "{log}");
    assert!(log.contains("the database is available again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/full-disk mounts the disk"]
async fn the_embedded_database_recovers_from_a_full_disk() {
    let disk = Disk::named("sqlite");
    let location = Location::Embedded {
        data_dir: disk.0.join("data"),
    };

    recovers_from_a_full_disk(&location, &disk, || {}).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/full-disk mounts the disk"]
async fn postgresql_recovers_from_a_full_disk() {
    let disk = Disk::named("postgres");
    let server = Server::start_on(&disk.0, "-c max_wal_size=32MB -c min_wal_size=32MB");
    let location = Location::Postgres {
        url: server.url().into(),
        schema: None,
        max_connections: 8,
    };

    let is_up = || server.start_if_stopped();
    recovers_from_a_full_disk(&location, &disk, is_up).await;
}
