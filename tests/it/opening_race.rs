//! The race for the opening of a conversation: one is opened, for any number of callers and
//! replicas.

use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::store::Lease;
use liveperson_bridge::types::ids::UserKey;
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::channel::Channel;
use crate::support::cloud::{ACCOUNT, Cloud};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    forty_first_messages_at_once_open_one_conversation,
    forty_openings_at_once_open_one_conversation,
    messages_that_share_a_failed_opening_wait_for_the_next_one,
    an_opening_completes_after_its_caller_hangs_up,
    another_replica_takes_over_a_lane_when_its_lease_expires,
);

/// Sends forty first messages of one user at once, over these channels in turn, and asserts that
/// all are sent.
async fn send_forty(channels: &[Channel]) {
    let mut sends = JoinSet::new();
    for number in 0..40 {
        let channel = channels[number % channels.len()].clone();
        sends.spawn(async move {
            let sent = channel.say("ada", &format!("message {number}")).await;
            sent.expect(201)["sequence"].as_u64().unwrap()
        });
    }
    let mut sequences = sends.join_all().await;
    sequences.sort_unstable();
    assert_eq!(sequences, (0..40).collect::<Vec<_>>());
}

fn assert_forty_in_one(cloud: &Cloud) {
    let conversation = cloud.only_conversation();
    let mut texts = cloud.texts(&conversation.id);
    texts.sort();
    let mut expected: Vec<_> = (0..40).map(|number| format!("message {number}")).collect();
    expected.sort();
    assert_eq!(texts, expected);
    // No second conversation was requested, and no token was obtained twice.
    assert_eq!(cloud.requests(Operation::Conversation).len(), 1);
    assert_eq!(cloud.requests(Operation::ConsumerToken).len(), 1);
}

async fn forty_first_messages_at_once_open_one_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;

    send_forty(std::slice::from_ref(&app.sms)).await;

    assert_forty_in_one(&app.cloud);
    assert_eq!(app.cloud.requests(Operation::AppToken).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_first_messages_at_two_processes_open_one_conversation() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    // Both migrate the same empty database when they start.
    let ((_first, sms, _), (_second, sms_too, _)) =
        tokio::join!(Process::serve(&toml), Process::serve(&toml));

    send_forty(&[sms, sms_too]).await;

    assert_forty_in_one(&cloud);
}

async fn forty_openings_at_once_open_one_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;

    let mut openings = JoinSet::new();
    for _ in 0..40 {
        let sms = app.sms.clone();
        openings.spawn(async move { sms.post("/v1/users/ada/conversation", json!({})).await });
    }
    let replies = openings.join_all().await;

    let opened = app.cloud.only_conversation().id;
    assert!(replies.iter().all(|reply| reply.body["id"] == *opened));
    let created = replies.iter().filter(|reply| reply.status == 201).count();
    let found = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((created, found), (1, 39));
}

async fn messages_that_share_a_failed_opening_wait_for_the_next_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.get("/v1/users/nobody").await.expect(404);
    app.cloud.sandbox.inject(Fault::status(
        Operation::Conversation,
        StatusCode::SERVICE_UNAVAILABLE,
    ));

    let mut sends = JoinSet::new();
    for number in 0..10 {
        let sms = app.sms.clone();
        sends.spawn(async move { sms.say("ada", &format!("message {number}")).await });
    }
    let replies = sends.join_all().await;

    // A caller that comes while the first opening fails shares the failure. A later one is queued,
    // or shares the next opening.
    let mut waiting = 0;
    for reply in replies {
        if reply.status == 202 {
            waiting += 1;
            app.wait_until(reply, "sent").await;
        } else {
            reply.expect(201);
        }
    }
    assert!(waiting >= 1);
    let conversation = app.cloud.only_conversation();
    assert_eq!(app.cloud.texts(&conversation.id).len(), 10);
}

async fn an_opening_completes_after_its_caller_hangs_up(engine: Engine) {
    let app = TestApp::start(engine).await;
    let impatient = app
        .sms
        .request(reqwest::Method::POST, "/v1/users/ada/messages")
        .header("content-type", "application/json")
        .body(r#"{"text": "hello"}"#)
        .send();

    {
        let sending = std::pin::pin!(impatient);
        let requested = eventually("the Cloud receives the request", async || {
            let requests = app.cloud.requests(Operation::Conversation);
            (!requests.is_empty()).then_some(())
        });
        // In both cases the caller has disconnected afterwards.
        tokio::select! {
            _ = sending => {}
            () = requested => {}
        }
    }

    let id = eventually("the conversation is stored", async || {
        let reply = app.sms.get("/v1/users/ada/conversation").await;
        reply.body["id"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(id, app.cloud.only_conversation().id);
}

async fn another_replica_takes_over_a_lane_when_its_lease_expires(engine: Engine) {
    let app = TestApp::start(engine).await;
    let key = UserKey {
        account_id: ACCOUNT.parse().unwrap(),
        namespace: "sms".parse().unwrap(),
        user_id: "ada".parse().unwrap(),
    };
    let now = app.cloud.clock.now();
    let lease = Lease {
        id: "a replica that died".to_owned(),
        until: now + TimeDelta::seconds(15),
    };
    let user = app.store().ensure_user(&key, now).await.unwrap();
    assert!(app.store().claim_lane(user, &lease, now).await.unwrap());

    let sms = app.sms.clone();
    let mut sending = std::pin::pin!(sms.say("ada", "hello"));
    let polls = 20;
    for _ in 0..polls {
        // Each of these requests gives the service time to poll the lane again.
        tokio::select! {
            reply = &mut sending => panic!("sent while the lane was another's: {reply:?}"),
            _ = app.sms.get("/v1/users/ada") => {}
        }
    }
    assert!(app.cloud.requests(Operation::Conversation).is_empty());
    app.cloud.clock.advance(TimeDelta::seconds(15));

    sending.await.expect(201);
    assert_eq!(
        app.cloud.texts(&app.cloud.only_conversation().id),
        ["hello"]
    );
}
