//! The sandbox's page in a browser, on which one person plays both sides of a conversation.
//!
//! Its files use plain web standards and are compiled in from `page/`. There is one file per part,
//! and `page.js` combines them. The page loads nothing from elsewhere and calls only the sandbox
//! and its bridge. Its content security policy allows no more.

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Sandbox;
use super::refusal::Refusal;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Includes files of the folder in the program under their own names.
macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(File { name: $name, kind: $kind, content: include_str!(concat!("page/", $name)) }),*]
    };
}

/// The files of the page besides its HTML.
pub(super) const FILES: &[File] = files![
    "page.css": CSS,
    "chat.css": CSS,
    "tour.css": CSS,
    "wire.css": CSS,
    "agent.js": JAVASCRIPT,
    "bubble.js": JAVASCRIPT,
    "card.js": JAVASCRIPT,
    "cloud.js": JAVASCRIPT,
    "composer.js": JAVASCRIPT,
    "desk.js": JAVASCRIPT,
    "dom.js": JAVASCRIPT,
    "exchange.js": JAVASCRIPT,
    "api.js": JAVASCRIPT,
    "faults.js": JAVASCRIPT,
    "names.js": JAVASCRIPT,
    "opening.js": JAVASCRIPT,
    "page.js": JAVASCRIPT,
    "rating.js": JAVASCRIPT,
    "receipts.js": JAVASCRIPT,
    "steps.js": JAVASCRIPT,
    "stream.js": JAVASCRIPT,
    "tally.js": JAVASCRIPT,
    "thread.js": JAVASCRIPT,
    "tour.js": JAVASCRIPT,
    "typing.js": JAVASCRIPT,
    "user.js": JAVASCRIPT,
    "wire.js": JAVASCRIPT,
];

/// The HTML of the page.
pub(super) const INDEX: &File = &File {
    name: "index.html",
    kind: HTML,
    content: include_str!("page/index.html"),
};

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    /// The media type.
    pub(super) kind: &'static str,
    pub(super) content: &'static str,
}

pub(super) fn router() -> Router<Sandbox> {
    Router::new()
        .route(
            "/",
            get(async |State(sandbox): State<Sandbox>| serve(&sandbox, INDEX)),
        )
        .route("/_sandbox/page/settings", get(settings))
        .route("/_sandbox/page/{name}", get(file))
}

async fn file(
    State(sandbox): State<Sandbox>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let file = FILES.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| {
        let complaint = format!("the page has no file `{name}`");
        Refusal::plain(StatusCode::NOT_FOUND, complaint)
    })?;
    Ok(serve(&sandbox, file))
}

fn serve(sandbox: &Sandbox, file: &File) -> Response {
    let headers: [(HeaderName, String); 5] = [
        (header::CONTENT_TYPE, file.kind.to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy(sandbox)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        // The browser must not use cached files of this version with another version of the
        // program.
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, file.content).into_response()
}

/// Returns the content security policy: the page may run and show files from here, and call the
/// bridge.
fn policy(sandbox: &Sandbox) -> String {
    let bridge = &sandbox.0.options.stage.bridge;
    let bridge = bridge.as_ref().map(|bridge| {
        // With a path, the policy would allow only that exact path.
        format!(" {}", bridge.url.origin().ascii_serialization())
    });
    let bridge = bridge.unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
         connect-src 'self'{bridge}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Answers with the page's mode and the bridge that it calls.
async fn settings(State(sandbox): State<Sandbox>) -> Json<Value> {
    let stage = &sandbox.0.options.stage;
    let demo = stage.demo.as_ref();
    let bridge = stage.bridge.as_ref().map(|bridge| {
        json!({
            "url": bridge.base(),
            "channel": demo.map(|demo| &demo.channel),
            "mints_tokens": demo.is_some(),
        })
    });
    let mode = if demo.is_some() { "demo" } else { "sandbox" };
    Json(json!({"mode": mode, "bridge": bridge}))
}
