//! Texts that are longer than the Cloud accepts: refused with both lengths, or sent in several
//! messages.

use liveperson_bridge::sandbox::{Fault, Operation};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::cloud::Cloud;
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_text_that_is_too_long_is_refused_without_side_effects,
    the_length_limit_applies_to_the_whole_request,
    a_split_text_is_sent_completely_and_in_order,
    a_text_that_fits_is_not_split,
    a_blank_text_of_any_length_is_refused,
    a_text_is_split_at_grapheme_boundaries,
    messages_of_white_space_only_are_left_out,
    a_choice_is_sent_only_with_the_first_part_of_a_text,
    the_rest_of_a_split_text_is_sent_after_an_outage,
);

const MESSAGES: &str = "/v1/users/ada/messages";

/// Builds a text of `count` words.
fn words(count: usize) -> String {
    let words: Vec<_> = (0..count).map(|number| format!("word{number}")).collect();
    words.join(" ")
}

fn texts(app: &TestApp) -> Vec<String> {
    app.cloud.texts(&app.cloud.only_conversation().id)
}

async fn a_text_that_is_too_long_is_refused_without_side_effects(engine: Engine) {
    let app = TestApp::start(engine).await;

    let refused = app.sms.say("ada", &"x".repeat(6000)).await;

    let problem = refused.expect_problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/text");
    let detail = problem["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("5000") && detail.contains("62"), "{detail}");
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn the_length_limit_applies_to_the_whole_request(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "x").await.expect(201);
    let request = app.cloud.requests(Operation::Send).pop().unwrap();
    let room = 5000 - (request.body.chars().count() - 1);

    app.sms.say("ada", &"é".repeat(room)).await.expect(201);
    app.sms.say("ada", &"x".repeat(room + 1)).await.expect(422);
    // In JSON a quotation mark takes two characters.
    let quoted = format!("{}\"", "x".repeat(room - 1));
    app.sms.say("ada", &quoted).await.expect(422);

    let longest = app.cloud.requests(Operation::Send).pop().unwrap();
    assert_eq!(longest.body.chars().count(), 5000);
    assert_eq!(texts(&app).len(), 2);
}

async fn a_split_text_is_sent_completely_and_in_order(engine: Engine) {
    let app = TestApp::start(engine).await;
    let text = words(3000);

    let body = json!({"text": text, "split": true});
    let sent = app.sms.post(MESSAGES, body).await.expect(201);

    let texts = texts(&app);
    assert!(texts.len() > 4, "{}", texts.len());
    assert_eq!(texts.concat(), text);
    let sequences: Vec<_> = (0..texts.len()).collect();
    assert_eq!(sent["sequences"], json!(sequences));
    assert_eq!(sent["sequence"], 0);
    for request in app.cloud.requests(Operation::Send) {
        let length = request.body.chars().count();
        assert!(length <= 5000, "{length}");
    }
}

async fn a_text_that_fits_is_not_split(engine: Engine) {
    let app = TestApp::start(engine).await;

    let body = json!({"text": "one two", "split": true});
    let sent = app.sms.post(MESSAGES, body).await.expect(201);
    let plain = app.sms.say("ada", "three").await.expect(201);

    assert_eq!(sent["sequences"], json!([0]));
    assert_eq!(plain["sequences"], Value::Null);
    assert_eq!(texts(&app), ["one two", "three"]);
}

async fn a_blank_text_of_any_length_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    for blank in [" ", " \n\t", "\u{a0}", "\u{3000}"] {
        for length in [1, 6000] {
            let text = blank.repeat(length);
            let later = app.sms.say_preferring("ada", &text, "respond-async").await;
            let split = json!({"text": text, "split": true});
            let split = app.sms.post(MESSAGES, split).await;
            for refused in [app.sms.say("ada", &text).await, split, later] {
                let problem = refused.expect_problem(422, "invalid-request");
                assert_eq!(problem["errors"][0]["pointer"], "/text");
            }
        }
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_text_is_split_at_grapheme_boundaries(engine: Engine) {
    let app = TestApp::start(engine).await;
    let family = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}";
    let thai = "\u{E17}\u{E35}\u{E48}\u{E19}\u{E35}\u{E48}";
    for (user, text, cluster) in [
        ("a", format!("a{}", family.repeat(600)), family),
        ("b", thai.repeat(1000), "\u{E35}\u{E48}"),
    ] {
        let body = json!({"text": text, "split": true});
        let path = format!("/v1/users/{user}/messages");
        let sent = app.sms.post(&path, body).await.expect(201);

        let id = sent["conversation_id"].as_str().unwrap();
        let texts = app.cloud.texts(id);
        assert!(texts.len() > 1);
        assert_eq!(texts.concat(), text);
        for text in &texts[..texts.len() - 1] {
            assert!(text.ends_with(cluster), "{:?}", &text[text.len() - 30..]);
        }
    }
}

async fn messages_of_white_space_only_are_left_out(engine: Engine) {
    let app = TestApp::start(engine).await;

    let text = format!("one{}two", " ".repeat(12_000));
    let body = json!({"text": text, "split": true});
    app.sms.post(MESSAGES, body).await.expect(201);

    let texts = texts(&app);
    let trimmed: Vec<_> = texts.iter().map(|text| text.trim()).collect();
    assert_eq!(trimmed, ["one", "two"]);
}

async fn a_choice_is_sent_only_with_the_first_part_of_a_text(engine: Engine) {
    let app = TestApp::start(engine).await;
    let metadata = json!([{"type": "ExternalId", "id": "Y1"}]);
    let choice = json!({"sequence": 1, "metadata": metadata});

    let body = json!({"text": words(1500), "split": true, "reply_to": choice});
    app.sms.post(MESSAGES, body).await.expect(201);

    let bodies = app.cloud.bodies(Operation::Send);
    let with: Vec<_> = bodies
        .iter()
        .map(|body| !body["metadata"].is_null())
        .collect();
    let types: Vec<_> = bodies
        .iter()
        .map(|body| &body["body"]["event"]["type"])
        .collect();
    assert!(bodies.len() > 2);
    assert_eq!(types[0], "AcceptStatusEvent");
    assert!(with[0] && with[1] && !with[2..].contains(&true), "{with:?}");
}

async fn the_rest_of_a_split_text_is_sent_after_an_outage(engine: Engine) {
    let cloud = Cloud::start().await;
    let short = |toml: String| {
        let account = "[[accounts]]\n";
        toml.replace(account, &format!("{account}max_request_chars = 1000\n"))
    };
    let database = Database::create(engine).await;
    let app = TestApp::start_configured(cloud, database, short).await;
    app.sms.say("ada", "first").await.expect(201);
    app.cloud.sandbox.inject(Fault {
        skip: 3,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });

    let body = json!({"text": words(8_000), "split": true});
    let partly = app.sms.post(MESSAGES, body).await;

    let sent = app.wait_until(partly, "sent").await;
    let texts = texts(&app);
    let numbers = sent["sequences"].as_array().unwrap();
    assert_eq!(numbers.len(), texts.len() - 1);
    assert_eq!(texts[1..].concat(), words(8_000));
}
