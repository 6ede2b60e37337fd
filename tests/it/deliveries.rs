//! Deliveries: events reach the channel's callback, signed, in each user's order, with attempts
//! until they arrive or expire.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use liveperson_bridge::clock::{Clock as _, SystemClock};
use liveperson_bridge::sandbox::Operation;
use liveperson_bridge::store::{NewEvent, Store};
use liveperson_bridge::types::audit::{Action, Actor, Entry, EntryId};
use liveperson_bridge::types::delivery::{DeliveryState, EventRecord};
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::ids::{ChannelId, UserKey};
use liveperson_bridge::types::trace::TraceContext;
use reqwest::Url;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::cloud::{ACCOUNT, Cloud};
use crate::support::configuration::{bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Answer, Received, Receiver, SECRET};

on_both_engines!(
    a_callback_request_carries_the_event_and_its_signature,
    each_of_two_callback_secrets_signs,
    a_users_events_keep_their_order_despite_failures,
    a_hanging_callback_of_one_user_does_not_delay_others,
    a_backlog_of_other_users_does_not_delay_a_user,
    a_failed_delivery_is_repeated_with_growing_back_off,
    a_repeated_delivery_differs_only_in_attempt_and_time,
    retry_after_is_honoured_in_seconds_and_as_a_date,
    an_answer_of_410_pauses_the_callback_until_it_is_resumed,
    an_answer_of_422_fails_one_event_and_notifies_the_agent,
    a_redirect_is_a_failure_and_is_not_followed,
    a_callbacks_status_counts_despite_many_or_large_headers,
    a_callback_request_times_out_after_ten_seconds,
    an_unreachable_callback_is_called_again,
    callbacks_at_private_addresses_are_not_called,
    twenty_failures_open_a_callbacks_circuit_breaker,
    a_typing_event_has_one_attempt,
    an_expired_typing_event_is_dropped,
    an_expired_message_fails_and_the_agent_is_notified,
    events_expire_while_their_callback_is_paused,
    a_restarted_service_delivers_the_remaining_events,
    events_of_a_channel_without_a_callback_are_not_delivered,
);

/// The age up to which events are delivered: longer than any pause between two attempts.
const MAX_AGE: TimeDelta = TimeDelta::hours(72);

/// The service with a channel's callback.
struct Bed {
    app: TestApp,
    receiver: Receiver,
}

impl Bed {
    async fn start(engine: Engine) -> Self {
        let receiver = Receiver::start().await;
        let app = start(engine, &receiver.url).await;
        Self { app, receiver }
    }

    fn now(&self) -> DateTime<Utc> {
        self.app.cloud.clock.now()
    }

    fn advance(&self, milliseconds: i64) {
        let by = TimeDelta::milliseconds(milliseconds);
        self.app.cloud.clock.advance(by);
    }

    /// Returns the audit log entry for an operator's action at this time.
    fn entry(&self, action: Action) -> Entry {
        Entry {
            id: EntryId::new(Uuid::new_v4()),
            at: self.now(),
            actor: Actor::Command,
            channel_id: None,
            action,
            request_id: None,
        }
    }

    /// Appends an agent's message to a user, and returns the event's id.
    async fn append_text(&self, user: &str, text: &str) -> EventId {
        append_text(self.app.store(), user, text, self.now()).await
    }

    async fn record(&self, id: EventId) -> EventRecord {
        let record = self.app.store().event(&sms(), id).await.unwrap();
        record.unwrap()
    }

    async fn wait_for_state(&self, id: EventId, state: DeliveryState) -> EventRecord {
        eventually(&format!("{state:?}"), async || {
            let record = self.record(id).await;
            (record.delivery == Some(state)).then_some(record)
        })
        .await
    }

    /// Waits until this number of attempts of an event is recorded.
    async fn wait_for_attempts(&self, id: EventId, times: usize) -> EventRecord {
        eventually(&format!("{times} tries"), async || {
            let record = self.record(id).await;
            (record.attempts.len() >= times).then_some(record)
        })
        .await
    }

    /// Waits for a round of due work after this call. For this, appends an event of another user
    /// and waits for its delivery.
    async fn wait_for_round(&self) {
        let probe = Uuid::new_v4().to_string();
        let id = self.append_text(&probe, "probe").await;
        self.wait_for_state(id, DeliveryState::Delivered).await;
    }

    /// Returns the texts of a user's received events, in order, with repeats.
    fn texts_of(&self, user: &str) -> Vec<String> {
        let received = self.receiver.received();
        let theirs = received.iter().filter(|received| user_of(received) == user);
        theirs.map(Received::text).collect()
    }

    /// Returns the bodies of the receipts that the Cloud received for an agent's messages.
    fn receipts(&self) -> Vec<Value> {
        let sends = self.app.cloud.bodies(Operation::Send);
        sends
            .into_iter()
            .map(|send| send["body"].clone())
            .filter(|body| body["event"]["type"] == "AcceptStatusEvent")
            .collect()
    }
}

fn sms() -> ChannelId {
    "sms".parse().unwrap()
}

fn user_of(received: &Received) -> String {
    received.json()["user_id"].as_str().unwrap().to_owned()
}

async fn start(engine: Engine, url: &str) -> TestApp {
    let secret = format!("\"{SECRET}\"");
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    TestApp::start_configured(cloud, database, |toml| with_callback(&toml, url, &secret)).await
}

/// Returns a `message.created` event of a user. Its conversation does not exist unless the test
/// replaces it.
async fn event(store: &Store, user: &str, text: &str, now: DateTime<Utc>) -> NewEvent {
    let key = UserKey {
        account_id: ACCOUNT.parse().unwrap(),
        namespace: "sms".parse().unwrap(),
        user_id: user.parse().unwrap(),
    };
    let id = EventId::new(Uuid::new_v4());
    let body = json!({
        "id": id.to_string(), "type": "message.created", "channel": "sms", "user_id": user,
        "conversation_id": "c1", "occurred_at": now,
        "data": {"sequence": 3, "dialog_id": "c1", "sender": {"role": "agent"}, "text": text},
    });
    NewEvent {
        id,
        channel_id: sms(),
        user: Some(store.ensure_user(&key, now).await.unwrap()),
        kind: EventType::MessageCreated,
        body: body.to_string(),
        parent: Some(TraceContext {
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            tracestate: Some("rojo=1".to_owned()),
        }),
        deliver_until: Some(now + MAX_AGE),
    }
}

async fn append_one(store: &Store, event: &NewEvent, now: DateTime<Utc>) -> EventId {
    let events = std::slice::from_ref(event);
    append(store, events, now).await;
    event.id
}

async fn append_text(store: &Store, user: &str, text: &str, now: DateTime<Utc>) -> EventId {
    let event = event(store, user, text, now).await;
    append_one(store, &event, now).await
}

async fn a_callback_request_carries_the_event_and_its_signature(engine: Engine) {
    let bed = Bed::start(engine).await;
    let created = event(bed.app.store(), "ada", "Zoë 👋", bed.now()).await;

    append_one(bed.app.store(), &created, bed.now()).await;

    let received = bed.receiver.wait_for(1).await.remove(0);
    assert_eq!(received.body, created.body.as_bytes());
    assert_eq!(received.path, "/callback");
    assert_eq!(received.header("webhook-id"), created.id.to_string());
    assert_eq!(received.header("webhook-attempt"), "1");
    let timestamp = bed.now().timestamp().to_string();
    assert_eq!(received.header("webhook-timestamp"), timestamp);
    assert_eq!(received.header("content-type"), "application/json");
    let agent = received.header("user-agent");
    assert!(agent.starts_with("liveperson-bridge/"), "{agent}");
    let traceparent = received.header("traceparent");
    assert!(
        traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{traceparent}"
    );
    assert!(!traceparent.contains("b7ad6b7169203331"), "{traceparent}");
    assert_eq!(received.header("tracestate"), "rojo=1");
    let webhook = Webhook::new(SECRET).unwrap();
    webhook.verify(&received.body, &received.headers).unwrap();
    let record = bed
        .wait_for_state(created.id, DeliveryState::Delivered)
        .await;
    assert_eq!(record.attempts.len(), 1);
    assert_eq!(record.attempts[0].status, Some(200));
    assert_eq!(record.attempts[0].at, bed.now());
}

async fn each_of_two_callback_secrets_signs(engine: Engine) {
    let receiver = Receiver::start().await;
    let secrets = [SECRET, "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"];
    let toml = format!("{secrets:?}");
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let app = TestApp::start_configured(cloud, database, |bridge| {
        with_callback(&bridge, &receiver.url, &toml)
    })
    .await;

    append_text(app.store(), "ada", "hello", app.cloud.clock.now()).await;

    let request = receiver.wait_for(1).await.remove(0);
    for secret in secrets {
        let webhook = Webhook::new(secret).unwrap();
        webhook.verify(&request.body, &request.headers).unwrap();
    }
    let other = Webhook::new("whsec_BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE").unwrap();
    assert!(other.verify(&request.body, &request.headers).is_err());
}

async fn a_users_events_keep_their_order_despite_failures(engine: Engine) {
    const USERS: usize = 5;
    const EVENTS: usize = 6;
    let bed = Bed::start(engine).await;
    let mut counts = HashMap::new();
    // The number of failures differs from event to event.
    bed.receiver.answer(move |received| {
        let text = received.text();
        let attempts: &mut u32 = counts.entry(text.clone()).or_default();
        *attempts += 1;
        let failures = text.bytes().map(u32::from).sum::<u32>() % 3;
        Answer::status(if *attempts <= failures { 503 } else { 200 })
    });

    let mut ids = Vec::new();
    for number in 0..EVENTS {
        for user in 0..USERS {
            let text = format!("{user}-{number}");
            ids.push(bed.append_text(&user.to_string(), &text).await);
        }
    }

    eventually("all are delivered", async || {
        let schedule = bed.app.store().callback_schedule(&sms()).await.unwrap();
        if schedule.due_at.is_some_and(|due_at| due_at > bed.now()) {
            // Less than the duration of a lease, so that no lease expires.
            bed.advance(2000);
        }
        schedule.due_at.is_none().then_some(())
    })
    .await;
    for user in 0..USERS {
        let mut texts = bed.texts_of(&user.to_string());
        texts.dedup();
        let expected: Vec<_> = (0..EVENTS).map(|n| format!("{user}-{n}")).collect();
        assert_eq!(texts, expected, "one was sent before the one before it");
    }
    for id in ids {
        let record = bed.record(id).await;
        assert_eq!(record.delivery, Some(DeliveryState::Delivered));
    }
}

async fn a_hanging_callback_of_one_user_does_not_delay_others(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.receiver.answer(|received| match &*user_of(received) {
        "ada" => Answer::Stall,
        "bob" => Answer::status(500),
        _ => Answer::status(200),
    });
    for text in ["1", "2"] {
        bed.append_text("ada", text).await;
        bed.append_text("bob", text).await;
    }
    bed.receiver.wait_for(2).await;

    let (first, second) = (
        bed.append_text("eve", "1").await,
        bed.append_text("eve", "2").await,
    );

    bed.wait_for_state(first, DeliveryState::Delivered).await;
    bed.wait_for_state(second, DeliveryState::Delivered).await;
    assert_eq!(bed.texts_of("eve"), ["1", "2"]);
    assert_eq!(bed.texts_of("ada"), ["1"]);
    assert_eq!(bed.texts_of("bob"), ["1"]);
}

async fn a_backlog_of_other_users_does_not_delay_a_user(engine: Engine) {
    const USERS: usize = 64;
    const EVENTS: usize = 16;
    let bed = Bed::start(engine).await;
    let mut gathered = Vec::new();
    for user in 0..USERS {
        for _ in 0..EVENTS {
            let user = user.to_string();
            gathered.push(event(bed.app.store(), &user, "gathered", bed.now()).await);
        }
    }
    let store = bed.app.store();
    append(store, &gathered, bed.now()).await;
    bed.receiver.wait_for(1).await;

    let id = bed.append_text("newcomer", "hello").await;
    // From now on, a released lane is due after the new user's lane.
    bed.advance(1);

    bed.wait_for_state(id, DeliveryState::Delivered).await;
    let texts = bed.receiver.texts();
    let before = texts.iter().position(|text| text == "hello").unwrap();
    assert!(before < USERS * EVENTS * 3 / 4, "{before} before it");
    bed.receiver.wait_for(USERS * EVENTS + 1).await;
}

/// Answers the requests for `ada` with this status, and accepts all others.
fn fail_ada(receiver: &Receiver, status: u16, headers: &[(&'static str, String)]) {
    let headers = headers.to_vec();
    receiver.answer(move |received| match &*user_of(received) {
        "ada" => Answer::Status(status, headers.clone()),
        _ => Answer::status(200),
    });
}

async fn a_failed_delivery_is_repeated_with_growing_back_off(engine: Engine) {
    let bed = Bed::start(engine).await;
    fail_ada(&bed.receiver, 500, &[]);
    let id = bed.append_text("ada", "hello").await;
    bed.wait_for_attempts(id, 1).await;

    for (tries, pause) in (1..).zip([1000, 2000, 4000, 8000, 16_000]) {
        bed.advance(pause * 79 / 100);
        bed.wait_for_round().await;
        assert_eq!(bed.texts_of("ada").len(), tries, "too early");
        bed.advance(pause * 42 / 100);
        bed.wait_for_attempts(id, tries + 1).await;
    }

    let record = bed.record(id).await;
    assert_eq!(record.delivery, Some(DeliveryState::Pending));
    assert!(record.attempts.iter().all(|a| a.status == Some(500)));
}

async fn a_repeated_delivery_differs_only_in_attempt_and_time(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.receiver.answer_status(500);
    let id = bed.append_text("ada", "hello").await;
    bed.wait_for_attempts(id, 1).await;

    bed.receiver.answer_status(200);
    bed.advance(2000);
    bed.wait_for_state(id, DeliveryState::Delivered).await;

    let [first, second] = &bed.receiver.received()[..] else {
        panic!("two requests");
    };
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(second.header("webhook-attempt"), "2");
    assert_eq!(
        second.header("webhook-timestamp"),
        bed.now().timestamp().to_string()
    );
    let webhook = Webhook::new(SECRET).unwrap();
    webhook.verify(&second.body, &second.headers).unwrap();
}

async fn retry_after_is_honoured_in_seconds_and_as_a_date(engine: Engine) {
    let bed = Bed::start(engine).await;
    let date = bed.now() + TimeDelta::seconds(91);
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    fail_ada(&bed.receiver, 503, &[("retry-after", "30".to_owned())]);
    let id = bed.append_text("ada", "hello").await;
    bed.wait_for_attempts(id, 1).await;

    bed.advance(29_900);
    bed.wait_for_round().await;
    assert_eq!(bed.texts_of("ada").len(), 1);
    fail_ada(&bed.receiver, 429, &[("retry-after", date)]);
    bed.advance(100);
    bed.wait_for_attempts(id, 2).await;
    bed.advance(59_900);
    bed.wait_for_round().await;
    assert_eq!(bed.texts_of("ada").len(), 2);

    bed.advance(1100);
    bed.wait_for_attempts(id, 3).await;
}

async fn an_answer_of_410_pauses_the_callback_until_it_is_resumed(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.receiver.answer_status(410);
    let first = bed.append_text("ada", "1").await;
    bed.wait_for_attempts(first, 1).await;

    bed.receiver.answer_status(200);
    let later = [
        bed.append_text("ada", "2").await,
        bed.append_text("bob", "1").await,
    ];
    bed.advance(3_600_000);
    let schedule = bed.app.store().callback_schedule(&sms()).await.unwrap();
    assert!(schedule.paused);
    assert_eq!(
        bed.record(first).await.delivery,
        Some(DeliveryState::Pending)
    );
    assert_eq!(bed.receiver.received().len(), 1);
    let now = bed.now();
    let resumed = bed.entry(Action::ResumeDeliveries);
    let store = bed.app.store();
    store.resume_callback(&sms(), now, &resumed).await.unwrap();

    bed.wait_for_state(first, DeliveryState::Delivered).await;
    for id in later {
        let record = bed.wait_for_state(id, DeliveryState::Delivered).await;
        assert_eq!(record.attempts.len(), 1, "nothing was sent meanwhile");
    }
    assert_eq!(bed.texts_of("ada"), ["1", "1", "2"]);
}

/// Returns an event of an agent's message in a user's open conversation, with this sequence, and
/// the conversation's id.
async fn message_in_conversation(bed: &Bed, user: &str, sequence: u32) -> (NewEvent, Value) {
    let sent = bed.app.sms.say(user, "hello").await.expect(201);
    let conversation = sent["conversation_id"].clone();
    let mut event = event(bed.app.store(), user, "hello", bed.now()).await;
    let mut body: Value = serde_json::from_str(&event.body).unwrap();
    body["conversation_id"] = conversation.clone();
    body["data"]["dialog_id"] = conversation.clone();
    body["data"]["sequence"] = sequence.into();
    event.body = body.to_string();
    (event, conversation)
}

async fn eventually_nacked(bed: &Bed, conversation: &Value, sequence: u32) {
    let receipts = eventually("the agent is notified", async || {
        let receipts = bed.receipts();
        (!receipts.is_empty()).then_some(receipts)
    })
    .await;
    let nack = json!({"type": "AcceptStatusEvent", "status": "NACK", "sequenceList": [sequence]});
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(receipts[0]["event"], nack);
    assert_eq!(receipts[0]["dialogId"], *conversation);
}

async fn an_answer_of_422_fails_one_event_and_notifies_the_agent(engine: Engine) {
    let bed = Bed::start(engine).await;
    let (refused, conversation) = message_in_conversation(&bed, "ada", 7).await;
    let mut first = true;
    bed.receiver.answer(move |_| {
        let status = if first { 422 } else { 200 };
        first = false;
        Answer::status(status)
    });

    append_one(bed.app.store(), &refused, bed.now()).await;
    let next = bed.append_text("ada", "next").await;

    let record = bed.wait_for_state(refused.id, DeliveryState::Failed).await;
    let failure = record.failure.unwrap();
    assert_eq!(failure, "refused by the channel (422)");
    assert_eq!(record.attempts.len(), 1);
    bed.wait_for_state(next, DeliveryState::Delivered).await;
    eventually_nacked(&bed, &conversation, 7).await;
}

async fn a_redirect_is_a_failure_and_is_not_followed(engine: Engine) {
    let bed = Bed::start(engine).await;
    let elsewhere = bed.receiver.url.replace("/callback", "/elsewhere");
    fail_ada(&bed.receiver, 307, &[("location", elsewhere)]);

    let id = bed.append_text("ada", "hello").await;

    let record = bed.wait_for_attempts(id, 1).await;
    assert_eq!(record.delivery, Some(DeliveryState::Pending));
    assert_eq!(record.attempts[0].status, Some(307));
    bed.wait_for_round().await;
    let paths: Vec<_> = bed.receiver.received();
    assert!(paths.iter().all(|received| received.path == "/callback"));
}

/// Starts a server that answers each connection with the next of these texts, byte for byte.
/// Returns its URL.
async fn answering(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    tokio::task::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim_end().parse().unwrap();
                }
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            // The service closes the connection once the head is too large.
            let _written = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

async fn a_callbacks_status_counts_despite_many_or_large_headers(engine: Engine) {
    let head = |status: &str, fields: usize, bytes: usize| {
        let value = "v".repeat(bytes);
        let fields = (0..fields).map(|number| format!("X-{number}: {value}\r\n"));
        let fields = fields.collect::<Vec<_>>().concat();
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let url = answering(vec![
        head("200 OK", 101, 10),
        head("204 No Content", 1000, 20),
        head("200 OK", 50, 4000),
        head("422 Unprocessable Content", 500, 10),
        head("200 OK", 2000, 10),
        head("200 OK", 0, 0),
    ])
    .await;
    let app = start(engine, &url).await;
    let now = app.cloud.clock.now();
    let becomes = async |id: EventId, state: DeliveryState| {
        eventually(&format!("{state:?}"), async || {
            let record = app.store().event(&sms(), id).await.unwrap().unwrap();
            (record.delivery == Some(state)).then_some(record)
        })
        .await
    };

    for (state, status) in [
        (DeliveryState::Delivered, 200),
        (DeliveryState::Delivered, 204),
        (DeliveryState::Delivered, 200),
        (DeliveryState::Failed, 422),
    ] {
        let id = append_text(app.store(), "ada", "hello", now).await;

        let record = becomes(id, state).await;
        assert_eq!(record.attempts.len(), 1, "{:?}", record.attempts);
        assert_eq!(record.attempts[0].status, Some(status));
    }
    // The size of the head is limited nevertheless.
    let id = append_text(app.store(), "ada", "hello", now).await;
    eventually("an attempt has failed", async || {
        let record = app.store().event(&sms(), id).await.unwrap().unwrap();
        (record.attempts.len() == 1).then_some(())
    })
    .await;
    app.cloud.clock.advance(TimeDelta::seconds(2));
    let record = becomes(id, DeliveryState::Delivered).await;
    assert_eq!(record.attempts[0].status, None);
    let error = record.attempts[0].error.as_deref().unwrap();
    assert!(error.contains("head is too large"), "{error}");
    assert_eq!(record.attempts[1].status, Some(200));
}

async fn a_callback_request_times_out_after_ten_seconds(engine: Engine) {
    let bed = Bed::start(engine).await;
    let mut first = true;
    bed.receiver.answer(move |_| {
        if std::mem::take(&mut first) {
            Answer::Stall
        } else {
            Answer::status(200)
        }
    });
    let id = bed.append_text("ada", "hello").await;

    let record = bed.wait_for_attempts(id, 1).await;

    assert_eq!(record.delivery, Some(DeliveryState::Pending));
    let attempt = &record.attempts[0];
    assert_eq!(attempt.status, None);
    assert_eq!(attempt.error.as_deref(), Some("no answer within 10 s"));
    assert!((9900..12_000).contains(&attempt.duration_ms), "{attempt:?}");
    bed.advance(2000);
    bed.wait_for_state(id, DeliveryState::Delivered).await;
}

async fn an_unreachable_callback_is_called_again(engine: Engine) {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", closed.local_addr().unwrap());
    drop(closed);
    let app = start(engine, &url).await;
    let receiver = Receiver::start().await;
    let bed = Bed { app, receiver };

    let id = bed.append_text("ada", "hello").await;

    let record = bed.wait_for_attempts(id, 1).await;
    assert_eq!(record.delivery, Some(DeliveryState::Pending));
    let error = record.attempts[0].error.clone().unwrap();
    assert!(
        error.starts_with("the connection could not be established: "),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
    bed.advance(2000);
    bed.wait_for_attempts(id, 2).await;
}

async fn callbacks_at_private_addresses_are_not_called(engine: Engine) {
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let receiver = Receiver::start().await;
        let mut url: Url = receiver.url.parse().unwrap();
        url.set_host(Some(host)).unwrap();
        let secret = format!("\"{SECRET}\"");
        let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
        let app = TestApp::start_configured(cloud, database, |toml| {
            let toml = with_callback(&toml, url.as_str(), &secret);
            toml.replace("[\"127.0.0.0/8\"]", "[\"10.0.0.0/8\"]")
        })
        .await;
        let bed = Bed { app, receiver };

        let id = bed.append_text("ada", "hello").await;

        let record = bed.wait_for_attempts(id, 1).await;
        let error = record.attempts[0].error.clone().unwrap();
        assert!(error.contains("allow_private_callbacks"), "{host}: {error}");
        assert_eq!(record.delivery, Some(DeliveryState::Pending));
        assert_eq!(bed.receiver.received().len(), 0);
    }
}

async fn twenty_failures_open_a_callbacks_circuit_breaker(engine: Engine) {
    const USERS: usize = 30;
    let bed = Bed::start(engine).await;
    bed.receiver.answer_status(503);
    let mut ids = Vec::new();
    for user in 0..USERS {
        ids.push(bed.append_text(&user.to_string(), "hello").await);
    }
    let failures = async |expected| {
        eventually(&format!("{expected} failures"), async || {
            let schedule = bed.app.store().callback_schedule(&sms()).await.unwrap();
            // While a probe is in flight, `probe_at` is later than for any scheduled probe.
            let latest_probe = bed.now() + TimeDelta::seconds(9);
            let scheduled = schedule.probe_at.is_none_or(|at| at <= latest_probe);
            (schedule.failures == expected && scheduled).then_some(())
        })
        .await;
    };
    failures(20).await;
    let before = eventually("attempts in flight are settled", async || {
        let mut attempts = 0;
        for id in &ids {
            attempts += bed.record(*id).await.attempts.len();
        }
        (attempts == bed.receiver.received().len()).then_some(attempts)
    })
    .await;

    // All events are due now; only a probe is sent.
    bed.advance(10_000);
    failures(21).await;
    assert_eq!(bed.receiver.received().len(), before + 1);
    bed.advance(10_000);
    failures(22).await;
    assert_eq!(bed.receiver.received().len(), before + 2);
    bed.receiver.answer_status(200);
    bed.advance(10_000);

    for id in ids {
        bed.wait_for_state(id, DeliveryState::Delivered).await;
    }
    failures(0).await;
}

async fn typing(bed: &Bed, until: TimeDelta) -> NewEvent {
    NewEvent {
        kind: EventType::TypingChanged,
        deliver_until: Some(bed.now() + until),
        ..event(bed.app.store(), "ada", "typing", bed.now()).await
    }
}

async fn a_typing_event_has_one_attempt(engine: Engine) {
    let bed = Bed::start(engine).await;
    fail_ada(&bed.receiver, 500, &[]);
    let typing = typing(&bed, TimeDelta::seconds(10)).await;

    let typing = append_one(bed.app.store(), &typing, bed.now()).await;

    let record = bed.wait_for_state(typing, DeliveryState::Dropped).await;
    assert_eq!(record.attempts.len(), 1);
    bed.receiver.answer_status(200);
    let next = bed.append_text("ada", "next").await;
    bed.advance(2000);
    bed.wait_for_state(next, DeliveryState::Delivered).await;
    assert_eq!(bed.texts_of("ada"), ["typing", "next"]);
}

async fn an_expired_typing_event_is_dropped(engine: Engine) {
    let bed = Bed::start(engine).await;
    let typing = typing(&bed, TimeDelta::zero()).await;

    let typing = append_one(bed.app.store(), &typing, bed.now()).await;
    let next = bed.append_text("ada", "next").await;

    bed.wait_for_state(next, DeliveryState::Delivered).await;
    let record = bed.record(typing).await;
    assert_eq!(record.delivery, Some(DeliveryState::Dropped));
    assert_eq!(record.attempts, []);
    assert_eq!(bed.texts_of("ada"), ["next"]);
}

async fn an_expired_message_fails_and_the_agent_is_notified(engine: Engine) {
    let bed = Bed::start(engine).await;
    let (old, conversation) = message_in_conversation(&bed, "ada", 9).await;
    fail_ada(&bed.receiver, 500, &[]);
    append_one(bed.app.store(), &old, bed.now()).await;
    bed.wait_for_attempts(old.id, 1).await;

    bed.app.cloud.clock.advance(MAX_AGE);

    let record = bed.wait_for_state(old.id, DeliveryState::Failed).await;
    assert_eq!(record.failure.as_deref(), Some("too old"));
    assert_eq!(record.attempts.len(), 1);
    eventually_nacked(&bed, &conversation, 9).await;
    // The failed delivery is stored and can be retried.
    bed.receiver.answer_status(200);
    let until = bed.now() + MAX_AGE;
    let store = bed.app.store();
    let action = Action::RetryDelivery {
        event_id: old.id,
        kind: old.kind.as_str().to_owned(),
    };
    let entry = bed.entry(action);
    let sms = sms();
    let retried = store.retry_delivery(&sms, old.id, bed.now(), until, &entry);
    assert_eq!(retried.await.unwrap(), Some(true));
    bed.wait_for_state(old.id, DeliveryState::Delivered).await;
}

async fn events_expire_while_their_callback_is_paused(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.receiver.answer_status(410);
    let id = bed.append_text("ada", "hello").await;
    bed.wait_for_attempts(id, 1).await;

    bed.app
        .cloud
        .clock
        .advance(MAX_AGE + TimeDelta::seconds(30));

    let record = bed.wait_for_state(id, DeliveryState::Failed).await;
    assert_eq!(record.failure.as_deref(), Some("too old"));
    assert_eq!(bed.receiver.received().len(), 1);
}

async fn a_restarted_service_delivers_the_remaining_events(engine: Engine) {
    let bed = Bed::start(engine).await;
    let now = Arc::new(Notify::new());
    let wait = Arc::clone(&now);
    bed.receiver
        .answer(move |_| Answer::Later(Arc::clone(&wait)));
    for text in ["1", "2", "3"] {
        bed.append_text("ada", text).await;
    }
    bed.receiver.wait_for(1).await;

    let stopping = tokio::task::spawn(bed.app.stop());
    bed.receiver.answer_status(200);
    now.notify_one();
    let (cloud, database, in_time) = stopping.await.unwrap();

    assert!(in_time);
    let sent = bed.receiver.texts();
    assert!(sent.len() < 3, "it went on: {sent:?}");
    let url = bed.receiver.url.clone();
    let secret = format!("\"{SECRET}\"");
    // The clock does not advance, so no lease expires.
    let _app =
        TestApp::start_configured(cloud, database, |toml| with_callback(&toml, &url, &secret))
            .await;
    bed.receiver.wait_for(3).await;
    assert_eq!(bed.receiver.texts(), ["1", "2", "3"]);
}

async fn events_of_a_channel_without_a_callback_are_not_delivered(engine: Engine) {
    let bed = Bed::start(engine).await;
    let other = NewEvent {
        channel_id: "app".parse().unwrap(),
        ..event(bed.app.store(), "ada", "other", bed.now()).await
    };

    append_one(bed.app.store(), &other, bed.now()).await;
    bed.wait_for_round().await;

    assert_eq!(bed.receiver.texts(), ["probe"]);
}

/// Returns the configuration, the store and the receiver of replicas that share one PostgreSQL.
async fn replica() -> (String, Store, Receiver) {
    let receiver = Receiver::start().await;
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let toml = with_callback(&toml, &receiver.url, &format!("\"{SECRET}\""));
    (toml, database.store().await, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replicas_deliveries_continue_within_fifteen_seconds() {
    let (toml, store, receiver) = replica().await;
    let (first, _, _) = Process::serve(&toml).await;
    receiver.answer(|_| Answer::Stall);
    for text in ["1", "2"] {
        append_text(&store, "ada", text, SystemClock.now()).await;
    }
    receiver.wait_for(1).await;
    let taken = SystemClock.now();
    let (_second, _, _) = Process::serve(&toml).await;

    receiver.answer_status(200);
    first.kill().await;

    receiver.wait_for(3).await;
    let took = SystemClock.now() - taken;
    assert!(took < TimeDelta::seconds(17), "{took}");
    assert_eq!(receiver.texts(), ["1", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_replica_releases_its_delivery_lanes() {
    let (toml, store, receiver) = replica().await;
    let (mut first, _, _) = Process::serve(&toml).await;
    let now = Arc::new(Notify::new());
    let wait = Arc::clone(&now);
    receiver.answer(move |_| Answer::Later(Arc::clone(&wait)));
    for text in ["1", "2"] {
        append_text(&store, "ada", text, SystemClock.now()).await;
    }
    receiver.wait_for(1).await;

    first.signal("TERM").await;
    first
        .log_line("stopping: finishing requests in flight")
        .await;
    receiver.answer_status(200);
    now.notify_one();

    assert_eq!(first.wait().await.code(), Some(0));
    assert_eq!(
        receiver.texts(),
        ["1"],
        "it was finished, and no other begun"
    );
    let schedule = store.callback_schedule(&sms()).await.unwrap();
    assert!(schedule.due_at.unwrap() <= SystemClock.now());
    let (_second, _, _) = Process::serve(&toml).await;
    receiver.wait_for(2).await;
    assert_eq!(receiver.texts(), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_deliver_each_event_once() {
    const USERS: usize = 40;
    let (toml, store, receiver) = replica().await;
    let (_first, _, _) = Process::serve(&toml).await;
    let (_second, _, _) = Process::serve(&toml).await;

    for text in ["1", "2", "3"] {
        for user in 0..USERS {
            append_text(&store, &user.to_string(), text, SystemClock.now()).await;
        }
    }

    eventually("all are delivered", async || {
        let schedule = store.callback_schedule(&sms()).await.unwrap();
        schedule.due_at.is_none().then_some(())
    })
    .await;
    let mut by_user: HashMap<String, Vec<String>> = HashMap::new();
    for received in receiver.received() {
        let texts = by_user.entry(user_of(&received)).or_default();
        texts.push(received.text());
    }
    assert_eq!(by_user.len(), USERS);
    for texts in by_user.into_values() {
        assert_eq!(texts, ["1", "2", "3"]);
    }
}
