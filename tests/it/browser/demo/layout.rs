//! The layout of the page: narrow windows, long names, directions of text, and pictures that load
//! late.

use serde_json::json;

use super::{DESK, PHONE, Stage};
use crate::support::channel::Channel;

/// True if the page is no wider than its window.
const FITS: &str = "return document.querySelector(arguments[0]).scrollWidth <= document.documentElement.clientWidth";

/// True if an element has more content than it shows, and is scrolled to its end.
const AT_END: &str =
    "const { scrollHeight, scrollTop, clientHeight } = document.querySelector(arguments[0]);
    return scrollHeight > clientHeight && scrollHeight - scrollTop - clientHeight < 2";

/// True if an element reads from right to left.
const FROM_RIGHT_TO_LEFT: &str =
    "return getComputedStyle(document.querySelector(arguments[0])).direction === 'rtl'";

impl Stage {
    async fn resize(&self, width: u32, height: u32) {
        let page = self.browser.page();
        page.set_window_size(width, height).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_width_of_the_window_needs_horizontal_scrolling() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    let name = "a-name-without-white-space".repeat(8);
    browser.write("#user-name", &name).await;
    browser.click("#user-switch").await;
    browser.shows("#user-state", "No conversation yet").await;
    stage
        .user_writes(&"AWordWithoutWhiteSpace".repeat(20))
        .await;
    browser.shows("#desk-title", &name).await;
    browser.click("#tour-start").await;

    for width in [400, 700, 1024, 1290, 1400] {
        stage.resize(width, 900).await;

        stage.is_true(FITS, "html").await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_is_in_view_without_scrolling() {
    let stage = Stage::start().await;
    stage.resize(1400, 900).await;
    stage.user_writes("Hello").await;
    stage.browser.shows(PHONE, "You said: Hello").await;

    let script =
        "const { top, bottom } = document.querySelector(arguments[0]).getBoundingClientRect();
        return top > 0 && bottom <= innerHeight";
    let row =
        "#wire-rows :nth-child(5 of .entry-cloud, .entry-api, .entry-notification, .entry-event)";
    stage.is_true(script, row).await;
    stage.is_true(script, "#user-send").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_choices_of_a_rating_are_on_one_line() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("Hello").await;
    browser.shows(DESK, "Hello").await;
    browser.click("#user-close").await;
    browser.find("#rating").await;

    for width in [400, 1400] {
        stage.resize(width, 900).await;

        let script = "const tops = [...document.querySelectorAll(arguments[0])].map((choice) => choice.offsetTop);
            return tops.length === 5 && new Set(tops).size === 1";
        stage.is_true(script, "#rating [name=csat]").await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_text_has_its_own_direction() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;

    stage.user_writes("مرحبا، كيف حالك؟").await;
    browser.shows(DESK, "مرحبا").await;

    for css in [
        format!("{PHONE} .mine .words"),
        format!("{DESK} .theirs .words"),
        ".conversation-last".to_owned(),
    ] {
        stage.is_true(FROM_RIGHT_TO_LEFT, &css).await;
    }
    browser.write("#agent-choices", "نعم").await;
    browser.write("#agent-text", "שלום.").await;
    stage.is_true(FROM_RIGHT_TO_LEFT, "#agent-text").await;
    browser.click("#agent-send").await;
    for css in [
        format!("{PHONE} .theirs .words"),
        format!("{PHONE} .choice"),
    ] {
        stage.is_true(FROM_RIGHT_TO_LEFT, &css).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_loads_late_is_scrolled_into_view() {
    let stage = Stage::start().await;
    let browser = &stage.browser;
    for number in 1..=3 {
        stage.user_writes("picture").await;
        stage.shows_pictures(PHONE, number).await;
        stage.shows_pictures(DESK, number).await;
    }
    stage.is_true(AT_END, PHONE).await;
    stage.is_true(AT_END, DESK).await;

    // The user's view gets the next picture a second after its caption.
    let cloud = Channel::new(&stage.page, "none");
    let late = json!({"operation": "download", "answer": {"delay": {"seconds": 1}}});
    let injected = cloud.post("/_sandbox/faults", late).await;
    assert_eq!(injected.status, 204);
    stage.user_writes("picture").await;
    let caption = format!("{PHONE} :nth-child(4 of .theirs) figcaption");
    browser.find(&caption).await;

    stage.shows_pictures(PHONE, 4).await;
    stage.is_true(AT_END, PHONE).await;
    stage.end().await;
}
