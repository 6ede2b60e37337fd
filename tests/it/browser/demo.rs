//! The page of `demo` and `sandbox`: both sides of a conversation, played in a browser.

mod accessibility;
mod faults;
mod layout;
mod tour;

use std::path::{Path, PathBuf};

use fantoccini::Locator;
use jsonwebtoken::{EncodingKey, Header, encode};
use liveperson_bridge::store::Location;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER};
use crate::support::channel::{Channel, send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET};
use crate::support::configuration::bridge_toml;
use crate::support::demo::Demo;
use crate::support::patience::eventually;
use crate::support::process::{Process, command};

/// The log on the user's phone.
const PHONE: &str = "#user-log";

/// The log on the agent's desk.
const DESK: &str = "#agent-log";

/// A demo, and a browser that shows its page.
struct Stage {
    demo: Demo,
    browser: Browser,
    page: String,
}

impl Stage {
    async fn start() -> Self {
        let demo = Demo::start().await;
        let browser = Browser::start().await;
        let page = demo.address("Simulated Cloud").await;
        browser.open(&page).await;
        browser.shows("#user-state", "No conversation yet").await;
        Self {
            demo,
            browser,
            page,
        }
    }

    /// Starts a stage with the scripted agent switched off.
    async fn start_without_script() -> Self {
        let stage = Self::start().await;
        stage.is_checked("#script", true).await;
        stage.browser.click("#script").await;
        stage.is_checked("#script", false).await;
        stage
    }

    async fn is_checked(&self, css: &str, checked: bool) {
        eventually(&format!("{css} is checked: {checked}"), async || {
            let element = self.browser.page().find(Locator::Css(css)).await.ok()?;
            (element.is_selected().await.ok()? == checked).then_some(())
        })
        .await;
    }

    async fn user_writes(&self, text: &str) {
        self.browser.write("#user-text", text).await;
        self.browser.press("#user-text", ENTER).await;
    }

    async fn agent_writes(&self, text: &str) {
        self.browser.write("#agent-text", text).await;
        self.browser.click("#agent-send").await;
    }

    /// Waits until a script returns true. `css` is its first argument.
    async fn is_true(&self, script: &str, css: &str) {
        eventually(&format!("{css}: {script}"), async || {
            let page = self.browser.page();
            let answer = page.execute(script, vec![css.into()]).await;
            (answer.ok()? == json!(true)).then_some(())
        })
        .await;
    }

    /// Waits until the phone has reported that the user has stopped typing.
    async fn typing_ends(&self) {
        let cloud = Channel::new(&self.page, "none");
        eventually("the end of typing", async || {
            let wire = cloud.request(Method::GET, "/_sandbox/wire");
            let shown = send(wire.header("accept", "application/json")).await;
            let body = shown.expect(200);
            let mut entries = body["entries"].as_array()?.iter();
            let ends = |entry: &Value| entry["request"]["body"] == r#"{"state":"pause"}"#;
            entries.any(ends).then_some(())
        })
        .await;
    }

    /// Waits until the user's latest message has this state.
    async fn latest_of_user_is(&self, state: &str) {
        let css = format!("{PHONE} [data-state={state}]:nth-last-child(1 of .mine)");
        self.browser.find(&css).await;
    }

    /// Waits until the agent sees the latest message as read. After that the phone has no receipt
    /// left to send, which the Cloud would refuse in a closed dialog.
    async fn latest_of_agent_is_read(&self) {
        let css = format!("{DESK} [data-state=read]:nth-last-child(1 of .mine)");
        self.browser.find(&css).await;
    }

    /// Waits until the element shows this number of pictures, all of them loaded.
    async fn shows_pictures(&self, css: &str, count: usize) {
        const SCRIPT: &str = "return [...document.querySelectorAll(arguments[0] + ' img')].map((image) => image.naturalWidth)";
        eventually(&format!("{count} pictures in {css}"), async || {
            let answer = self
                .browser
                .page()
                .execute(SCRIPT, vec![css.into()])
                .await
                .ok()?;
            let widths: Vec<u32> = serde_json::from_value(answer).ok()?;
            (widths.len() == count && widths.iter().all(|width| *width > 0)).then_some(())
        })
        .await;
    }

    /// Waits until the page shows these counts and the verdict that nothing is lost.
    async fn nothing_is_lost(&self, of_user: &str, of_agent: &str) {
        for (count, expected) in [
            ("written", of_user),
            ("at-cloud", of_user),
            ("of-agent", of_agent),
            ("arrived", of_agent),
        ] {
            let css = format!("#tally-{count}");
            eventually(&format!("{css} is {expected}"), async || {
                (self.browser.text(&css).await == expected).then_some(())
            })
            .await;
        }
        let browser = &self.browser;
        browser
            .shows("#tally-verdict", "Nothing lost, nothing doubled.")
            .await;
    }

    /// Ends the test. The browser may complain only about typing indicators that failed during a
    /// fault.
    async fn end(self) {
        let mut errors = self.browser.errors().await;
        errors.retain(|error| !(error.contains("/typing - ") && error.contains("status of 50")));
        assert_eq!(errors, Vec::<String>::new());
        self.browser.close().await;
        drop(self.demo);
    }
}

fn picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/sandbox/src/agent/picture.png")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scripted_agent_answers_and_the_page_lists_the_requests() {
    let stage = Stage::start().await;
    let browser = &stage.browser;

    stage.user_writes("Hello <b>there</b>").await;

    browser.shows(PHONE, "You said: Hello <b>there</b>").await;
    browser.shows(PHONE, "joined").await;
    browser.shows(DESK, "You said: Hello <b>there</b>").await;
    stage.latest_of_user_is("read").await;
    browser
        .find(&format!("{DESK} .mine[data-state=read]"))
        .await;
    stage.nothing_is_lost("1", "1").await;
    assert_eq!(
        browser.count(".words b").await,
        0,
        "it is rendered as markup"
    );
    for kind in ["api", "cloud", "notification", "event"] {
        browser.find(&format!("#wire-rows .entry-{kind}")).await;
    }

    let sent = "#wire-rows [data-path='/v1/users/alice/messages'][data-status='201']";
    browser.click(&format!("{sent} summary")).await;
    browser
        .shows(
            &format!("{sent} .exchange"),
            r#""text": "Hello <b>there</b>""#,
        )
        .await;
    browser.click(&format!("{sent} [data-action=curl]")).await;
    let line = browser.find(&format!("{sent} .curl")).await;
    let line = line.prop("value").await.unwrap().unwrap();
    assert!(line.contains("Bearer '\"$TOKEN\""), "{line}");
    browser.shows(&format!("{sent} [role=status]"), "Cop").await;
    browser.click("#wire-api").await;
    browser.hides("#wire-rows .entry-api").await;
    browser.find("#wire-rows .entry-cloud").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_plays_the_agent_with_the_script_switched_off() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;

    stage.user_writes("Is anybody there?").await;
    browser.shows(DESK, "Is anybody there?").await;
    stage.latest_of_user_is("sent").await;
    browser.write("#agent-text", "I a").await;
    browser.shows("#user-typing", "is typing").await;
    stage.agent_writes("I am").await;
    browser.shows(PHONE, "I am").await;
    browser.hides("#user-typing").await;
    stage.latest_of_user_is("read").await;
    browser.write("#user-text", "So").await;
    browser.shows("#agent-typing", "is typing").await;
    browser.click("#agent-private").await;
    stage.agent_writes("He is quick").await;
    browser
        .shows(&format!("{DESK} .private"), "He is quick")
        .await;
    stage.user_writes("So I see").await;
    browser.shows(DESK, "So I see").await;
    browser.hides("#agent-typing").await;

    // A reloaded page shows all messages again, but not the private one.
    browser.open(&stage.page).await;
    browser.shows(PHONE, "So I see").await;
    for text in ["Is anybody there?", "I am"] {
        browser.shows(PHONE, text).await;
    }
    assert!(!browser.text(PHONE).await.contains("He is quick"));
    stage.nothing_is_lost("2", "1").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_exchanged_in_both_directions() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    let path = picture().to_str().unwrap().to_owned();

    browser.write("#user-text", "What I see").await;
    browser.press("#user-file", path.as_str()).await;
    stage.shows_pictures(DESK, 1).await;
    browser.shows(DESK, "What I see").await;
    browser.press("#agent-file", path.as_str()).await;
    stage.shows_pictures(PHONE, 2).await;

    browser.shows(PHONE, "picture.png").await;
    stage.nothing_is_lost("1", "1").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_answers_with_buttons_and_rates_the_closed_conversation() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("I am thirsty").await;
    browser.shows(DESK, "I am thirsty").await;

    browser.write("#agent-choices", "Coffee, Tea").await;
    stage.agent_writes("What would you like?").await;
    browser.click(&format!("{PHONE} [data-choice=Tea]")).await;
    browser
        .shows(&format!("{DESK} :nth-last-child(1 of .theirs)"), "Tea")
        .await;
    browser
        .find(&format!("{PHONE} [data-choice=Coffee]:disabled"))
        .await;
    browser.click("#agent-card").await;
    browser
        .shows(&format!("{PHONE} .card"), "Running shoes")
        .await;
    browser.click(&format!("{PHONE} [data-choice=Order]")).await;
    browser.shows(DESK, "I would like to order the shoes").await;
    stage.latest_of_agent_is_read().await;
    browser.hides("#user-close-survey").await;
    browser.hides("#agent-close-main").await;
    browser.click("#user-close").await;
    browser.shows(PHONE, "You closed the conversation").await;
    browser
        .find(&format!("{PHONE} [data-choice=Order]:disabled"))
        .await;
    browser.click("#rating input[name=csat][value='4']").await;
    browser.click("#rating input[name=fcr][value=yes]").await;
    browser.click("#rating-send").await;

    browser.hides("#rating").await;
    browser.shows(PHONE, "Thank you for your rating").await;
    browser.shows("#desk-state", "closed by consumer").await;
    browser.shows("#facts", "4 of 5, resolved").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_follows_a_conversation_that_allows_one() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;

    browser.click("#user-open").await;
    browser.write("#opening-first", "Alice").await;
    browser.write("#opening-type", "gold").await;
    browser.write("#opening-skill", "4711").await;
    browser.click("#opening-survey").await;
    browser.click("#opening-submit").await;
    browser.shows("#user-state", "Waiting for an agent").await;
    browser.shows("#desk-title", "Alice").await;
    for fact in ["gold", "4711", "MULTI_DIALOG"] {
        browser.shows("#facts", fact).await;
    }
    browser.find("#user-close-survey").await;
    stage.agent_writes("Hello Alice").await;
    browser.shows(PHONE, "Hello Alice").await;
    stage.latest_of_agent_is_read().await;
    browser.write("#agent-skill", "4712").await;
    browser.click("#agent-transfer").await;
    browser.shows(PHONE, "You are being transferred").await;
    browser.shows(DESK, "Transferred to skill 4712").await;
    browser.click("#agent-join").await;
    browser.shows("#user-state", "With").await;
    browser.click("#agent-close-main").await;
    browser.shows(PHONE, "A survey follows").await;
    browser.click("#survey-ask").await;
    browser
        .click(&format!("{PHONE} [data-role=bot] [data-choice=Yes]"))
        .await;
    browser
        .shows(&format!("{DESK} :nth-last-child(1 of .theirs)"), "Yes")
        .await;
    stage.latest_of_agent_is_read().await;
    browser.click("#survey-end").await;

    browser
        .shows(PHONE, "The agent closed the conversation")
        .await;
    browser.find("#rating").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_sees_only_their_own_conversation() {
    let stage = Stage::start().await;
    let browser = &stage.browser;
    stage.user_writes("I am alice").await;
    browser.shows(PHONE, "You said: I am alice").await;

    browser.write("#user-name", "bob/λ").await;
    browser.click("#user-switch").await;
    browser.shows("#user-state", "No conversation yet").await;
    stage.user_writes("I am another").await;

    browser.shows(PHONE, "You said: I am another").await;
    assert!(!browser.text(PHONE).await.contains("alice"));
    browser.shows("#conversations", "demo:bob/λ").await;
    browser.find("#conversations .unread").await;
    stage.nothing_is_lost("1", "1").await;

    // A reloaded page knows which messages were seen.
    browser.click("#conversations .conversation").await;
    browser.hides("#conversations .unread").await;
    browser
        .click("#conversations li:last-child .conversation")
        .await;
    browser.open(&stage.page).await;
    browser.shows("#conversations", "demo:bob/λ").await;
    browser.hides("#conversations .unread").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_shows_the_reason_and_is_not_offered_again() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    let placeholder = "#user-text[placeholder='Write as the user']";
    browser.find(placeholder).await;
    stage.user_writes("Hello").await;
    browser.shows(DESK, "Hello").await;

    browser.write("#user-text", "long").await;
    browser.shows("#agent-typing", "is typing").await;
    // Key by key, such a long text would take longer than the typing is shown.
    let lengthen = "document.getElementById('user-text').value = 'long '.repeat(1100);";
    browser.page().execute(lengthen, vec![]).await.unwrap();
    browser.press("#user-text", ENTER).await;

    let failed = format!("{PHONE} [data-state=failed]");
    browser.shows(&failed, "at most 5000 characters").await;
    assert_eq!(browser.count(&format!("{failed} button")).await, 0);
    stage.typing_ends().await;
    browser.hides("#agent-typing").await;
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE");
    browser.press("#user-file", text.to_str().unwrap()).await;
    let refused = format!("{PHONE} :nth-last-child(1 of .mine)");
    browser
        .shows(&refused, "allowed types: JPG, PNG, GIF")
        .await;
    assert_eq!(browser.count(&format!("{refused} button")).await, 0);
    let errors = browser.errors().await;
    assert!(errors[0].contains("status of 422"), "{errors:?}");
    assert!(errors[1].contains("status of 415"), "{errors:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_without_a_bridge_explains_the_bridge_url_option() {
    let sandbox = Process::start(command(&["sandbox", "--listen", "127.0.0.1:0", "--agent"]));
    let line = sandbox.output_line("listens on").await;
    let page = line.split_whitespace().last().unwrap();
    let browser = Browser::start().await;

    browser.open(page).await;

    browser.shows("#connect-none", "--bridge-url").await;
    browser
        .shows("#connect-origin", &format!("cors_origins = [\"{page}\"]"))
        .await;
    browser.hides("#phone").await;
    browser.hides("#tour-start").await;
    browser.find("#script:checked").await;
    browser.click("#fault-lost").await;
    browser.shows("[data-fault=lost]", "1 more time").await;
    assert_eq!(browser.errors().await, Vec::<String>::new());
    browser.close().await;
}

/// The key of the tokens of channel `page`.
const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Returns a token of the user `zoe` of channel `page`.
fn token(key: &str) -> String {
    use liveperson_bridge::clock::{Clock as _, SystemClock};
    let in_an_hour = SystemClock.now().timestamp() + 3600;
    let claims = json!({"iss": "page", "user": "zoe", "exp": in_an_hour});
    let key = EncodingKey::from_secret(key.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

/// Returns the configuration of a bridge on this port. CORS of its channel `page` allows this
/// sandbox.
fn with_page(location: &Location, sandbox: &str, port: u16) -> String {
    let toml = bridge_toml(location, sandbox);
    let listening = format!("\nlisten = \"127.0.0.1:{port}\"");
    let toml = toml.replacen("\nlisten = \"127.0.0.1:0\"", &listening, 1);
    format!(
        r#"{toml}
[[channels]]
id = "page"
account_id = "{ACCOUNT}"
jwt = {{algorithm = "HS256", key = "{TOKEN_KEY}"}}
cors_origins = ["{sandbox}"]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_separate_bridge_asks_for_a_token() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let bridge = format!("--bridge-url=http://127.0.0.1:{port}");
    let sandbox = Process::start(command(&[
        "sandbox",
        "--listen=127.0.0.1:0",
        "--agent",
        bridge.as_str(),
    ]));
    let line = sandbox.output_line("listens on").await;
    let page = line.split_whitespace().last().unwrap();
    let browser = Browser::start().await;
    browser.open(page).await;

    browser.write("#token", "no token").await;
    browser.click("#token-form button").await;
    browser.shows("#token-error", "not a user token").await;
    browser.write("#token", &token(TOKEN_KEY)).await;
    browser.click("#token-form button").await;
    browser
        .shows("#user-error", "The bridge does not answer")
        .await;

    let folder = tempfile::tempdir().unwrap();
    let location = Location::Embedded {
        data_dir: folder.path().to_owned(),
    };
    let (_bridge, _, _) = Process::serve(&with_page(&location, page, port)).await;
    let webhook = json!({"account_id": ACCOUNT, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        "url": format!("http://127.0.0.1:{port}/webhooks/{ACCOUNT}")});
    let cloud = Channel::new(page, "none");
    let subscribed = cloud.put("/_sandbox/webhooks", webhook).await;
    assert_eq!(subscribed.status, 204);
    browser.hides("#user-error").await;
    browser.errors().await;
    browser.write("#user-text", "Hello").await;
    browser.press("#user-text", ENTER).await;

    browser.shows(PHONE, "You said: Hello").await;
    browser.shows("#conversations", "page:zoe").await;
    browser.shows("#tally-verdict", "Nothing lost").await;
    assert_eq!(browser.errors().await, Vec::<String>::new());

    // The tab stores the token until the user chooses to forget it.
    browser.open(page).await;
    browser.shows(PHONE, "You said: Hello").await;
    browser.click("#user-token-forget").await;
    browser
        .write("#token", &token("another key of more than 32 bytes"))
        .await;
    browser.click("#token-form button").await;
    browser
        .shows("#user-error", "Invalid API key or token")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_starts_a_conversation_with_a_user_who_has_none_open() {
    let stage = Stage::start_without_script().await;
    let browser = &stage.browser;
    stage.user_writes("Where is my parcel?").await;
    stage.agent_writes("On its way").await;
    stage.latest_of_agent_is_read().await;
    // The form is hidden while a conversation is open.
    browser.hides("#agent-start").await;
    browser.click("#agent-close").await;
    browser
        .shows(PHONE, "The agent closed the conversation")
        .await;

    browser.write("#agent-start-text", "It is here").await;
    browser.click("#agent-start-send").await;

    browser.shows("#desk-state", "open").await;
    browser.shows(DESK, "It is here").await;
    browser.hides("#agent-start").await;
    browser.shows(PHONE, "It is here").await;
    browser.shows("#user-state", "With").await;
    stage.user_writes("Thank you").await;
    browser.shows(DESK, "Thank you").await;
    stage.nothing_is_lost("2", "2").await;
    stage.end().await;
}
