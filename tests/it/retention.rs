//! Retention: old data is removed automatically, except for data that is still needed.

use chrono::{DateTime, TimeDelta, Utc};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::store::Location;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::database::Engine;
use crate::support::events::{append_texts, message, texts, user};
use crate::support::patience::eventually;

on_both_engines!(
    events_are_removed_after_a_week,
    an_event_with_a_pending_delivery_is_not_removed,
    two_replicas_remove_old_events_once,
);

/// The beginning of the texts that grow old.
const OLD: &str = "a text that grows old";

async fn wait_for_events(app: &TestApp, expected: &[&str]) {
    eventually(&format!("{expected:?}"), async || {
        let page = app.sms.get("/v1/events").await.expect(200);
        (texts(&page["events"]) == expected).then_some(())
    })
    .await;
}

async fn events_are_removed_after_a_week(engine: Engine) {
    let app = TestApp::start(engine).await;
    let old: Vec<_> = (0..1100).map(|number| number.to_string()).collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    append_texts(&app, "sms", &old).await;
    let first = app.sms.get("/v1/events?limit=1").await.expect(200);

    app.cloud.clock.advance(TimeDelta::days(6));
    append_texts(&app, "sms", &["young"]).await;
    app.cloud.clock.advance(TimeDelta::hours(25));

    wait_for_events(&app, &["young"]).await;
    let next = first["next"].as_str().unwrap();
    let page = app.sms.get(&format!("/v1/events?after={next}")).await;
    assert_eq!(page.expect(200)["gap"], true);
    app.cloud.clock.advance(TimeDelta::days(7));
    wait_for_events(&app, &[]).await;
    // Positions in the log are not reused, so a reader's cursor stays valid.
    let end = app.sms.get("/v1/events").await.expect(200);
    append_texts(&app, "sms", &["new"]).await;
    let path = format!("/v1/events?after={}", end["next"].as_str().unwrap());
    let page = app.sms.get(&path).await.expect(200);
    assert_eq!(texts(&page["events"]), ["new"]);
    assert_eq!(page.get("gap"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_events_disappear_from_the_files_of_the_embedded_database() {
    let app = TestApp::start(Engine::Sqlite).await;
    let Location::Embedded { data_dir } = &app.database.location else {
        panic!("not the embedded database");
    };
    let old: Vec<_> = (0..700).map(|number| format!("{OLD} {number}")).collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    append_texts(&app, "sms", &old).await;
    let is_there = || {
        let files = std::fs::read_dir(data_dir).unwrap();
        let mut files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.any(|bytes| String::from_utf8_lossy(&bytes).contains(OLD))
    };
    assert!(is_there());

    app.cloud.clock.advance(TimeDelta::days(8));

    eventually("no trace of it remains", async || {
        (!is_there()).then_some(())
    })
    .await;
}

async fn an_event_with_a_pending_delivery_is_not_removed(engine: Engine) {
    let app = TestApp::start(engine).await;
    let now = app.cloud.clock.now();
    append_texts(&app, "sms", &["before"]).await;
    let ada = user(app.store(), "sms", "ada").await;
    let mut pending = message("sms", ada, "ada", "pending");
    let until: DateTime<Utc> = now + TimeDelta::days(10);
    pending.deliver_until = Some(until);
    append(app.store(), &[pending], now).await;
    append_texts(&app, "sms", &["behind"]).await;

    app.cloud.clock.advance(TimeDelta::days(8));

    wait_for_events(&app, &["pending", "behind"]).await;
    // The delivery never counts as failed, since the channel has no callback URL.
    app.cloud
        .clock
        .advance(TimeDelta::days(3) + TimeDelta::minutes(1));
    wait_for_events(&app, &[]).await;
}

async fn two_replicas_remove_old_events_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let other = match engine {
        Engine::Postgres => {
            Some(TestApp::start_with(app.cloud.clone(), app.database.clone()).await)
        }
        Engine::Sqlite => None,
    };
    let old: Vec<_> = (0..600).map(|number| number.to_string()).collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    append_texts(&app, "sms", &old).await;

    app.cloud.clock.advance(TimeDelta::days(8));
    append_texts(&app, "sms", &["young"]).await;

    wait_for_events(&app, &["young"]).await;
    if let Some(other) = &other {
        let page = other.sms.get("/v1/events").await.expect(200);
        assert_eq!(texts(&page["events"]), ["young"]);
    }
    let health = app.admin.get("/readyz").await.expect(200);
    assert_eq!(health.get("reasons").unwrap_or(&json!([])), &json!([]));
}
