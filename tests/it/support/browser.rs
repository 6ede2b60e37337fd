//! A real headless browser that uses a page as people do: Chromium and its driver from the
//! distribution.

use std::process::Stdio;

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::{ParseError, Url};

use super::patience::eventually;

/// The text before the port in the driver's output.
const LISTENING: &str = "started successfully on port ";

/// Control (in `WebDriver` notation) and "a": the text that is typed next replaces the whole field.
const SELECT_ALL: &str = "\u{E009}a";

/// The Enter key.
pub(crate) const ENTER: &str = "\u{E007}";

/// A browser with one window of 1440 × 1000 pixels.
#[derive(Debug)]
pub(crate) struct Browser {
    page: Client,
    /// Kills the driver, and with it the browser, if a test ends before [`Browser::close`].
    _driver: Child,
}

impl Browser {
    /// Starts a browser that can reach only this machine, so that a page that loads foreign content
    /// fails.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a browser with additional arguments, such as `--force-dark-mode`.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let (driver, port) = start_driver().await;
        let default_arguments = [
            "--headless=new",
            // A container may neither create a sandbox of its own nor use much shared memory.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--lang=en",
            "--window-size=1440,1000",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        ];
        let arguments: Vec<_> = default_arguments.iter().chain(arguments).collect();
        let capabilities = [
            ("goog:chromeOptions", json!({"args": arguments})),
            ("goog:loggingPrefs", json!({"browser": "SEVERE"})),
        ];
        let capabilities = capabilities.map(|(name, value)| (name.to_owned(), value));
        let page = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.into_iter().collect())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium does not start; is it installed?");
        Self {
            page,
            _driver: driver,
        }
    }

    /// Returns the driver's own client, for rare functions.
    pub(crate) fn page(&self) -> &Client {
        &self.page
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.page.goto(url).await.unwrap();
    }

    /// Waits for a visible element, and returns it.
    pub(crate) async fn find(&self, css: &str) -> Element {
        eventually(css, async || {
            let element = self.page.find(Locator::Css(css)).await.ok()?;
            element.is_displayed().await.ok()?.then_some(element)
        })
        .await
    }

    /// Returns the current number of such elements, visible or not.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.page.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Returns the visible text of an element.
    pub(crate) async fn text(&self, css: &str) -> String {
        eventually(css, async || self.shown_text(css).await).await
    }

    /// Waits until an element's text contains this text.
    pub(crate) async fn shows(&self, css: &str, text: &str) {
        eventually(&format!("{css} shows {text:?}"), async || {
            self.shown_text(css).await?.contains(text).then_some(())
        })
        .await;
    }

    /// Waits until no such element is visible.
    pub(crate) async fn hides(&self, css: &str) {
        eventually(&format!("{css} disappears"), async || {
            for element in self.page.find_all(Locator::Css(css)).await.ok()? {
                if element.is_displayed().await.unwrap_or_default() {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Clicks an element as soon as it can be clicked.
    pub(crate) async fn click(&self, css: &str) {
        eventually(&format!("{css} is clicked"), async || {
            let element = self.page.find(Locator::Css(css)).await.ok()?;
            element.click().await.ok()
        })
        .await;
    }

    /// Replaces the text in a field, as if it was typed, as soon as the field accepts input.
    pub(crate) async fn write(&self, css: &str, text: &str) {
        self.press(css, SELECT_ALL).await;
        self.press(css, text).await;
    }

    /// Presses keys in an element, such as [`ENTER`], as soon as it accepts them.
    pub(crate) async fn press(&self, css: &str, keys: &str) {
        eventually(&format!("{css} accepts keys"), async || {
            let element = self.page.find(Locator::Css(css)).await.ok()?;
            element.send_keys(keys).await.ok()
        })
        .await;
    }

    /// Returns the visible texts of the page whose contrast is below that of WCAG 2, level AA.
    pub(crate) async fn low_contrast(&self) -> Vec<String> {
        let script = include_str!("contrast.js");
        let low = self.page.execute(script, Vec::new()).await.unwrap();
        serde_json::from_value(low).unwrap()
    }

    /// Returns the browser's errors since the last call: failed loads, violations of a page's
    /// policy, and script errors.
    pub(crate) async fn errors(&self) -> Vec<String> {
        let lines = self.page.issue_cmd(ReadLog).await.unwrap();
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Closes the browser.
    pub(crate) async fn close(self) {
        self.page.close().await.unwrap();
    }

    /// Returns an element's text. `None` if there is no such element, or if the page replaces it
    /// at that moment.
    async fn shown_text(&self, css: &str) -> Option<String> {
        self.page
            .find(Locator::Css(css))
            .await
            .ok()?
            .text()
            .await
            .ok()
    }
}

/// A non-standard command of the driver that returns the browser's log since the last call.
#[derive(Debug)]
struct ReadLog;

impl WebDriverCompatibleCommand for ReadLog {
    fn endpoint(&self, driver: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        driver.join(&format!("session/{session}/se/log"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body: Value = json!({"type": "browser"});
        (Method::POST, Some(body.to_string()))
    }
}

/// Starts a driver on a port of its own.
async fn start_driver() -> (Child, u16) {
    // A driver chooses a port by itself, and ends if another process has taken it meanwhile.
    for _ in 0..5 {
        if let Some(driver) = try_start_driver().await {
            return driver;
        }
    }
    panic!("chromedriver ended before it listened")
}

/// Starts a driver; `None` if it ends before it listens.
async fn try_start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver does not start; scripts/install installs it on Debian");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once(LISTENING) {
            let port = port.trim_end_matches('.').parse().unwrap();
            // Unread output would block the driver.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some((driver, port));
        }
    }
    None
}
