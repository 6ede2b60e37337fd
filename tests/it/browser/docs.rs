//! `/docs`: the whole API in a browser, and its "Try it out" against the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::channel::Channel;
use crate::support::demo::Demo;
use crate::support::patience::eventually;

/// All operations, in an order in which their examples succeed.
const OPERATIONS: [&str; 23] = [
    "setProfile",
    "openConversation",
    "sendMessage",
    "getUser",
    "getConversation",
    "sendReceipts",
    "setTyping",
    "sendRaw",
    "sendFile",
    "getFile",
    "getLinkedFile",
    "getMessage",
    "listEvents",
    "getEvent",
    "createTestEvent",
    "listDeliveries",
    "retryDelivery",
    "replayDeliveries",
    "resumeDeliveries",
    "closeConversation",
    "rateConversation",
    "eraseUser",
    "receiveNotification",
];

/// A content that the service accepts as an image, by its first bytes.
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n0000";

/// The documentation of a running demo, in a browser.
struct Page {
    demo: Demo,
    browser: Browser,
    channel: Channel,
}

impl Page {
    async fn open(arguments: &[&str]) -> Self {
        let demo = Demo::start().await;
        let browser = Browser::start_with(arguments).await;
        browser.open(&format!("{}/docs/", demo.api)).await;
        let channel = Channel::new(&demo.api, "demo-key");
        Self {
            demo,
            browser,
            channel,
        }
    }

    /// Enters the channel's key.
    async fn authorize(&self) {
        let browser = &self.browser;
        browser.click(".auth-wrapper .authorize").await;
        browser.write(".auth-container input", "demo-key").await;
        browser.click(".auth-container button[type=submit]").await;
        browser.click(".auth-container .btn-done").await;
    }

    /// Returns the section of each operation that the document describes.
    async fn sections(&self) -> BTreeMap<String, String> {
        let document = self.channel.get("/openapi.json").await.expect(200);
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|item| item.as_object().unwrap().values());
        operations
            .map(|operation| {
                let name = operation["operationId"].as_str().unwrap();
                let tag = operation["tags"][0].as_str().unwrap();
                (name.to_owned(), format!("#operations-{tag}-{name}"))
            })
            .collect()
    }

    /// Opens a section, or closes an open one.
    async fn toggle(&self, section: &str) {
        let summary = format!("{section} .opblock-summary-control");
        self.browser.click(&summary).await;
    }

    /// Executes the operation of an open section, and returns the status of the response.
    async fn execute(&self, section: &str) -> String {
        self.browser.click(&format!("{section} .execute")).await;
        let status = format!("{section} .live-responses-table .response .response-col_status");
        self.browser.text(&status).await
    }

    /// Returns the parameter of an operation whose value the service creates, with such a value. No
    /// example can know it.
    async fn created_parameter(&self, operation: &str) -> Option<(&'static str, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match operation {
            "getFile" => Some(("file_id", self.member_of_file("id").await)),
            "getLinkedFile" => {
                let url = self.member_of_file("url").await;
                Some(("token", url.rsplit('/').next().unwrap().to_owned()))
            }
            "getMessage" => {
                let reply = self
                    .channel
                    .say_preferring("alice", "Later", "respond-async");
                let queued = reply.await.expect(202);
                Some(("message_id", text(&queued["id"])))
            }
            "getEvent" | "retryDelivery" => {
                let events = self.channel.get("/v1/events").await.expect(200);
                Some(("event_id", text(&events["events"][0]["id"])))
            }
            _ => None,
        }
    }

    /// Waits for the event about the user's file, and returns a member of the file.
    async fn member_of_file(&self, name: &str) -> String {
        eventually("an event about a file", async || {
            let page = self.channel.get("/v1/events").await.expect(200);
            let mut events = page["events"].as_array()?.iter();
            let member = events.find_map(|event| event["data"]["file"][name].as_str());
            member.map(str::to_owned)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_succeeds_as_the_page_fills_it_in() {
    let page = Page::open(&[]).await;
    let browser = &page.browser;
    let sections = page.sections().await;
    let described: BTreeSet<_> = sections.keys().map(String::as_str).collect();
    assert_eq!(BTreeSet::from(OPERATIONS), described);
    let image = page.demo.folder.path().join("image.png");
    fs::write(&image, IMAGE).unwrap();

    page.authorize().await;
    for operation in OPERATIONS {
        let section = &sections[operation];
        page.toggle(section).await;
        if operation == "sendFile" {
            let file = format!("{section} input[type=file]");
            browser.press(&file, image.to_str().unwrap()).await;
        }
        if let Some((parameter, value)) = page.created_parameter(operation).await {
            let field = format!("{section} [data-param-name={parameter}] input");
            browser.write(&field, &value).await;
        }

        let status = page.execute(section).await;

        assert!(status.starts_with('2'), "{operation}: {status}");
        page.toggle(section).await;
    }
    assert_eq!(browser.errors().await, Vec::<String>::new());
    page.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_the_color_scheme_with_enough_contrast() {
    for is_dark in [false, true] {
        let arguments: &[&str] = if is_dark { &["--force-dark-mode"] } else { &[] };
        let page = Page::open(arguments).await;
        let browser = &page.browser;
        let section = "#operations-messages-sendMessage";
        page.authorize().await;
        page.toggle(section).await;
        assert_eq!(page.execute(section).await, "201");

        let title = browser.page().title().await.unwrap();
        assert_eq!(title, "liveperson-bridge API");
        let dark = browser.count("html.dark-mode").await;
        assert_eq!(dark, usize::from(is_dark));
        assert_eq!(browser.low_contrast().await, Vec::<String>::new());
        assert_eq!(browser.errors().await, Vec::<String>::new());
        page.browser.close().await;
    }
}
