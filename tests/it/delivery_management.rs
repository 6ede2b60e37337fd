//! The management of deliveries. Operators see their state with the channel's own key, and replay
//! events.

use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::store::{DeliveryAttempt, DeliveryOutcome, LaneUpdate, NewEvent, Store};
use liveperson_bridge::types::event::EventType;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::cloud::Cloud;
use crate::support::configuration::{APP_KEY, SMS_KEY};
use crate::support::database::{Database, Engine};
use crate::support::events::{Stream, message, texts, user};

on_both_engines!(
    deliveries_are_listed_by_state_page_by_page,
    an_event_is_shown_with_every_delivery_attempt,
    a_failed_delivery_is_retried_on_request,
    events_of_another_channel_are_neither_shown_nor_retried,
    a_replay_counts_and_delivers_the_selected_events,
    a_channel_without_a_callback_can_neither_retry_nor_replay,
    callbacks_are_resumed,
    a_sample_of_each_type_is_logged_like_any_other_event,
    invalid_delivery_requests_are_refused_by_member,
);

/// A service with a channel `sms` whose callback URL has no listener.
struct Setup {
    app: TestApp,
    failed: NewEvent,
    delivered: NewEvent,
    pending: NewEvent,
}

/// Starts a service with three events of `sms` for three users: a failed one, a delivered one and a
/// pending one.
async fn with_deliveries(engine: Engine) -> Setup {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let store = database.store().await;
    let now = cloud.clock.now();
    let mut events = Vec::new();
    for name in ["failed", "delivered", "pending"] {
        let mut event = message("sms", user(&store, "sms", name).await, name, name);
        event.deliver_until = Some(now + TimeDelta::days(3));
        events.push(event);
    }
    let settled = [
        DeliveryOutcome::Failed("the callback answered 422"),
        DeliveryOutcome::Delivered,
    ];
    for (event, settlement) in events.iter().zip(settled) {
        let added = std::slice::from_ref(event);
        append(&store, added, now).await;
        settle(&store, &cloud, settlement).await;
    }
    append(&store, &events[2..], now).await;
    store.close().await;
    let app = TestApp::start_configured(cloud, database, |toml| {
        let keys = format!("api_keys = [\"{SMS_KEY}\"]");
        toml.replace(
            &keys,
            &format!(
                "{keys}\ncallback_url = \"http://127.0.0.1:1/events\"\n\
                 callback_secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\""
            ),
        )
    })
    .await;
    let [failed, delivered, pending] = events.try_into().unwrap();
    Setup {
        app,
        failed,
        delivered,
        pending,
    }
}

/// Settles the only event that is due.
async fn settle(store: &Store, cloud: &Cloud, outcome: DeliveryOutcome<'_>) {
    let now = cloud.clock.now();
    let channel = "sms".parse().unwrap();
    let until = now + TimeDelta::seconds(15);
    let lanes = store.claim_delivery_lanes(&channel, "mine", now, until, 9);
    let lane = lanes.await.unwrap().remove(0);
    let event = store.due_events(&lane, 1).await.unwrap().remove(0);
    let attempt = DeliveryAttempt {
        at: now,
        duration_ms: 42,
        status: Some(422),
        error: None,
    };
    let lane_update = LaneUpdate::Renewed(until);
    let settled = store.settle_delivery(&lane, &event, Some(&attempt), outcome, lane_update, now);
    assert!(settled.await.unwrap());
    store.release_emptied_lane(&lane, now).await.unwrap();
}

/// Returns the ids of the events that are listed in a state.
async fn listed(app: &TestApp, state: &str) -> Vec<String> {
    let list = app.sms.get(&format!("/v1/deliveries?state={state}")).await;
    let list = list.expect(200);
    let deliveries = list["deliveries"].as_array().unwrap().iter();
    deliveries
        .map(|delivery| {
            assert_eq!(delivery["state"], state);
            delivery["event_id"].as_str().unwrap().to_owned()
        })
        .collect()
}

async fn deliveries_are_listed_by_state_page_by_page(engine: Engine) {
    let Setup {
        app,
        failed,
        delivered,
        pending,
    } = with_deliveries(engine).await;

    assert_eq!(listed(&app, "failed").await, [failed.id.to_string()]);
    assert_eq!(listed(&app, "delivered").await, [delivered.id.to_string()]);
    assert_eq!(listed(&app, "pending").await, [pending.id.to_string()]);
    let path = "/v1/deliveries?state=failed&limit=1";
    let page = app.sms.get(path).await.expect(200);
    let created_at = app
        .cloud
        .clock
        .now()
        .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let entry = &page["deliveries"][0];
    assert_eq!(entry["type"], "message.created");
    assert_eq!(entry["user_id"], "failed");
    assert_eq!(entry["attempts"], 1);
    assert_eq!(entry["failure"], "the callback answered 422");
    assert_eq!(entry["created_at"], created_at);
    let next = page["next"].as_str().unwrap();
    let next_page = app.sms.get(&format!("{path}&after={next}")).await;
    assert_eq!(
        next_page.expect(200),
        json!({"deliveries": [], "next": next})
    );
}

async fn an_event_is_shown_with_every_delivery_attempt(engine: Engine) {
    let Setup { app, delivered, .. } = with_deliveries(engine).await;

    let path = format!("/v1/events/{}", delivered.id);
    let shown = app.sms.get(&path).await.expect(200);

    let event: Value = serde_json::from_str(&delivered.body).unwrap();
    for (member, value) in event.as_object().unwrap() {
        assert_eq!(&shown[member], value, "{member}");
    }
    let delivery = &shown["delivery"];
    assert_eq!(delivery["state"], "delivered");
    assert_eq!(delivery.get("failure"), None);
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!(
        (&attempt["number"], &attempt["status"]),
        (&json!(1), &json!(422))
    );
    assert_eq!(attempt["duration_ms"], 42);
    assert_eq!(attempt["at"], delivery["created_at"]);
    assert_eq!(attempt.get("error"), None);
}

async fn a_failed_delivery_is_retried_on_request(engine: Engine) {
    let Setup {
        app,
        failed,
        pending,
        ..
    } = with_deliveries(engine).await;

    let path = format!("/v1/deliveries/{}/retry", failed.id);
    for _ in 0..2 {
        let retried = app.sms.post_text(&path, "").await.expect(202);
        assert_eq!(retried["id"], failed.id.to_string());
        assert_eq!(retried["delivery"]["state"], "pending");
        assert_eq!(retried["delivery"].get("failure"), None);
    }

    assert!(listed(&app, "failed").await.is_empty());
    let both = [failed.id.to_string(), pending.id.to_string()];
    assert_eq!(listed(&app, "pending").await, both);
    let typing = json!({"type": "typing.changed"});
    let typing = app.sms.post("/v1/events/test", typing).await.expect(201);
    let path = format!("/v1/deliveries/{}/retry", typing["id"].as_str().unwrap());
    let refused = app.sms.post_text(&path, "").await;
    refused.expect_problem(409, "event-of-the-moment");
}

async fn events_of_another_channel_are_neither_shown_nor_retried(engine: Engine) {
    let Setup { app, failed, .. } = with_deliveries(engine).await;
    let other = app.sms.with_key(APP_KEY);

    for id in [
        failed.id.to_string().as_str(),
        "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        "evt_",
        "%00",
        "%ff",
    ] {
        let shown = other.get(&format!("/v1/events/{id}")).await;
        shown.expect_problem(404, "event-not-found");
        let path = format!("/v1/deliveries/{id}/retry");
        let retried = other.post_text(&path, "").await;
        retried.expect_problem(404, "event-not-found");
    }
    let list = other.get("/v1/deliveries?state=failed").await.expect(200);
    assert_eq!(list["deliveries"], json!([]));
    assert_eq!(listed(&app, "failed").await, [failed.id.to_string()]);
}

async fn a_replay_counts_and_delivers_the_selected_events(engine: Engine) {
    let Setup {
        app,
        failed,
        delivered,
        pending,
    } = with_deliveries(engine).await;
    let now = app.cloud.clock.now();
    let (before, behind) = (now - TimeDelta::hours(1), now + TimeDelta::hours(1));
    let replay = async |body: Value| {
        let reply = app.sms.post("/v1/deliveries/replay", body).await;
        reply.expect(200)["count"].as_u64().unwrap()
    };

    assert_eq!(replay(json!({"since": before, "dry_run": true})).await, 2);
    for (narrowed, count) in [
        (json!({"since": behind, "dry_run": true}), 0),
        (json!({"since": before, "until": now, "dry_run": true}), 0),
        (
            json!({"since": before, "until": behind, "dry_run": true}),
            2,
        ),
        (
            json!({"since": before, "state": "failed", "dry_run": true}),
            1,
        ),
        (
            json!({"since": before, "state": "pending", "dry_run": true}),
            1,
        ),
        (
            json!({"since": before, "user_id": "delivered", "dry_run": true}),
            1,
        ),
        (
            json!({"since": before, "user_id": "nobody", "dry_run": true}),
            0,
        ),
        (
            json!({"since": "2000-01-01T01:00:00+01:00", "dry_run": true}),
            2,
        ),
    ] {
        assert_eq!(replay(narrowed.clone()).await, count, "{narrowed}");
    }
    assert_eq!(listed(&app, "pending").await, [pending.id.to_string()]);
    assert_eq!(replay(json!({"since": before, "state": "failed"})).await, 1);

    assert!(listed(&app, "failed").await.is_empty());
    assert_eq!(listed(&app, "delivered").await, [delivered.id.to_string()]);
    let both = [failed.id.to_string(), pending.id.to_string()];
    assert_eq!(listed(&app, "pending").await, both);
}

async fn a_channel_without_a_callback_can_neither_retry_nor_replay(engine: Engine) {
    let Setup { app, .. } = with_deliveries(engine).await;
    let other = app.sms.with_key(APP_KEY);
    let body = json!({"type": "message.sent"});
    let event = other.post("/v1/events/test", body).await.expect(201);
    let id = event["id"].as_str().unwrap();

    let shown = other.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(shown, event, "it has no delivery");
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    for refused in [
        other
            .post_text(&format!("/v1/deliveries/{id}/retry"), "")
            .await,
        other.post("/v1/deliveries/replay", since).await,
        other.post_text("/v1/deliveries/resume", "").await,
    ] {
        refused.expect_problem(409, "no-callback");
    }
}

async fn callbacks_are_resumed(engine: Engine) {
    let Setup { app, .. } = with_deliveries(engine).await;
    let (channel, now) = ("sms".parse().unwrap(), app.cloud.clock.now());
    app.store().pause_callback(&channel, now).await.unwrap();

    let resumed = app.sms.post_text("/v1/deliveries/resume", "").await;

    assert_eq!(resumed.expect(200)["state"], "active");
    let schedule = app.store().callback_schedule(&channel).await.unwrap();
    assert!(!schedule.paused);
}

async fn a_sample_of_each_type_is_logged_like_any_other_event(engine: Engine) {
    let Setup { app, pending, .. } = with_deliveries(engine).await;
    let all = app.sms.get("/v1/events").await.expect(200);
    let query = format!("?after={}", all["next"].as_str().unwrap());
    let mut stream = Stream::open(&app.sms, &query, None).await;

    for kind in EventType::ALL {
        let body = json!({"type": kind});
        let reply = app.sms.post("/v1/events/test", body).await;

        let location = reply.headers["location"].to_str().unwrap().to_owned();
        let event = reply.expect(201);
        let (_, streamed) = stream.next_event().await;
        let streamed: Value = serde_json::from_str(&streamed).unwrap();
        assert_eq!(event, streamed);
        assert_eq!(event["type"], json!(kind));
        assert_eq!(
            (&event["user_id"], &event["channel"]),
            (&json!("test"), &json!("sms"))
        );
        let shown = app.sms.get(&location).await.expect(200);
        assert_eq!(shown["id"], event["id"]);
        assert!(shown["delivery"]["state"].is_string());
    }

    let page = app.sms.get(&format!("/v1/events{query}")).await.expect(200);
    assert_eq!(page["events"].as_array().unwrap().len(), 9);
    assert_eq!(texts(&all["events"]), ["failed", "delivered", "pending"]);
    let path = "/v1/deliveries?state=pending&limit=1000";
    let list = app.sms.get(path).await.expect(200);
    let deliveries = list["deliveries"].as_array().unwrap().iter();
    let samples = deliveries.filter(|delivery| delivery["user_id"] == "test");
    // The event `typing.changed` may have been dropped by now.
    assert!(samples.count() >= 8);
    assert!(
        listed(&app, "pending")
            .await
            .contains(&pending.id.to_string())
    );
}

async fn invalid_delivery_requests_are_refused_by_member(engine: Engine) {
    let Setup { app, .. } = with_deliveries(engine).await;
    let since = "2026-11-22T08:00:00Z";

    for (query, pointer) in [
        ("", "/state"),
        ("?state=dropped", "/state"),
        ("?state=", "/state"),
        ("?state=failed&limit=0", "/limit"),
        ("?state=failed&after=1", "/after"),
        ("?state=failed&wait=1", "/wait"),
    ] {
        let refused = app.sms.get(&format!("/v1/deliveries{query}")).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
    }
    let path = "/v1/deliveries?state=failed&after=";
    app.sms.get(path).await.expect(200);
    for (body, pointer) in [
        (json!({}), "/since"),
        (json!({"since": "yesterday"}), "/since"),
        (json!({"since": 0}), "/since"),
        (json!({"since": "0000-01-01T00:00:00Z"}), "/since"),
        (json!({"since": "-0001-01-01T00:00:00Z"}), "/since"),
        (json!({"since": "+12345-01-01T00:00:00Z"}), "/since"),
        (
            json!({"since": since, "until": "+12345-01-01T00:00:00Z"}),
            "/until",
        ),
        (json!({"since": since, "until": since}), "/until"),
        (json!({"since": since, "state": "dropped"}), "/state"),
        (json!({"since": since, "user_id": ""}), "/user_id"),
        (json!({"since": since, "dry_run": "yes"}), "/dry_run"),
        (json!({"since": since, "dryrun": true}), "/dryrun"),
    ] {
        let refused = app.sms.post("/v1/deliveries/replay", body.clone()).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    for (body, pointer) in [
        (json!({}), "/type"),
        (json!({"type": "message.read"}), "/type"),
        (json!({"type": "message.sent", "user_id": "a"}), "/user_id"),
    ] {
        let refused = app.sms.post("/v1/events/test", body.clone()).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
}
