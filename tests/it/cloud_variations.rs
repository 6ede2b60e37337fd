//! Variations in the Cloud's answers, documented or plausible. None of them loses a message, sends
//! it twice or locks a user out.

use chrono::TimeDelta;
use liveperson_bridge::sandbox::{
    Answer, Behaviour, ConversationMember, Fault, LookupForm, Operation, Reply, SequenceForm,
    TokenForm,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::{Reply as ChannelReply, send};
use crate::support::database::Engine;
use crate::support::patience::eventually;

on_both_engines!(
    a_conversation_unknown_to_the_cloud_is_replaced,
    a_conversation_unknown_to_the_cloud_can_be_closed,
    a_user_is_erased_although_the_cloud_refuses_the_close,
    a_closed_conversation_is_recognized_in_any_wording,
    one_false_report_of_a_closed_conversation_loses_no_message,
    repeated_bare_401s_lose_no_first_message,
    one_unknown_answer_after_an_outage_does_not_fail_a_message,
    an_unknown_refusal_is_checked_by_one_opening,
    a_conversation_closed_in_an_unknown_wording_is_replaced,
    a_bare_401_renews_both_tokens_and_loses_no_message,
    a_queued_message_survives_a_bare_401,
    a_lasting_401_is_reported_as_refused_credentials,
    answers_of_a_gateway_before_the_cloud_lose_no_message,
    a_message_that_a_gateway_always_blocks_fails_alone,
    tokens_and_answers_in_other_forms_are_accepted,
    a_message_without_a_sequence_is_sent_once,
);

async fn opened(engine: Engine) -> TestApp {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "first").await.expect(201);
    app
}

/// Returns the texts that the Cloud has, by conversation.
fn texts(app: &TestApp) -> Vec<Vec<String>> {
    let conversations = app.cloud.sandbox.conversations();
    let texts = conversations.iter().map(|it| app.cloud.texts(&it.id));
    texts.collect()
}

/// Queues a text of the user `ada`.
async fn queue_text(app: &TestApp, text: &str) -> ChannelReply {
    app.sms.say_preferring("ada", text, "respond-async").await
}

/// Makes the Cloud forget its only conversation.
fn forget(app: &TestApp) {
    let id = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.forget_conversation(&id));
}

fn answer(app: &TestApp, operation: Operation, times: u32, status: u16, body: &str) {
    let mut reply = Reply::new(StatusCode::from_u16(status).unwrap());
    body.clone_into(&mut reply.body);
    app.cloud.sandbox.inject(Fault {
        times,
        ..Fault::new(operation, Answer::Reply(reply))
    });
}

async fn a_conversation_unknown_to_the_cloud_is_replaced(engine: Engine) {
    let app = opened(engine).await;
    forget(&app);

    let typing = app
        .sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;
    typing.expect_problem(409, "no-open-conversation");
    app.sms.say("ada", "second").await.expect(201);

    assert_eq!(texts(&app), [vec!["first"], vec!["second"]]);
}

async fn a_conversation_unknown_to_the_cloud_can_be_closed(engine: Engine) {
    let app = opened(engine).await;
    forget(&app);

    let closed = app
        .sms
        .post("/v1/users/ada/conversation/close", json!({}))
        .await;

    assert_eq!(closed.expect(200)["state"], "closed");
}

async fn a_user_is_erased_although_the_cloud_refuses_the_close(engine: Engine) {
    for is_known in [true, false] {
        let app = opened(engine).await;
        if is_known {
            // A refusal for another reason does not prevent the erasure either.
            answer(
                &app,
                Operation::Send,
                9,
                400,
                r#"{"code":"BAD_REQUEST","body":{"msg":"no"},"reqId":"1"}"#,
            );
        } else {
            forget(&app);
        }

        let erasure = app.sms.request(Method::DELETE, "/v1/users/ada");
        send(erasure).await.expect(204);

        app.sms
            .get("/v1/users/ada")
            .await
            .expect_problem(404, "user-not-found");
    }
}

async fn a_closed_conversation_is_recognized_in_any_wording(engine: Engine) {
    let app = opened(engine).await;
    let mut expected = vec![vec!["first".to_owned()]];
    for (status, text) in [
        (400, "Dialog is close"),
        (200, "Conversation already closed"),
        (400, "the conversation is not open"),
        (500, "The conversation has ended"),
        (404, "Conversation not found"),
    ] {
        app.cloud.sandbox.set_behaviour(Behaviour {
            closed_status: StatusCode::from_u16(status).unwrap(),
            closed_words: text.to_owned(),
            ..Behaviour::default()
        });
        let open = app.cloud.sandbox.conversations().pop().unwrap().id;
        assert!(app.cloud.sandbox.close_conversation(&open, "AGENT"));

        app.sms.say("ada", text).await.expect(201);

        expected.push(vec![text.to_owned()]);
        assert_eq!(texts(&app), expected, "{text}");
    }
}

async fn one_false_report_of_a_closed_conversation_loses_no_message(engine: Engine) {
    let app = opened(engine).await;
    for (number, (code, msg)) in [
        ("NOT_FOUND", "no"),
        ("BAD_REQUEST", "Bad Request, Conversation is close"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"code": code, "body": {"msg": msg}, "reqId": "1"});
        answer(&app, Operation::Send, 1, 400, &body.to_string());

        let text = format!("text {number}");
        app.sms.say("ada", &text).await.expect(201);
    }
    assert_eq!(texts(&app), [["first", "text 0", "text 1"]]);
}

async fn repeated_bare_401s_lose_no_first_message(engine: Engine) {
    let app = TestApp::start(engine).await;
    for operation in [Operation::Conversation, Operation::Send] {
        for number in 0..3 {
            answer(&app, operation, 1, 401, "");
            let user = format!("{operation:?}-{number}");
            app.sms.say(&user, "first").await.expect(201);
        }
    }
    assert_eq!(texts(&app), [["first"]; 6]);
}

async fn one_unknown_answer_after_an_outage_does_not_fail_a_message(engine: Engine) {
    let app = opened(engine).await;
    answer(&app, Operation::Send, 5, 503, "");
    answer(
        &app,
        Operation::Send,
        1,
        403,
        "<html>Request blocked</html>",
    );

    let queued = app.sms.say("ada", "second").await;

    app.wait_until(queued, "sent").await;
    assert_eq!(texts(&app), [["first", "second"]]);
}

async fn an_unknown_refusal_is_checked_by_one_opening(engine: Engine) {
    let app = opened(engine).await;
    let refusal = r#"{"code":"BAD_REQUEST","body":{"msg":"Quite impossible"},"reqId":"1"}"#;
    for text in ["second", "third"] {
        answer(&app, Operation::Send, 1, 400, refusal);
        let refused = app.sms.say("ada", text).await;
        refused.expect_problem(422, "cloud-refused");
    }

    app.sms.say("ada", "fourth").await.expect(201);

    assert_eq!(texts(&app), [vec!["first", "fourth"]]);
    // The first opening created the conversation; the other checked the refusal.
    assert_eq!(app.cloud.requests(Operation::Conversation).len(), 2);
}

async fn a_conversation_closed_in_an_unknown_wording_is_replaced(engine: Engine) {
    let app = opened(engine).await;
    app.cloud.sandbox.set_behaviour(Behaviour {
        closed_words: "Gesprek beëindigd".to_owned(),
        ..Behaviour::default()
    });
    let open = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_conversation(&open, "AGENT"));

    app.sms.say("ada", "second").await.expect(201);

    assert_eq!(texts(&app), [vec!["first"], vec!["second"]]);
}

async fn a_bare_401_renews_both_tokens_and_loses_no_message(engine: Engine) {
    let app = opened(engine).await;
    for (number, body) in [
        "",
        "<html>Unauthorized</html>",
        r#"{"error":"Unauthorized"}"#,
        r#"{"code":"UNAUTHORIZED","body":{"msg":"Unauthorized"},"reqId":"1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        // One 401 for each of the two tokens.
        answer(&app, Operation::Send, 2, 401, body);
        app.cloud.clock.advance(TimeDelta::seconds(5));

        app.sms
            .say("ada", &format!("text {number}"))
            .await
            .expect(201);

        let count = |operation| app.cloud.requests(operation).len();
        assert_eq!(count(Operation::AppToken), number + 2, "{body}");
        assert_eq!(count(Operation::ConsumerToken), number + 2, "{body}");
    }
    let expected = ["first", "text 0", "text 1", "text 2", "text 3"];
    assert_eq!(texts(&app), [expected]);
}

async fn a_queued_message_survives_a_bare_401(engine: Engine) {
    let app = opened(engine).await;
    // More 401s than one attempt of a message can receive.
    answer(&app, Operation::Send, 5, 401, "");

    let queued = queue_text(&app, "second").await;

    app.wait_until(queued, "sent").await;
    assert_eq!(texts(&app), [["first", "second"]]);
}

async fn a_lasting_401_is_reported_as_refused_credentials(engine: Engine) {
    let app = opened(engine).await;
    answer(&app, Operation::Send, 9, 401, "");

    let refused = app.sms.say("ada", "second").await;

    let problem = refused.expect_problem(502, "cloud-credentials-refused");
    assert_eq!(problem["upstream"]["status"], 401);
}

async fn answers_of_a_gateway_before_the_cloud_lose_no_message(engine: Engine) {
    for (operation, status, body) in [
        (Operation::DomainLookup, 404, ""),
        (Operation::DomainLookup, 401, ""),
        (Operation::DomainLookup, 400, "<html>"),
        (Operation::AppToken, 403, "<html>"),
        (Operation::ConsumerToken, 302, ""),
        (Operation::Conversation, 403, "<html>Request blocked</html>"),
        (Operation::Conversation, 302, ""),
        (Operation::Send, 403, "<html>Request blocked</html>"),
        (Operation::Send, 404, ""),
        (Operation::Send, 200, "<html>Maintenance</html>"),
    ] {
        let app = TestApp::start(engine).await;
        answer(&app, operation, 1, status, body);

        let queued = app.sms.say("ada", "first").await;

        app.wait_until(queued, "sent").await;
        assert_eq!(texts(&app), [["first"]], "{operation:?} {status} {body}");
    }
}

async fn a_message_that_a_gateway_always_blocks_fails_alone(engine: Engine) {
    let app = opened(engine).await;
    let mut blocked = Reply::new(StatusCode::FORBIDDEN);
    "<html>Request blocked</html>".clone_into(&mut blocked.body);
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        containing: Some("<script>".to_owned()),
        ..Fault::new(Operation::Send, Answer::Reply(blocked))
    });
    let queued = app.sms.say("ada", "<script>").await;
    let path = queued.headers["location"].to_str().unwrap().to_owned();
    queued.expect(202);

    // If no message got through, the refusal could be an outage. So another user's messages are
    // sent too.
    let failed = eventually("the message has failed", async || {
        app.sms.say("bob", "hello").await.expect(201);
        app.cloud.clock.advance(TimeDelta::milliseconds(500));
        let shown = app.sms.get(&path).await.expect(200);
        (shown["status"] == "failed").then_some(shown)
    })
    .await;

    assert_eq!(failed["failure"]["code"], "cloud-refused");
    assert_eq!(failed["failure"]["upstream"]["status"], 403);
    assert_eq!(texts(&app)[0], ["first"]);
}

async fn tokens_and_answers_in_other_forms_are_accepted(engine: Engine) {
    for (app_token, sequence, request_ids) in [
        (TokenForm::Fraction, SequenceForm::Text, true),
        (TokenForm::Text, SequenceForm::Number, false),
        (TokenForm::ExpiresIn, SequenceForm::Text, false),
        (TokenForm::Untold, SequenceForm::Text, false),
    ] {
        let app = TestApp::start(engine).await;
        app.cloud.sandbox.set_behaviour(Behaviour {
            lookup_form: LookupForm::Array,
            app_token,
            token_end: "\r\n".to_owned(),
            sequence,
            request_ids,
            conversation_member: ConversationMember::ConvId,
            ..Behaviour::default()
        });

        let sent = app.sms.say("ada", "first").await.expect(201);

        assert_eq!(sent["sequence"], 0);
        assert_eq!(texts(&app), [["first"]]);
    }
}

async fn a_message_without_a_sequence_is_sent_once(engine: Engine) {
    let app = opened(engine).await;
    app.cloud.sandbox.set_behaviour(Behaviour {
        sequence: SequenceForm::Missing,
        ..Behaviour::default()
    });

    let queued = app.sms.say("ada", "second").await;

    // This app receives no notifications yet, so it gets no echo.
    app.wait_until(queued, "sent").await;
    assert_eq!(texts(&app), [["first", "second"]]);
    app.subscribe_to_the_cloud();
    let queued = app.sms.say("ada", "third").await;
    let sent = app.wait_until(queued, "sent").await;
    assert_eq!(sent["sequence"], 2);
    assert_eq!(texts(&app), [["first", "second", "third"]]);
}
