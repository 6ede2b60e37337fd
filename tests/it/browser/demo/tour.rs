//! The guided tour of the page.

use serde_json::json;

use super::{PHONE, Stage};
use crate::support::browser::ENTER;
use crate::support::channel::Channel;

const ESCAPE: &str = "\u{E00C}";

impl Stage {
    /// Begins the tour with the keyboard.
    async fn begin_tour(&self) {
        self.browser.press("#tour-start", ENTER).await;
        self.browser.find("#tour-next:focus").await;
    }

    /// Does the next step with the keyboard, and waits for its end.
    async fn do_step(&self, number: usize) {
        let browser = &self.browser;
        browser.press("#tour-next", ENTER).await;
        let step = format!("Step {number} of 6");
        browser.shows("#tour-step", &step).await;
        browser.find("#tour-next:not([aria-disabled])").await;
        browser.find("#tour-outcome:not(:empty)").await;
        browser.find(".highlight").await;
    }

    /// Waits until the page and the simulated Cloud are as they were before the tour.
    async fn nothing_remains_of_the_tour(&self) {
        let browser = &self.browser;
        browser.hides("#tour").await;
        browser.find("#tour-start:focus").await;
        self.is_checked("#script", true).await;
        browser.hides("#fault-away-stop").await;
        assert_eq!(browser.count(".highlight").await, 0);
        let cloud = Channel::new(&self.page, "none");
        let faults = cloud.get("/_sandbox/faults").await.expect(200);
        assert_eq!(faults, json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_shows_an_outage_in_which_nothing_is_lost_or_doubled() {
    let stage = Stage::start().await;
    let browser = &stage.browser;

    stage.begin_tour().await;
    stage.do_step(1).await;
    stage.latest_of_user_is("sent").await;
    stage.do_step(2).await;
    browser.shows(PHONE, "It arrives tomorrow.").await;
    stage.do_step(3).await;
    browser.shows("[data-fault=away]", "Active").await;
    stage.do_step(4).await;
    browser.shows("#tally-queued", "3").await;
    stage.do_step(5).await;
    browser.shows("#tally-queued", "0").await;
    stage.do_step(6).await;
    stage.nothing_is_lost("4", "1").await;
    browser.shows("#tour-next", "Finish").await;
    browser.press("#tour-next", ENTER).await;

    stage.nothing_remains_of_the_tour().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tour_that_is_left_in_the_outage_ends_the_outage() {
    let stage = Stage::start().await;
    let browser = &stage.browser;
    stage.begin_tour().await;
    for number in 1..=4 {
        stage.do_step(number).await;
    }

    browser.press("#tour-next", ESCAPE).await;

    stage.nothing_remains_of_the_tour().await;
    stage.nothing_is_lost("4", "1").await;

    // It can be taken again, and a reload ends it, too.
    stage.begin_tour().await;
    for number in 1..=3 {
        stage.do_step(number).await;
    }
    browser.open(&stage.page).await;
    stage.is_checked("#script", true).await;
    browser.hides("#fault-away-stop").await;
    stage.user_writes("Hello").await;
    browser.shows(PHONE, "You said: Hello").await;
    stage.end().await;
}
