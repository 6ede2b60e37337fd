//! Conversations that an agent opens or resumes with a known user. Each becomes the user's open
//! conversation, and all of the agent's messages are delivered. The bridge's own openings never
//! count as an agent's, whichever of the answer and the notification comes first.

use axum::http::StatusCode;
use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::agent::{Action, AgentOpening};
use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use liveperson_bridge::sandbox::{Answer, Delay, Fault, Kind, Operation, Reply as CloudReply};
use liveperson_bridge::store::{Lease, PendingOpening};
use liveperson_bridge::types::conversation::Features;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::Channel;
use crate::support::cloud::{ACCOUNT, CLIENT_ID, agent_text, send_notification};
use crate::support::configuration::{APP_KEY, WHATSAPP_KEY};
use crate::support::database::Engine;
use crate::support::events::user;
use crate::support::patience::eventually;

on_both_engines!(
    a_conversation_resumed_by_an_agent_becomes_the_users_open_one,
    a_resumed_conversation_closes_the_users_previous_one,
    messages_of_an_unknown_conversation_are_delivered_after_its_opening,
    repeated_notifications_open_a_conversation_once,
    a_conversation_of_an_unknown_consumer_is_ignored,
    a_conversation_of_another_connector_is_ignored,
    a_closed_conversation_is_not_adopted,
    an_agents_older_conversation_is_not_adopted,
    a_conversation_opened_and_closed_in_one_notification_is_delivered_whole,
    the_open_survey_of_an_adopted_conversation_can_be_answered,
    a_users_first_agent_opening_goes_to_the_namespaces_first_channel,
    an_agent_opening_goes_to_the_latest_conversations_channel,
    a_user_answers_and_closes_an_agents_conversation,
    agent_openings_survive_duplicate_and_reordered_notifications,
    an_opening_notified_before_its_answer_counts_as_the_users,
    an_opening_with_a_lost_answer_counts_as_the_users,
    an_agent_opening_is_delivered_after_a_failed_opening_of_the_bridge,
    an_opening_that_meets_an_agents_conversation_joins_it,
    an_erased_users_agent_conversation_is_not_resurrected,
);

/// Returns a notification about an agent's conversation with this stage. `began` and `updated` are
/// offsets in seconds from now.
fn state(app: &TestApp, id: &str, consumer: &str, stage: &str, began: i64, updated: i64) -> Value {
    let now = app.cloud.clock.now().timestamp_millis();
    json!({
        "kind": "notification", "type": "cqm.ExConversationChangeNotification",
        "body": {"changes": [{"type": "UPSERT", "result": {
            "convId": id, "effectiveTTR": -1,
            "conversationDetails": {
                "skillId": "-1", "state": stage, "stage": stage, "closeReason": "AGENT",
                "participants": [
                    {"id": consumer, "role": "CONSUMER"}, {"id": "agent-1", "role": "ASSIGNED_AGENT"},
                ],
                "dialogs": [{"dialogId": id, "dialogType": "MAIN", "state": stage, "creationTs": now + 1000 * began}],
                "startTs": now + 1000 * began, "metaDataLastUpdateTs": now + 1000 * updated,
            },
        }}]},
    })
}

/// Merges the changes of several notifications of one type into one notification.
fn merged(notifications: impl IntoIterator<Item = Value>) -> Value {
    let mut notifications = notifications.into_iter();
    let mut all = notifications.next().unwrap();
    for mut other in notifications {
        let changes = all["body"]["changes"].as_array_mut().unwrap();
        changes.append(other["body"]["changes"].as_array_mut().unwrap());
    }
    all
}

async fn notify(app: &TestApp, notification: &Value) {
    send_notification(&app.sms, notification).await.expect(200);
}

/// Returns the consumer id of a user of `sms`.
async fn consumer(app: &TestApp, user: &str) -> String {
    let user = app.sms.get(&format!("/v1/users/{user}")).await.expect(200);
    user["consumer_id"].as_str().unwrap().to_owned()
}

/// Opens a conversation and returns its id.
async fn open(channel: &Channel, user: &str) -> String {
    let sent = channel.say(user, "hello").await.expect(201);
    sent["conversation_id"].as_str().unwrap().to_owned()
}

/// Opens a conversation, closes it, and returns its id.
async fn open_and_close(app: &TestApp, user: &str) -> String {
    let id = open(&app.sms, user).await;
    let path = format!("/v1/users/{user}/conversation/close");
    app.sms.post(&path, json!({})).await.expect(200);
    id
}

async fn shown(channel: &Channel, user: &str) -> Value {
    let path = format!("/v1/users/{user}/conversation");
    channel.get(&path).await.expect(200)
}

/// Returns a channel's events as `type opener` or `type text`.
async fn summaries(app: &TestApp, channel: &str) -> Vec<String> {
    let events = app.event_log(channel).await.into_iter();
    let summaries = events.map(|event| {
        let (kind, data) = (event["type"].as_str().unwrap(), &event["data"]);
        let detail = data["opened_by"].as_str().or(data["text"].as_str());
        // No other event has this field.
        assert_eq!(
            data["opened_by"].is_string(),
            kind == "conversation.opened",
            "{event}"
        );
        format!("{} {}", kind, detail.unwrap_or_default())
            .trim_end()
            .to_owned()
    });
    summaries.collect()
}

/// Waits until a channel has at least this number of events, and returns them.
async fn wait_for_summaries(app: &TestApp, channel: &str, count: usize) -> Vec<String> {
    eventually("the events are logged", async || {
        let logged = summaries(app, channel).await;
        (logged.len() >= count).then_some(logged)
    })
    .await
}

/// Returns the number of changes that the metrics count under this `fate`.
async fn count_changes(app: &TestApp, fate: &str) -> u64 {
    let request = app.admin.request(reqwest::Method::GET, "/metrics");
    let metrics = request.send().await.unwrap().text().await.unwrap();
    let series = format!(
        "liveperson_bridge_webhook_changes_total{{account=\"{ACCOUNT}\",fate=\"{fate}\"}} "
    );
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Makes an agent of the simulated Cloud open a conversation with a user of `sms`.
fn agent_opens(app: &TestApp, user: &str, text: &str) -> String {
    let opened = app.cloud.sandbox.open_as_agent(AgentOpening {
        account_id: ACCOUNT.to_owned(),
        ext_consumer_id: format!("sms:{user}"),
        text: Some(text.to_owned()),
        ..AgentOpening::default()
    });
    opened.unwrap().0
}

async fn a_conversation_resumed_by_an_agent_becomes_the_users_open_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let former = open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;

    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 0, 0)).await;
    notify(&app, &agent_text("resumed", 0, "Hi again")).await;

    let expected = ["conversation.opened agent", "message.created Hi again"];
    assert_eq!(summaries(&app, "sms").await, expected);
    let events = app.event_log("sms").await;
    assert!(events.iter().all(|event| event["user_id"] == "ada"));
    assert!(
        events
            .iter()
            .all(|event| event["conversation_id"] == "resumed")
    );
    assert_eq!(events[0]["data"]["agent"], json!({"id": "agent-1"}));
    let shown = shown(&app.sms, "ada").await;
    assert_eq!(
        (&shown["id"], &shown["state"]),
        (&json!("resumed"), &json!("open"))
    );
    assert_ne!(former, "resumed");
    assert_eq!(count_changes(&app, "adopted").await, 1);
    assert_eq!(count_changes(&app, "unmatched").await, 0);
}

async fn a_resumed_conversation_closes_the_users_previous_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let former = open(&app.sms, "ada").await;
    let consumer = consumer(&app, "ada").await;
    notify(&app, &state(&app, &former, &consumer, "OPEN", 0, 0)).await;

    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 60, 60)).await;

    let expected = [
        "conversation.opened user",
        "conversation.closed",
        "conversation.opened agent",
    ];
    assert_eq!(summaries(&app, "sms").await, expected);
    let closed = &app.event_log("sms").await[1];
    assert_eq!(closed["conversation_id"], *former);
    assert_eq!(closed["data"]["state"], "closed");
    assert_eq!(shown(&app.sms, "ada").await["id"], "resumed");
    // A later notification that the former conversation is closed creates no event.
    notify(&app, &state(&app, &former, &consumer, "CLOSE", 0, 59)).await;
    assert_eq!(summaries(&app, "sms").await.len(), 3);
    assert_eq!(shown(&app.sms, "ada").await["state"], "open");
}

async fn messages_of_an_unknown_conversation_are_delivered_after_its_opening(engine: Engine) {
    let app = TestApp::start(engine).await;
    open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;

    for (sequence, text) in [(1, "two"), (0, "one")] {
        notify(&app, &agent_text("resumed", sequence, text)).await;
    }
    assert!(summaries(&app, "sms").await.is_empty());
    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 0, 0)).await;
    notify(&app, &agent_text("resumed", 2, "three")).await;

    let expected = [
        "conversation.opened agent",
        "message.created one",
        "message.created two",
        "message.created three",
    ];
    assert_eq!(summaries(&app, "sms").await, expected);
}

async fn repeated_notifications_open_a_conversation_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;
    let opened = state(&app, "resumed", &consumer, "OPEN", 0, 0);

    for _ in 0..3 {
        notify(&app, &opened).await;
    }
    notify(&app, &merged([opened.clone(), opened])).await;
    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 0, 1)).await;

    let expected = ["conversation.opened agent", "conversation.updated"];
    assert_eq!(summaries(&app, "sms").await, expected);
}

async fn a_conversation_of_an_unknown_consumer_is_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let open_id = open(&app.sms, "ada").await;

    notify(
        &app,
        &state(&app, "another", "somebody else", "OPEN", 60, 60),
    )
    .await;
    notify(&app, &agent_text("another", 0, "Hi")).await;

    assert!(summaries(&app, "sms").await.is_empty());
    assert_eq!(shown(&app.sms, "ada").await["id"], *open_id);
    assert_eq!(count_changes(&app, "unmatched").await, 2);
}

async fn a_conversation_of_another_connector_is_ignored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let open_id = open(&app.sms, "ada").await;
    let consumer = consumer(&app, "ada").await;
    let of_app = |id: &str, app_install_id: &str| {
        let mut state = state(&app, id, &consumer, "OPEN", 60, 60);
        let dialog = "/body/changes/0/result/conversationDetails/dialogs/0/metaData";
        let dialogs = state.pointer_mut(dialog.strip_suffix("/metaData").unwrap());
        dialogs.unwrap()["metaData"] = json!({"appInstallId": app_install_id});
        state
    };

    notify(
        &app,
        &of_app("another", "11111111-1111-1111-1111-111111111111"),
    )
    .await;

    assert!(summaries(&app, "sms").await.is_empty());
    assert_eq!(shown(&app.sms, "ada").await["id"], *open_id);
    assert_eq!(count_changes(&app, "other_connector").await, 1);
    assert_eq!(count_changes(&app, "unmatched").await, 0);
    // The bridge's own installation id is treated like a missing one.
    notify(&app, &of_app("resumed", CLIENT_ID)).await;
    assert_eq!(shown(&app.sms, "ada").await["id"], "resumed");
}

async fn a_closed_conversation_is_not_adopted(engine: Engine) {
    let app = TestApp::start(engine).await;
    let former = open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;

    // The first change of a conversation decides if it is adopted, in one notification or in
    // several.
    let reversed = [("CLOSE", 9), ("OPEN", 5)]
        .map(|(stage, updated)| state(&app, "past", &consumer, stage, 0, updated));
    notify(&app, &merged(reversed)).await;
    notify(&app, &state(&app, "over", &consumer, "CLOSE", 0, 9)).await;
    notify(&app, &agent_text("over", 0, "Hi")).await;
    notify(&app, &state(&app, "over", &consumer, "OPEN", 0, 5)).await;

    assert!(summaries(&app, "sms").await.is_empty());
    assert_eq!(shown(&app.sms, "ada").await["id"], *former);
}

async fn an_agents_older_conversation_is_not_adopted(engine: Engine) {
    let app = TestApp::start(engine).await;
    let open = open(&app.sms, "ada").await;
    let consumer = consumer(&app, "ada").await;

    // This one is older by the bridge's clock.
    notify(&app, &state(&app, "older", &consumer, "OPEN", -120, -110)).await;
    assert!(summaries(&app, "sms").await.is_empty());
    // This one is older by the Cloud's clock, which is an hour behind. A notification about the
    // newer one comes first.
    notify(&app, &state(&app, &open, &consumer, "OPEN", -3600, -3600)).await;
    notify(&app, &state(&app, "old", &consumer, "OPEN", -3720, -3710)).await;
    assert_eq!(summaries(&app, "sms").await, ["conversation.opened user"]);
    assert_eq!(shown(&app.sms, "ada").await["id"], *open);

    notify(&app, &state(&app, "newer", &consumer, "OPEN", -3540, -3540)).await;
    assert_eq!(shown(&app.sms, "ada").await["id"], "newer");
}

async fn a_conversation_opened_and_closed_in_one_notification_is_delivered_whole(engine: Engine) {
    let app = TestApp::start(engine).await;
    let former = open(&app.sms, "ada").await;
    let consumer = consumer(&app, "ada").await;
    notify(&app, &agent_text("brief", 0, "Your parcel is here")).await;

    let all = [
        state(&app, "brief", &consumer, "OPEN", 60, 60),
        state(&app, "brief", &consumer, "CLOSE", 60, 61),
        // The order of the conversations does not matter.
        state(&app, &former, &consumer, "CLOSE", 0, 59),
        state(&app, "resumed", &consumer, "OPEN", 62, 62),
    ];
    notify(&app, &merged(all)).await;

    let expected = [
        "conversation.closed",
        "conversation.opened agent",
        "message.created Your parcel is here",
        "conversation.closed",
        "conversation.opened agent",
    ];
    assert_eq!(summaries(&app, "sms").await, expected);
    assert_eq!(
        app.event_log("sms").await[0]["data"]["close_reason"],
        "agent"
    );
    assert_eq!(shown(&app.sms, "ada").await["id"], "resumed");
}

async fn the_open_survey_of_an_adopted_conversation_can_be_answered(engine: Engine) {
    let app = TestApp::start(engine).await;
    open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;
    let mut survey = state(&app, "resumed", &consumer, "OPEN", 0, 9);
    let details = survey.pointer_mut("/body/changes/0/result/conversationDetails");
    let details = details.unwrap();
    details["state"] = json!("CLOSE");
    details["dialogs"] = json!([
        {"dialogId": "resumed", "dialogType": "MAIN", "state": "CLOSE"},
        {"dialogId": "questions", "dialogType": "POST_SURVEY", "state": "OPEN"},
    ]);
    // The question names only its dialog, as older notifications do.
    let mut question = agent_text("questions", 0, "How was it?");
    let change = question["body"]["changes"][0].as_object_mut().unwrap();
    change.remove("conversationId");

    notify(&app, &question).await;
    notify(&app, &survey).await;

    let events = wait_for_summaries(&app, "sms", 2).await;
    assert_eq!(
        events,
        ["conversation.opened agent", "message.created How was it?"]
    );
    let _refused = app.sms.say("ada", "fine").await;
    // The simulated Cloud does not know the dialog, so only the request is checked.
    let sent = app.cloud.bodies(Operation::Send).into_iter();
    let dialogs: Vec<_> = sent.map(|sent| sent["body"]["dialogId"].clone()).collect();
    assert!(dialogs.contains(&json!("questions")), "{dialogs:?}");
}

async fn a_users_first_agent_opening_goes_to_the_namespaces_first_channel(engine: Engine) {
    let app = TestApp::start(engine).await;
    let refusal = Fault::status(Operation::Conversation, StatusCode::BAD_REQUEST);
    app.cloud.sandbox.inject(refusal);
    let whatsapp = app.sms.with_key(WHATSAPP_KEY);
    let opened = whatsapp.post("/v1/users/ada/conversation", json!({})).await;
    opened.expect_problem(422, "cloud-refused");
    let consumer = consumer(&app, "ada").await;

    notify(&app, &state(&app, "first", &consumer, "OPEN", 0, 0)).await;

    // The events go to the first channel in the configuration that shares this user.
    assert_eq!(summaries(&app, "sms").await, ["conversation.opened agent"]);
    assert!(summaries(&app, "whatsapp").await.is_empty());
    assert_eq!(shown(&app.sms, "ada").await["features"], json!([]));
}

async fn an_agent_opening_goes_to_the_latest_conversations_channel(engine: Engine) {
    let app = TestApp::start(engine).await;
    let (whatsapp, other) = (app.sms.with_key(WHATSAPP_KEY), app.sms.with_key(APP_KEY));
    let opening = json!({"features": ["AUTO_MESSAGES"]});
    let opened = whatsapp.post("/v1/users/ada/conversation", opening).await;
    opened.expect(201);
    other.say("ada", "another person").await.expect(201);
    let consumer = consumer(&app, "ada").await;

    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 60, 60)).await;

    let expected = ["conversation.closed", "conversation.opened agent"];
    assert_eq!(summaries(&app, "whatsapp").await, expected);
    assert!(summaries(&app, "sms").await.is_empty() && summaries(&app, "app").await.is_empty());
    assert_eq!(
        shown(&app.sms, "ada").await["features"],
        json!(["AUTO_MESSAGES"])
    );
    assert_ne!(shown(&other, "ada").await["id"], "resumed");
}

async fn a_user_answers_and_closes_an_agents_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    open_and_close(&app, "ada").await;
    let before = wait_for_summaries(&app, "sms", 2).await.len();

    let opened = agent_opens(&app, "ada", "Hi again");
    let events = wait_for_summaries(&app, "sms", before + 2).await;
    let expected = ["conversation.opened agent", "message.created Hi again"];
    assert_eq!(events[before..], expected);

    let sent = app.sms.say("ada", "Hello").await.expect(201);
    assert_eq!(
        (&sent["conversation_id"], &sent["sequence"]),
        (&json!(opened), &json!(1))
    );
    let composing = json!({"state": "composing"});
    app.sms
        .put("/v1/users/ada/typing", composing)
        .await
        .expect(204);
    let read = json!({"status": "read", "sequences": [0]});
    app.sms
        .post("/v1/users/ada/receipts", read)
        .await
        .expect(204);
    let second = app
        .cloud
        .sandbox
        .act(&opened, Action::text("Anything else?"));
    assert_eq!(second.unwrap(), Some(3));
    wait_for_summaries(&app, "sms", before + 3).await;
    let close = app.sms.post("/v1/users/ada/conversation/close", json!({}));
    assert_eq!(close.await.expect(200)["state"], "closed");
    let events = wait_for_summaries(&app, "sms", before + 4).await;
    assert_eq!(
        events[before + 2..],
        ["message.created Anything else?", "conversation.closed"]
    );
    assert_eq!(
        app.cloud.texts(&opened),
        ["Hi again", "Hello", "Anything else?"]
    );
    // The Cloud refused no opening: there was one conversation at a time.
    assert_eq!(app.cloud.requests(Operation::Conversation).len(), 1);
}

async fn agent_openings_survive_duplicate_and_reordered_notifications(engine: Engine) {
    const TIMES: usize = 6;
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let mut open = open(&app.sms, "ada").await;

    let mut expected = vec!["conversation.opened user".to_owned()];
    for number in 0..TIMES {
        let disturbance = [DisturbanceKind::Reorder, DisturbanceKind::Duplicate][number % 2];
        assert!(app.cloud.sandbox.close_conversation(&open, "AGENT"));
        app.cloud.sandbox.disturb(Disturbance {
            only: Some(Kind::Conversation),
            ..Disturbance::next(disturbance)
        });
        open = agent_opens(&app, "ada", &format!("text {number}"));
        // A change that a disturbance delays is sent after the next one.
        app.cloud.sandbox.act(&open, Action::text("and")).unwrap();
        expected.push("conversation.closed".to_owned());
        expected.push("conversation.opened agent".to_owned());
        expected.push(format!("message.created text {number}"));
        expected.push("message.created and".to_owned());
        assert_eq!(
            wait_for_summaries(&app, "sms", expected.len()).await,
            expected
        );
        assert_eq!(shown(&app.sms, "ada").await["id"], *open);
        // The bridge compares the Cloud's times, so they have to differ.
        app.cloud.clock.advance(TimeDelta::seconds(60));
    }
}

async fn an_opening_notified_before_its_answer_counts_as_the_users(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    // The user's consumer id is known already.
    open_and_close(&app, "ada").await;
    let before = wait_for_summaries(&app, "sms", 2).await.len();
    let unmatched_before = count_changes(&app, "unmatched").await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::new(Operation::Conversation, Answer::Delay(Delay { seconds: 2 }))
    });
    let opening = json!({
        "features": ["MULTI_DIALOG"], "profile": {"first_name": "Ada"},
    });
    let mut opening = std::pin::pin!(app.sms.post("/v1/users/ada/conversation", opening));
    let overtaken = async {
        eventually("the change is stored", async || {
            (count_changes(&app, "unmatched").await == unmatched_before + 1).then_some(())
        })
        .await;
        let id = app.cloud.sandbox.conversations().pop().unwrap().id;
        app.cloud.sandbox.act(&id, Action::text("Welcome")).unwrap();
        eventually("both changes are stored", async || {
            (count_changes(&app, "unmatched").await == unmatched_before + 3).then_some(())
        })
        .await;
        assert_eq!(summaries(&app, "sms").await.len(), before);
        id
    };
    let id = tokio::select! {
        opened = &mut opening => panic!("it was answered before: {opened:?}"),
        id = overtaken => id,
    };
    app.cloud.clock.advance(TimeDelta::seconds(2));
    let opened = opening.await.expect(201);

    assert_eq!(opened["id"], *id);
    assert_eq!(opened["features"], json!(["MULTI_DIALOG"]));
    let events = wait_for_summaries(&app, "sms", before + 3).await;
    assert_eq!(
        events[before..],
        [
            "conversation.opened user",
            "conversation.updated",
            "message.created Welcome"
        ]
    );
    let user = app.sms.get("/v1/users/ada").await.expect(200);
    assert_eq!(user["profile"]["first_name"], "Ada");
    assert_eq!(count_changes(&app, "adopted").await, 0);
}

async fn an_opening_with_a_lost_answer_counts_as_the_users(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let whatsapp = app.sms.with_key(WHATSAPP_KEY);
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::new(
            Operation::Conversation,
            Answer::Reply(CloudReply::new(StatusCode::BAD_GATEWAY)),
        )
    });
    let opening = json!({
        "features": ["MULTI_DIALOG"], "profile": {"first_name": "Ada"},
    });
    let lost = whatsapp.post("/v1/users/ada/conversation", opening).await;
    assert_eq!(lost.status, 503, "{lost:?}");
    let id = app.cloud.only_conversation().id;
    app.cloud.sandbox.act(&id, Action::text("Welcome")).unwrap();
    eventually("the change is stored", async || {
        (count_changes(&app, "unmatched").await == 3).then_some(())
    })
    .await;
    assert!(summaries(&app, "whatsapp").await.is_empty());

    // By now no replica can still be opening the conversation.
    app.cloud.clock.advance(TimeDelta::seconds(30));

    let events = wait_for_summaries(&app, "whatsapp", 3).await;
    assert_eq!(
        events,
        [
            "conversation.opened user",
            "conversation.updated",
            "message.created Welcome"
        ]
    );
    let shown = shown(&whatsapp, "ada").await;
    assert_eq!(
        (&shown["id"], &shown["features"]),
        (&json!(id), &json!(["MULTI_DIALOG"]))
    );
    let user = whatsapp.get("/v1/users/ada").await.expect(200);
    assert_eq!(user["profile"]["first_name"], "Ada");
    let sent = whatsapp.say("ada", "hello").await.expect(201);
    assert_eq!(sent["conversation_id"], *id);
    assert_eq!(app.cloud.requests(Operation::Conversation).len(), 1);
}

async fn an_agent_opening_is_delivered_after_a_failed_opening_of_the_bridge(engine: Engine) {
    let app = TestApp::start(engine).await;
    open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;
    // Another replica is opening a conversation.
    let (store, now) = (app.store(), app.cloud.clock.now());
    let user = user(store, "sms", "ada").await;
    let opening = PendingOpening {
        channel_id: "sms".parse().unwrap(),
        features: Features::default(),
        profile: None,
        since: now,
        attempted_at: now,
    };
    let until = now + TimeDelta::seconds(30);
    let open = store.begin_opening(user, &opening, until).await.unwrap();
    assert_eq!(open, None);
    let lease = Lease {
        id: "another replica's".to_owned(),
        until,
    };
    assert!(store.claim_lane(user, &lease, now).await.unwrap());

    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 0, 0)).await;
    notify(&app, &agent_text("resumed", 0, "Hi again")).await;
    assert!(summaries(&app, "sms").await.is_empty());
    store.end_opening(user, &opening, None).await.unwrap();
    notify(&app, &state(&app, "resumed", &consumer, "OPEN", 0, 1)).await;
    assert!(summaries(&app, "sms").await.is_empty());
    store.release_lane(user, &lease).await.unwrap();

    let events = wait_for_summaries(&app, "sms", 3).await;
    let expected = [
        "conversation.opened agent",
        "message.created Hi again",
        "conversation.updated",
    ];
    assert_eq!(events, expected);
}

async fn an_opening_that_meets_an_agents_conversation_joins_it(engine: Engine) {
    let app = TestApp::start(engine).await;
    open_and_close(&app, "ada").await;
    // The bridge sends its own opening before it is notified of the agent's conversation.
    let opened = agent_opens(&app, "ada", "Hi again");

    let sent = app.sms.say("ada", "hello").await.expect(201);

    assert_eq!(sent["conversation_id"], *opened);
    app.subscribe_to_the_cloud();
    app.cloud
        .sandbox
        .act(&opened, Action::text("There you are"))
        .unwrap();
    app.cloud
        .sandbox
        .act(
            &opened,
            Action::Transfer {
                skill: "7".to_owned(),
            },
        )
        .unwrap();
    let events = wait_for_summaries(&app, "sms", 2).await;
    assert_eq!(
        events,
        ["message.created There you are", "conversation.opened agent"]
    );
}

async fn an_erased_users_agent_conversation_is_not_resurrected(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    open_and_close(&app, "ada").await;
    let consumer = consumer(&app, "ada").await;
    let opened = agent_opens(&app, "ada", "marker");
    wait_for_summaries(&app, "sms", 4).await;

    let erased = app.sms.request(reqwest::Method::DELETE, "/v1/users/ada");
    assert_eq!(erased.send().await.unwrap().status(), 204);
    notify(&app, &state(&app, &opened, &consumer, "OPEN", 60, 60)).await;
    app.sms.say("ada", "I am new here").await.expect(201);
    notify(&app, &state(&app, &opened, &consumer, "OPEN", 120, 120)).await;

    // The person has the same consumer id at the Cloud, and the old conversation is not
    // resurrected.
    assert_ne!(shown(&app.sms, "ada").await["id"], *opened);
    assert!(!app.database.dump().await.contains("marker"));
}
