//! The event reader from docs/events.md, run in a page.

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::browser::Browser;
use crate::support::configuration::SMS_KEY;
use crate::support::database::Engine;
use crate::support::events::append_texts;
use crate::support::patience::eventually;
use crate::support::wire::Wire;

/// Returns the first piece of JavaScript in the manual.
fn reader() -> &'static str {
    let manual = include_str!("../../../docs/events.md");
    let (_, begun) = manual.split_once("```js\n").unwrap();
    begun.split_once("```").unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manuals_event_reader_resumes_after_its_last_event() {
    let app = TestApp::start(Engine::Sqlite).await;
    let wire = Wire::to(&[app.sms.address()]).await;
    let browser = Browser::start().await;
    browser
        .open(&format!("http://{}/docs/", wire.address()))
        .await;
    let script = format!(
        "{}; window.texts = [];
         follow('/v1/events', () => '{SMS_KEY}', (type, event) => {{ texts.push(`${{type}}: ${{event.data.text}}`); }});",
        reader()
    );
    browser.page().execute(&script, vec![]).await.unwrap();

    let mut expected = Vec::new();
    for text in ["one", "two", "three"] {
        append_texts(&app, "sms", &[text]).await;
        expected.push(format!("message.created: {text}"));
        eventually(text, async || {
            let texts = browser.page().execute("return texts", vec![]).await;
            (texts.unwrap() == json!(expected)).then_some(())
        })
        .await;
        wire.cut();
    }

    browser.close().await;
}
