//! The answers to a channel when the Cloud refuses, throttles or is unavailable. Nothing is sent
//! twice.

use std::time::Duration;

use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::cloud::CLIENT_SECRET;
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_refusal_is_passed_on_with_the_clouds_error,
    throttling_is_passed_on_with_its_retry_after,
    an_unavailable_cloud_is_a_retryable_problem,
    a_message_with_a_lost_answer_is_not_sent_again,
    an_html_answer_counts_as_an_unknown_outcome,
    an_unreachable_cloud_is_a_problem_without_upstream,
    refused_credentials_of_the_account_are_reported,
    a_message_is_queued_when_the_cloud_does_not_answer,
);

async fn opened(engine: Engine) -> TestApp {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "first").await.expect(201);
    app
}

fn texts(app: &TestApp) -> Vec<String> {
    app.cloud.texts(&app.cloud.only_conversation().id)
}

async fn a_refusal_is_passed_on_with_the_clouds_error(engine: Engine) {
    let app = opened(engine).await;

    let mut refusal = Reply::new(StatusCode::BAD_REQUEST);
    refusal.body = json!({"code": "BAD_REQUEST", "body": {"msg": "Bad Request"}}).to_string();
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Send, Answer::Reply(refusal)));
    let refused = app.sms.say("ada", "second").await;

    let problem = refused.expect_problem(422, "cloud-refused");
    assert_eq!(
        problem["upstream"],
        json!({"status": 400, "code": "BAD_REQUEST", "title": "Bad Request"})
    );
    assert_eq!(problem["retryable"], false);
    assert_eq!(texts(&app), ["first"]);
}

async fn throttling_is_passed_on_with_its_retry_after(engine: Engine) {
    let app = opened(engine).await;
    let mut throttled = Reply::new(StatusCode::TOO_MANY_REQUESTS);
    throttled.retry_after = Some("7".to_owned());
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Send, Answer::Reply(throttled)));

    let refused = app
        .sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;

    assert_eq!(refused.headers["retry-after"], "7");
    let problem = refused.expect_problem(503, "cloud-throttled");
    assert_eq!(problem["upstream"]["status"], 429);
    assert_eq!(problem["retryable"], true);
    assert_eq!(texts(&app), ["first"]);
}

async fn an_unavailable_cloud_is_a_retryable_problem(engine: Engine) {
    let app = opened(engine).await;
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));

    let refused = app
        .sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;

    assert!(refused.headers.contains_key("retry-after"));
    let problem = refused.expect_problem(503, "cloud-unavailable");
    assert_eq!(problem["upstream"]["status"], 503);
    assert_eq!(problem["retryable"], true);
    app.sms.say("ada", "second").await.expect(201);
    assert_eq!(texts(&app), ["first", "second"]);
}

async fn a_message_with_a_lost_answer_is_not_sent_again(engine: Engine) {
    let app = opened(engine).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Send, StatusCode::BAD_GATEWAY)
    });

    app.sms.say("ada", "second").await.expect(202);

    // The next message waits until the outcome of this one is known.
    app.sms.say("ada", "third").await.expect(202);
    assert_eq!(texts(&app), ["first", "second"]);
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Send, StatusCode::BAD_GATEWAY)
    });
    let unknown = app
        .sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;
    let problem = unknown.expect_problem(504, "cloud-outcome-unknown");
    assert_eq!(problem["retryable"], false);
}

async fn an_html_answer_counts_as_an_unknown_outcome(engine: Engine) {
    let app = opened(engine).await;
    let mut page = Reply::new(StatusCode::OK);
    page.content_type = Some("text/html".to_owned());
    page.body = String::from("<html><body>Login</body></html>");
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Send, Answer::Reply(page)));

    let unknown = app
        .sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await;

    let problem = unknown.expect_problem(504, "cloud-outcome-unknown");
    assert_eq!(problem["upstream"]["status"], 200);
    assert!(!problem.to_string().contains("Login"));
}

async fn an_unreachable_cloud_is_a_problem_without_upstream(engine: Engine) {
    let cloud = crate::support::cloud::Cloud::start().await;
    let url = cloud.url.clone();
    let away = |toml: String| toml.replace(&url, "http://127.0.0.1:1");
    let app = TestApp::start_configured(cloud, Database::create(engine).await, away).await;

    let refused = app.sms.post("/v1/users/ada/conversation", json!({})).await;

    let problem = refused.expect_problem(503, "cloud-unavailable");
    assert_eq!(problem["upstream"], Value::Null);
    app.sms.say("ada", "first").await.expect(202);
    // An unavailable Cloud does not make the service unready, so it stays in the load balancer.
    app.admin.get("/readyz").await.expect(200);
}

async fn refused_credentials_of_the_account_are_reported(engine: Engine) {
    let cloud = crate::support::cloud::Cloud::start().await;
    let wrong = |toml: String| toml.replace(CLIENT_SECRET, "another-secret");
    let app = TestApp::start_configured(cloud, Database::create(engine).await, wrong).await;

    let refused = app.sms.say("ada", "first").await;

    let problem = refused.expect_problem(502, "cloud-credentials-refused");
    assert_eq!(problem["upstream"]["status"], 401);
    assert!(!problem.to_string().contains("another-secret"));
}

async fn a_message_is_queued_when_the_cloud_does_not_answer(engine: Engine) {
    let app = opened(engine).await;
    app.cloud.sandbox.inject(Fault::stall(Operation::Send));

    let unknown = tokio::time::timeout(Duration::from_secs(15), app.sms.say("ada", "second"));

    let unknown = unknown.await.expect("no answer within 15 s");
    unknown.expect(202);
    // Other users do not wait for it.
    app.sms.say("bob", "hello").await.expect(201);
}
