//! The operator's page: a failed delivery is found, inspected and replayed; callbacks are paused
//! and resumed; a text is read; a user is looked up; the line on top names the problems.

use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::sandbox::{Fault, Operation};
use liveperson_bridge::types::event::EventType;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::browser::Browser;
use crate::support::changes::append;
use crate::support::channel::send;
use crate::support::cloud::{ACCOUNT, CLIENT_ID, Cloud, sign};
use crate::support::configuration::with_callback;
use crate::support::database::{Database, Engine};
use crate::support::events::{message, user};
use crate::support::patience::eventually;
use crate::support::receiver::{Receiver, SECRET};

const KEY: &str = "key-of-an-operator";

/// A phone number, which the page must hide from an operator until they ask for it.
const ADA: &str = "+15551234567";

/// The service, the callback of its channel `sms`, and the operator's page.
struct Bed {
    app: TestApp,
    receiver: Receiver,
    browser: Browser,
    page: String,
}

impl Bed {
    async fn start(keys: &str, arguments: &[&str]) -> Self {
        let receiver = Receiver::start().await;
        let database = Database::create(Engine::Sqlite).await;
        let app = TestApp::start_configured(Cloud::start().await, database, |toml| {
            let toml = with_callback(&toml, &receiver.url, &format!("\"{SECRET}\""));
            format!("operator_keys = [{keys}]\n{toml}")
        })
        .await;
        let page = format!("http://{}/", app.admin.address());
        let browser = Browser::start_with(arguments).await;
        browser.open(&page).await;
        Self {
            app,
            receiver,
            browser,
            page,
        }
    }

    /// Delivers an agent's text to Ada's channel, whose callback answers with this status. Returns
    /// the event's id.
    async fn deliver_text(&self, text: &str, status: u16) -> String {
        self.deliver(EventType::MessageCreated, text, status).await
    }

    /// Delivers an event of this type with a text in the same way.
    async fn deliver(&self, kind: EventType, text: &str, status: u16) -> String {
        self.receiver.answer_status(status);
        let (store, now) = (self.app.store(), self.app.cloud.clock.now());
        let mut event = message("sms", user(store, "sms", ADA).await, ADA, text);
        event.kind = kind;
        event.body = event
            .body
            .replace(EventType::MessageCreated.as_str(), kind.as_str());
        event.deliver_until = Some(now + TimeDelta::hours(1));
        let id = event.id.to_string();
        append(store, &[event], now).await;
        id
    }

    async fn enter_key(&self, key: &str) {
        self.browser.write("#key-input", key).await;
        self.browser.click("#key-form [type=submit]").await;
    }

    /// Opens the dialog for the key, and enters the operator's key.
    async fn become_operator(&self) {
        self.browser.click("#key").await;
        self.enter_key(KEY).await;
        self.browser.shows("#key", "Operator").await;
    }

    /// Searches for an id in the part "Timeline".
    async fn find_in_timeline(&self, id: &str) {
        self.browser.click("nav a[href='#/timeline']").await;
        self.browser.write("#search-id", id).await;
        self.browser.click("#search button").await;
    }

    /// True if a part of the page is wider than the window.
    async fn is_wide(&self) -> bool {
        let wide = "return document.documentElement.scrollWidth > window.innerWidth";
        let is_wide = self.browser.page().execute(wide, vec![]).await.unwrap();
        is_wide == json!(true)
    }

    /// Ends the test. The browser may complain only about answers with these statuses, which it
    /// always reports.
    async fn end(self, refused: &[&str]) {
        let mut errors = self.browser.errors().await;
        errors.retain(|it| !refused.iter().any(|status| it.contains(status)));
        assert_eq!(errors, Vec::<String>::new());
        self.browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_counts_and_replays_a_failed_delivery() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    let id = bed.deliver_text("my card is 4111", 422).await;

    browser.shows("#live", "Live").await;
    let failed = "#channels [data-channel=sms] [data-count=failed]";
    browser.shows(failed, "1").await;
    browser.click("nav a[href='#/failures']").await;
    let row = format!("#failures tr[data-event={id}]");
    browser.shows(&row, "answered 422").await;
    browser.shows(&row, "…67").await;
    browser.click(&format!("{row} th a")).await;
    browser.shows("#timeline", "Attempt 1 answered 422").await;
    browser.shows("#timeline pre", "\"text\": \"hidden\"").await;
    bed.receiver.answer_status(200);

    browser.click("nav a[href='#/failures']").await;
    browser
        .click("[data-part=failures] [data-action=replay]")
        .await;
    browser.click("#replay-dry").await;
    // The page asks for a key before the first action, and again after a wrong key.
    bed.enter_key("wrong").await;
    browser.shows("#key-error", "refused").await;
    bed.enter_key(KEY).await;
    browser
        .shows("#replay-count", "1 event would be delivered again")
        .await;
    assert_eq!(bed.receiver.received().len(), 1, "it was only counted");
    browser.click("#replay-do").await;

    browser
        .shows("#replay-count", "1 queued for delivery.")
        .await;
    let received = bed.receiver.wait_for(2).await;
    assert_eq!(received[1].text(), "my card is 4111");
    browser.click("#replay-dialog [data-action=close]").await;
    browser.shows("#failures", "No failed deliveries").await;
    browser.click("nav a[href='#/audit']").await;
    browser
        .shows("[data-entry='deliveries.replay']", "count: 1")
        .await;
    browser.click("nav a[href='#/overview']").await;
    browser.shows("#key", "Operator").await;
    bed.end(&["401"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_and_resumes_a_callback() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    let sms = |css: &str| format!("#channels [data-channel=sms] {css}");
    bed.become_operator().await;

    browser.click(&sms("[data-action=pause]")).await;
    browser.shows("#confirm-title", "Pause sms?").await;
    browser.click("#confirm-dialog [data-action=close]").await;
    browser.shows(&sms(".mark"), "Delivering").await;
    browser.click(&sms("[data-action=pause]")).await;
    browser.click("#confirm-do").await;
    browser.hides("#confirm-dialog").await;
    browser.shows(&sms(".mark"), "Paused by an operator").await;
    bed.deliver_text("held", 200).await;
    browser.shows(&sms("[data-count=pending]"), "1").await;
    assert_eq!(bed.receiver.received().len(), 0);
    browser.click(&sms("[data-action=resume]")).await;
    browser.click("#confirm-do").await;

    assert_eq!(bed.receiver.wait_for(1).await[0].text(), "held");
    browser.shows(&sms(".mark"), "Delivering").await;
    browser.shows(&sms("[data-count=pending]"), "0").await;
    bed.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_text_is_confirmed_and_recorded_in_the_audit_log() {
    let bed = Bed::start(&format!("\"{KEY}\""), &["--force-dark-mode"]).await;
    let browser = &bed.browser;
    let id = bed.deliver_text("my card is <b>4111</b>", 200).await;

    bed.find_in_timeline(&id).await;
    browser.shows("#timeline pre", "\"text\": \"hidden\"").await;
    assert!(!browser.text("#timeline").await.contains("5551234"));
    browser.click("#timeline [data-action=read]").await;
    browser
        .shows("#confirm-text", "recorded in the audit log")
        .await;
    browser.click("#confirm-do").await;
    bed.enter_key(KEY).await;

    browser
        .shows("#timeline pre[data-body=whole]", "my card is <b>4111</b>")
        .await;
    browser.shows("#timeline", ADA).await;
    browser
        .shows("#timeline .steps", "event.read by operator:05af08c9")
        .await;
    assert_eq!(browser.count("#timeline b").await, 0, "text became markup");
    // After a reload, the text is hidden again.
    browser.open("about:blank").await;
    browser.open(&format!("{}#/timeline/{id}", bed.page)).await;
    browser.shows("#timeline pre", "\"text\": \"hidden\"").await;
    browser.write("#search-id", "evt_nothing").await;
    browser.click("#search button").await;
    browser
        .shows("#timeline [data-missing]", "No channel has such an event")
        .await;
    bed.end(&["404"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_page_has_no_buttons_and_reports_stale_data() {
    let bed = Bed::start("", &["--window-size=400,900"]).await;
    let browser = &bed.browser;
    bed.deliver_text("one", 422).await;

    browser
        .shows("#channels [data-channel=sms] [data-count=failed]", "1")
        .await;
    browser.shows("#key", "Read only").await;
    assert_eq!(browser.count("#channels button").await, 0);
    for part in ["overview", "failures", "timeline", "audit"] {
        browser.click(&format!("nav a[href='#/{part}']")).await;
        browser.find(&format!("[data-part={part}]")).await;
        assert!(!bed.is_wide().await, "{part}");
    }
    bed.find_in_timeline(ADA).await;
    browser.shows("#notice", "operator_keys").await;
    // As if the service had no network any more.
    let cut = "window.fetch = () => Promise.reject(new TypeError('no network'))";
    browser.page().execute(cut, vec![]).await.unwrap();

    browser.shows("#live", "Stale").await;
    bed.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_a_broken_percent_encoding_does_not_stop_the_page() {
    let bed = Bed::start("", &[]).await;

    // The new URL differs only in its fragment, so the page is loaded from another one.
    bed.browser.open("about:blank").await;
    bed.browser
        .open(&format!("{}#/timeline/%zz", bed.page))
        .await;

    bed.browser.shows("#live", "Live").await;
    bed.browser.find("[data-part=timeline]").await;
    bed.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_checked_when_it_is_entered() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    browser.shows("#key", "Enter key").await;

    browser.click("#key").await;
    for wrong in ["wrong", "no key has an é"] {
        bed.enter_key(wrong).await;
        browser.shows("#key-error", "refused").await;
        browser.shows("#key", "Enter key").await;
    }
    bed.enter_key(KEY).await;

    browser.hides("#key-dialog").await;
    browser.shows("#key", "Operator").await;
    bed.end(&["401"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_to_a_paused_callback_says_that_it_waits() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    browser
        .shows("#summary", "Ready, and nothing needs attention.")
        .await;
    for text in ["one", "two"] {
        bed.deliver_text(text, 422).await;
    }
    browser
        .shows("#summary", "Ready, but: 2 deliveries to sms failed.")
        .await;
    let operator = bed.app.admin.with_key(KEY);
    let paused = operator.post("/api/pause", json!({"channel": "sms"})).await;
    paused.expect(200);
    browser.shows("#summary", "sms is paused").await;
    bed.become_operator().await;

    browser
        .click("#channels [data-channel=sms] [data-action=replay]")
        .await;
    browser.click("#replay-dry").await;
    browser.shows("#replay-count", "2 events would be").await;
    browser.click("#replay-do").await;

    let waiting = "2 queued; sms is paused: resume it to send them.";
    browser.shows("#replay-count", waiting).await;
    let sms = "#channels [data-channel=sms]";
    browser
        .shows(&format!("{sms} [data-count=pending]"), "2")
        .await;
    for direction in ["To the Cloud", "To the channel"] {
        browser.shows(sms, direction).await;
    }
    bed.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_typing_event_is_no_failure_and_is_not_delivered_again() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    let id = bed.deliver(EventType::TypingChanged, "typing", 422).await;
    bed.become_operator().await;

    bed.find_in_timeline(&id).await;

    browser.shows("#timeline .mark", "dropped").await;
    browser.shows("#timeline footer", "Show the text").await;
    assert_eq!(browser.count("#timeline [data-action=retry]").await, 0);
    browser.click("nav a[href='#/failures']").await;
    browser.shows("#failures", "No failed deliveries.").await;
    browser.shows("#summary", "nothing needs attention").await;
    bed.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_the_page_offers_no_action() {
    let bed = Bed::start(&format!("\"{KEY}\""), &[]).await;
    let browser = &bed.browser;
    browser
        .find("#channels [data-channel=sms] [data-action=pause]")
        .await;

    bed.app.store().close().await;

    browser.shows("#live", "without the database").await;
    browser
        .shows("#summary", "Not ready: the storage does not answer.")
        .await;
    assert_eq!(browser.count("#channels button").await, 0);
    browser.click("nav a[href='#/failures']").await;
    browser
        .hides("[data-part=failures] [data-action=replay]")
        .await;
    bed.find_in_timeline(ADA).await;
    browser.shows("#notice", "The database").await;
    browser.shows("#live", "without the database").await;
    bed.end(&["503"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_looked_up_once_and_recorded_in_the_audit_log() {
    let bed = Bed::start(&format!("\"{KEY}\""), &["--window-size=400,900"]).await;
    let browser = &bed.browser;
    let id = bed.deliver_text("my card is 4111", 422).await;

    browser.click("nav a[href='#/timeline']").await;
    browser.click("#search-channel option[value=sms]").await;
    bed.find_in_timeline(ADA).await;
    bed.enter_key(KEY).await;

    let row = format!("#timeline tr[data-item={id}]");
    browser.shows(&row, "event to the channel").await;
    browser.shows(&row, "failed").await;
    assert!(!browser.text("#timeline").await.contains("card"));
    assert!(!bed.is_wide().await);
    let address = browser.page().current_url().await.unwrap();
    assert!(!address.as_str().contains("555"), "{address}");
    // The result is shown again, without another look-up.
    browser.click(&format!("{row} a")).await;
    browser.shows("#timeline .steps", "Attempt 1").await;
    browser.click("nav a[href='#/timeline']").await;
    browser.shows(&row, "event to the channel").await;
    browser.click("nav a[href='#/audit']").await;
    browser
        .shows("[data-entry='user.read']", "events: 1, requests: 0")
        .await;
    assert_eq!(browser.count("[data-entry='user.read']").await, 1);
    assert!(!browser.text("#audit").await.contains("5551234"));
    bed.find_in_timeline("+15550000000").await;
    browser.shows("#timeline", "does not know this user").await;
    bed.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_steps_of_a_request_are_shown_as_one() {
    let bed = Bed::start("", &[]).await;
    let browser = &bed.browser;
    bed.app.sms.say(ADA, "one").await.expect(201);
    for _ in 0..20 {
        let fault = Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE);
        bed.app.cloud.sandbox.inject(fault);
    }
    let queued = bed.app.sms.say(ADA, "two").await.expect(202);
    let id = queued["id"].as_str().unwrap();
    let path = format!("/api/messages/{id}");
    eventually("three attempts are postponed", async || {
        bed.app.cloud.clock.advance(TimeDelta::milliseconds(200));
        let shown = bed.app.admin.get(&path).await.expect(200);
        let steps = shown["timeline"].as_array().unwrap().iter();
        let postponed = steps.filter(|step| step["what"] == "postponed");
        (postponed.count() >= 3).then_some(())
    })
    .await;

    bed.find_in_timeline(id).await;

    browser
        .shows("#timeline .steps", "times: cloud-unavailable")
        .await;
    assert_eq!(browser.count("#timeline .steps li").await, 2);
    browser.shows("#timeline", "request to the Cloud").await;
    bed.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_notifications_are_shown_with_their_account() {
    let bed = Bed::start("", &[]).await;
    let browser = &bed.browser;
    let body = json!({"kind": "wsagent"}).to_string();
    let path = format!("/webhooks/{ACCOUNT}");
    let notification = bed.app.sms.request(Method::POST, &path);
    let notification = notification
        .header("x-liveperson-account-id", ACCOUNT)
        .header("x-liveperson-client-id", CLIENT_ID)
        .header(
            "x-liveperson-signature",
            sign(body.as_bytes(), "another secret"),
        );
    let refused = send(notification.body(body)).await;
    refused.expect_problem(401, "signature-refused");

    let account = format!("#accounts [data-account='{ACCOUNT}']");
    browser
        .shows(&account, "1 notification refused, the last")
        .await;
    browser.shows(&account, "wrong signature").await;
    let summary = format!("notifications are refused (account {ACCOUNT})");
    browser.shows("#summary", &summary).await;
    bed.end(&[]).await;
}
