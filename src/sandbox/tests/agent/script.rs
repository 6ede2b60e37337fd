//! The agent who answers by script.

use std::time::Duration;

use super::*;
use crate::sandbox::agent::Script;
use crate::sandbox::{Conversation, Role};

impl Scene {
    /// A conversation with an agent who answers at once.
    async fn scripted() -> Self {
        let script = Script {
            pace: Duration::ZERO,
        };
        Self::in_cloud(Cloud::with(Options {
            agent: Some(script),
            ..Options::default()
        }))
        .await
    }

    /// The events of the brand, once the last of them is this one.
    async fn answers_until(&self, last: &Value) -> Vec<Value> {
        eventually("the agent's answer", || {
            let events = of_brand(&self.cloud.conversation(&self.id));
            (events.last() == Some(last)).then_some(events)
        })
        .await
    }
}

/// What was published by others than the consumer.
fn of_brand(conversation: &Conversation) -> Vec<Value> {
    let events = conversation
        .dialogs
        .iter()
        .flat_map(|dialog| &dialog.events);
    events
        .filter(|event| event.originator.role != Role::Consumer)
        .map(|event| event.event.clone())
        .collect()
}

fn typing(state: &str) -> Value {
    json!({"type": "ChatStateEvent", "chatState": state})
}

fn receipt(status: &str, sequence: usize) -> Value {
    json!({"type": "AcceptStatusEvent", "status": status, "sequenceList": [sequence]})
}

fn said(message: &str) -> Value {
    json!({"type": "ContentEvent", "contentType": "text/plain", "message": message})
}

#[tokio::test]
async fn the_agent_joins_reads_types_and_answers() {
    let scene = Scene::scripted().await;

    scene.say("Hello").await;
    let answers = scene.answers_until(&typing("ACTIVE")).await;

    let expected = [
        receipt("ACCEPT", 0),
        receipt("READ", 0),
        typing("COMPOSING"),
        said("You said: Hello"),
        typing("ACTIVE"),
    ];
    assert_eq!(answers, expected);
    let participants = scene.cloud.conversation(&scene.id).participants;
    assert_eq!(participants[1].role, Role::AssignedAgent);
}

#[tokio::test]
async fn texts_are_answered_in_their_order() {
    let scene = Scene::scripted().await;

    for number in 0..5 {
        scene.say(&number.to_string()).await;
    }
    let answers = eventually("five answers", || {
        let events = of_brand(&scene.cloud.conversation(&scene.id));
        (events.len() == 25).then_some(events)
    })
    .await;

    let texts: Vec<_> = answers
        .iter()
        .filter_map(|event| event["message"].as_str())
        .collect();
    let expected: Vec<_> = (0..5).map(|number| format!("You said: {number}")).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn some_words_have_answers_of_their_own() {
    for (word, pointer, expected) in [
        ("the MENU, please", "/quickReplies/replies/1/title", "Tea"),
        ("a card", "/content/elements/1/text", "Coffee"),
        ("picture", "/message/fileType", "PNG"),
    ] {
        let scene = Scene::scripted().await;

        scene.say(word).await;
        let answers = scene.answers_until(&typing("ACTIVE")).await;

        let found = answers[3].pointer(pointer);
        assert_eq!(found, Some(&json!(expected)), "{}", answers[3]);
        if let Some(path) = answers[3].pointer("/message/relativePath") {
            let picture = scene.cloud.sandbox.file(path.as_str().unwrap()).unwrap();
            assert!(picture.starts_with(b"\x89PNG"));
        }
    }
}

#[tokio::test]
async fn bye_ends_the_conversation() {
    let scene = Scene::scripted().await;

    scene.say("Bye!").await;
    let closed = eventually("closed", || {
        let conversation = scene.cloud.conversation(&scene.id);
        conversation.close_reason.clone().map(|_| conversation)
    })
    .await;

    assert_eq!(of_brand(&closed)[3], said("Goodbye!"));
    assert_eq!(closed.close_reason.as_deref(), Some("AGENT"));
}

#[tokio::test]
async fn a_file_is_thanked_for() {
    let scene = Scene::scripted().await;
    let announcement = json!({
        "kind": "req", "id": "f", "type": "ms.GenerateURLForUploadFile",
        "body": {"fileSize": "3", "fileType": "PNG"},
    });
    let located = scene.cloud.send(&scene.tokens, &announcement).await;
    let (path, query) = (
        located.body["body"]["relativePath"].as_str().unwrap(),
        &located.body["body"]["queryParams"],
    );
    let uri = format!(
        "{path}?temp_url_sig={}&temp_url_expires={}",
        query["temp_url_sig"].as_str().unwrap(),
        query["temp_url_expires"].as_str().unwrap()
    );
    let uploaded = scene.cloud.call("PUT", &uri, &[], "abc").await;
    assert_eq!(uploaded.status, StatusCode::CREATED);

    let message = json!({"relativePath": path, "fileType": "PNG"});
    let file = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
    scene
        .cloud
        .send(&scene.tokens, &publish(&scene.id, &file))
        .await;
    let answers = scene.answers_until(&typing("ACTIVE")).await;

    assert_eq!(answers[3], said("Thank you for the file."));
}

/// Nobody waits for a socket here, so the time stands still until everybody waits for the agent.
#[tokio::test(start_paused = true)]
async fn a_conversation_that_closes_meanwhile_is_left_alone() {
    let cloud = Cloud::with(Options {
        agent: Some(Script {
            pace: Duration::from_secs(1),
        }),
        ..Options::default()
    });
    let tokens = cloud.tokens("u-1").await;
    let first = cloud.open(&tokens).await;

    cloud.send(&tokens, &text(&first, "Hello")).await;
    cloud.send(&tokens, &close(&first)).await;
    let second = cloud.open(&tokens).await;
    cloud.send(&tokens, &text(&second, "again")).await;
    eventually("the second is answered", || {
        let events = of_brand(&cloud.conversation(&second));
        (events.last() == Some(&typing("ACTIVE"))).then_some(())
    })
    .await;

    let answers = of_brand(&cloud.conversation(&first));
    assert!(!answers.contains(&typing("COMPOSING")), "{answers:?}");
}
