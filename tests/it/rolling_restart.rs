//! A rolling restart of two replicas behind a real nginx while users write. No request fails.
//!
//! The configuration of nginx is that of `deploy/compose`. `docs/deployment.md` explains the
//! settings that make this work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::channel::{Channel, try_send};
use crate::support::cloud::{Cloud, texts};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::nginx::Nginx;
use crate::support::patience::eventually;
use crate::support::process::Process;

const USERS: usize = 8;
/// The number of further messages between two steps.
const SOME: usize = 100;
/// 30 s: the limit on the duration of a stop.
const STOP: Duration = Duration::from_secs(30);

/// A process that restarts at the same address.
struct Replica {
    process: Process,
    address: String,
    toml: String,
}

impl Replica {
    async fn start(toml: &str) -> Self {
        // Below the ports that the system assigns, so that no other program takes the port during
        // the restart.
        for _ in 0..5 {
            let address = format!("127.0.0.1:{}", rand::random_range(20_000..32_000));
            let listen = format!("\nlisten = \"{address}\"");
            let toml = toml.replacen("\nlisten = \"127.0.0.1:0\"", &listen, 1);
            if let Ok((process, sms, _)) = Process::try_serve(&toml).await {
                assert_eq!(sms.address(), address);
                return Self {
                    process,
                    address,
                    toml,
                };
            }
        }
        panic!("no port is free");
    }

    async fn stop(&mut self) {
        let started = Instant::now();
        self.process.signal("TERM").await;
        let status = self.process.wait().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
        assert!(started.elapsed() < STOP);
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.process = Process::serve(&self.toml).await.0;
    }
}

/// The users who write one message after the other until the test is over.
struct Load {
    sms: Channel,
    accepted: AtomicUsize,
    is_over: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Writes as one user until the test is over, and returns the number of messages.
    async fn write(&self, user: &str) -> usize {
        let mut count = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let path = format!("/v1/users/{user}/messages");
            let request = self.sms.request(Method::POST, &path);
            let request = request
                .header("content-type", "application/json")
                .body(json!({"text": count.to_string()}).to_string());
            match try_send(request).await {
                Ok(reply) if [201, 202].contains(&reply.status) => {}
                Ok(reply) => self.fail(format!("{user} {count}: {reply:?}")),
                Err(error) => self.fail(format!("{user} {count}: {error:?}")),
            }
            self.accepted.fetch_add(1, Ordering::Relaxed);
            count += 1;
        }
        count
    }

    fn fail(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }

    async fn wait_for_more(&self) {
        let enough = self.accepted.load(Ordering::Relaxed) + SOME;
        eventually("more messages are sent", async || {
            (self.accepted.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }
}

/// Waits until nginx uses a replica again.
async fn wait_until_used(nginx: &Nginx, replica: &Replica) {
    let before = nginx.answered_by(&replica.address);
    eventually("nginx uses it again", async || {
        (nginx.answered_by(&replica.address) > before + USERS).then_some(())
    })
    .await;
}

/// Returns the texts at the Cloud by user. Asserts that no user has two conversations.
fn texts_by_user(cloud: &Cloud) -> BTreeMap<String, Vec<String>> {
    let conversations = cloud.sandbox.conversations();
    let of_user = conversations.iter().map(|conversation| {
        let user = conversation.consumer.ext_consumer_id.clone();
        (user, texts(conversation))
    });
    let texts_by_user: BTreeMap<_, _> = of_user.collect();
    assert_eq!(texts_by_user.len(), conversations.len(), "a user has two");
    texts_by_user
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request() {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(Engine::Postgres).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let mut first = Replica::start(&toml).await;
    let mut second = Replica::start(&toml).await;
    let nginx = Nginx::start(&[&first.address, &second.address]).await;
    // The Cloud's notifications go through nginx too.
    cloud.subscribe(&nginx.sms);
    let load = Arc::new(Load {
        sms: nginx.sms.clone(),
        accepted: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        failures: Mutex::default(),
    });
    let users: Vec<_> = (0..USERS)
        .map(|user| {
            let load = Arc::clone(&load);
            tokio::task::spawn(async move { load.write(&user.to_string()).await })
        })
        .collect();

    load.wait_for_more().await;
    first.restart().await;
    wait_until_used(&nginx, &first).await;
    load.wait_for_more().await;
    second.restart().await;
    wait_until_used(&nginx, &second).await;
    load.wait_for_more().await;
    load.is_over.store(true, Ordering::Relaxed);

    let mut expected = BTreeMap::new();
    for (user, writing) in users.into_iter().enumerate() {
        let texts = (0..writing.await.unwrap()).map(|text| text.to_string());
        expected.insert(format!("sms:{user}"), texts.collect::<Vec<_>>());
    }
    let failures = load.failures.lock().unwrap().join("\n");
    assert_eq!(failures, "");
    eventually("all messages are at the Cloud", async || {
        (texts_by_user(&cloud) == expected).then_some(())
    })
    .await;
    // Nothing more has arrived after both replicas have finished their work.
    first.stop().await;
    second.stop().await;
    assert_eq!(texts_by_user(&cloud), expected);
}
