//! Answers with a choice: a text with `match_choice` that names a choice of the latest message is
//! sent as that choice, and the decision is made once for a request.

use liveperson_bridge::sandbox::{Fault, Operation};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send, try_send};
use crate::support::cloud::Cloud;
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::Process;

on_both_engines!(
    a_text_that_names_a_choice_is_sent_as_that_choice,
    numbers_count_through_all_cards_of_a_message,
    any_other_text_is_sent_as_it_is,
    only_the_latest_message_offers_choices,
    a_survey_has_choices_of_its_own,
    a_repeat_under_a_key_names_the_same_choice,
    a_retry_that_takes_over_a_claim_without_a_choice_names_none,
    a_retry_sends_the_choice_of_a_killed_replica,
    a_queued_text_is_sent_as_the_choice_of_its_acceptance,
    a_choice_of_an_ended_conversation_is_sent_as_a_text,
    a_reply_to_takes_precedence_over_match_choice,
    a_channel_can_match_choices_by_default,
    an_erasure_deletes_offered_and_named_choices,
);

const MESSAGES: &str = "/v1/users/ada/messages";

async fn in_conversation(engine: Engine) -> (TestApp, String) {
    in_conversation_with(engine, |toml| toml).await
}

/// Starts a service that receives the simulated Cloud's notifications, with the configuration that
/// `change` returns and a user in a conversation. Returns it with the conversation's id.
async fn in_conversation_with(
    engine: Engine,
    change: impl FnOnce(String) -> String,
) -> (TestApp, String) {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let app = TestApp::start_configured(cloud, database, change).await;
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

/// Lets an agent act, and waits until the service has the notifications. Returns the sequence of
/// the message, if it is one.
async fn act(app: &TestApp, conversation: &str, action: Value) -> Option<usize> {
    let action = serde_json::from_value(action).unwrap();
    let sequence = app.cloud.sandbox.act(conversation, action).unwrap();
    notified(app).await;
    sequence
}

async fn notified(app: &TestApp) {
    eventually("the Cloud has sent all notifications", async || {
        (app.cloud.sandbox.pending_notifications() == 0).then_some(())
    })
    .await;
}

/// Returns the metadata of a choice.
fn metadata(title: &str) -> Value {
    json!([{"type": "ExternalId", "id": title}])
}

/// Returns an agent's message that offers choices with these titles.
fn menu(titles: &[&str]) -> Value {
    let choices = titles.iter().map(|title| {
        json!({"title": title, "text": format!("take {title}"), "metadata": metadata(title)})
    });
    let choices: Value = choices.collect();
    json!({"type": "text", "text": "What do you take?", "quick_replies": choices})
}

/// Lets an agent offer choices with these titles. Returns the sequence of the message.
async fn offer(app: &TestApp, conversation: &str, titles: &[&str]) -> usize {
    let sequence = act(app, conversation, menu(titles)).await.unwrap();
    app.cloud.sandbox.clear_requests();
    sequence
}

/// Sends a text of the user that may name a choice.
async fn say(app: &TestApp, text: &str) -> Reply {
    let body = json!({"text": text, "match_choice": true});
    app.sms.post(MESSAGES, body).await
}

fn named(sequence: usize, number: u32, title: &str) -> Value {
    json!({"sequence": sequence, "number": number, "title": title})
}

/// Returns what the Cloud has received for the user since the last call: for each message its text,
/// for each choice the sequence of the agent's message, and the metadata of either.
fn sent(app: &TestApp) -> Vec<Value> {
    let sends = app.cloud.bodies(Operation::Send).into_iter();
    let sent = sends.map(|send| {
        let event = &send["body"]["event"];
        let content = if event["message"].is_null() {
            &event["sequenceList"]
        } else {
            &event["message"]
        };
        json!([content, send["metadata"]])
    });
    let sent = sent.collect();
    app.cloud.sandbox.clear_requests();
    sent
}

/// Checks that a text is sent as it is.
async fn assert_plain(app: &TestApp, text: &str) {
    let reply = say(app, text).await.expect(201);

    assert_eq!(reply.get("choice"), None, "{text:?}");
    assert_eq!(sent(app), [json!([text, null])], "{text:?}");
}

/// Builds a POST of the text `1` under an idempotency key.
fn keyed(channel: &Channel, key: &str) -> RequestBuilder {
    channel
        .request(Method::POST, MESSAGES)
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(json!({"text": "1", "match_choice": true}).to_string())
}

async fn a_text_that_names_a_choice_is_sent_as_that_choice(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let sequence = offer(&app, &id, &["Apple", "Pear"]).await;
    let metadata = metadata("Pear");

    for text in ["2", "pear", "  PEAR \n", "2.", "2)"] {
        let reply = say(&app, text).await.expect(201);

        assert_eq!(reply["choice"], named(sequence, 2, "Pear"), "{text:?}");
        let expected = [
            json!([[sequence], metadata]),
            json!(["take Pear", metadata]),
        ];
        assert_eq!(sent(&app), expected, "{text:?}");
    }
}

async fn numbers_count_through_all_cards_of_a_message(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let card = |title: &str, text: &str| {
        let click = json!({"actions": [{"type": "publishText", "text": text}]});
        json!({"type": "vertical", "elements": [
            {"type": "text", "text": "A card"},
            {"type": "button", "title": title, "click": click},
        ]})
    };
    let cards = [card("Red", "red please"), card("Blue", "blue please")];
    let content = json!({"type": "carousel", "padding": 10, "elements": cards});
    let replies = json!([{"title": "Neither"}]);
    let message = json!({"type": "rich", "content": content, "quick_replies": replies});
    let sequence = act(&app, &id, message).await.unwrap();

    // These choices have no metadata, so only their texts are sent.
    for (text, number, title, published) in [
        ("2", 2, "Blue", "blue please"),
        ("red", 1, "Red", "red please"),
        ("3", 3, "Neither", "Neither"),
    ] {
        let reply = say(&app, text).await.expect(201);

        assert_eq!(reply["choice"], named(sequence, number, title));
        assert_eq!(sent(&app), [json!([published, null])]);
    }
}

async fn any_other_text_is_sent_as_it_is(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    assert_plain(&app, "1").await;
    offer(&app, &id, &["Apple"]).await;

    for text in ["2", "Apples", "Is 1 an apple?", " 7 "] {
        assert_plain(&app, text).await;
    }
    // Without `match_choice`, a text names no choice.
    let reply = app.sms.say("ada", "1").await.expect(201);
    assert_eq!(reply.get("choice"), None);
    assert_eq!(sent(&app), [json!(["1", null])]);
    // This user has no conversation.
    let body = json!({"text": "1", "match_choice": true});
    let reply = app.sms.post("/v1/users/bob/messages", body).await;
    assert_eq!(reply.expect(201).get("choice"), None);
}

async fn only_the_latest_message_offers_choices(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    offer(&app, &id, &["Apple", "Pear"]).await;
    let sequence = offer(&app, &id, &["Plum"]).await;

    assert_plain(&app, "pear").await;
    let reply = say(&app, "1").await.expect(201);
    assert_eq!(reply["choice"], named(sequence, 1, "Plum"));

    // The user does not see the first one, the second is no message, and the third is automatic.
    for action in [
        json!({"type": "text", "text": "a note", "private": true}),
        json!({"type": "typing", "state": "COMPOSING"}),
        json!({"type": "text", "text": "Are you still there?", "role": "controller"}),
    ] {
        act(&app, &id, action).await;
        let reply = say(&app, "1").await.expect(201);
        assert_eq!(reply["choice"], named(sequence, 1, "Plum"));
    }
    sent(&app);

    act(&app, &id, json!({"type": "text", "text": "Well?"})).await;
    assert_plain(&app, "1").await;
    assert_plain(&app, "plum").await;
}

async fn a_survey_has_choices_of_its_own(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    offer(&app, &id, &["Good", "Bad"]).await;
    let close = "/v1/users/ada/conversation/close";
    let closing = json!({"survey": true});
    app.sms.post(close, closing).await.expect(200);
    notified(&app).await;
    app.cloud.sandbox.clear_requests();

    // The choices belong to the main dialog, which has ended.
    assert_plain(&app, "1").await;

    let reply = |title: &str| {
        let click = json!({
            "actions": [{"type": "publishText", "text": title}], "metadata": metadata(title),
        });
        json!({"type": "button", "title": title, "click": click})
    };
    let replies = json!({"type": "quickReplies", "replies": [reply("Yes"), reply("No")]});
    let question = json!({
        "type": "ContentEvent", "contentType": "text/plain", "message": "Were you happy?",
        "quickReplies": replies,
    });
    let sequence = app.cloud.sandbox.publish_in_survey(&id, question).unwrap();
    notified(&app).await;
    let answer = say(&app, "no").await.expect(201);
    assert_eq!(answer["choice"], named(sequence, 2, "No"));
    let metadata = metadata("No");
    let expected = [json!([[sequence], metadata]), json!(["No", metadata])];
    assert_eq!(sent(&app), expected);
}

async fn a_repeat_under_a_key_names_the_same_choice(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let first = offer(&app, &id, &["Apple"]).await;
    let answered = send(keyed(&app.sms, "key")).await.expect(201);
    let second = offer(&app, &id, &["Plum"]).await;

    let repeated = send(keyed(&app.sms, "key")).await;
    let other = send(keyed(&app.sms, "another key")).await.expect(201);

    assert_eq!(answered["choice"], named(first, 1, "Apple"));
    assert_eq!(repeated.headers["idempotency-replayed"], "true");
    assert_eq!(repeated.expect(201), answered);
    assert_eq!(other["choice"], named(second, 1, "Plum"));
    let texts = app.cloud.texts(&id);
    let taken: Vec<_> = texts.iter().filter(|it| it.starts_with("take")).collect();
    assert_eq!(taken, ["take Apple", "take Plum"]);
}

async fn a_retry_that_takes_over_a_claim_without_a_choice_names_none(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let sent_first = send(keyed(&app.sms, "key")).await.expect(201);
    assert_eq!(sent_first.get("choice"), None);
    // The state that a replica leaves behind if it dies right after the claim.
    app.database
        .execute(
            "UPDATE idempotency_keys SET lease_id = 'dead', lease_until = 1, write_ahead = NULL,
                 status = NULL, headers = NULL, body = NULL",
        )
        .await;
    offer(&app, &id, &["Apple"]).await;

    let retried = send(keyed(&app.sms, "key")).await.expect(201);

    assert_eq!(retried["id"], sent_first["id"]);
    assert_eq!(retried.get("choice"), None);
    assert_eq!(sent(&app), [json!(["1", null])]);
}

async fn a_retry_sends_the_choice_of_a_killed_replica(engine: Engine) {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    // Lets an agent offer a choice, and waits until the channel has the event.
    let offer = async |sms: &Channel, conversation: &str, title: &str| {
        let action = serde_json::from_value(menu(&[title])).unwrap();
        let sequence = cloud.sandbox.act(conversation, action).unwrap().unwrap();
        eventually("the channel has the message", async || {
            let page = sms.get("/v1/events?limit=1000").await.expect(200);
            page.to_string().contains(title).then_some(())
        })
        .await;
        sequence
    };
    let (process, sms, _) = Process::serve(&toml).await;
    cloud.subscribe(&sms);
    sms.say("ada", "hello").await.expect(201);
    let id = cloud.only_conversation().id;
    let sequence = offer(&sms, &id, "Apple").await;
    cloud.sandbox.clear_requests();
    cloud.sandbox.inject(Fault::stall(Operation::Send));
    let unanswered = keyed(&sms, "key").header("prefer", "wait=30");
    let unanswered = tokio::task::spawn(async move { try_send(unanswered).await });
    eventually("the Cloud receives the choice", async || {
        (!cloud.requests(Operation::Send).is_empty()).then_some(())
    })
    .await;

    process.kill().await;
    assert!(unanswered.await.unwrap().is_err());
    let (_process, sms, _) = Process::serve(&toml).await;
    cloud.subscribe(&sms);
    cloud.sandbox.retry_now();
    offer(&sms, &id, "Plum").await;

    let queued = eventually("the lease of the dead process expires", async || {
        let reply = send(keyed(&sms, "key")).await;
        (reply.status != 409).then_some(reply)
    })
    .await;
    let location = queued.headers["location"].to_str().unwrap().to_owned();
    let queued = queued.expect(202);
    assert_eq!(queued["choice"], named(sequence, 1, "Apple"));
    assert_eq!(queued["conversation_id"], *id);
    eventually("it is sent", async || {
        let shown = sms.get(&location).await.expect(200);
        (shown["status"] == "sent").then_some(())
    })
    .await;
    let texts = cloud.texts(&id);
    let taken: Vec<_> = texts.iter().filter(|it| it.starts_with("take")).collect();
    assert_eq!(taken, ["take Apple"]);
    let repeated = send(keyed(&sms, "key")).await.expect(202);
    assert_eq!(repeated, queued);
}

/// Sends the text `1`, which names a choice, while the Cloud is unavailable. Returns the 202.
async fn queue_a_choice(app: &TestApp, conversation: &str) -> Reply {
    let sequence = offer(app, conversation, &["Apple"]).await;
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));
    let queued = say(app, "1").await;
    assert_eq!(queued.status, 202);
    assert_eq!(queued.body["choice"], named(sequence, 1, "Apple"));
    queued
}

async fn a_queued_text_is_sent_as_the_choice_of_its_acceptance(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let queued = queue_a_choice(&app, &id).await;
    let first = queued.body["choice"]["sequence"].clone();
    let second = offer(&app, &id, &["Plum"]).await;
    // This one waits behind the first.
    let waiting = say(&app, "plum").await;
    assert_eq!(waiting.body["choice"], named(second, 1, "Plum"));
    act(&app, &id, json!({"type": "text", "text": "Well?"})).await;

    app.wait_until(queued, "sent").await;
    app.wait_until(waiting, "sent").await;

    let (apple, plum) = (metadata("Apple"), metadata("Plum"));
    let expected = [
        json!([[first], apple]),
        json!(["take Apple", apple]),
        json!([[second], plum]),
        json!(["take Plum", plum]),
    ];
    assert_eq!(sent(&app), expected);
}

async fn a_choice_of_an_ended_conversation_is_sent_as_a_text(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    let queued = queue_a_choice(&app, &id).await;
    assert!(app.cloud.sandbox.close_conversation(&id, "AGENT"));
    notified(&app).await;

    app.wait_until(queued, "sent").await;

    let conversations = app.cloud.sandbox.conversations();
    assert_eq!(conversations.len(), 2);
    let [event] = &conversations[1].dialogs[0].events[..] else {
        panic!("{:#?}", conversations[1]);
    };
    assert_eq!(event.event["message"], "take Apple");
    assert_eq!(event.metadata, None);
}

async fn a_reply_to_takes_precedence_over_match_choice(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    offer(&app, &id, &["Apple"]).await;
    let reply_to = json!({"sequence": 4, "metadata": metadata("Y1")});
    let body = |match_choice: Value| json!({"text": "1", "reply_to": reply_to, "match_choice": match_choice});

    for match_choice in [json!(true), json!(false), Value::Null] {
        let reply = app.sms.post(MESSAGES, body(match_choice)).await.expect(201);
        assert_eq!(reply.get("choice"), None);
        let metadata = metadata("Y1");
        let expected = [json!([[4], metadata]), json!(["1", metadata])];
        assert_eq!(sent(&app), expected);
    }
}

async fn a_channel_can_match_choices_by_default(engine: Engine) {
    let (app, id) = in_conversation_with(engine, |toml| {
        let channel = "id = \"sms\"\n";
        toml.replacen(channel, &format!("{channel}match_choices = true\n"), 1)
    })
    .await;
    let sequence = offer(&app, &id, &["Apple"]).await;

    for body in [
        json!({"text": "1"}),
        json!({"text": "1", "match_choice": null}),
    ] {
        let reply = app.sms.post(MESSAGES, body).await.expect(201);
        assert_eq!(reply["choice"], named(sequence, 1, "Apple"));
    }
    sent(&app);
    let off = json!({"text": "1", "match_choice": false});
    let reply = app.sms.post(MESSAGES, off).await.expect(201);
    assert_eq!(reply.get("choice"), None);
    assert_eq!(sent(&app), [json!(["1", null])]);
    let metadata = metadata("Y1");
    let chosen = json!({"text": "1", "reply_to": {"sequence": 4, "metadata": metadata}});
    let reply = app.sms.post(MESSAGES, chosen).await.expect(201);
    assert_eq!(reply.get("choice"), None);
    let expected = [json!([[4], metadata]), json!(["1", metadata])];
    assert_eq!(sent(&app), expected);
}

async fn an_erasure_deletes_offered_and_named_choices(engine: Engine) {
    let (app, id) = in_conversation(engine).await;
    offer(&app, &id, &["marker"]).await;
    let named = send(keyed(&app.sms, "key")).await.expect(201);
    assert_eq!(named["choice"]["title"], "marker");
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));
    say(&app, "marker").await.expect(202);
    let stored = "SELECT id, offer FROM conversations WHERE offer IS NOT NULL";
    let stored = app.database.pairs(stored).await;
    let [(_, offered)] = &stored[..] else {
        panic!("{stored:?}");
    };
    assert!(offered.contains("take marker"), "{offered}");

    let erasure = app.sms.request(Method::DELETE, "/v1/users/ada");
    send(erasure).await.expect(204);

    assert!(!app.database.dump().await.contains("marker"));
}
