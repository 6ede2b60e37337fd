//! The complete path from the Cloud to a channel: agents act at the Cloud, it calls the bridge's
//! webhook, and the channel's event log shows the result.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use liveperson_bridge::sandbox::Stage;
use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::Engine;
use crate::support::patience::eventually;

on_both_engines!(
    actions_of_an_agent_become_events_in_order,
    structured_content_keeps_its_texts_and_choices,
    private_and_foreign_messages_are_not_delivered,
    a_file_of_an_agent_can_be_fetched,
    repeated_late_or_reformatted_notifications_give_one_event,
    a_survey_runs_from_its_first_question_to_its_end,
    late_notifications_do_not_restore_an_erased_user,
);

/// Starts a service that receives the simulated Cloud's notifications, with a user in a
/// conversation. Returns it with the conversation's id.
async fn in_conversation(engine: Engine) -> (TestApp, String) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let opening = json!({
        "routing": {"skill_id": "2736637412"},
        "features": ["RICH_CONTENT", "QUICK_REPLIES", "MULTI_DIALOG"],
    });
    let path = "/v1/users/ada/conversation";
    let opened = app.sms.post(path, opening).await.expect(201);
    let id = opened["id"].as_str().unwrap().to_owned();
    (app, id)
}

fn act(app: &TestApp, conversation: &str, action: Value) {
    let action = serde_json::from_value(action).unwrap();
    app.cloud.sandbox.act(conversation, action).unwrap();
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Returns the channel's events, once the Cloud has sent all its notifications.
async fn events(app: &TestApp) -> Vec<Value> {
    eventually("the Cloud has sent all notifications", async || {
        (app.cloud.sandbox.pending_notifications() == 0).then_some(())
    })
    .await;
    app.event_log("sms").await
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

fn texts(events: &[Value]) -> Vec<&str> {
    let texts = events.iter().map(|event| event["data"]["text"].as_str());
    texts.flatten().collect()
}

async fn actions_of_an_agent_become_events_in_order(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    app.sms.say("ada", "Where is my parcel?").await.expect(201);

    act(&app, &id, json!({"type": "join"}));
    act(&app, &id, text("Hello"));
    let choice =
        json!({"title": "Yes", "text": "yes", "metadata": [{"type": "ExternalId", "id": "Y1"}]});
    act(
        &app,
        &id,
        json!({"type": "text", "text": "Home?", "quick_replies": [choice]}),
    );
    let link = json!({"actions": [{"type": "link", "uri": "https://example.com/t"}]});
    let card = json!({"type": "vertical", "elements": [
        {"type": "text", "text": "Your parcel"}, {"type": "button", "title": "Track", "click": link},
    ]});
    act(&app, &id, json!({"type": "rich", "content": card}));
    act(&app, &id, json!({"type": "transfer", "skill": "7"}));
    act(&app, &id, json!({"type": "close"}));

    let events = events(&app).await;
    let kinds = kinds(&events);
    assert_eq!(kinds.first(), Some(&"conversation.opened"));
    assert_eq!(kinds.last(), Some(&"conversation.closed"));
    assert!(kinds.contains(&"conversation.updated"));
    let sent_texts = texts(&events);
    assert_eq!(sent_texts[0], "Hello");
    assert_eq!(sent_texts[1], "Home?\n1. Yes");
    assert!(sent_texts[2].contains("Your parcel"));
    assert!(sent_texts[2].contains("https://example.com/t"));
    let question = events
        .iter()
        .find(|e| e["data"]["choices"].is_array())
        .unwrap();
    assert_eq!(question["data"]["choices"], json!([choice]));
    let sequences: Vec<_> = events
        .iter()
        .filter_map(|e| e["data"]["sequence"].as_u64())
        .collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let conversation = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(conversation["state"], "closed");
    assert_eq!(conversation["close_reason"], "agent");
}

async fn structured_content_keeps_its_texts_and_choices(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let publish = |text: &str| json!({"actions": [{"type": "publishText", "text": text}]});
    let tick = |id: &str, text: &str| json!({"metadata": [{"type": "ExternalId", "id": id}], "actions": [{"type": "checked", "publishText": text}]});
    let boxes = json!({"type": "checklist", "elements": [
        {"type": "checkbox", "text": "Apple", "click": tick("A", "apples")},
        {"type": "checkbox", "text": "Pear", "click": tick("P", "pears")}]});
    let section = json!({"type": "section", "sectionID": "s", "elements": [{"type": "text", "text": "&#x1F449; Tick all you like"}, boxes]});
    let submit = json!({"actions": [{"type": "submitAsText", "submit": true}]});
    let checklist = json!({"type": "list", "elements": [
        {"type": "text", "text": "Which fruit?"},
        {"type": "sectionList", "elements": [section]},
        {"type": "buttonList", "elements": [
            {"type": "submitButton", "title": "Continue", "click": submit},
            {"type": "button", "title": "Back", "click": publish("back")}]}]});
    let slots = json!([
        {"type": "scheduleSlot", "id": "1", "start": 1_800_000_000, "end": 1_800_003_600, "title": "Morning",
            "description": "with the technician"},
        {"type": "scheduleSlot", "id": "2", "start": 1_800_007_200, "end": 1_800_010_800, "title": "Noon"}]);
    let visit =
        json!({"actions": [{"type": "scheduleSlotList", "title": "Your visit", "slots": slots}]});
    let schedule = json!({"type": "vertical", "elements": [
        {"type": "text", "text": "Choose a time"}, {"type": "button", "title": "Select appointment", "click": visit}]});
    let panel =
        |text: &str| json!({"type": "vertical", "elements": [{"type": "text", "text": text}]});
    let plans = json!({"type": "accordionSelect", "selectMode": {"name": "m"},
        "titles": [{"name": "Plan A", "additional": "10 a month"}, {"name": "Plan B", "additional": "20 a month"}],
        "elements": [panel("Twelve months"), panel("Two years")]});
    let accordion = json!({"type": "vertical", "elements": [
        plans, {"type": "button", "title": "Submit", "subtitle": "No fee", "click": publish("chosen")}]});
    for content in [checklist, schedule, accordion] {
        act(&app, &id, json!({"type": "rich", "content": content}));
    }

    let events = events(&app).await;
    assert_eq!(
        texts(&events),
        [
            "Which fruit?\n👉 Tick all you like\n1. Apple\n2. Pear\nContinue\n3. Back",
            "Choose a time\nSelect appointment: Your visit\n\
             Morning: 2027-01-15 08:00-09:00 UTC, with the technician\nNoon: 2027-01-15 10:00-11:00 UTC",
            "Plan A: 10 a month\nTwelve months\nPlan B: 20 a month\nTwo years\n1. Submit: No fee",
        ]
    );
    let choices = events.iter().map(|event| &event["data"]["choices"]);
    let choices: Vec<_> = choices.filter(|it| it.is_array()).collect();
    let metadata = |id: &str| json!([{"type": "ExternalId", "id": id}]);
    assert_eq!(
        choices,
        [
            &json!([
                {"title": "Apple", "text": "apples", "metadata": metadata("A")},
                {"title": "Pear", "text": "pears", "metadata": metadata("P")},
                {"title": "Back", "text": "back"},
            ]),
            &json!([{"title": "Submit", "text": "chosen"}]),
        ]
    );
}

async fn private_and_foreign_messages_are_not_delivered(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    app.sms.say("ada", "my own words").await.expect(201);

    let private = json!({"type": "text", "text": "a note among agents", "private": true});
    act(&app, &id, private);
    assert!(
        app.cloud
            .sandbox
            .notify_foreign(crate::support::cloud::ACCOUNT)
            .is_some()
    );
    act(&app, &id, text("for you"));

    assert_eq!(texts(&events(&app).await), ["for you"]);
}

async fn a_file_of_an_agent_can_be_fetched(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let content = b"%PDF-1.7 an invoice".to_vec();

    let encoded = STANDARD.encode(&content);
    let file =
        json!({"type": "file", "content": encoded, "file_type": "PDF", "caption": "Your invoice"});
    act(&app, &id, file);

    let events = events(&app).await;
    let message = events
        .iter()
        .find(|e| e["type"] == "message.created")
        .unwrap();
    assert_eq!(message["data"]["text"], "Your invoice");
    let file = &message["data"]["file"];
    assert_eq!(file["file_type"], "PDF");
    let url = file["url"].as_str().unwrap();
    let path = &url[url.find("/v1/users/ada/files/").unwrap()..];
    assert!(path.ends_with(file["id"].as_str().unwrap()));
    let fetched = app
        .sms
        .request(reqwest::Method::GET, path)
        .send()
        .await
        .unwrap();
    assert_eq!(fetched.status(), 200);
    assert_eq!(fetched.bytes().await.unwrap(), content);
}

async fn repeated_late_or_reformatted_notifications_give_one_event(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    for disturbance in [
        DisturbanceKind::Duplicate,
        DisturbanceKind::OldForm,
        DisturbanceKind::BadSignature,
    ] {
        app.cloud.sandbox.disturb(Disturbance::next(disturbance));
        act(&app, &id, text(&format!("{disturbance:?}")));
        app.cloud.sandbox.retry_now();
    }

    let logged = eventually("all events are logged", async || {
        app.cloud.sandbox.retry_now();
        let events = app.event_log("sms").await;
        (texts(&events).len() == 3).then_some(events)
    })
    .await;

    assert_eq!(texts(&logged), ["Duplicate", "OldForm", "BadSignature"]);
    events(&app).await;
    assert_eq!(texts(&app.event_log("sms").await).len(), 3);
}

async fn a_survey_runs_from_its_first_question_to_its_end(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    app.sms.say("ada", "thanks").await.expect(201);
    let close = "/v1/users/ada/conversation/close";
    let closed = app
        .sms
        .post(close, json!({"survey": true}))
        .await
        .expect(200);
    assert_eq!(closed["state"], "open");
    let question =
        json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Were you happy?"});
    let sequence = app.cloud.sandbox.publish_in_survey(&id, question).unwrap();

    let logged = events(&app).await;
    assert_eq!(texts(&logged), ["Were you happy?"]);
    let message = logged
        .iter()
        .find(|e| e["type"] == "message.created")
        .unwrap();
    assert_eq!(message["data"]["sender"]["role"], "bot");
    assert_ne!(message["data"]["dialog_id"], *id);
    let answer = json!({"text": "yes", "reply_to": {"sequence": sequence, "metadata": [{"type": "ExternalId", "id": "A1"}]}});
    app.sms
        .post("/v1/users/ada/messages", answer)
        .await
        .expect(201);
    assert!(app.cloud.sandbox.end_survey(&id));

    let all_events = events(&app).await;
    assert_eq!(kinds(&all_events).last(), Some(&"conversation.closed"));
    let at_cloud = app.cloud.only_conversation();
    assert_eq!(at_cloud.stage, Stage::Close);
    let survey = &at_cloud.dialogs[1];
    let published: Vec<_> = survey
        .events
        .iter()
        .map(|e| e.event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        published,
        ["ContentEvent", "AcceptStatusEvent", "ContentEvent"]
    );
    // The next message belongs to a new conversation.
    let next = app.sms.say("ada", "hello again").await.expect(201);
    assert_ne!(next["conversation_id"], *id);
}

async fn late_notifications_do_not_restore_an_erased_user(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    act(&app, &id, text("marker"));
    events(&app).await;
    assert!(app.database.dump().await.contains("marker"));

    let erase = app.sms.request(reqwest::Method::DELETE, "/v1/users/ada");
    assert_eq!(erase.send().await.unwrap().status(), 204);

    // The Cloud sends a notification of the close that the erasure requested.
    assert!(events(&app).await.is_empty());
    let consumer = app.cloud.only_conversation().consumer.lp_consumer_id;
    let dump = app.database.dump().await;
    for marker in ["marker", &id, &consumer] {
        assert!(!dump.contains(marker), "{marker} is still there");
    }
}
