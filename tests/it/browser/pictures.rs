//! Screenshots of each page for README. `scripts/screenshots` copies them to `docs/images`.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::browser::{Browser, ENTER};
use crate::support::channel::Channel;
use crate::support::demo::Demo;

/// The log on the user's phone.
const PHONE: &str = "#user-log";

/// Saves a screenshot of the browser under this name.
async fn save_screenshot(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    fs::create_dir_all(&folder).unwrap();
    let picture = browser.page().screenshot().await.unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "no picture");
    fs::write(folder.join(name), picture).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn screenshots_of_each_page_are_taken() {
    let demo = Demo::start().await;
    let browser = Browser::start_with(&["--window-size=1440,1400"]).await;
    let stage = demo.address("Simulated Cloud").await;

    browser.open(&stage).await;
    for (text, answer) in [
        ("Where is my parcel?", "You said: Where is my parcel?"),
        ("The menu, please", "What would you like?"),
    ] {
        browser.write("#user-text", text).await;
        browser.press("#user-text", ENTER).await;
        browser.shows(PHONE, answer).await;
    }
    for count in ["written", "at-cloud", "of-agent", "arrived"] {
        browser.shows(&format!("#tally-{count}"), "2").await;
    }
    browser
        .shows("#tally-verdict", "Nothing lost, nothing doubled.")
        .await;
    save_screenshot(&browser, "demo.png").await;

    // Two events are pending while the callback fails.
    let cloud = Channel::new(&stage, "none");
    cloud
        .put("/_demo/callback", json!({"failing": true}))
        .await
        .expect(204);
    browser.write("#user-text", "Tea").await;
    browser.press("#user-text", ENTER).await;
    browser.shows(PHONE, "You said: Tea").await;
    let operators = demo.address("Operator's page").await;
    browser.page().set_window_size(1440, 1050).await.unwrap();
    browser.open(&operators).await;
    browser
        .shows("#channels [data-channel=demo] .mark", "Failing")
        .await;
    save_screenshot(&browser, "operator.png").await;

    browser.open(&format!("{}/docs/", demo.api)).await;
    browser.find("#operations-messages-sendMessage").await;
    save_screenshot(&browser, "docs.png").await;
    browser.close().await;
}
