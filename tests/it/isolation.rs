//! The isolation of users: channels of one namespace share them, and no other channel knows them.

use liveperson_bridge::sandbox::Operation;
use reqwest::Method;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::send;
use crate::support::configuration::{APP_KEY, WHATSAPP_KEY};
use crate::support::database::Engine;

on_both_engines!(
    another_channels_user_is_not_found,
    the_same_user_id_on_two_channels_is_two_consumers,
    channels_of_one_namespace_share_users_and_their_conversation,
    user_ids_that_only_look_alike_are_different_users,
);

async fn another_channels_user_is_not_found(engine: Engine) {
    let app = TestApp::start(engine).await;
    let other = app.sms.with_key(APP_KEY);
    app.sms.say("ada", "hello").await.expect(201);

    let user = other.get("/v1/users/ada").await;
    let conversation = other.get("/v1/users/ada/conversation").await;
    let close = other
        .post("/v1/users/ada/conversation/close", json!({}))
        .await;
    let typing = other
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;
    let receipts = other
        .post(
            "/v1/users/ada/receipts",
            json!({"status": "read", "sequences": [0]}),
        )
        .await;

    user.expect_problem(404, "user-not-found");
    conversation.expect_problem(404, "conversation-not-found");
    close.expect_problem(404, "conversation-not-found");
    typing.expect_problem(409, "no-open-conversation");
    receipts.expect_problem(409, "no-open-conversation");
    assert_eq!(app.cloud.only_conversation().dialogs[0].events.len(), 1);
    let conversation = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(conversation["state"], "open");
}

async fn the_same_user_id_on_two_channels_is_two_consumers(engine: Engine) {
    let app = TestApp::start(engine).await;
    let other = app.sms.with_key(APP_KEY);

    let first = app.sms.say("ada", "from sms").await.expect(201);
    let second = other.say("ada", "from app").await.expect(201);

    assert_ne!(first["conversation_id"], second["conversation_id"]);
    let consumers = app.cloud.bodies(Operation::ConsumerToken);
    assert_eq!(
        consumers,
        [
            json!({"ext_consumer_id": "sms:ada"}),
            json!({"ext_consumer_id": "app:ada"})
        ]
    );
    // The close of one conversation leaves the other open.
    app.sms
        .post("/v1/users/ada/conversation/close", json!({}))
        .await
        .expect(200);
    let conversation = other.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(conversation["state"], "open");
}

async fn channels_of_one_namespace_share_users_and_their_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;
    let whatsapp = app.sms.with_key(WHATSAPP_KEY);
    let first = app.sms.say("ada", "from sms").await.expect(201);

    let second = whatsapp.say("ada", "from whatsapp").await.expect(201);

    assert_eq!(second["conversation_id"], first["conversation_id"]);
    let conversation = app.cloud.only_conversation();
    assert_eq!(
        app.cloud.texts(&conversation.id),
        ["from sms", "from whatsapp"]
    );
    assert_eq!(
        app.cloud.bodies(Operation::ConsumerToken),
        [json!({"ext_consumer_id": "sms:ada"})]
    );
    assert_eq!(
        whatsapp.get("/v1/users/ada").await.expect(200),
        app.sms.get("/v1/users/ada").await.expect(200)
    );
    // A conversation that one channel closes is closed for both.
    let close = whatsapp.request(Method::POST, "/v1/users/ada/conversation/close");
    send(close).await.expect(200);
    let conversation = app.sms.get("/v1/users/ada/conversation").await.expect(200);
    assert_eq!(conversation["state"], "closed");
}

async fn user_ids_that_only_look_alike_are_different_users(engine: Engine) {
    let app = TestApp::start(engine).await;
    // In turn: case, composed and decomposed, surrounding space, a Latin and a Cyrillic letter.
    let ids = [
        "Ada",
        "ada",
        "Zo%C3%AB",
        "Zoe%CC%88",
        "%20ada",
        "ada%20",
        "a",
        "%D0%B0",
    ];

    let mut conversations = Vec::new();
    for id in ids {
        let sent = app.sms.say(id, "hello").await.expect(201);
        conversations.push(sent["conversation_id"].to_string());
    }

    for id in ids {
        let found = app.sms.get(&format!("/v1/users/{id}/conversation")).await;
        let found = found.expect(200)["id"].to_string();
        assert_eq!(conversations.iter().filter(|c| **c == found).count(), 1);
    }
    assert_eq!(app.cloud.sandbox.conversations().len(), ids.len());
}
