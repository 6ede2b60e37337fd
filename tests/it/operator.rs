//! The admin address for operators. Everything but the content of messages can be read there, and
//! operators act with a key of their own.

use chrono::{DateTime, TimeDelta, Utc};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::types::delivery::DeliveryState;
use liveperson_bridge::types::event::{EventId, EventType};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{ACCOUNT, Cloud};
use crate::support::configuration::{SMS_KEY, bridge_toml, with_callback};
use crate::support::database::{Database, Engine};
use crate::support::events::{message, user};
use crate::support::patience::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Receiver, SECRET};

on_both_engines!(
    the_overview_shows_accounts_channels_and_the_database,
    the_overview_shows_an_unavailable_host_of_the_cloud,
    the_overview_is_served_without_the_database,
    failed_deliveries_are_listed_the_newest_first_page_by_page,
    an_event_is_shown_with_its_delivery_but_without_its_text,
    a_queued_message_is_shown_with_its_timeline,
    a_dry_run_counts_the_events_of_a_replay,
    one_event_is_delivered_again,
    a_paused_callback_gets_nothing_until_it_is_resumed,
    a_refused_typing_event_is_not_a_failed_delivery,
    a_users_recent_requests_and_events_are_listed,
    a_look_up_of_a_user_is_recorded_without_the_users_id,
    checking_an_operator_key_changes_nothing,
    reading_a_text_is_recorded_in_the_audit_log,
    operators_actions_need_an_operator_key,
    a_page_of_another_site_is_refused,
    the_admin_address_refuses_unknown_host_names,
    invalid_operator_input_is_refused_by_name,
    unknown_ids_paths_and_methods_are_refused,
    the_operators_page_loads_only_its_own_files,
);

const KEY: &str = "key-of-an-operator";

/// The first digits of the output of `printf key-of-an-operator | sha256sum`.
const DIGITS: &str = "operator:05af08c9";

/// A phone number that must not be shown to operators who only look.
const ADA: &str = "+15551234567";

/// The service, with callbacks for the channels `sms` and `app`, and an operator.
struct Bed {
    app: TestApp,
    receiver: Receiver,
    operator: Channel,
}

impl Bed {
    async fn start(engine: Engine) -> Self {
        Self::start_with(engine, &format!("operator_keys = [\"another\", \"{KEY}\"]")).await
    }

    async fn start_with(engine: Engine, keys: &str) -> Self {
        let receiver = Receiver::start().await;
        let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
        let app = TestApp::start_configured(cloud, database, |toml| {
            let toml = with_callback(&toml, &receiver.url, &format!("\"{SECRET}\""));
            let (app, url) = ("id = \"app\"\n", &receiver.url);
            let callback =
                format!("{app}callback_url = \"{url}/app\"\ncallback_secret = \"{SECRET}\"\n");
            let toml = toml.replacen(app, &callback, 1);
            format!("{keys}\n{toml}")
        })
        .await;
        let operator = app.admin.with_key(KEY);
        Self {
            app,
            receiver,
            operator,
        }
    }

    /// Gets a path of the admin address without a key.
    async fn get_without_key(&self, path: &str) -> Value {
        self.app.admin.get(path).await.expect(200)
    }

    /// Adds an agent's message to Ada that is to be delivered to the channel `sms`.
    async fn append_text(&self, text: &str) -> EventId {
        self.append_text_to("sms", text).await
    }

    /// Adds such a message to the event log of the given channel.
    async fn append_text_to(&self, channel: &str, text: &str) -> EventId {
        let store = self.app.store();
        let now = self.app.cloud.clock.now();
        let mut event = message(channel, user(store, channel, ADA).await, ADA, text);
        event.deliver_until = Some(now + TimeDelta::hours(1));
        append(store, std::slice::from_ref(&event), now).await;
        event.id
    }

    /// Adds such a message, and waits until its delivery has failed because the channel refused it.
    async fn append_undelivered_text(&self, text: &str) -> EventId {
        self.receiver.answer_status(422);
        let id = self.append_text(text).await;
        self.wait_for_state(id, DeliveryState::Failed).await;
        self.receiver.answer_status(200);
        id
    }

    async fn wait_for_state(&self, id: EventId, state: DeliveryState) {
        let sms = "sms".parse().unwrap();
        eventually(&format!("{state:?}"), async || {
            let record = self.app.store().event(&sms, id).await.unwrap()?;
            (record.delivery == Some(state)).then_some(())
        })
        .await;
    }

    /// Returns the part of the overview about `sms`.
    async fn sms(&self) -> Value {
        let overview = self.get_without_key("/api/overview").await;
        let channels = overview["channels"].as_array().unwrap();
        let sms = channels.iter().find(|channel| channel["id"] == "sms");
        sms.unwrap().clone()
    }

    /// Returns the actions of operators in the audit log, the newest first: action, actor, channel
    /// and subject.
    async fn recorded(&self) -> Vec<(String, String, String, Value)> {
        let log = self.get_without_key("/api/audit").await;
        let entries = log["entries"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        entries
            .filter(|entry| entry["action"] != "database.migrate")
            .map(|entry| {
                assert!(entry["request_id"].is_string(), "{entry}");
                let subject = entry["subject"].clone();
                let [action, actor, channel] =
                    ["action", "actor", "channel"].map(|name| text(&entry[name]));
                (action, actor, channel, subject)
            })
            .collect()
    }
}

fn recorded(action: &str, subject: Value) -> (String, String, String, Value) {
    (
        action.to_owned(),
        DIGITS.to_owned(),
        "sms".to_owned(),
        subject,
    )
}

async fn the_overview_shows_accounts_channels_and_the_database(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.app.sms.say(ADA, "hello").await.expect(201);
    bed.append_undelivered_text("one").await;
    let delivered = bed.append_text("two").await;
    bed.wait_for_state(delivered, DeliveryState::Delivered)
        .await;

    let overview = bed.get_without_key("/api/overview").await;

    assert_eq!(overview["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&overview["ready"], &overview["may_act"]),
        (&json!(true), &json!(true))
    );
    let name = match engine {
        Engine::Postgres => "PostgreSQL",
        Engine::Sqlite => "SQLite",
    };
    assert_eq!(overview["database"]["engine"], name);
    assert_eq!(overview["database"]["answers"], true);
    assert_eq!(overview["database"]["writable"], true);
    assert!(
        !overview["database"]["connections"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let account = &overview["accounts"][0];
    assert_eq!(account["id"], ACCOUNT);
    assert_eq!(account["hosts_away"], json!([]));
    assert_eq!(account["last_trouble"], Value::Null);
    let time = |value: &Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let token = &account["app_token"];
    let now = time(&overview["now"]);
    assert_eq!(time(&token["obtained_at"]), now);
    assert!(
        now < time(&token["renew_at"]) && time(&token["renew_at"]) < time(&token["expires_at"])
    );
    let host = bed.app.cloud.url.strip_prefix("http://").unwrap();
    let hosts = account["hosts"].as_array().unwrap();
    assert!(
        hosts
            .iter()
            .any(|known| known["service"] == "asyncMessagingEnt")
    );
    assert!(hosts.iter().all(|known| known["host"] == host), "{hosts:?}");
    let sms = bed.sms().await;
    assert_eq!(sms["requests"], json!({"waiting": 0, "oldest_at": null}));
    assert_eq!(sms["lanes"], json!({"waiting": 0, "oldest_at": null}));
    assert_eq!(sms["callback"]["state"], "active");
    assert_eq!(sms["deliveries"]["failed"], 1);
    assert_eq!(sms["deliveries"]["pending"], 0);
    assert!(sms["deliveries"]["delivered"].as_u64() >= Some(1), "{sms}");
    let channels = overview["channels"].as_array().unwrap();
    let ids: Vec<_> = channels.iter().map(|channel| &channel["id"]).collect();
    assert_eq!(ids, ["app", "sms", "web", "whatsapp"]);
    assert_eq!(
        (&channels[2]["has_callback"], &channels[2]["callback"]),
        (&json!(false), &Value::Null)
    );
    let shown = overview.to_string();
    for secret in [KEY, SMS_KEY, ADA, "the-secret-of-the-app", "whsec_"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

async fn the_overview_shows_an_unavailable_host_of_the_cloud(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.app.sms.say(ADA, "hello").await.expect(201);
    for _ in 0..5 {
        let fault = Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE);
        bed.app.cloud.sandbox.inject(fault);
        let typing = json!({"state": "composing"});
        let path = "/v1/users/%2B15551234567/typing";
        bed.app.sms.put(path, typing).await.expect(503);
    }

    let overview = bed.get_without_key("/api/overview").await;

    let account = &overview["accounts"][0];
    let last_error = &account["last_trouble"];
    assert_eq!(last_error["error"], "unavailable");
    assert_eq!(last_error["at"], overview["now"]);
    let away = &account["hosts_away"];
    assert_eq!(away.as_array().unwrap().len(), 1, "{away}");
    assert_eq!(away[0]["error"], "unavailable");
    let host = bed.app.cloud.url.strip_prefix("http://").unwrap();
    assert_eq!(away[0]["host"], host);
}

async fn the_overview_is_served_without_the_database(engine: Engine) {
    let bed = Bed::start(engine).await;

    bed.app.store().close().await;

    let overview = bed.get_without_key("/api/overview").await;
    assert_eq!(overview["ready"], false);
    assert_eq!(overview["reasons"], json!(["the storage does not answer"]));
    assert_eq!(overview["database"]["answers"], false);
    assert_eq!(overview["database"]["writable"], false);
    let sms = &overview["channels"][1];
    assert_eq!(
        (&sms["id"], &sms["requests"]),
        (&json!("sms"), &Value::Null)
    );
    for refused in [
        bed.app.admin.get("/api/audit").await,
        bed.operator
            .post("/api/pause", json!({"channel": "sms"}))
            .await,
    ] {
        refused.expect_problem(503, "storage-unavailable");
    }
}

async fn failed_deliveries_are_listed_the_newest_first_page_by_page(engine: Engine) {
    let bed = Bed::start(engine).await;
    let first = bed.append_undelivered_text("one").await;
    let second = bed.append_undelivered_text("two").await;
    let third = bed.append_undelivered_text("three").await;
    let list = async |query: &str| {
        let path = format!("/api/deliveries?channel=sms&state=failed&{query}");
        bed.get_without_key(&path).await
    };
    let ids = |list: &Value| -> Vec<String> {
        let deliveries = list["deliveries"].as_array().unwrap().iter();
        let id = |it: &Value| it["event_id"].as_str().unwrap().to_owned();
        deliveries.map(id).collect()
    };

    let newest = list("limit=2").await;
    let next = newest["next"].as_str().unwrap();
    let oldest = list(&format!("limit=2&before={next}")).await;

    assert_eq!(ids(&newest), [third.to_string(), second.to_string()]);
    assert_eq!(ids(&oldest), [first.to_string()]);
    assert_eq!(oldest["next"], Value::Null);
    let delivery = &oldest["deliveries"][0];
    assert_eq!(delivery["type"], "message.created");
    assert_eq!(delivery["user_id"], "…67");
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(delivery["last_try"]["status"], 422);
    assert!(delivery["failure"].as_str().unwrap().contains("422"));
    let path = "/api/deliveries?channel=app&state=failed";
    assert_eq!(bed.get_without_key(path).await, json!({"deliveries": []}));
    let path = "/api/deliveries?channel=sms&state=pending";
    assert_eq!(bed.get_without_key(path).await, json!({"deliveries": []}));
}

async fn an_event_is_shown_with_its_delivery_but_without_its_text(engine: Engine) {
    let bed = Bed::start(engine).await;
    let id = bed.append_undelivered_text("my card is 4111").await;

    let shown = bed.get_without_key(&format!("/api/events/{id}")).await;

    assert_eq!(shown["channel"], "sms");
    assert_eq!(shown["event"]["id"], id.to_string());
    assert_eq!(shown["event"]["type"], "message.created");
    assert_eq!(shown["event"]["user_id"], "…67");
    assert_eq!(
        shown["event"]["data"]["sender"],
        json!({"id": "agent-1", "role": "agent"})
    );
    assert_eq!(shown["event"]["data"]["text"], "hidden");
    let delivery = &shown["delivery"];
    assert_eq!(
        (&delivery["state"], &delivery["attempts"][0]["status"]),
        (&json!("failed"), &json!(422))
    );
    assert_eq!(shown["actions"], json!([]));
    let text = shown.to_string();
    assert!(
        !text.contains("card") && !text.contains("5551234"),
        "{text}"
    );
    let log = bed.get_without_key("/api/audit").await.to_string();
    assert!(!log.contains("event.read"), "nothing was read");
}

async fn a_queued_message_is_shown_with_its_timeline(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.app.sms.say(ADA, "hello").await.expect(201);
    let fault = Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE);
    bed.app.cloud.sandbox.inject(fault);
    let queued = bed.app.sms.say(ADA, "my card is 4111").await.expect(202);
    let id = queued["id"].as_str().unwrap().to_owned();
    bed.app
        .wait_for_status(&format!("/v1/messages/{id}"), "sent")
        .await;

    let shown = bed.get_without_key(&format!("/api/messages/{id}")).await;

    assert_eq!(shown["id"], id);
    assert_eq!(
        (&shown["channel"], &shown["state"]),
        (&json!("sms"), &json!("sent"))
    );
    assert_eq!(shown["user_id"], "…67");
    let steps = shown["timeline"].as_array().unwrap();
    assert_eq!(steps[0]["what"], "accepted");
    assert_eq!(steps.last().unwrap()["what"], "sent");
    assert_eq!(shown["trace_id"].as_str().unwrap().len(), 32);
    let text = shown.to_string();
    assert!(
        !text.contains("card") && !text.contains("5551234"),
        "{text}"
    );
}

async fn a_dry_run_counts_the_events_of_a_replay(engine: Engine) {
    let bed = Bed::start(engine).await;
    let failed = bed.append_undelivered_text("one").await;
    let delivered = bed.append_text("two").await;
    bed.wait_for_state(delivered, DeliveryState::Delivered)
        .await;
    let before = bed.receiver.received().len();
    let since = bed.app.cloud.clock.now() - TimeDelta::hours(1);
    let mut replay = json!({"channel": "sms", "since": since, "state": "failed", "dry_run": true});

    let counted = bed.operator.post("/api/replay", replay.clone()).await;
    assert_eq!(counted.expect(200), json!({"count": 1}));
    assert_eq!(bed.receiver.received().len(), before);
    assert_eq!(bed.recorded().await, []);
    replay["dry_run"] = json!(false);
    let replayed = bed.operator.post("/api/replay", replay).await;

    assert_eq!(replayed.expect(200), json!({"count": 1}));
    bed.wait_for_state(failed, DeliveryState::Delivered).await;
    assert_eq!(bed.receiver.texts()[before..], ["one"]);
    assert_eq!(
        bed.recorded().await,
        [recorded("deliveries.replay", Value::Null)]
    );
    // Without a state, a replay selects all events that are not pending. None of them is from
    // before `until`.
    let until = since + TimeDelta::seconds(1);
    let none = json!({"channel": "sms", "since": since, "until": until});
    let none = bed.operator.post("/api/replay", none).await;
    assert_eq!(none.expect(200), json!({"count": 0}));
}

async fn one_event_is_delivered_again(engine: Engine) {
    let bed = Bed::start(engine).await;
    let id = bed.append_undelivered_text("one").await;

    let retried = bed
        .operator
        .post(&format!("/api/events/{id}/retry"), json!({}))
        .await;

    let shown = retried.expect(202);
    assert_eq!(shown["event"]["data"]["text"], "hidden");
    let entry = &shown["actions"][0];
    assert_eq!(
        (&entry["action"], &entry["actor"]),
        (&json!("delivery.retry"), &json!(DIGITS))
    );
    bed.wait_for_state(id, DeliveryState::Delivered).await;
    assert_eq!(bed.receiver.texts(), ["one", "one"]);
    let subject = json!(id.to_string());
    assert_eq!(bed.recorded().await, [recorded("delivery.retry", subject)]);
}

async fn a_paused_callback_gets_nothing_until_it_is_resumed(engine: Engine) {
    let bed = Bed::start(engine).await;
    let of_sms = || json!({"channel": "sms"});

    let paused = bed.operator.post("/api/pause", of_sms()).await.expect(200);
    assert_eq!(paused, json!({"state": "paused", "failures": 0}));
    let sms = bed.sms().await;
    assert_eq!(sms["callback"]["state"], "paused");
    assert_eq!(sms["callback"]["paused_by"], "operator");
    assert!(sms["callback"]["paused_at"].is_string());
    let held_id = bed.append_text("held").await;
    assert_eq!(bed.sms().await["lanes"]["waiting"], 1);
    // A retry does not bypass the pause.
    bed.app.cloud.clock.advance(TimeDelta::seconds(1));
    let path = format!("/api/events/{held_id}/retry");
    bed.operator.post(&path, json!({})).await.expect(202);
    // The other channel is not affected. Its events arrive after any that could be in flight to
    // `sms`.
    for text in ["first", "second"] {
        let before = bed.receiver.received().len();
        bed.append_text_to("app", text).await;
        bed.receiver.wait_for(before + 1).await;
    }
    assert_eq!(bed.receiver.texts(), ["first", "second"]);
    bed.app.cloud.clock.advance(TimeDelta::seconds(1));
    let resumed = bed.operator.post("/api/resume", of_sms()).await.expect(200);

    assert_eq!(resumed, json!({"state": "active", "failures": 0}));
    bed.wait_for_state(held_id, DeliveryState::Delivered).await;
    assert_eq!(bed.receiver.texts(), ["first", "second", "held"]);
    assert_eq!(bed.sms().await["callback"]["paused_by"], Value::Null);
    let actions = ["deliveries.resume", "delivery.retry", "deliveries.pause"];
    let recorded: Vec<_> = bed.recorded().await.into_iter().map(|it| it.0).collect();
    assert_eq!(recorded, actions);
    // A pause that the callback's own answer 410 caused is shown as such.
    bed.receiver.answer_status(410);
    bed.append_text("gone").await;
    eventually("the callback is paused", async || {
        (bed.sms().await["callback"]["paused_by"] == "gone").then_some(())
    })
    .await;
}

async fn a_refused_typing_event_is_not_a_failed_delivery(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.receiver.answer_status(422);
    let (store, now) = (bed.app.store(), bed.app.cloud.clock.now());
    let mut typing = message("sms", user(store, "sms", ADA).await, ADA, "typing");
    typing.kind = EventType::TypingChanged;
    typing.deliver_until = Some(now + TimeDelta::seconds(10));
    append(store, std::slice::from_ref(&typing), now).await;

    bed.wait_for_state(typing.id, DeliveryState::Dropped).await;

    assert_eq!(bed.receiver.texts(), ["typing"], "it was attempted once");
    assert_eq!(bed.sms().await["deliveries"]["failed"], 0);
    let failed = "/api/deliveries?channel=sms&state=failed";
    assert_eq!(bed.get_without_key(failed).await, json!({"deliveries": []}));
}

async fn a_users_recent_requests_and_events_are_listed(engine: Engine) {
    let bed = Bed::start(engine).await;
    let failed = bed.append_undelivered_text("my card is 4111").await;
    let (store, now) = (bed.app.store(), bed.app.cloud.clock.now());
    // `whatsapp` has the namespace of `sms`, and no callback.
    let shared = message("whatsapp", user(store, "sms", ADA).await, ADA, "my card");
    append(store, std::slice::from_ref(&shared), now).await;
    let prefer = "respond-async";
    let queued = bed.app.sms.say_preferring(ADA, "my card", prefer).await;
    let queued = queued.expect(202)["id"].as_str().unwrap().to_owned();
    bed.app
        .wait_for_status(&format!("/v1/messages/{queued}"), "sent")
        .await;

    let ada = json!({"channel": "sms", "user_id": ADA});
    let shown = bed.operator.post("/api/users/timeline", ada).await;
    let shown = shown.expect(200);

    assert_eq!(shown["known"], true);
    assert_eq!((&shown["days"], &shown["most"]), (&json!(7), &json!(100)));
    let requests = shown["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request["id"], queued);
    assert_eq!(
        [&request["channel"], &request["kind"], &request["state"]],
        ["sms", "text", "sent"]
    );
    let events = shown["events"].as_array().unwrap();
    let event = |id: EventId| events.iter().find(|it| it["id"] == id.to_string()).unwrap();
    let failed = event(failed);
    assert_eq!(
        [&failed["channel"], &failed["type"], &failed["delivery"]],
        ["sms", "message.created", "failed"]
    );
    assert_eq!(failed["attempts"], 1);
    let shared = event(shared.id);
    assert_eq!(shared["channel"], "whatsapp");
    assert_eq!(shared["delivery"], Value::Null);
    let text = shown.to_string();
    assert!(
        !text.contains("card") && !text.contains("5551234"),
        "{text}"
    );
}

async fn a_look_up_of_a_user_is_recorded_without_the_users_id(engine: Engine) {
    let bed = Bed::start(engine).await;
    bed.append_undelivered_text("one").await;
    let look_up = async |channel: &str, user_id: &str| {
        // Entries of the same millisecond have no order.
        bed.app.cloud.clock.advance(TimeDelta::seconds(1));
        let body = json!({"channel": channel, "user_id": user_id});
        bed.operator.post("/api/users/timeline", body).await
    };

    let known = look_up("sms", ADA).await.expect(200);
    assert_eq!(known["events"].as_array().unwrap().len(), 1);
    // Nobody is known under another id, or in another namespace.
    for (channel, user_id) in [("sms", "+15550000000"), ("app", ADA)] {
        let unknown = look_up(channel, user_id).await.expect(200);
        assert_eq!(unknown["known"], false);
        assert_eq!(
            (&unknown["requests"], &unknown["events"]),
            (&json!([]), &json!([]))
        );
    }

    let recorded = bed.recorded().await;
    let channels: Vec<_> = recorded.iter().map(|(.., channel, _)| &**channel).collect();
    assert_eq!(channels, ["app", "sms", "sms"]);
    for (action, actor, _, subject) in &recorded {
        assert_eq!((&**action, &**actor), ("user.read", DIGITS));
        assert_eq!(subject, &Value::Null);
    }
    let log = bed.get_without_key("/api/audit").await;
    let details = &log["entries"][2]["details"];
    assert_eq!(details, &json!({"requests": 0, "events": 1}));
    let log = log.to_string();
    assert!(
        !log.contains("5551234") && !log.contains("5550000"),
        "{log}"
    );
    // Nothing is shown if the look-up cannot be recorded.
    let database = &bed.app.database;
    database
        .execute("ALTER TABLE audit RENAME TO elsewhere")
        .await;
    let refused = look_up("sms", ADA).await;
    refused.expect_problem(500, "internal-error");
    database
        .execute("ALTER TABLE elsewhere RENAME TO audit")
        .await;
}

async fn checking_an_operator_key_changes_nothing(engine: Engine) {
    let bed = Bed::start(engine).await;

    let checked = bed.operator.get("/api/operator").await.expect(200);

    assert_eq!(checked, json!({"actor": DIGITS}));
    assert_eq!(bed.recorded().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_up_an_unknown_id_causes_no_warning_in_the_log() {
    let (cloud, database) = (Cloud::start().await, Database::create(Engine::Sqlite).await);
    let toml = bridge_toml(&database.location, &cloud.url);
    let (mut process, _, admin) = Process::serve(&toml).await;

    let shown = admin.get("/api/events/evt_unknown").await;
    shown.expect_problem(404, "event-not-found");
    let shown = admin.get("/api/messages/msg_unknown").await;
    shown.expect_problem(404, "message-not-found");
    // An unknown path is a fault of the caller.
    let shown = admin.get("/api/nothing").await;
    shown.expect_problem(404, "not-found");
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let log = process.log();
    let refused = log.lines().filter(|line| line.contains("request refused"));
    assert_eq!(refused.count(), 1, "{log}");
}

async fn reading_a_text_is_recorded_in_the_audit_log(engine: Engine) {
    let bed = Bed::start(engine).await;
    let id = bed.append_undelivered_text("my card is 4111").await;
    let path = format!("/api/events/{id}/text");

    let read = bed.operator.post(&path, json!({})).await.expect(200);

    assert_eq!(read["event"]["data"]["text"], "my card is 4111");
    assert_eq!(read["event"]["user_id"], ADA);
    let subject = json!(id.to_string());
    assert_eq!(bed.recorded().await, [recorded("event.read", subject)]);
    let shown = bed.get_without_key(&format!("/api/events/{id}")).await;
    assert_eq!(shown["actions"][0]["action"], "event.read");
    // A text is not shown if the reading cannot be recorded.
    let database = &bed.app.database;
    database
        .execute("ALTER TABLE audit RENAME TO elsewhere")
        .await;
    let refused = bed.operator.post(&path, json!({})).await;
    refused.expect_problem(500, "internal-error");
    database
        .execute("ALTER TABLE elsewhere RENAME TO audit")
        .await;
}

/// Sends every action of an operator, with an event for those that take one.
async fn every_action(channel: &Channel, id: EventId) -> Vec<Reply> {
    let since = DateTime::<Utc>::UNIX_EPOCH;
    let of_sms = || json!({"channel": "sms"});
    vec![
        channel
            .post("/api/replay", json!({"channel": "sms", "since": since}))
            .await,
        channel.post("/api/pause", of_sms()).await,
        channel.post("/api/resume", of_sms()).await,
        channel
            .post(&format!("/api/events/{id}/retry"), json!({}))
            .await,
        channel
            .post(&format!("/api/events/{id}/text"), json!({}))
            .await,
        channel
            .post(
                "/api/users/timeline",
                json!({"channel": "sms", "user_id": ADA}),
            )
            .await,
        channel.get("/api/operator").await,
        // Without a key, the errors in the body are not reported.
        channel.post("/api/pause", json!({"chanel": 1})).await,
        channel.post_text("/api/pause", "{").await,
    ]
}

async fn operators_actions_need_an_operator_key(engine: Engine) {
    let bed = Bed::start(engine).await;
    let id = bed.append_undelivered_text("one").await;

    for key in [SMS_KEY, "key-of-an-operato", "KEY-OF-AN-OPERATOR", "none"] {
        for refused in every_action(&bed.operator.with_key(key), id).await {
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
            refused.expect_problem(401, "operator-key-refused");
        }
    }
    assert_eq!(bed.recorded().await, []);
    bed.wait_for_state(id, DeliveryState::Failed).await;
    // An operator's key is not valid for the API.
    let api = bed.app.sms.with_key(KEY);
    api.get("/v1/events")
        .await
        .expect_problem(401, "unauthorized");
    bed.operator
        .with_key("another")
        .post("/api/resume", json!({"channel": "sms"}))
        .await
        .expect(200);

    let unset = Bed::start_with(engine, "").await;
    let id = unset.append_undelivered_text("one").await;
    for refused in every_action(&unset.operator, id).await {
        let problem = refused.expect_problem(403, "operator-key-unset");
        assert_eq!(problem["title"], "No operator key is configured");
    }
    assert_eq!(
        unset.get_without_key("/api/overview").await["may_act"],
        false
    );
    assert_eq!(unset.recorded().await, []);
}

async fn a_page_of_another_site_is_refused(engine: Engine) {
    let bed = Bed::start(engine).await;
    let from = async |site: &str, method: Method, path: &str| {
        let request = bed.operator.request(method, path);
        let request = request
            .header("sec-fetch-site", site)
            .header("content-type", "application/json");
        send(request.body(r#"{"channel": "sms"}"#)).await
    };

    for site in ["cross-site", "same-site", "of another time"] {
        let reply = from(site, Method::GET, "/api/overview").await;
        reply.expect_problem(403, "cross-site");
        let reply = from(site, Method::POST, "/api/pause").await;
        reply.expect_problem(403, "cross-site");
        // The page itself may be linked from any site.
        assert_eq!(from(site, Method::GET, "/").await.status, 200);
    }
    assert_eq!(bed.recorded().await, []);
    for path in ["/metrics", "/readyz", "/api/audit", "/api/nothing"] {
        for site in ["cross-site", "same-site"] {
            let reply = from(site, Method::GET, path).await;
            reply.expect_problem(403, "cross-site");
        }
    }
    from("none", Method::GET, "/api/overview").await.expect(200);
    from("same-origin", Method::POST, "/api/pause")
        .await
        .expect(200);
    // The form of another page cannot have the media type JSON.
    let request = bed.operator.request(Method::POST, "/api/resume");
    let request = request.header("content-type", "text/plain");
    let refused = send(request.body(r#"{"channel": "sms"}"#)).await;
    refused.expect_problem(415, "unsupported-media-type");
    let refused = send(bed.operator.request(Method::POST, "/api/resume")).await;
    refused.expect_problem(415, "unsupported-media-type");
    let preflight = bed.operator.request(Method::OPTIONS, "/api/resume");
    let preflight = preflight.header("origin", "http://elsewhere.example");
    let preflight = send(preflight.header("access-control-request-method", "POST")).await;
    assert!(
        !preflight
            .headers
            .contains_key("access-control-allow-origin")
    );
}

/// Guards against DNS rebinding: a page may have its own host name resolve to this address, and the
/// browser then takes both for one site.
async fn the_admin_address_refuses_unknown_host_names(engine: Engine) {
    let keys = "operator_keys = [\"key\"]\nadmin_hosts = [\"bridge-admin.internal\"]";
    let bed = Bed::start_with(engine, keys).await;
    let called = async |host: &str, path: &str| {
        let request = bed.operator.request(Method::GET, path);
        let request = request
            .header("host", host)
            .header("sec-fetch-site", "same-origin");
        send(request).await
    };

    for path in [
        "/",
        "/operator/api.js",
        "/api/overview",
        "/api/audit",
        "/metrics",
    ] {
        for evil in ["evil", "evil.example:9090", "127.0.0.1.evil.example"] {
            let refused = called(evil, path).await;
            let detail = refused.body["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("admin_hosts"), "{detail}");
            refused.expect_problem(421, "misdirected-request");
        }
        for known in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "10.4.5.6",
            "localhost:9090",
            "bridge-admin.internal",
            "BRIDGE-ADMIN.internal:9090",
        ] {
            assert_eq!(called(known, path).await.status, 200, "{known} {path}");
        }
    }
    for probe in ["/livez", "/readyz"] {
        called("bridge.default.svc", probe).await.expect(200);
    }
}

async fn invalid_operator_input_is_refused_by_name(engine: Engine) {
    let bed = Bed::start(engine).await;
    let since = "2026-11-22T08:00:00Z";

    for (path, pointer) in [
        ("/api/deliveries?state=failed", "/channel"),
        ("/api/deliveries?channel=nobody&state=failed", "/channel"),
        ("/api/deliveries?channel=sms", "/state"),
        ("/api/deliveries?channel=sms&state=lost", "/state"),
        (
            "/api/deliveries?channel=sms&state=failed&before=x",
            "/before",
        ),
        ("/api/deliveries?channel=sms&state=failed&limit=0", "/limit"),
        ("/api/deliveries?channel=sms&state=failed&user=ada", "/user"),
        ("/api/audit?limit=1001", "/limit"),
        ("/api/audit?channel=", "/channel"),
    ] {
        let refused = bed.app.admin.get(path).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{path}");
    }
    for (path, body, pointer) in [
        ("/api/replay", json!({"since": since}), "/channel"),
        (
            "/api/replay",
            json!({"channel": "nobody", "since": since}),
            "/channel",
        ),
        ("/api/replay", json!({"channel": "sms"}), "/since"),
        (
            "/api/replay",
            json!({"channel": "sms", "since": "yesterday"}),
            "/since",
        ),
        (
            "/api/replay",
            json!({"channel": "sms", "since": since, "until": since}),
            "/until",
        ),
        (
            "/api/replay",
            json!({"channel": "sms", "since": since, "state": "lost"}),
            "/state",
        ),
        (
            "/api/replay",
            json!({"channel": "sms", "since": since, "dry_run": 1}),
            "/dry_run",
        ),
        ("/api/pause", json!({"channel": "sms", "why": "x"}), "/why"),
        ("/api/pause", json!([]), ""),
        ("/api/resume", json!({"channel": "a/b"}), "/channel"),
        (
            "/api/users/timeline",
            json!({"channel": "nobody", "user_id": ADA}),
            "/channel",
        ),
        (
            "/api/users/timeline",
            json!({"channel": "sms", "user_id": ""}),
            "/user_id",
        ),
        ("/api/users/timeline", json!({"channel": "sms"}), "/user_id"),
        (
            "/api/events/evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f/text",
            json!({"channel": "sms"}),
            "/channel",
        ),
    ] {
        let refused = bed.operator.post(path, body.clone()).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{path} {body}");
    }
    assert_eq!(bed.recorded().await, []);
}

async fn unknown_ids_paths_and_methods_are_refused(engine: Engine) {
    let bed = Bed::start(engine).await;

    for id in ["evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f", "evt_", "%00", "%ff"] {
        let shown = bed.app.admin.get(&format!("/api/events/{id}")).await;
        shown.expect_problem(404, "event-not-found");
        for action in ["retry", "text"] {
            let path = format!("/api/events/{id}/{action}");
            let refused = bed.operator.post(&path, json!({})).await;
            refused.expect_problem(404, "event-not-found");
        }
    }
    for id in ["msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f", "msg_", "%00", "%ff"] {
        let shown = bed.app.admin.get(&format!("/api/messages/{id}")).await;
        shown.expect_problem(404, "message-not-found");
    }
    let without_callback = json!({"channel": "web"});
    for path in ["/api/pause", "/api/resume"] {
        let refused = bed.operator.post(path, without_callback.clone()).await;
        refused.expect_problem(409, "no-callback");
    }
    bed.operator
        .post_text("/api/pause", "{")
        .await
        .expect_problem(400, "malformed-request");
    let refused = bed.app.admin.get("/api/pause").await;
    assert_eq!(refused.headers["allow"], "POST");
    refused.expect_problem(405, "method-not-allowed");
    for path in ["/api", "/api/", "/api/nothing", "/nothing", "/operator/"] {
        bed.app
            .admin
            .get(path)
            .await
            .expect_problem(404, "not-found");
    }
    assert_eq!(bed.recorded().await, []);
}

async fn the_operators_page_loads_only_its_own_files(engine: Engine) {
    let bed = Bed::start(engine).await;
    let fetch = async |path: &str| {
        let response = bed
            .app
            .admin
            .request(Method::GET, path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        assert_eq!(
            headers["content-security-policy"],
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    };

    let (kind, page) = fetch("/").await;

    assert_eq!(kind, "text/html; charset=utf-8");
    let named = page.split('"').filter(|part| part.starts_with('/'));
    let mut count = 0;
    for path in named {
        let (kind, text) = fetch(path).await;
        let expected = match path.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(kind, expected, "{path}");
        assert!(!text.is_empty());
        count += 1;
    }
    assert!(count >= 4, "{count}");
    // The API serves nothing of the admin address.
    for path in ["/", "/api/overview", "/operator/operator.js"] {
        bed.app.sms.get(path).await.expect_problem(404, "not-found");
    }
}
