//! Restarts: conversations that were opened before a process died are known to the next one.

use liveperson_bridge::sandbox::{Fault, Operation};
use serde_json::json;

use crate::support::channel::try_send;
use crate::support::cloud::Cloud;
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    a_conversation_continues_after_a_kill,
    a_kill_during_an_opening_does_not_lose_the_conversation,
);

async fn a_conversation_continues_after_a_kill(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    let opening = json!({"features": ["AUTO_MESSAGES"], "profile": {"first_name": "Ada"}});
    let opened = sms
        .post("/v1/users/%2B15551234567/conversation", opening)
        .await
        .expect(201);

    process.kill().await;
    let (_process, sms, _) = Process::serve(&toml).await;

    let sent = sms.say("%2B15551234567", "hello").await.expect(201);
    assert_eq!(sent["conversation_id"], opened["id"]);
    let conversation = cloud.only_conversation();
    assert_eq!(cloud.texts(&conversation.id), ["hello"]);
    // Neither the token nor the features had to be obtained again.
    assert_eq!(cloud.requests(Operation::ConsumerToken).len(), 1);
    let message = cloud.requests(Operation::Send).pop().unwrap();
    assert!(message.header("client-properties").is_some());
    let user = sms.get("/v1/users/%2B15551234567").await.expect(200);
    assert_eq!(user["user_id"], "+15551234567");
    assert_eq!(user["profile"], json!({"first_name": "Ada"}));
    assert_eq!(user["conversation"], opened);
}

async fn a_kill_during_an_opening_does_not_lose_the_conversation(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::stall(Operation::Conversation)
    });
    let unanswered = tokio::task::spawn(async move {
        let request = sms
            .request(reqwest::Method::POST, "/v1/users/ada/messages")
            .header("content-type", "application/json")
            .body(r#"{"text": "lost with the process"}"#);
        try_send(request).await
    });
    eventually("the Cloud has opened the conversation", async || {
        (!cloud.sandbox.conversations().is_empty()).then_some(())
    })
    .await;

    process.kill().await;
    assert!(unanswered.await.unwrap().is_err());
    let (_process, sms, _) = Process::serve(&toml).await;

    // The lease of the dead process expires first.
    sms.say("ada", "hello").await.expect(202);
    let conversation = cloud.only_conversation();
    eventually("it is sent", async || {
        (cloud.texts(&conversation.id) == ["hello"]).then_some(())
    })
    .await;
    cloud.only_conversation();
}
