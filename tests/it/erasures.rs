//! The erasure of users, possible at any time. The user is erased at once, and the conversation is
//! closed at the Cloud once the Cloud is reachable.

use chrono::TimeDelta;
use liveperson_bridge::sandbox::{Answer, Delay, Fault, Operation};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{Cloud, agent_text, send_notification, state, texts};
use crate::support::configuration::{SEALING_KEY, bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::{Process, command, run};
use crate::support::receiver::{self, Receiver, SECRET};

on_both_engines!(
    a_user_is_erased_at_once_while_the_cloud_is_unreachable,
    an_erased_users_conversation_is_closed_once_the_cloud_is_reachable,
    a_pending_close_is_sent_as_soon_as_the_cloud_recovers,
    a_repeated_erasure_attempts_the_pending_close_again,
    a_revoked_token_is_renewed_for_a_pending_close,
    an_erased_user_who_writes_again_is_a_new_user,
    a_new_message_waits_for_the_close_of_the_old_conversation,
    no_change_of_an_erased_users_conversation_is_stored,
    a_pending_close_is_given_up_after_24_hours,
    an_erasure_closes_a_conversation_that_is_being_opened,
    a_conversation_that_opens_after_the_erasure_is_closed,
    an_opening_whose_answer_was_lost_is_found_and_closed,
    without_the_monitoring_api_a_new_user_ignores_a_lost_opening,
    a_message_in_flight_does_not_restore_an_erased_user,
    no_delivery_starts_after_its_user_is_erased,
    key_rotation_encrypts_the_token_of_a_pending_close_again,
    a_pending_close_survives_a_kill,
);

const USER: &str = "/v1/users/marker-user";

fn erasure(channel: &Channel) -> reqwest::RequestBuilder {
    channel.request(Method::DELETE, USER)
}

async fn erase(channel: &Channel) -> Reply {
    send(erasure(channel)).await
}

async fn expect_no_user(channel: &Channel) {
    let shown = channel.get(USER).await;
    shown.expect_problem(404, "user-not-found");
}

/// Makes the Cloud unreachable from now on.
fn make_cloud_unreachable(cloud: &Cloud) {
    cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::new(None, Answer::Cut)
    });
}

/// Makes the Cloud leave every request to close a conversation unanswered from now on.
fn leave_closes_unanswered(cloud: &Cloud) {
    cloud.sandbox.inject(Fault {
        times: u32::MAX,
        containing: Some("conversationField".to_owned()),
        ..Fault::new(Operation::Send, Answer::Cut)
    });
}

fn restore_cloud(cloud: &Cloud) {
    drop(cloud.sandbox.withdraw_faults());
}

/// Starts a service with a user who has an open conversation, and returns it with the
/// conversation's id.
async fn opened(engine: Engine) -> (TestApp, String) {
    let app = TestApp::start(engine).await;
    let id = open(&app.sms).await;
    (app, id)
}

async fn open(channel: &Channel) -> String {
    let sent = channel.say("marker-user", "marker-text").await.expect(201);
    sent["conversation_id"].as_str().unwrap().to_owned()
}

/// Returns the Cloud's close reason of a conversation; `None` while it is open.
fn closed_by(cloud: &Cloud, id: &str) -> Option<String> {
    let conversations = cloud.sandbox.conversations();
    let found = conversations.into_iter().find(|found| found.id == id);
    found.unwrap().close_reason
}

/// Advances the clock until a conversation is closed.
async fn until_closed(cloud: &Cloud, id: &str) {
    eventually("the conversation is closed", async || {
        cloud.clock.advance(TimeDelta::milliseconds(500));
        closed_by(cloud, id)
    })
    .await;
}

/// Returns the only conversation at the Cloud besides `other`.
fn other_conversation(cloud: &Cloud, other: &str) -> liveperson_bridge::sandbox::Conversation {
    let mut conversations = cloud.sandbox.conversations();
    conversations.retain(|known| known.id != other);
    assert_eq!(conversations.len(), 1, "{conversations:#?}");
    conversations.remove(0)
}

async fn events(app: &TestApp) -> Vec<Value> {
    let page = app.sms.get("/v1/events?after=c0").await.expect(200);
    page["events"].as_array().unwrap().clone()
}

async fn a_user_is_erased_at_once_while_the_cloud_is_unreachable(engine: Engine) {
    let app = TestApp::start(engine).await;
    let open = json!({"text": "marker-text", "open": {"profile": {"first_name": "marker-name"}}});
    let path = format!("{USER}/messages");
    let sent = app.sms.post(&path, open).await.expect(201);
    let id = sent["conversation_id"].as_str().unwrap();
    send_notification(&app.sms, &agent_text(id, 7, "marker-answer"))
        .await
        .expect(200);
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    make_cloud_unreachable(&app.cloud);
    let request = app.sms.request(Method::POST, &path);
    let request = request
        .header("content-type", "application/json")
        .header("idempotency-key", "marker-key")
        .header("prefer", "respond-async")
        .body(json!({"text": "marker-later"}).to_string());
    let queued = send(request).await;
    let location = queued.headers["location"].to_str().unwrap().to_owned();
    queued.expect(202);
    assert_eq!(events(&app).await.len(), 1);

    assert_eq!(erase(&app.sms).await.expect(202), Value::Null);

    expect_no_user(&app.sms).await;
    assert_eq!(events(&app).await, [] as [Value; 0]);
    let message = app.sms.get(&location).await;
    message.expect_problem(404, "message-not-found");
    // The pending close names the conversation, but not the user.
    let dump = app.database.dump().await;
    assert!(dump.contains(id));
    for marker in ["marker", &consumer] {
        assert!(!dump.contains(marker), "{marker} is still there: {dump}");
    }
    let shown = app.admin.get("/api/overview").await.expect(200);
    let closes = &shown["accounts"][0]["erasure_closes"];
    assert_eq!(closes["waiting"], 1, "{closes}");
    let metrics = app.admin.request(Method::GET, "/metrics").send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    let gauge = "liveperson_bridge_erasure_closes{account=\"12345678\"} 1";
    assert!(metrics.contains(gauge), "{metrics}");
}

async fn an_erased_users_conversation_is_closed_once_the_cloud_is_reachable(engine: Engine) {
    let (app, id) = opened(engine).await;
    make_cloud_unreachable(&app.cloud);
    erase(&app.sms).await.expect(202);
    // A pending close does not delay a stop, and another process can carry it out.
    let (cloud, database, in_time) = app.stop().await;
    assert!(in_time);
    let app = TestApp::start_with(cloud, database).await;
    erase(&app.sms).await.expect(202);

    restore_cloud(&app.cloud);
    until_closed(&app.cloud, &id).await;

    assert_eq!(closed_by(&app.cloud, &id).as_deref(), Some("CONSUMER"));
    eventually("no pending close remains", async || {
        (!app.database.dump().await.contains(&id)).then_some(())
    })
    .await;
    erase(&app.sms).await.expect(204);
}

async fn a_pending_close_is_sent_as_soon_as_the_cloud_recovers(engine: Engine) {
    let (app, id) = opened(engine).await;
    app.sms.say("bob", "hello").await.expect(201);
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });
    erase(&app.sms).await.expect(202);
    // The state after many attempts, when the back-off has grown to minutes.
    app.database
        .execute("UPDATE pending_closes SET due_at = 4102444800000 WHERE why IS NOT NULL")
        .await;
    let composing = json!({"state": "composing"});
    let typing = async || {
        let typing = app.sms.put("/v1/users/bob/typing", composing.clone());
        typing.await.status
    };
    for _ in 0..10 {
        assert_eq!(typing().await, 503);
    }

    restore_cloud(&app.cloud);
    eventually("a request gets through", async || {
        (typing().await == 204).then_some(())
    })
    .await;

    // The clock does not advance, so no back-off ends.
    eventually("it is closed", async || closed_by(&app.cloud, &id)).await;
}

async fn a_repeated_erasure_attempts_the_pending_close_again(engine: Engine) {
    let (app, id) = opened(engine).await;
    leave_closes_unanswered(&app.cloud);
    erase(&app.sms).await.expect(202);
    erase(&app.sms).await.expect(202);

    restore_cloud(&app.cloud);

    // The clock does not advance: only the repeated erasure starts another attempt.
    eventually("the Cloud receives another request", async || {
        (erase(&app.sms).await.status == 204).then_some(())
    })
    .await;
    assert_eq!(closed_by(&app.cloud, &id).as_deref(), Some("CONSUMER"));
    assert!(!app.database.dump().await.contains(&id));
}

async fn a_revoked_token_is_renewed_for_a_pending_close(engine: Engine) {
    let (app, id) = opened(engine).await;
    app.cloud.sandbox.revoke_consumer_tokens();
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::new(Operation::ConsumerToken, Answer::Cut)
    });

    erase(&app.sms).await.expect(202);
    expect_no_user(&app.sms).await;
    restore_cloud(&app.cloud);
    until_closed(&app.cloud, &id).await;

    let tokens = app.cloud.bodies(Operation::ConsumerToken);
    let last = tokens.last().unwrap();
    assert_eq!(last["ext_consumer_id"], "sms:marker-user");
}

async fn an_erased_user_who_writes_again_is_a_new_user(engine: Engine) {
    let (app, id) = opened(engine).await;
    make_cloud_unreachable(&app.cloud);
    erase(&app.sms).await.expect(202);

    let queued = app.sms.say("marker-user", "I am new here").await;
    assert_eq!(queued.body["conversation_id"], Value::Null);
    restore_cloud(&app.cloud);
    let sent = app.wait_until(queued, "sent").await;

    let new = other_conversation(&app.cloud, &id);
    assert_eq!(closed_by(&app.cloud, &id).as_deref(), Some("CONSUMER"));
    assert_eq!(sent["conversation_id"], *new.id);
    assert_eq!(texts(&new), ["I am new here"]);
    assert_eq!(new.close_reason, None);
    let shown = app.sms.get(USER).await.expect(200);
    assert_eq!(shown["conversation"]["id"], *new.id);
    assert_eq!(shown["consumer_id"], *new.consumer.lp_consumer_id);
    // A notification about the old conversation belongs to no user.
    send_notification(&app.sms, &agent_text(&id, 9, "marker-old"))
        .await
        .expect(200);
    send_notification(&app.sms, &agent_text(&new.id, 1, "Welcome"))
        .await
        .expect(200);
    let messages: Vec<_> = events(&app).await;
    let messages = messages
        .iter()
        .filter(|event| event["type"] == "message.created");
    let messages: Vec<_> = messages
        .map(|event| event["data"]["text"].clone())
        .collect();
    assert_eq!(messages, ["Welcome"]);
    assert!(!app.database.dump().await.contains("marker-old"));
    // Only the close of the old conversation was pending, so the erasure of the new user completes
    // at once.
    erase(&app.sms).await.expect(204);
    assert_eq!(closed_by(&app.cloud, &new.id).as_deref(), Some("CONSUMER"));
}

async fn a_new_message_waits_for_the_close_of_the_old_conversation(engine: Engine) {
    let (app, id) = opened(engine).await;
    leave_closes_unanswered(&app.cloud);
    erase(&app.sms).await.expect(202);

    let first = app.sms.say("marker-user", "one").await;
    let location = first.headers["location"].to_str().unwrap().to_owned();
    first.expect(202);
    app.sms.say("marker-user", "two").await.expect(202);
    // The attempts to send it fail, and it goes to no other conversation.
    eventually("it was attempted again", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        let shown = app.sms.get(&location).await.expect(200);
        assert_eq!(shown["status"], "queued");
        (shown["timeline"].as_array().unwrap().len() > 3).then_some(())
    })
    .await;
    assert_eq!(app.cloud.texts(&id), ["marker-text"]);
    assert_eq!(app.cloud.only_conversation().id, id);

    restore_cloud(&app.cloud);
    app.wait_for_status(&location, "sent").await;

    assert_eq!(closed_by(&app.cloud, &id).as_deref(), Some("CONSUMER"));
    let new = other_conversation(&app.cloud, &id);
    eventually("both are there", async || {
        app.cloud.clock.advance(TimeDelta::milliseconds(200));
        (app.cloud.texts(&new.id) == ["one", "two"]).then_some(())
    })
    .await;
    assert_eq!(app.cloud.texts(&id), ["marker-text"]);
}

async fn no_change_of_an_erased_users_conversation_is_stored(engine: Engine) {
    let (app, id) = opened(engine).await;
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    leave_closes_unanswered(&app.cloud);
    erase(&app.sms).await.expect(202);

    let open = state(&id, &consumer, "OPEN", 1);
    for notification in [
        agent_text(&id, 7, "marker-answer"),
        open.clone(),
        agent_text(&id, 8, "marker-answer"),
    ] {
        send_notification(&app.sms, &notification).await.expect(200);
    }

    expect_no_user(&app.sms).await;
    let dump = app.database.dump().await;
    for marker in ["marker", &consumer] {
        assert!(!dump.contains(marker), "{marker} is still there: {dump}");
    }
    // The conversation may stay open for long. Its changes are never stored, no matter how long the
    // Cloud reports them.
    for number in [10, 20, 30] {
        app.cloud.clock.advance(TimeDelta::days(3));
        send_notification(&app.sms, &agent_text(&id, number, "marker-late"))
            .await
            .expect(200);
        assert!(!app.database.dump().await.contains("marker"));
        // The first round may have begun before, so two rounds are needed.
        wait_for_removal_of_old_data(&app, number).await;
        wait_for_removal_of_old_data(&app, number + 1).await;
    }
}

/// Waits until the service has removed old data: an unmatched change is removed after 10 minutes.
async fn wait_for_removal_of_old_data(app: &TestApp, number: u32) {
    let notification = agent_text("of-another-connector", number, "canary");
    send_notification(&app.sms, &notification).await.expect(200);
    assert!(app.database.dump().await.contains("canary"));
    app.cloud.clock.advance(TimeDelta::minutes(11));
    eventually("old data is removed", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        (!app.database.dump().await.contains("canary")).then_some(())
    })
    .await;
}

async fn a_pending_close_is_given_up_after_24_hours(engine: Engine) {
    let (app, id) = opened(engine).await;
    leave_closes_unanswered(&app.cloud);
    erase(&app.sms).await.expect(202);

    app.cloud.clock.advance(TimeDelta::hours(23));
    erase(&app.sms).await.expect(202);
    eventually("it is given up", async || {
        app.cloud.clock.advance(TimeDelta::minutes(2));
        (!app.database.dump().await.contains(&id)).then_some(())
    })
    .await;

    erase(&app.sms).await.expect(204);
    let metrics = app.admin.request(Method::GET, "/metrics").send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    for line in [
        "liveperson_bridge_erasure_closes_dropped_total{account=\"12345678\"} 1",
        "liveperson_bridge_erasure_closes{account=\"12345678\"} 0",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // A new user with the same id does not get the conversation either.
    assert_eq!(closed_by(&app.cloud, &id), None);
    restore_cloud(&app.cloud);
    let reply = app.sms.say("marker-user", "I am new here").await;
    let sent = match reply.status {
        201 => reply.body,
        _ => app.wait_until(reply, "sent").await,
    };
    assert_eq!(
        sent["conversation_id"],
        *other_conversation(&app.cloud, &id).id
    );
    assert!(closed_by(&app.cloud, &id).is_some());
}

/// Opens a conversation for a user in another task, and waits until the Cloud receives the request.
async fn start_opening(app: &TestApp) -> tokio::task::JoinHandle<Reply> {
    let sms = app.sms.clone();
    let opening = tokio::task::spawn(async move {
        let path = format!("{USER}/conversation");
        sms.post(&path, json!({})).await
    });
    eventually("the Cloud receives the request", async || {
        let requests = app.cloud.requests(Operation::Conversation);
        (!requests.is_empty()).then_some(())
    })
    .await;
    opening
}

fn delay_openings(cloud: &Cloud, seconds: u32) {
    let delay = Delay { seconds };
    let fault = Fault::new(Operation::Conversation, Answer::Delay(delay));
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..fault
    });
}

async fn an_erasure_closes_a_conversation_that_is_being_opened(engine: Engine) {
    let app = TestApp::start(engine).await;
    delay_openings(&app.cloud, 2);
    let opening = start_opening(&app).await;

    let sms = app.sms.clone();
    let erasing = tokio::task::spawn(async move { erase(&sms).await });
    let opened = eventually("it is opened", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        opening.is_finished().then_some(())
    });
    opened.await;

    // If the erasure comes right after the opening, the conversation is not found.
    let opened = opening.await.unwrap();
    assert!([201, 404].contains(&opened.status), "{opened:?}");
    erasing.await.unwrap().expect(204);
    expect_no_user(&app.sms).await;
    let closed = app.cloud.only_conversation();
    assert_eq!(closed.close_reason.as_deref(), Some("CONSUMER"));
}

async fn a_conversation_that_opens_after_the_erasure_is_closed(engine: Engine) {
    let app = TestApp::start(engine).await;
    delay_openings(&app.cloud, 3);
    let opening = start_opening(&app).await;

    // The erasure waits some seconds for the opening, and no longer.
    erase(&app.sms).await.expect(202);
    expect_no_user(&app.sms).await;
    app.cloud.clock.advance(TimeDelta::seconds(3));

    let opened = opening.await.unwrap();
    opened.expect_problem(503, "conversation-pending");
    expect_no_user(&app.sms).await;
    let id = app.cloud.only_conversation().id;
    until_closed(&app.cloud, &id).await;
    eventually("no pending close remains", async || {
        app.cloud.clock.advance(TimeDelta::seconds(1));
        (erase(&app.sms).await.status == 204).then_some(())
    })
    .await;
    expect_no_user(&app.sms).await;
}

async fn an_opening_whose_answer_was_lost_is_found_and_closed(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::new(Operation::Conversation, Answer::Cut)
    });
    let path = format!("{USER}/conversation");
    let lost = app.sms.post(&path, json!({})).await;
    lost.expect_problem(503, "conversation-pending");
    let id = app.cloud.only_conversation().id;

    // The opening counts as in flight for a while.
    erase(&app.sms).await.expect(202);
    expect_no_user(&app.sms).await;
    // A new message waits until then, and does not go to the conversation of that opening.
    let queued = app.sms.say("marker-user", "I am new here").await;
    assert_eq!(queued.status, 202);
    let sent = app.wait_until(queued, "sent").await;

    assert_eq!(closed_by(&app.cloud, &id).as_deref(), Some("CONSUMER"));
    let new = other_conversation(&app.cloud, &id);
    assert_eq!(sent["conversation_id"], *new.id);
    assert_eq!(new.close_reason, None);
    erase(&app.sms).await.expect(204);
}

async fn without_the_monitoring_api_a_new_user_ignores_a_lost_opening(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::status(Operation::Engagement, StatusCode::NOT_FOUND)
    });
    // The opening never reached the Cloud, but the bridge cannot know that.
    let lost = Fault::new(Operation::Conversation, Answer::Cut);
    app.cloud.sandbox.inject(lost);
    let lost = app
        .sms
        .post(&format!("{USER}/conversation"), json!({}))
        .await;
    lost.expect_problem(503, "conversation-pending");
    erase(&app.sms).await.expect(202);

    let queued = app.sms.say("marker-user", "I am new here").await;
    app.wait_until(queued, "sent").await;

    let opened = app.cloud.only_conversation();
    assert_eq!(texts(&opened), ["I am new here"]);
    assert_eq!(opened.close_reason, None);
}

async fn a_message_in_flight_does_not_restore_an_erased_user(engine: Engine) {
    let (app, id) = opened(engine).await;
    app.cloud.sandbox.inject(Fault {
        containing: Some("marker-on-its-way".to_owned()),
        after_applying: true,
        ..Fault::stall(Operation::Send)
    });
    let sms = app.sms.clone();
    let sending =
        tokio::task::spawn(async move { sms.say("marker-user", "marker-on-its-way").await });
    eventually("it is in flight", async || {
        (app.cloud.texts(&id).len() == 2).then_some(())
    })
    .await;

    erase(&app.sms).await.expect(204);

    let unsure = sending.await.unwrap();
    unsure.expect_problem(504, "cloud-outcome-unknown");
    expect_no_user(&app.sms).await;
    let dump = app.database.dump().await;
    assert!(!dump.contains("marker"), "{dump}");
}

async fn no_delivery_starts_after_its_user_is_erased(engine: Engine) {
    let receiver = Receiver::start().await;
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let secrets = format!("\"{SECRET}\"");
    let change = |toml: String| with_callback(&toml, &receiver.url, &secrets);
    let app = TestApp::start_configured(cloud, database, change).await;
    let id = open(&app.sms).await;
    let go = Arc::new(Notify::new());
    let answer = Arc::clone(&go);
    receiver.answer(move |_| receiver::Answer::Later(Arc::clone(&answer)));
    for (sequence, text) in [(7, "one"), (8, "two"), (9, "three")] {
        send_notification(&app.sms, &agent_text(&id, sequence, text))
            .await
            .expect(200);
    }
    receiver.wait_for(1).await;

    erase(&app.sms).await.expect(204);
    receiver.answer_status(200);
    go.notify_one();

    // The event of another user is delivered after all events that were due.
    let of_bob = app.sms.say("bob", "hello").await.expect(201);
    let of_bob = of_bob["conversation_id"].as_str().unwrap();
    send_notification(&app.sms, &agent_text(of_bob, 7, "to bob"))
        .await
        .expect(200);
    receiver.wait_for(2).await;
    assert_eq!(receiver.texts(), ["one", "to bob"]);
}

const OTHER_KEY: &str = "YWJjZGVmMDEyMzQ1Njc4OTAxMjM0NTY3ODlhYmNkZWY=";

async fn key_rotation_encrypts_the_token_of_a_pending_close_again(engine: Engine) {
    let (app, id) = opened(engine).await;
    app.sms.say("bob", "hello").await.expect(201);
    make_cloud_unreachable(&app.cloud);
    erase(&app.sms).await.expect(202);
    let (cloud, database, _) = app.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    let both = format!("{OTHER_KEY}\", \"{SEALING_KEY}");
    let toml = bridge_toml(&database.location, &cloud.url).replace(SEALING_KEY, &both);
    std::fs::write(&file, toml).unwrap();
    let rotated = run(command(&["rotate", "--config", file.to_str().unwrap()])).await;
    assert_eq!(rotated.code, 0, "{}", rotated.errors);
    assert!(
        rotated.output.contains("Re-encrypted 2 token(s)"),
        "{}",
        rotated.output
    );

    let change = |toml: String| toml.replace(SEALING_KEY, OTHER_KEY);
    let app = TestApp::start_configured(cloud, database, change).await;
    erase(&app.sms).await.expect(202);
    restore_cloud(&app.cloud);
    until_closed(&app.cloud, &id).await;
    assert_eq!(app.cloud.requests(Operation::ConsumerToken).len(), 2);
}

async fn a_pending_close_survives_a_kill(engine: Engine) {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    let id = open(&sms).await;
    make_cloud_unreachable(&cloud);

    erase(&sms).await.expect(202);
    process.kill().await;
    let (process, sms, _) = Process::serve(&toml).await;
    expect_no_user(&sms).await;
    erase(&sms).await.expect(202);
    restore_cloud(&cloud);

    eventually("the conversation is closed", async || {
        closed_by(&cloud, &id)
    })
    .await;
    eventually("no pending close remains", async || {
        (erase(&sms).await.status == 204).then_some(())
    })
    .await;
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_sends_the_pending_close_of_a_stopped_one() {
    let (cloud, database) = (
        Cloud::start().await,
        Database::create(Engine::Postgres).await,
    );
    let one = TestApp::start_with(cloud.clone(), database.clone()).await;
    let other = TestApp::start_with(cloud, database).await;
    let id = open(&one.sms).await;
    make_cloud_unreachable(&one.cloud);

    erase(&one.sms).await.expect(202);
    expect_no_user(&other.sms).await;
    erase(&other.sms).await.expect(202);
    one.stop().await;
    restore_cloud(&other.cloud);

    until_closed(&other.cloud, &id).await;
    let closes = other.cloud.bodies(Operation::Send);
    let closes = closes
        .iter()
        .filter(|send| send["body"]["conversationField"].is_object());
    // The close that was answered is among them. Closes without an answer may have come before it.
    assert!(closes.count() >= 1);
}
