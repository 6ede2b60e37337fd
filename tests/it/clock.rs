//! A replica whose clock is ahead of server time does no due work until its clock agrees again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::StatusCode;
use liveperson_bridge::clock::{Clock, ManualClock};
use liveperson_bridge::sandbox::{Fault, Operation};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::with_callback;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::receiver::{Receiver, SECRET};

on_both_engines!(
    a_replica_ahead_of_server_time_does_no_due_work,
    the_services_clock_follows_server_time,
);

/// 2 days: longer than any queued message or pending event is stored.
const LEAD_MS: i64 = 2 * 86_400_000;

/// A clock that can be ahead.
#[derive(Debug)]
struct Skewed {
    base: Arc<ManualClock>,
    is_ahead: AtomicBool,
    /// The number of times that the bridge has checked this clock before doing due work.
    checks: AtomicUsize,
}

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        let is_ahead = self.is_ahead.load(Ordering::SeqCst);
        self.base.now_ms() + if is_ahead { LEAD_MS } else { 0 }
    }

    fn is_ahead(&self) -> bool {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.is_ahead.load(Ordering::SeqCst)
    }
}

impl Skewed {
    /// Waits until all workers have checked the clock several times. Each checks it at least every
    /// 5 s.
    async fn wait_for_checks(&self) {
        let before = self.checks.load(Ordering::SeqCst);
        eventually("all workers have checked", async || {
            (self.checks.load(Ordering::SeqCst) >= before + 40).then_some(())
        })
        .await;
    }
}

async fn a_replica_ahead_of_server_time_does_no_due_work(engine: Engine) {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let receiver = Receiver::start().await;
    receiver.answer_status(503);
    let clock = Arc::new(Skewed {
        base: Arc::clone(&cloud.clock),
        is_ahead: AtomicBool::new(false),
        checks: AtomicUsize::new(0),
    });
    let shared = Arc::clone(&clock);
    let app = TestApp::start_with_clock(shared, cloud, database, |toml| {
        with_callback(&toml, &receiver.url, &format!("\"{SECRET}\""))
    })
    .await;
    let opened = app.sms.say("ada", "hello").await.expect(201);
    let conversation = opened["conversation_id"].as_str().unwrap();
    send_notification(&app.sms, &agent_text(conversation, 1, "good morning"))
        .await
        .expect(200);
    receiver.wait_for(1).await;
    app.cloud.sandbox.inject(Fault {
        times: u32::MAX,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    });
    let queued = app.sms.say_preferring("ada", "1", "respond-async").await;
    let location = queued.headers["location"].to_str().unwrap().to_owned();
    queued.expect(202);
    eventually("the request is postponed", async || {
        let shown = app.sms.get(&location).await.expect(200);
        let mut timeline = shown["timeline"].as_array()?.iter();
        timeline
            .any(|step| step["what"] == "postponed")
            .then_some(())
    })
    .await;
    // By then both lanes have been released, and are not due before the clock is advanced.
    clock.wait_for_checks().await;

    clock.is_ahead.store(true, Ordering::SeqCst);
    let unready = app.admin.get("/readyz").await.expect(503);
    clock.wait_for_checks().await;
    clock.is_ahead.store(false, Ordering::SeqCst);

    assert_eq!(
        unready["reasons"],
        json!(["the clock is ahead of the database's"])
    );
    app.admin.get("/readyz").await.expect(200);
    drop(app.cloud.sandbox.withdraw_faults());
    receiver.answer_status(200);
    app.wait_for_status(&location, "sent").await;
    eventually("the event is delivered", async || {
        app.cloud.clock.advance(chrono::TimeDelta::seconds(1));
        let list = app.sms.get("/v1/deliveries?state=delivered").await;
        let list = list.expect(200);
        list["deliveries"].as_array()?.first().map(|_| ())
    })
    .await;
    assert_eq!(app.cloud.texts(conversation), ["hello", "1"]);
}

async fn the_services_clock_follows_server_time(engine: Engine) {
    let store = Database::create(engine).await.store().await;

    let clock = liveperson_bridge::app::Timekeeper::begin(&store)
        .await
        .unwrap()
        .clock();

    // The database runs on this machine.
    let offset = clock.machine_offset().unwrap();
    assert!(offset.abs() < chrono::TimeDelta::seconds(1), "{offset}");
    assert!(!clock.is_ahead());
}
