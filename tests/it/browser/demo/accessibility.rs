//! The accessibility of the page: names, lists, headings and contrast.

use super::{DESK, PHONE, Stage};

impl Stage {
    /// Asserts that assistive technology can read what the page shows now.
    async fn is_accessible(&self) {
        let script = include_str!("structure.js");
        let page = self.browser.page();
        let wrong = page.execute(script, vec![]).await.unwrap();
        let wrong: Vec<String> = serde_json::from_value(wrong).unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(self.browser.low_contrast().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assistive_technology_can_read_each_part_of_the_page() {
    let stage = Stage::start().await;
    let browser = &stage.browser;
    stage.is_accessible().await;

    stage.user_writes("menu").await;
    browser.find(&format!("{PHONE} .choice")).await;
    stage.user_writes("card").await;
    browser.find(&format!("{PHONE} .card")).await;
    stage.user_writes("picture").await;
    stage.shows_pictures(DESK, 1).await;
    stage.shows_pictures(PHONE, 1).await;
    browser.click("#wire-rows .entry-cloud summary").await;
    browser.find("#wire-rows .exchange").await;
    stage.is_accessible().await;

    browser.click("#fault-away").await;
    browser.shows("[data-fault=away]", "Active").await;
    stage.user_writes("Hello").await;
    stage.latest_of_user_is("queued").await;
    browser.click("#tour-start").await;
    browser.find("#tour").await;
    stage.is_accessible().await;
    browser.click("#tour-leave").await;
    browser.click("#fault-away-stop").await;
    browser.shows(PHONE, "You said: Hello").await;
    stage.latest_of_agent_is_read().await;
    browser.click("#user-close").await;
    browser.find("#rating").await;
    browser.click("#user-open").await;
    browser.find("#opening").await;
    stage.is_accessible().await;
    stage.end().await;
}
