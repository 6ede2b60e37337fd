//! Surveys. The main dialog ends, the conversation stays open, and the user's messages go to the
//! survey.
//!
//! These tests store the Cloud's changes of the survey directly, without notifications.

use chrono::{TimeDelta, Utc};
use liveperson_bridge::sandbox::{Behaviour, Conversation, DialogKind, Fault, Operation, Stage};
use liveperson_bridge::types::conversation::{self, Dialog};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::changes::store_reported_dialog;
use crate::support::channel::send;
use crate::support::cloud::{ACCOUNT, texts};
use crate::support::database::Engine;
use crate::support::patience::eventually;

on_both_engines!(
    a_close_for_a_survey_closes_only_the_main_dialog,
    a_close_for_a_survey_of_a_closed_conversation_sends_nothing,
    texts_choices_and_files_go_to_the_survey,
    receipts_and_requests_of_any_type_go_to_the_survey,
    typing_is_not_sent_to_a_survey,
    a_plain_close_closes_the_survey_too,
    a_plain_close_skips_a_possible_survey,
    a_message_is_queued_until_the_survey_is_known,
    forty_messages_before_the_survey_is_known_open_no_conversation,
    a_message_opens_a_conversation_if_no_survey_follows,
    a_message_after_an_unnoticed_end_of_a_survey_opens_a_conversation,
    forty_messages_after_an_agents_close_open_one_conversation,
    an_unnoticed_close_of_the_main_dialog_leaves_the_conversation_open,
    a_receipt_to_a_closed_main_dialog_leaves_the_conversation_open,
    a_conversation_stored_as_closed_reopens_for_its_survey,
    a_survey_of_a_conversation_stored_as_closed_is_used,
    an_opening_after_a_survey_close_is_found_after_a_lost_answer,
    an_opening_request_before_the_survey_shows_the_open_conversation,
    an_erasure_closes_the_survey,
    a_rating_is_refused_until_the_survey_ends,
    the_length_limit_applies_in_a_survey,
);

const CONVERSATION: &str = "/v1/users/ada/conversation";
const CLOSE: &str = "/v1/users/ada/conversation/close";
const TYPING: &str = "/v1/users/ada/typing";
const RECEIPTS: &str = "/v1/users/ada/receipts";

/// Starts a service with a user in a conversation that a survey can follow.
async fn in_conversation(engine: Engine) -> TestApp {
    let app = TestApp::start(engine).await;
    let opening = json!({
        "routing": {"skill_id": "2736637412"},
        "features": ["RICH_CONTENT", "QUICK_REPLIES", "MULTI_DIALOG"],
    });
    app.sms.post(CONVERSATION, opening).await.expect(201);
    app.sms.say("ada", "hello").await.expect(201);
    app
}

async fn close_for_survey(app: &TestApp) -> Value {
    let closing = json!({"survey": true});
    app.sms.post(CLOSE, closing).await.expect(200)
}

/// Stores the dialogs of the only conversation, as a notification does.
async fn notify(app: &TestApp) {
    let conversation = app.cloud.only_conversation();
    let now = Utc::now();
    for dialog in &conversation.dialogs {
        let kind = match dialog.kind {
            DialogKind::Main => conversation::DialogKind::Main,
            DialogKind::PostSurvey => conversation::DialogKind::PostSurvey,
        };
        let reported = Dialog {
            id: dialog.id.parse().unwrap(),
            kind,
            opened_at: now,
            closed_at: (dialog.state == Stage::Close).then_some(now),
        };
        assert!(store_reported_dialog(app.store(), ACCOUNT, &conversation.id, &reported).await);
    }
}

/// Starts such a service, with the user in the survey.
async fn in_survey(engine: Engine) -> TestApp {
    let app = in_conversation(engine).await;
    close_for_survey(&app).await;
    notify(&app).await;
    let question =
        json!({"type": "ContentEvent", "contentType": "text/plain", "message": "How was it?"});
    let id = app.cloud.only_conversation().id;
    assert_eq!(app.cloud.sandbox.publish_in_survey(&id, question), Some(0));
    app.cloud.sandbox.clear_requests();
    app
}

fn survey(conversation: &Conversation) -> &liveperson_bridge::sandbox::Dialog {
    &conversation.dialogs[1]
}

/// Returns the state and the id of the user's latest conversation.
async fn latest(app: &TestApp) -> (String, String) {
    let shown = app.sms.get(CONVERSATION).await.expect(200);
    let text = |member: &str| shown[member].as_str().unwrap().to_owned();
    (text("state"), text("id"))
}

fn fields(app: &TestApp) -> Vec<Value> {
    let sends = app.cloud.bodies(Operation::Send).into_iter();
    sends
        .map(|send| send["body"]["conversationField"].clone())
        .filter(|field| !field.is_null())
        .collect()
}

async fn a_close_for_a_survey_closes_only_the_main_dialog(engine: Engine) {
    let app = in_conversation(engine).await;

    let closed = close_for_survey(&app).await;
    let again = close_for_survey(&app).await;

    assert_eq!(closed["state"], "open");
    assert_eq!(closed["closed_at"], Value::Null);
    assert_eq!(again, closed);
    let conversation = app.cloud.only_conversation();
    assert_eq!(
        fields(&app),
        [json!({
            "field": "DialogChange", "type": "UPDATE",
            "dialog": {"dialogId": conversation.id, "state": "CLOSE", "closedCause": "Closed by consumer"},
        })]
    );
    assert_eq!(conversation.stage, Stage::Open);
    assert_eq!(conversation.dialogs[0].state, Stage::Close);
    assert_eq!(survey(&conversation).state, Stage::Open);
    notify(&app).await;
    assert_eq!(close_for_survey(&app).await, closed);
    assert_eq!(fields(&app).len(), 1);
}

async fn a_close_for_a_survey_of_a_closed_conversation_sends_nothing(engine: Engine) {
    let app = TestApp::start(engine).await;
    let refused = app.sms.post(CLOSE, json!({"survey": true})).await;
    refused.expect_problem(404, "conversation-not-found");
    app.sms.say("ada", "hello").await.expect(201);
    let closed = app.sms.post(CLOSE, json!({"survey": false})).await;
    let closed = closed.expect(200);
    app.cloud.sandbox.clear_requests();

    let again = close_for_survey(&app).await;

    assert_eq!(again, closed);
    assert_eq!(closed["state"], "closed");
    assert!(app.cloud.sandbox.requests().is_empty());
    for bad in [json!({"survey": "yes"}), json!({"survey": 1})] {
        let refused = app.sms.post(CLOSE, bad).await;
        refused.expect_problem(422, "invalid-request");
    }
}

async fn texts_choices_and_files_go_to_the_survey(engine: Engine) {
    let app = in_survey(engine).await;
    let metadata = json!([{"type": "ExternalId", "id": "Y1"}]);
    let choice = json!({"text": "5", "reply_to": {"sequence": 0, "metadata": metadata}});

    let text = app.sms.say("ada", "fine").await.expect(201);
    let path = "/v1/users/ada/messages";
    let chosen = app.sms.post(path, choice).await.expect(201);
    let file = app.sms.send_file("ada", b"GIF89a").await.expect(201);

    let conversation = app.cloud.only_conversation();
    assert_eq!(conversation.dialogs[0].events.len(), 1);
    let events = &survey(&conversation).events;
    let survey_events: Vec<_> = events.iter().map(|event| &event.event).collect();
    assert_eq!(survey_events[1]["message"], "fine");
    let action = json!({"type": "AcceptStatusEvent", "status": "ACTION", "sequenceList": [0]});
    assert_eq!(survey_events[2], &action);
    assert_eq!(survey_events[3]["message"], "5");
    assert_eq!(survey_events[4]["contentType"], "hosted/file");
    assert_eq!(events[2].metadata, Some(metadata.clone()));
    assert_eq!(events[3].metadata, Some(metadata));
    // The survey has sequences of its own.
    for (reply, sequence) in [(text, 1), (chosen, 3), (file, 4)] {
        assert_eq!(reply["sequence"], sequence);
        assert_eq!(reply["conversation_id"], *conversation.id);
    }
}

async fn receipts_and_requests_of_any_type_go_to_the_survey(engine: Engine) {
    let app = in_survey(engine).await;

    let read = json!({"status": "read", "sequences": [0]});
    app.sms.post(RECEIPTS, read).await.expect(204);
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "raw"});
    let raw = json!({"type": "ms.PublishEvent", "body": {"event": event}});
    app.sms.post("/v1/users/ada/send", raw).await.expect(200);
    let field = json!({"field": "TTRField", "ttrType": "URGENT", "value": 300});
    let raw = json!({"type": "cm.UpdateConversationField", "body": {"conversationField": field}});
    app.sms.post("/v1/users/ada/send", raw).await.expect(200);

    let conversation = app.cloud.only_conversation();
    let events = &survey(&conversation).events;
    assert_eq!(events[1].event["status"], "READ");
    assert_eq!(events[2].event["message"], "raw");
    assert_eq!(conversation.ttr, Some(field));
    for send in app.cloud.bodies(Operation::Send) {
        assert_eq!(send["body"]["conversationId"], *conversation.id);
    }
}

async fn typing_is_not_sent_to_a_survey(engine: Engine) {
    let app = in_conversation(engine).await;
    let composing = json!({"state": "composing"});
    app.sms.put(TYPING, composing.clone()).await.expect(204);
    close_for_survey(&app).await;
    app.cloud.sandbox.clear_requests();

    // Typing is sent neither before the survey is known nor during it.
    app.sms.put(TYPING, composing.clone()).await.expect(204);
    notify(&app).await;
    for state in ["composing", "active", "pause", "gone"] {
        let state = json!({"state": state});
        app.sms.put(TYPING, state).await.expect(204);
    }
    app.cloud.clock.advance(TimeDelta::seconds(30));

    // The close has also ended the typing that began before it.
    let key = liveperson_bridge::types::ids::UserKey {
        account_id: crate::support::cloud::ACCOUNT.parse().unwrap(),
        namespace: "sms".parse().unwrap(),
        user_id: "ada".parse().unwrap(),
    };
    eventually("the typing state is cleared", async || {
        let user_state = app.store().user_state(&key).await.unwrap().unwrap();
        user_state.typing.is_none().then_some(())
    })
    .await;
    assert!(app.cloud.requests(Operation::Send).is_empty());
}

async fn a_plain_close_closes_the_survey_too(engine: Engine) {
    for known in [true, false] {
        let app = in_conversation(engine).await;
        close_for_survey(&app).await;
        if known {
            notify(&app).await;
        }

        let closed = app.sms.post(CLOSE, json!({})).await.expect(200);
        let again = app.sms.post(CLOSE, json!({"survey": true})).await;

        assert_eq!(closed["state"], "closed");
        assert_eq!(closed["close_reason"], "consumer");
        assert_eq!(again.expect(200), closed);
        let stage = json!({"field": "Stage", "conversationState": "CLOSE"});
        assert_eq!(fields(&app)[1..], [stage]);
        let conversation = app.cloud.only_conversation();
        assert_eq!(conversation.stage, Stage::Close);
        assert_eq!(survey(&conversation).state, Stage::Close);
    }
}

async fn a_plain_close_skips_a_possible_survey(engine: Engine) {
    let app = in_conversation(engine).await;

    let closed = app.sms.post(CLOSE, json!({})).await.expect(200);

    assert_eq!(closed["state"], "closed");
    let stage = json!({"field": "Stage", "conversationState": "CLOSE"});
    assert_eq!(fields(&app), [stage]);
    assert_eq!(app.cloud.only_conversation().stage, Stage::Close);
}

async fn a_message_is_queued_until_the_survey_is_known(engine: Engine) {
    let app = in_conversation(engine).await;
    close_for_survey(&app).await;

    let queued = app.sms.say("ada", "fine").await;
    app.sms.say("ada", "thanks").await.expect(202);
    // No attempt was made in the closed main dialog.
    assert_eq!(app.cloud.requests(Operation::Send).len(), 2);
    assert_eq!(latest(&app).await.0, "open");
    notify(&app).await;

    let sent = app.wait_until(queued, "sent").await;
    assert_eq!(sent["timeline"][1]["why"], "survey-pending");
    eventually("all messages are in the survey", async || {
        let conversation = app.cloud.only_conversation();
        (texts(&conversation) == ["hello", "fine", "thanks"]).then_some(())
    })
    .await;
    assert_eq!(survey(&app.cloud.only_conversation()).events.len(), 2);
}

async fn forty_messages_before_the_survey_is_known_open_no_conversation(engine: Engine) {
    let app = in_conversation(engine).await;
    close_for_survey(&app).await;

    let mut sends = tokio::task::JoinSet::new();
    for number in 0..40 {
        let sms = app.sms.clone();
        sends.spawn(async move {
            sms.say("ada", &number.to_string()).await.expect(202);
        });
    }
    sends.join_all().await;

    let conversation = app.cloud.only_conversation();
    assert_eq!(texts(&conversation), ["hello"]);
    assert_eq!(latest(&app).await, ("open".to_owned(), conversation.id));
}

async fn a_message_opens_a_conversation_if_no_survey_follows(engine: Engine) {
    let app = in_conversation(engine).await;
    app.cloud.sandbox.set_behaviour(Behaviour {
        surveys: false,
        ..Behaviour::default()
    });
    let first = close_for_survey(&app).await;
    // The bridge has received no notification of the close.
    assert_eq!(first["state"], "open");

    let sent = app.sms.say("ada", "again").await.expect(201);

    assert_ne!(sent["conversation_id"], first["id"]);
    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(conversations.len(), 2);
    assert_eq!(texts(&conversations[1]), ["again"]);
    let open = ("open".to_owned(), conversations[1].id.clone());
    assert_eq!(latest(&app).await, open);
    // The next message goes to the same conversation.
    app.sms.say("ada", "more").await.expect(201);
    assert_eq!(app.cloud.sandbox.conversations().len(), 2);
}

async fn a_message_after_an_unnoticed_end_of_a_survey_opens_a_conversation(engine: Engine) {
    let app = in_survey(engine).await;
    let first = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.end_survey(&first));

    let sent = app.sms.say("ada", "again").await.expect(201);

    assert_ne!(sent["conversation_id"], *first);
    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(texts(&conversations[1]), ["again"]);
    assert_eq!(latest(&app).await.1, conversations[1].id);
}

async fn forty_messages_after_an_agents_close_open_one_conversation(engine: Engine) {
    let app = in_conversation(engine).await;
    let first = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));

    let mut sends = tokio::task::JoinSet::new();
    for number in 0..40 {
        let sms = app.sms.clone();
        sends.spawn(async move { sms.say("ada", &number.to_string()).await.expect(201) });
    }
    sends.join_all().await;

    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(conversations.len(), 2);
    assert_eq!(texts(&conversations[1]).len(), 40);
    let open = ("open".to_owned(), conversations[1].id.clone());
    assert_eq!(latest(&app).await, open);
}

async fn an_unnoticed_close_of_the_main_dialog_leaves_the_conversation_open(engine: Engine) {
    let app = in_conversation(engine).await;
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_main_dialog(&id, "AGENT"));

    let queued = app.sms.say("ada", "fine").await;
    assert_eq!(latest(&app).await, ("open".to_owned(), id.clone()));
    notify(&app).await;
    app.wait_until(queued, "sent").await;

    let conversation = app.cloud.only_conversation();
    assert_eq!(survey(&conversation).events[0].event["message"], "fine");
    // The close of a conversation that has already ended at the Cloud succeeds.
    assert!(app.cloud.sandbox.end_survey(&id));
    app.sms.post(CLOSE, json!({})).await.expect(200);
    assert_eq!(latest(&app).await, ("closed".to_owned(), id));
}

async fn a_receipt_to_a_closed_main_dialog_leaves_the_conversation_open(engine: Engine) {
    let app = in_conversation(engine).await;
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_main_dialog(&id, "AGENT"));

    let read = json!({"status": "read", "sequences": [0]});
    let refused = app.sms.post(RECEIPTS, read).await;

    refused.expect_problem(409, "no-open-conversation");
    assert_eq!(latest(&app).await, ("open".to_owned(), id));
    let closed = close_for_survey(&app).await;
    assert_eq!(closed["state"], "open");
    assert!(fields(&app).is_empty(), "it was closed already");
}

async fn a_survey_of_a_conversation_stored_as_closed_is_used(engine: Engine) {
    let app = in_conversation(engine).await;
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_main_dialog(&id, "AGENT"));
    let parsed = id.parse().unwrap();
    let closed = app.store().close_conversation(&parsed, Utc::now(), None);
    assert!(closed.await.unwrap());
    notify(&app).await;

    let sent = app.sms.say("ada", "fine").await.expect(201);

    assert_eq!(sent["conversation_id"], *id);
    let conversation = app.cloud.only_conversation();
    assert_eq!(survey(&conversation).events[0].event["message"], "fine");
}

async fn a_conversation_stored_as_closed_reopens_for_its_survey(engine: Engine) {
    let app = in_conversation(engine).await;
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_main_dialog(&id, "AGENT"));
    let parsed = id.parse().unwrap();
    let closed = app.store().close_conversation(&parsed, Utc::now(), None);
    assert!(closed.await.unwrap());

    let queued = app.sms.say("ada", "fine").await;

    assert_eq!(latest(&app).await, ("open".to_owned(), id.clone()));
    notify(&app).await;
    let sent = app.wait_until(queued, "sent").await;
    assert_eq!(sent["conversation_id"], *id);
}

async fn an_opening_after_a_survey_close_is_found_after_a_lost_answer(engine: Engine) {
    let app = in_conversation(engine).await;
    app.cloud.sandbox.set_behaviour(Behaviour {
        surveys: false,
        ..Behaviour::default()
    });
    let first = close_for_survey(&app).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Conversation, StatusCode::GATEWAY_TIMEOUT)
    });

    let queued = app.sms.say("ada", "again").await;
    let sent = app.wait_until(queued, "sent").await;

    assert_ne!(sent["conversation_id"], first["id"]);
    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(conversations.len(), 2);
    assert_eq!(texts(&conversations[1]), ["again"]);
    assert_eq!(latest(&app).await.1, conversations[1].id);
}

async fn an_opening_request_before_the_survey_shows_the_open_conversation(engine: Engine) {
    let app = in_conversation(engine).await;
    let closed = close_for_survey(&app).await;

    let shown = app.sms.post(CONVERSATION, json!({})).await.expect(200);

    assert_eq!(shown, closed);
    notify(&app).await;
    let shown = app.sms.post(CONVERSATION, json!({})).await.expect(200);
    assert_eq!(shown, closed);
    // Once the survey has ended at the Cloud, the request opens another conversation.
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.end_survey(&id));
    app.store()
        .close_dialog(&survey_id(&app), Utc::now())
        .await
        .unwrap();
    let opened = app.sms.post(CONVERSATION, json!({})).await.expect(201);
    assert_ne!(opened["id"], closed["id"]);
}

fn survey_id(app: &TestApp) -> String {
    survey(&app.cloud.only_conversation()).id.clone()
}

async fn an_erasure_closes_the_survey(engine: Engine) {
    let app = in_survey(engine).await;
    let survey = survey_id(&app);
    assert!(app.database.dump().await.contains(&survey));

    send(app.sms.request(Method::DELETE, "/v1/users/ada"))
        .await
        .expect(204);

    let stage = json!({"field": "Stage", "conversationState": "CLOSE"});
    assert_eq!(fields(&app), [stage]);
    assert_eq!(app.cloud.only_conversation().stage, Stage::Close);
    assert!(!app.database.dump().await.contains(&survey));
}

async fn a_rating_is_refused_until_the_survey_ends(engine: Engine) {
    let app = in_survey(engine).await;
    let path = "/v1/users/ada/conversation/rating";
    let rating = json!({"csat": 5, "fcr": "yes"});

    let refused = app.sms.put(path, rating.clone()).await;
    refused.expect_problem(409, "conversation-open");
    app.sms.post(CLOSE, json!({})).await.expect(200);
    app.sms.put(path, rating).await.expect(204);

    assert!(app.cloud.only_conversation().csat.is_some());
}

async fn the_length_limit_applies_in_a_survey(engine: Engine) {
    let app = in_survey(engine).await;

    // `frame` is the length of the request of an empty text, which has the ids of the conversation
    // and the survey.
    app.sms.say("ada", "x").await.expect(201);
    let frame = app.cloud.requests(Operation::Send)[0].body.len() - 1;
    let longest = "x".repeat(5000 - frame);
    app.sms.say("ada", &longest).await.expect(201);
    let refused = app.sms.say("ada", &format!("{longest}x")).await;

    refused.expect_problem(422, "invalid-request");
}
