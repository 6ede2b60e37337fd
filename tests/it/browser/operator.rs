//! The operator's page: a failed delivery is found, inspected and replayed; callbacks are paused
//! and resumed; a text is read.

use chrono::TimeDelta;
use liveperson_bridge::clock::Clock as _;

use crate::support::app::TestApp;
use crate::support::browser::Browser;
use crate::support::changes::append;
use crate::support::cloud::Cloud;
use crate::support::configuration::with_callback;
use crate::support::database::{Database, Engine};
use crate::support::events::{message, user};
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
        self.receiver.answer_status(status);
        let (store, now) = (self.app.store(), self.app.cloud.clock.now());
        let mut event = message("sms", user(store, "sms", ADA).await, ADA, text);
        event.deliver_until = Some(now + TimeDelta::hours(1));
        let id = event.id.to_string();
        append(store, &[event], now).await;
        id
    }

    async fn enter_key(&self, key: &str) {
        self.browser.write("#key-input", key).await;
        self.browser.click("#key-form [type=submit]").await;
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

    browser.shows("#replay-count", "Replayed: 1").await;
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
    browser.click("#key").await;
    bed.enter_key(KEY).await;

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

    browser.click("nav a[href='#/timeline']").await;
    browser.write("#search-id", &id).await;
    browser.click("#search button").await;
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
    let wide = "return document.documentElement.scrollWidth > window.innerWidth";
    for part in ["overview", "failures", "timeline", "audit"] {
        browser.click(&format!("nav a[href='#/{part}']")).await;
        browser.find(&format!("[data-part={part}]")).await;
        let is_wide = browser.page().execute(wide, vec![]).await.unwrap();
        assert_eq!(is_wide, serde_json::json!(false), "{part}");
    }
    bed.app.stop().await;

    bed.browser.shows("#live", "Stale").await;
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
