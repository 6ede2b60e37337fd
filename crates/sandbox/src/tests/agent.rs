//! The actions of agents, bots and managers in a conversation, taken by a test or by a script.

mod script;

use super::receiver::{Receiver, eventually};
use super::webhooks::texts;
use super::*;
use crate::agent::{AcceptStatus, Action, ActionError, AgentOpening, ChatState, Choice, Rich};
use crate::webhooks::Retry;

/// A conversation with a receiver for its notifications.
struct ConversationFixture {
    cloud: Cloud,
    receiver: Receiver,
    tokens: Tokens,
    id: String,
}

impl ConversationFixture {
    async fn new() -> Self {
        Self::in_cloud(Cloud::new()).await
    }

    async fn in_cloud(cloud: Cloud) -> Self {
        let receiver = Receiver::start().await;
        cloud.sandbox.subscribe(receiver.webhook(Retry::default()));
        let tokens = cloud.tokens("u-1").await;
        let id = cloud.open(&tokens).await;
        Self {
            cloud,
            receiver,
            tokens,
            id,
        }
    }

    /// Requests an action over HTTP.
    async fn request_action(&self, action: &Value) -> Answer {
        let uri = format!("/_sandbox/conversations/{}/agent", self.id);
        let body = action.to_string();
        self.cloud.call("POST", &uri, &[JSON], body).await
    }

    /// Requests actions over HTTP. Returns the messages in their notifications.
    async fn messages_of(&self, actions: &[Value]) -> Vec<Value> {
        for action in actions {
            let answer = self.request_action(action).await;
            assert_eq!(answer.status, StatusCode::OK, "{action}: {}", answer.body);
        }
        self.cloud.settled().await;
        let got = self.receiver.got();
        let changes = got.iter().map(|got| got.change().clone());
        changes
            .filter(|change| change["event"].is_object())
            .collect()
    }

    async fn send_text(&self, message: &str) {
        let sent = self
            .cloud
            .send(&self.tokens, &text(&self.id, message))
            .await;
        assert_eq!(sent.status, StatusCode::OK, "{}", sent.body);
    }

    fn act(&self, action: Action) -> Option<usize> {
        self.cloud.sandbox.act(&self.id, action).unwrap()
    }
}

#[tokio::test]
async fn all_participants_share_the_sequences_of_a_dialog() {
    let scene = ConversationFixture::new().await;

    scene.send_text("Hello").await;
    let joined = scene.act(Action::Join {});
    let read = scene.act(Action::Receipt {
        status: AcceptStatus::Read,
        sequences: vec![0],
    });
    let typing = scene.act(Action::Typing {
        state: ChatState::Composing,
    });
    let sent = scene.act(Action::text("Hi"));
    let answer = scene
        .cloud
        .send(&scene.tokens, &text(&scene.id, "How are you?"))
        .await;

    assert_eq!((joined, read, typing, sent), (None, Some(1), None, Some(2)));
    assert_eq!(answer.body["body"]["sequence"], 3);
}

#[tokio::test]
async fn an_agent_joins_before_its_first_message() {
    let scene = ConversationFixture::new().await;

    scene.act(Action::text("Hi"));
    scene.act(Action::text("again"));
    scene.cloud.settled().await;

    let got = scene.receiver.got();
    let participants = |index: usize| {
        let change = got[index].change();
        change["result"]["conversationDetails"]["participants"].clone()
    };
    let consumer = json!({"id": scene.cloud.conversation(&scene.id).consumer.lp_consumer_id, "role": "CONSUMER"});
    let agent = got[2].change()["originatorMetadata"].clone();
    assert_eq!(agent["role"], "ASSIGNED_AGENT");
    assert_eq!(participants(0), json!([consumer]));
    assert_eq!(participants(1), json!([consumer, agent]));
    assert_eq!(texts(&got), ["Hi", "again"]);
    assert_eq!(got.len(), 4);
}

#[tokio::test]
async fn texts_of_agents_have_quick_replies_metadata_and_an_author() {
    let scene = ConversationFixture::new().await;

    let messages = scene
        .messages_of(&[
            json!({
                "type": "text", "text": "Coffee?\n", "metadata": [{"type": "ExternalId", "id": "Q1"}],
                "quick_replies": [
                    {"title": "Yes", "text": "yes", "metadata": [{"type": "ExternalId", "id": "Y1"}]},
                    {"title": "No"},
                ],
            }),
            json!({"type": "text", "text": "I am a bot", "role": "bot"}),
            json!({"type": "text", "text": "I am the boss", "role": "manager"}),
            json!({"type": "text", "text": "Please wait", "role": "controller"}),
            json!({"type": "text", "text": "He is angry", "private": true}),
        ])
        .await;

    let button = |title: &str, click: Value| json!({"type": "button", "title": title, "tooltip": title, "click": click});
    let action = |text: &str| json!([{"type": "publishText", "text": text}]);
    let yes = json!({"actions": action("yes"), "metadata": [{"type": "ExternalId", "id": "Y1"}]});
    let expected = json!({
        "type": "ContentEvent", "contentType": "text/plain", "message": "Coffee?\n",
        "quickReplies": {"type": "quickReplies", "itemsPerRow": 8, "replies": [
            button("Yes", yes), button("No", json!({"actions": action("No")})),
        ]},
    });
    assert_eq!(messages[0]["event"], expected);
    assert_eq!(
        messages[0]["metadata"],
        json!([{"type": "ExternalId", "id": "Q1"}])
    );
    let roles: Vec<_> = messages
        .iter()
        .map(|m| &m["originatorMetadata"]["role"])
        .collect();
    let expected = [
        "ASSIGNED_AGENT",
        "AGENT",
        "MANAGER",
        "CONTROLLER",
        "ASSIGNED_AGENT",
    ];
    assert_eq!(roles, expected);
    let audiences: Vec<_> = messages.iter().map(|m| &m["messageAudience"]).collect();
    assert_eq!(
        audiences,
        ["ALL", "ALL", "ALL", "ALL", "AGENTS_AND_MANAGERS"]
    );
    assert!(
        messages[1].get("metadata").is_none() && messages[1]["event"].get("quickReplies").is_none()
    );
}

#[tokio::test]
async fn structured_content_is_passed_on_unchanged() {
    let scene = ConversationFixture::new().await;
    let content = json!({"type": "vertical", "elements": [{"type": "text", "text": "Card"}]});

    let messages = scene
        .messages_of(&[json!({
            "type": "rich", "content": content, "quick_replies": [{"title": "Buy"}],
            "metadata": [{"type": "ExternalId", "id": "C1"}],
        })])
        .await;

    let event = &messages[0]["event"];
    assert_eq!(
        (&event["type"], &event["content"]),
        (&json!("RichContentEvent"), &content)
    );
    assert_eq!(event["quickReplies"]["replies"][0]["title"], "Buy");
    assert_eq!(messages[0]["metadata"][0]["id"], "C1");
    let kinds: Vec<_> = scene
        .cloud
        .sandbox
        .notifications()
        .iter()
        .map(|n| n.kind)
        .collect();
    assert_eq!(kinds.last(), Some(&crate::Kind::RichContent));
}

#[tokio::test]
async fn a_file_of_an_agent_can_be_downloaded() {
    let scene = ConversationFixture::new().await;

    let messages = scene
        .messages_of(&[
            json!({
                "type": "file", "content": "JVBERi0x", "file_type": "pdf", "caption": "The contract",
                "preview": "data:image/png;base64,AAAA",
            }),
            json!({"type": "file", "content": "R0lG", "file_type": "GIF"}),
        ])
        .await;

    let path = messages[0]["event"]["message"]["relativePath"]
        .as_str()
        .unwrap();
    let message = json!({
        "caption": "The contract", "relativePath": path, "fileType": "PDF",
        "preview": "data:image/png;base64,AAAA",
    });
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
    assert_eq!(messages[0]["event"], event);
    assert_eq!(messages[1]["event"]["message"]["caption"], "");
    assert!(messages[1]["event"]["message"].get("preview").is_none());
    let agent = messages[0]["originatorId"].as_str().unwrap();
    assert!(path.starts_with(&format!("/v1/AUTH_async-images/{ACCOUNT}/{agent}_uuid_")));
    let request = json!({
        "kind": "req", "id": "d", "type": "ms.GenerateURLForDownloadFile", "body": {"relativePath": path},
    });
    let located = scene.cloud.send(&scene.tokens, &request).await;
    let query = &located.body["body"]["queryParams"];
    let uri = format!(
        "{path}?temp_url_sig={}&temp_url_expires={}",
        query["temp_url_sig"].as_str().unwrap(),
        query["temp_url_expires"].as_str().unwrap()
    );
    let downloaded = scene.cloud.call("GET", &uri, &[], "").await;
    assert_eq!(downloaded.status, StatusCode::OK, "{}", downloaded.body);
    assert_eq!(downloaded.bytes, &b"%PDF-1"[..]);
    assert_eq!(downloaded.headers["content-type"], "application/pdf");
}

#[tokio::test]
async fn a_large_file_of_an_agent_is_accepted() {
    let scene = ConversationFixture::new().await;
    let content = "AAAA".repeat(1_250_000);

    let answer = scene
        .request_action(&json!({"type": "file", "content": content, "file_type": "PNG"}))
        .await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_consumer_cannot_publish_an_agents_file_as_its_own() {
    let scene = ConversationFixture::new().await;
    let file = json!({"type": "file", "content": "AAAA", "file_type": "PNG"});
    let messages = scene.messages_of(&[file]).await;
    let path = &messages[0]["event"]["message"]["relativePath"];

    let message = json!({"relativePath": path, "fileType": "PNG"});
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
    let answer = scene
        .cloud
        .send(&scene.tokens, &publish(&scene.id, &event))
        .await;

    answer.assert_complaint(400, "which the consumer never announced");
}

#[tokio::test]
async fn forms_typing_and_receipts_of_agents_are_reported() {
    let scene = ConversationFixture::new().await;
    scene.send_text("Hello").await;

    let messages = scene
        .messages_of(&[
            json!({"type": "secure_form", "title": "Your card", "form_id": "F1"}),
            json!({"type": "typing", "state": "COMPOSING"}),
            json!({"type": "typing", "state": "ACTIVE"}),
            json!({"type": "typing", "state": "PAUSE"}),
            json!({"type": "receipt", "status": "ACCEPT", "sequences": [0]}),
            json!({"type": "receipt", "status": "READ", "sequences": [0]}),
        ])
        .await;

    let events: Vec<_> = messages[1..].iter().map(|m| m["event"].clone()).collect();
    let typing = |state: &str| json!({"type": "ChatStateEvent", "chatState": state});
    let receipt =
        |status: &str| json!({"type": "AcceptStatusEvent", "status": status, "sequenceList": [0]});
    let form = &events[0]["message"];
    assert_eq!(events[0]["contentType"], "forms/secure-invitation");
    assert_eq!(
        (&form["title"], &form["formId"]),
        (&json!("Your card"), &json!("F1"))
    );
    assert!(form["invitationId"].is_string());
    let expected = [
        typing("COMPOSING"),
        typing("ACTIVE"),
        typing("PAUSE"),
        receipt("ACCEPT"),
        receipt("READ"),
    ];
    assert_eq!(events[1..], expected);
    let sequences: Vec<_> = messages
        .iter()
        .map(|m| m.get("sequence").cloned())
        .collect();
    let some = |n: i32| Some(json!(n));
    assert_eq!(
        sequences,
        [some(0), some(1), None, None, None, some(2), some(3)]
    );
}

#[tokio::test]
async fn agents_join_transfer_and_close_over_http() {
    let scene = ConversationFixture::new().await;

    let mut answers = Vec::new();
    for action in [
        json!({"type": "join"}),
        json!({"type": "transfer", "skill": "558327413"}),
        json!({"type": "text", "text": "Bye"}),
        json!({"type": "close"}),
    ] {
        answers.push(scene.request_action(&action).await);
    }
    let late = scene
        .request_action(&json!({"type": "text", "text": "Wait"}))
        .await;
    let again = scene.request_action(&json!({"type": "close"})).await;

    let bodies: Vec<_> = answers
        .iter()
        .map(|a| (a.status.as_u16(), &a.body))
        .collect();
    let (nothing, sequence) = (json!({}), json!({"sequence": 0}));
    assert_eq!(
        bodies,
        [
            (200, &nothing),
            (200, &nothing),
            (200, &sequence),
            (200, &nothing)
        ]
    );
    let conversation = scene.cloud.conversation(&scene.id);
    assert_eq!(conversation.skill_id, "558327413");
    assert_eq!(conversation.close_reason.as_deref(), Some("AGENT"));
    late.assert_complaint(409, "is closed");
    again.assert_complaint(409, "is closed");
}

#[tokio::test]
async fn agent_actions_that_the_cloud_would_refuse_are_refused() {
    let scene = ConversationFixture::new().await;
    let choices = |number: usize| vec![json!({"title": "x"}); number];

    for (action, complaint) in [
        (json!({"type": "text", "text": ""}), "text: empty"),
        (
            json!({"type": "text", "text": "x", "quick_replies": choices(25)}),
            "quick_replies: 25, expected at most 24",
        ),
        (
            json!({"type": "text", "text": "x", "quick_replies": [{"title": "x".repeat(129)}]}),
            "a title of 129 characters",
        ),
        (
            json!({"type": "text", "text": "x", "metadata": [{"id": "1"}]}),
            "metadata: expected objects with a `type`",
        ),
        (
            json!({"type": "rich", "content": {}}),
            "content: expected an object",
        ),
        (
            json!({"type": "file", "content": "AAAA", "file_type": "../x"}),
            "file_type: `../x`",
        ),
        (
            json!({"type": "secure_form", "title": "x", "form_id": ""}),
            "form_id: empty",
        ),
        (
            json!({"type": "receipt", "status": "READ", "sequences": []}),
            "sequences: empty",
        ),
        (
            json!({"type": "receipt", "status": "READ", "sequences": [0]}),
            "sequences: 0 is not in the dialog yet",
        ),
        (json!({"type": "transfer", "skill": ""}), "skill: empty"),
    ] {
        let answer = scene.request_action(&action).await;
        answer.assert_complaint(422, complaint);
    }
    let conversation = scene.cloud.conversation(&scene.id);
    assert!(conversation.dialogs[0].events.is_empty());
    assert_eq!(conversation.participants.len(), 1, "nobody joined");
}

#[tokio::test]
async fn malformed_agent_actions_are_refused() {
    let scene = ConversationFixture::new().await;

    for action in [
        json!({"type": "dance"}),
        json!({"text": "x"}),
        json!({"type": "text", "message": "x"}),
        json!({"type": "text", "text": "x", "role": "consumer"}),
        json!({"type": "join", "now": true}),
        json!({"type": "close", "by": "AGENT"}),
        json!({"type": "typing", "state": "composing"}),
        json!({"type": "receipt", "status": "READ", "sequences": [-1]}),
        json!({"type": "file", "content": "no base64!", "file_type": "PNG"}),
    ] {
        let answer = scene.request_action(&action).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{action}");
    }
    let unknown = "/_sandbox/conversations/none/agent";
    let join = r#"{"type": "join"}"#;
    let unknown = scene.cloud.call("POST", unknown, &[JSON], join).await;
    unknown.assert_complaint(404, "there is no conversation `none`");
}

#[tokio::test]
async fn an_action_needs_valid_content_and_an_open_conversation() {
    let scene = ConversationFixture::new().await;

    let unknown = scene.cloud.sandbox.act("none", Action::text("x"));
    scene.act(Action::Close {});
    let closed = scene.cloud.sandbox.act(&scene.id, Action::Join {});
    let invalid = Action::Rich(Rich {
        content: json!("text"),
        quick_replies: vec![Choice::new("x")],
        metadata: Vec::new(),
    });

    assert!(matches!(unknown, Err(ActionError::Unknown(_))));
    assert!(matches!(closed, Err(ActionError::Closed(_))));
    let other = scene.cloud.tokens("u-2").await;
    let other = scene.cloud.open(&other).await;
    let invalid = scene.cloud.sandbox.act(&other, invalid);
    assert!(matches!(invalid, Err(ActionError::Invalid(_))));
}

/// Returns an agent's opening with the consumer `u-1`.
fn agent_opening() -> AgentOpening {
    AgentOpening {
        account_id: ACCOUNT.to_owned(),
        ext_consumer_id: "u-1".to_owned(),
        text: Some("Hi again".to_owned()),
        ..AgentOpening::default()
    }
}

#[tokio::test]
async fn an_agent_can_open_a_conversation_if_the_consumer_has_none() {
    let scene = ConversationFixture::new().await;
    let refused = scene.cloud.sandbox.open_as_agent(agent_opening());
    assert!(matches!(refused, Err(ActionError::AlreadyOpen(id)) if id == scene.id));
    assert!(scene.cloud.sandbox.close_conversation(&scene.id, "AGENT"));

    let opened = scene.cloud.sandbox.open_as_agent(AgentOpening {
        app_install_id: Some("another".to_owned()),
        ..agent_opening()
    });

    let (id, sequence) = opened.unwrap();
    assert_eq!(sequence, Some(0));
    let notifications = eventually("both notifications", || {
        let bodies = scene.receiver.got().into_iter().map(|got| got.body);
        let of_it: Vec<_> = bodies
            .filter(|body| body.to_string().contains(&id))
            .collect();
        (of_it.len() == 2).then_some(of_it)
    })
    .await;
    let details = &notifications[0]["body"]["changes"][0]["result"]["conversationDetails"];
    assert_eq!(details["stage"], "OPEN");
    let roles: Vec<_> = details["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|participant| &participant["role"])
        .collect();
    assert_eq!(roles, ["CONSUMER", "ASSIGNED_AGENT"]);
    let consumer = scene.cloud.sandbox.conversations()[0].consumer.clone();
    assert_eq!(details["participants"][0]["id"], consumer.lp_consumer_id);
    assert_eq!(
        details["dialogs"][0]["metaData"],
        json!({"appInstallId": "another"})
    );
    let message = &notifications[1]["body"]["changes"][0];
    assert_eq!(
        (&message["sequence"], &message["event"]["message"]),
        (&json!(0), &json!("Hi again"))
    );
    // The new conversation is the open one: another opening is refused and names it.
    let again = scene.cloud.sandbox.open_as_agent(agent_opening());
    assert!(matches!(again, Err(ActionError::AlreadyOpen(open)) if open == id));
}

#[tokio::test]
async fn refusal_of_an_opening_by_an_agent_gives_the_reason() {
    let cloud = Cloud::new();
    let request_opening = async |body: Value| {
        let path = "/_sandbox/agent/conversations";
        cloud.call("POST", path, &[JSON], body.to_string()).await
    };

    let opened = request_opening(json!({"account_id": ACCOUNT, "ext_consumer_id": "u-1"})).await;
    assert_eq!(opened.status, StatusCode::CREATED);
    assert!(opened.body["id"].is_string() && opened.body.get("sequence").is_none());
    for (body, status) in [
        (
            json!({"account_id": ACCOUNT, "ext_consumer_id": "u-1", "text": "Hi"}),
            StatusCode::CONFLICT,
        ),
        (
            json!({"account_id": ACCOUNT, "ext_consumer_id": "u-2", "text": ""}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"account_id": ACCOUNT, "ext_consumer_id": ""}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"account_id": ACCOUNT}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({"account_id": ACCOUNT, "ext_consumer_id": "u-2", "txet": "Hi"}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let refused = request_opening(body.clone()).await;
        assert_eq!(refused.status, status, "{body}");
        assert!(refused.body["error"].is_string(), "{body}");
    }
    assert_eq!(cloud.sandbox.conversations().len(), 1);
}
