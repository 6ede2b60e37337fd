//! The agent that answers by script.

use std::time::Duration;

use super::*;
use crate::agent::Script;
use crate::{Conversation, Role};

impl ConversationFixture {
    /// Opens a conversation with an agent that answers at once.
    async fn scripted() -> Self {
        let script = Script::at_pace(Duration::ZERO);
        Self::in_cloud(Cloud::with(Options {
            agent: Some(script),
            ..Options::default()
        }))
        .await
    }

    /// Waits until this is the last event of the brand's side, and returns all of them.
    async fn answers_until(&self, last: &Value) -> Vec<Value> {
        eventually("the agent's answer", || {
            let events = brand_events(&self.cloud.conversation(&self.id));
            (events.last() == Some(last)).then_some(events)
        })
        .await
    }
}

/// Returns the events that were not published by the consumer.
fn brand_events(conversation: &Conversation) -> Vec<Value> {
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

fn text_event(message: &str) -> Value {
    json!({"type": "ContentEvent", "contentType": "text/plain", "message": message})
}

#[tokio::test]
async fn the_agent_joins_reads_types_and_answers() {
    let scene = ConversationFixture::scripted().await;

    scene.send_text("Hello").await;
    let answers = scene.answers_until(&typing("ACTIVE")).await;

    let expected = [
        receipt("ACCEPT", 0),
        receipt("READ", 0),
        typing("COMPOSING"),
        text_event("You said: Hello"),
        typing("ACTIVE"),
    ];
    assert_eq!(answers, expected);
    let participants = scene.cloud.conversation(&scene.id).participants;
    assert_eq!(participants[1].role, Role::AssignedAgent);
}

#[tokio::test]
async fn texts_are_answered_in_their_order() {
    let scene = ConversationFixture::scripted().await;

    for number in 0..5 {
        scene.send_text(&number.to_string()).await;
    }
    let answers = eventually("five answers", || {
        let events = brand_events(&scene.cloud.conversation(&scene.id));
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
async fn some_keywords_get_special_answers() {
    for (keyword, pointer, expected) in [
        ("the MENU, please", "/quickReplies/replies/1/title", "Tea"),
        ("a card", "/content/elements/1/text", "Coffee"),
        ("picture", "/message/fileType", "PNG"),
    ] {
        let scene = ConversationFixture::scripted().await;

        scene.send_text(keyword).await;
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
    let scene = ConversationFixture::scripted().await;

    scene.send_text("Bye!").await;
    let closed = eventually("closed", || {
        let conversation = scene.cloud.conversation(&scene.id);
        conversation.close_reason.clone().map(|_| conversation)
    })
    .await;

    assert_eq!(brand_events(&closed)[3], text_event("Goodbye!"));
    assert_eq!(closed.close_reason.as_deref(), Some("AGENT"));
}

#[tokio::test]
async fn the_agent_thanks_the_user_for_a_file() {
    let scene = ConversationFixture::scripted().await;
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

    assert_eq!(answers[3], text_event("Thank you for the file."));
}

/// No socket is involved here, so the paused time advances only when every task waits for the
/// agent.
#[tokio::test(start_paused = true)]
async fn the_agent_stops_answering_when_the_conversation_closes() {
    let cloud = Cloud::with(Options {
        agent: Some(Script::at_pace(Duration::from_secs(1))),
        ..Options::default()
    });
    let tokens = cloud.tokens("u-1").await;
    let first = cloud.open(&tokens).await;

    cloud.send(&tokens, &text(&first, "Hello")).await;
    cloud.send(&tokens, &close(&first)).await;
    let second = cloud.open(&tokens).await;
    cloud.send(&tokens, &text(&second, "again")).await;
    eventually("the second is answered", || {
        let events = brand_events(&cloud.conversation(&second));
        (events.last() == Some(&typing("ACTIVE"))).then_some(())
    })
    .await;

    let answers = brand_events(&cloud.conversation(&first));
    assert!(!answers.contains(&typing("COMPOSING")), "{answers:?}");
}

impl ConversationFixture {
    async fn set_script(&self, script: &Value) -> Answer {
        let body = script.to_string();
        self.cloud
            .call("PUT", "/_sandbox/agent", &[JSON], body)
            .await
    }

    async fn current_script(&self) -> Value {
        self.cloud
            .call("GET", "/_sandbox/agent", &[], "")
            .await
            .body
    }
}

#[tokio::test]
async fn a_custom_script_is_played() {
    let scene = ConversationFixture::new().await;
    let script = json!({"script": [
        {"when": "ORDER", "then": [
            {"type": "receipt", "status": "READ"},
            {"type": "text", "text": "Which one?", "quick_replies": [{"title": "A1"}]}]},
        {"when": "silence", "then": []},
        {"when": "*", "then": [{"type": "text", "text": "Pardon?"}]},
    ], "pace_ms": 0});

    let answer = scene.set_script(&script).await;
    scene.send_text("silence, please").await;
    scene.send_text("hello").await;
    scene.answers_until(&text_event("Pardon?")).await;
    scene.send_text("my order").await;

    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    assert_eq!(scene.current_script().await, script);
    let events = eventually("three answers", || {
        let events = brand_events(&scene.cloud.conversation(&scene.id));
        (events.len() == 3).then_some(events)
    })
    .await;
    assert_eq!(events[1], receipt("READ", 3));
    assert_eq!(events[2]["quickReplies"]["replies"][0]["title"], "A1");
}

#[tokio::test]
async fn the_scripted_agent_can_be_switched_off_and_on() {
    let scene = ConversationFixture::scripted().await;

    let before = scene.current_script().await;
    scene.set_script(&json!({"script": "none"})).await;
    scene.send_text("Hello").await;
    let none = scene.current_script().await;
    let on = json!({"script": "built-in", "pace_ms": 0});
    scene.set_script(&on).await;
    scene.cloud.sandbox.clear_requests();
    scene.send_text("again").await;
    scene.answers_until(&typing("ACTIVE")).await;

    assert_eq!((before, none), (on, json!({"script": "none"})));
    let answers = brand_events(&scene.cloud.conversation(&scene.id));
    assert!(
        !answers.contains(&text_event("You said: Hello")),
        "{answers:?}"
    );
    assert!(
        answers.contains(&text_event("You said: again")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn the_script_outlives_a_reset() {
    let scene = ConversationFixture::new().await;
    let script = json!({"script": [], "pace_ms": 5});
    scene.set_script(&script).await;

    scene.cloud.sandbox.reset();

    assert_eq!(scene.current_script().await, script);
}

/// No socket is involved here, so the paused time advances only when every task waits for the
/// agent.
#[tokio::test(start_paused = true)]
async fn a_script_switched_off_while_typing_stops_without_an_answer() {
    let cloud = Cloud::with(Options {
        agent: Some(Script::at_pace(Duration::from_secs(1))),
        ..Options::default()
    });
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let last = || brand_events(&cloud.conversation(&id)).pop();

    cloud.send(&tokens, &text(&id, "Hello")).await;
    eventually("types", || {
        (last() == Some(typing("COMPOSING"))).then_some(())
    })
    .await;
    cloud.sandbox.set_script(None);
    eventually("stops", || (last() == Some(typing("ACTIVE"))).then_some(())).await;

    let answers = brand_events(&cloud.conversation(&id));
    assert!(
        !answers.contains(&text_event("You said: Hello")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn an_invalid_script_is_refused_and_changes_nothing() {
    let scene = ConversationFixture::scripted().await;

    for (script, complaint) in [
        (json!({}), "missing field `script`"),
        (
            json!({"script": "builtin"}),
            "script: expected \"built-in\", \"none\" or a list",
        ),
        (
            json!({"script": [{"then": []}]}),
            "script[0]: missing field `when`",
        ),
        (
            json!({"script": [{"when": "", "then": []}]}),
            "script[0].when: empty",
        ),
        (
            json!({"script": [{"when": "*", "then": [{"type": "txt"}]}]}),
            "script[0].then[0].type: unknown variant `txt`",
        ),
        (
            json!({"script": [{"when": "*", "then": [{"type": "text", "text": ""}]}]}),
            "script[0].then[0]: text: empty",
        ),
        (
            json!({"script": "none", "pace_ms": 60_001}),
            "pace_ms: 60001, expected at most 60000",
        ),
        (json!({"script": "none", "pace": 1}), "unknown field `pace`"),
    ] {
        scene
            .set_script(&script)
            .await
            .assert_complaint(422, complaint);
    }
    assert_eq!(scene.current_script().await["script"], "built-in");
}
