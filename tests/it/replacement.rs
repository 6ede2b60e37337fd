//! Differences between the Cloud and the bridge: conversations that the Cloud has closed, or has
//! open, without the bridge's knowledge.

use liveperson_bridge::sandbox::{Answer, Behaviour, Fault, Operation, Reply};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::cloud::texts;
use crate::support::database::Engine;

on_both_engines!(
    a_message_to_a_closed_conversation_is_sent_in_a_new_one,
    a_refusal_with_status_200_counts_as_a_refusal,
    forty_messages_to_a_closed_conversation_open_one_new_one,
    typing_and_receipts_need_an_open_conversation,
    closing_a_closed_conversation_succeeds,
    closing_needs_a_conversation,
    a_conversation_is_found_after_the_openings_answer_was_lost,
    a_conversation_that_is_not_found_is_a_temporary_problem,
    a_first_message_that_is_refused_is_sent_once_more,
);

fn close_by_agent(app: &TestApp, id: &Value) {
    let id = id.as_str().unwrap();
    assert!(app.cloud.sandbox.close_conversation(id, "AGENT"));
}

async fn a_message_to_a_closed_conversation_is_sent_in_a_new_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    close_by_agent(&app, &first);

    let second = app.sms.say("ada", "two").await.expect(201)["conversation_id"].take();

    assert_ne!(first, second);
    assert_eq!(app.cloud.texts(first.as_str().unwrap()), ["one"]);
    assert_eq!(app.cloud.texts(second.as_str().unwrap()), ["two"]);
    let latest = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(latest["id"], second);
    assert_eq!(latest["state"], "open");
}

async fn a_refusal_with_status_200_counts_as_a_refusal(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.set_behaviour(Behaviour {
        already_open_status: StatusCode::OK,
        closed_status: StatusCode::OK,
        ..Behaviour::default()
    });
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    close_by_agent(&app, &first);

    let second = app.sms.say("ada", "two").await.expect(201)["conversation_id"].take();

    assert_eq!(app.cloud.texts(second.as_str().unwrap()), ["two"]);
}

async fn forty_messages_to_a_closed_conversation_open_one_new_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    close_by_agent(&app, &first);

    let mut sends = tokio::task::JoinSet::new();
    for number in 0..40 {
        let sms = app.sms.clone();
        sends.spawn(async move { sms.say("ada", &number.to_string()).await.expect(201) });
    }
    sends.join_all().await;

    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(conversations.len(), 2);
    assert_eq!(texts(&conversations[1]).len(), 40);
}

async fn typing_and_receipts_need_an_open_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;
    let (typing, receipts) = ("/v1/users/ada/typing", "/v1/users/ada/receipts");
    let active = json!({"state": "active"});
    let read = json!({"status": "read", "sequences": [0]});
    let none = async || {
        let code = "no-open-conversation";
        app.sms
            .put(typing, active.clone())
            .await
            .expect_problem(409, code);
        app.sms
            .post(receipts, read.clone())
            .await
            .expect_problem(409, code);
    };

    none().await;
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    app.sms.put(typing, active.clone()).await.expect(204);
    app.sms.post(receipts, read.clone()).await.expect(204);
    close_by_agent(&app, &first);
    none().await;

    let latest = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(latest["state"], "closed");
    // No notification has named the side that closed it.
    assert_eq!(latest["close_reason"], Value::Null);
    assert!(latest["closed_at"].is_string());
    assert_eq!(app.cloud.sandbox.conversations().len(), 1);
}

async fn closing_a_closed_conversation_succeeds(engine: Engine) {
    let app = TestApp::start(engine).await;
    let close = "/v1/users/ada/conversation/close";
    app.sms.say("ada", "one").await.expect(201);

    let closed = app.sms.post(close, json!({})).await.expect(200);
    let again = app.sms.post(close, json!({})).await.expect(200);

    assert_eq!(closed, again);
    let second = app.sms.say("ada", "two").await.expect(201)["conversation_id"].take();
    close_by_agent(&app, &second);
    let closed = app.sms.post(close, json!({})).await.expect(200);
    assert_eq!(closed["id"], second);
    assert_eq!(closed["state"], "closed");
}

async fn closing_needs_a_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;

    for path in [
        "/v1/users/ada/conversation/close",
        "/v1/users/b/conversation/close",
    ] {
        let reply = app.sms.post(path, json!({})).await;
        reply.expect_problem(404, "conversation-not-found");
    }
    let reply = app.sms.get("/v1/users/ada/conversation").await;
    reply.expect_problem(404, "conversation-not-found");
}

async fn a_conversation_is_found_after_the_openings_answer_was_lost(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Conversation, StatusCode::GATEWAY_TIMEOUT)
    });

    let queued = app.sms.say("ada", "one").await;
    let sent = app.wait_until(queued, "sent").await;

    assert_eq!(sent["timeline"][1]["why"], "conversation-pending");
    let conversation = app.cloud.only_conversation();
    assert_eq!(sent["conversation_id"], *conversation.id);
    assert_eq!(app.cloud.texts(&conversation.id), ["one"]);
    let shown = app.sms.post("/v1/users/ada/conversation", json!({})).await;
    assert_eq!(shown.expect(200)["id"], *conversation.id);
}

async fn a_conversation_that_is_not_found_is_a_temporary_problem(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Conversation, StatusCode::GATEWAY_TIMEOUT)
    });
    let mut none = Reply::new(StatusCode::OK);
    none.body = json!({"sessionId": "S1", "visitorId": "V1", "pageId": "P1"}).to_string();
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Engagement, Answer::Reply(none)));

    let refused = app.sms.post("/v1/users/ada/conversation", json!({})).await;
    refused.expect_problem(503, "conversation-pending");
    let refused = app.sms.post("/v1/users/ada/conversation", json!({})).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_problem(503, "conversation-lost");
    app.sms.say("ada", "one").await.expect(201);

    app.cloud.only_conversation();
}

async fn a_first_message_that_is_refused_is_sent_once_more(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut refusal = Reply::new(StatusCode::BAD_REQUEST);
    refusal.body = json!({"code": "BAD_REQUEST", "body": {"msg": "not yet"}}).to_string();
    let refusal = Fault::new(Operation::Send, Answer::Reply(refusal));

    app.cloud.sandbox.inject(refusal.clone());
    app.sms.say("ada", "one").await.expect(201);
    app.cloud.sandbox.inject(refusal);
    let refused = app.sms.say("ada", "two").await;

    // Only the first message after an opening is sent again.
    refused.expect_problem(422, "cloud-refused");
    assert_eq!(app.cloud.texts(&app.cloud.only_conversation().id), ["one"]);
}
