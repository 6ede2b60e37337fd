//! Tokens: renewed in time, obtained again if the Cloud refuses them, and sealed at rest.

use chrono::TimeDelta;
use liveperson_bridge::sandbox::Operation;
use liveperson_bridge::types::ids::UserKey;

use crate::support::app::TestApp;
use crate::support::cloud::ACCOUNT;
use crate::support::configuration::{SEALING_KEY, bridge_toml};
use crate::support::database::Engine;
use crate::support::process::{command, run};

on_both_engines!(
    an_app_token_is_renewed_five_minutes_before_it_expires,
    a_refused_app_token_is_renewed_once,
    an_expired_app_token_is_renewed_before_its_use,
    a_refused_consumer_token_is_renewed_once_and_stored,
    both_tokens_are_renewed_if_both_are_refused,
    a_consumer_token_is_sealed_at_rest,
    a_token_sealed_with_an_unknown_key_is_obtained_again,
    a_token_sealed_with_an_older_key_is_sealed_again_on_use,
    key_rotation_seals_every_token_again,
);

fn count(app: &TestApp, operation: Operation) -> usize {
    app.cloud.requests(operation).len()
}

async fn an_app_token_is_renewed_five_minutes_before_it_expires(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);

    app.cloud.clock.advance(TimeDelta::seconds(55 * 60 - 1));
    app.sms.say("ada", "two").await.expect(201);
    assert_eq!(count(&app, Operation::AppToken), 1);
    app.cloud.clock.advance(TimeDelta::seconds(1));
    app.sms.say("ada", "three").await.expect(201);
    app.sms.say("ada", "four").await.expect(201);

    assert_eq!(count(&app, Operation::AppToken), 2);
}

async fn a_refused_app_token_is_renewed_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);
    app.cloud.sandbox.revoke_app_tokens();

    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let sms = app.sms.clone();
        sends.spawn(async move { sms.say("ada", "at once").await.expect(201) });
    }
    sends.join_all().await;

    assert_eq!(count(&app, Operation::AppToken), 2);
    let conversation = app.cloud.only_conversation();
    assert_eq!(app.cloud.texts(&conversation.id).len(), 21);
}

async fn an_expired_app_token_is_renewed_before_its_use(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);
    let sends = count(&app, Operation::Send);

    app.cloud.clock.advance(TimeDelta::hours(2));
    app.sms.say("ada", "two").await.expect(201);

    assert_eq!(count(&app, Operation::AppToken), 2);
    assert_eq!(count(&app, Operation::Send), sends + 1);
}

async fn a_refused_consumer_token_is_renewed_once_and_stored(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);
    app.cloud.sandbox.revoke_consumer_tokens();

    app.sms.say("ada", "two").await.expect(201);
    let sends = count(&app, Operation::Send);
    app.sms.say("ada", "three").await.expect(201);

    assert_eq!(count(&app, Operation::ConsumerToken), 2);
    assert_eq!(count(&app, Operation::Send), sends + 1);
    let conversation = app.cloud.only_conversation();
    assert_eq!(app.cloud.texts(&conversation.id), ["one", "two", "three"]);
}

async fn both_tokens_are_renewed_if_both_are_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);
    let first = app.cloud.only_conversation().id;
    assert!(app.cloud.sandbox.close_conversation(&first, "AGENT"));
    app.cloud.sandbox.revoke_app_tokens();
    app.cloud.sandbox.revoke_consumer_tokens();

    // The next message finds both tokens refused and the conversation closed.
    app.sms.say("ada", "two").await.expect(201);

    assert_eq!(count(&app, Operation::AppToken), 2);
    assert_eq!(count(&app, Operation::ConsumerToken), 2);
}

async fn a_consumer_token_is_sealed_at_rest(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);
    let send = app.cloud.requests(Operation::Send).pop().unwrap();
    let token = send.header("x-lp-on-behalf").unwrap();

    let key = UserKey {
        account_id: ACCOUNT.parse().unwrap(),
        namespace: "sms".parse().unwrap(),
        user_id: "ada".parse().unwrap(),
    };
    let user_state = app.store().user_state(&key).await.unwrap().unwrap();
    let stored = user_state.token.unwrap();

    assert!(stored.sealed.0.len() > token.len());
    let part = &token.as_bytes()[..16];
    assert!(!stored.sealed.0.windows(16).any(|window| window == part));
    assert_eq!(stored.key_id.len(), 16);
}

const OTHER_KEY: &str = "YWJjZGVmMDEyMzQ1Njc4OTAxMjM0NTY3ODlhYmNkZWY=";

async fn a_token_sealed_with_an_unknown_key_is_obtained_again(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);

    let (cloud, database, _) = app.stop().await;
    let app = TestApp::start_configured(cloud, database, |toml| only_other(&toml)).await;
    app.sms.say("ada", "two").await.expect(201);

    assert_eq!(count(&app, Operation::ConsumerToken), 2);
    let conversation = app.cloud.only_conversation();
    assert_eq!(app.cloud.texts(&conversation.id), ["one", "two"]);
}

fn both(toml: &str) -> String {
    let keys = format!("{OTHER_KEY}\", \"{SEALING_KEY}");
    toml.replace(SEALING_KEY, &keys)
}

fn only_other(toml: &str) -> String {
    toml.replace(SEALING_KEY, OTHER_KEY)
}

async fn a_token_sealed_with_an_older_key_is_sealed_again_on_use(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    app.sms.say("ada", "one").await.expect(201);

    for keys in [both, only_other] as [fn(&str) -> String; 2] {
        let (cloud, database, _) = app.stop().await;
        app = TestApp::start_configured(cloud, database, |toml| keys(&toml)).await;
        app.sms.say("ada", "two").await.expect(201);
    }

    assert_eq!(count(&app, Operation::ConsumerToken), 1);
}

async fn key_rotation_seals_every_token_again(engine: Engine) {
    let app = TestApp::start(engine).await;
    for user in ["ada", "bob", "eve"] {
        app.sms.say(user, "one").await.expect(201);
    }
    let (cloud, database, _) = app.stop().await;

    let rotate = async || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bridge.toml");
        std::fs::write(&file, both(&bridge_toml(&database.location, &cloud.url))).unwrap();
        let ended = run(command(&["rotate", "--config", file.to_str().unwrap()])).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        ended.output
    };
    assert!(rotate().await.contains("Re-encrypted 3 token(s)"));
    assert!(rotate().await.contains("Re-encrypted 0 token(s)"));

    let app = TestApp::start_configured(cloud, database, |toml| only_other(&toml)).await;
    for user in ["ada", "bob", "eve"] {
        app.sms.say(user, "two").await.expect(201);
    }
    assert_eq!(count(&app, Operation::ConsumerToken), 3);
}
