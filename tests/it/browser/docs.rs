//! `/docs`: the whole API in a browser, and its "Try it out" against the demo.

use crate::support::browser::Browser;
use crate::support::demo::Demo;

/// The section of the page about sending a text.
const SENDING: &str = "#operations-messages-sendMessage";

#[tokio::test(flavor = "multi_thread")]
async fn try_it_out_in_the_documentation_sends_a_message() {
    let demo = Demo::start().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/docs/", demo.api)).await;

    browser.click(".auth-wrapper .authorize").await;
    browser.write(".auth-container input", "demo-key").await;
    browser.click(".auth-container button[type=submit]").await;
    browser.click(".auth-container .btn-done").await;
    browser
        .click(&format!("{SENDING} .opblock-summary-control"))
        .await;
    let user = format!("{SENDING} [data-param-name=user_id] input");
    browser.write(&user, "alice").await;
    browser
        .write(
            &format!("{SENDING} textarea"),
            r#"{"text": "From the documentation"}"#,
        )
        .await;
    browser.click(&format!("{SENDING} .execute")).await;

    let answer = format!("{SENDING} .live-responses-table .response");
    browser.shows(&answer, "201").await;
    browser.shows(&answer, r#""user_id": "alice""#).await;
    assert_eq!(browser.errors().await, Vec::<String>::new());
    browser.close().await;
}
