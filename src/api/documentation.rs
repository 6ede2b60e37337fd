//! The OpenAPI document, and a page that shows it: Swagger UI with its own frame and colors. Both
//! are in the binary.
//!
//! Neither needs a key, so any number of clients may request them and read the responses slowly or
//! not at all. Therefore no file is copied for a request: all responses share its bytes.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi as Document;
use utoipa_swagger_ui::{self as swagger, Config, SyntaxHighlight};

use super::problem::{Code, Problem};

/// The page's own files: path, media type and content. Each takes precedence over a file of Swagger
/// UI with the same path.
const FILES: [(&str, &str, &str); 3] = [
    (
        "index.html",
        "text/html; charset=utf-8",
        include_str!("documentation/index.html"),
    ),
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("documentation/page.css"),
    ),
    (
        "color-scheme.js",
        "text/javascript; charset=utf-8",
        include_str!("documentation/color-scheme.js"),
    ),
];

/// Adds `/openapi.json`, and `/docs`, which shows it in a browser.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &Document) -> Router<S> {
    // All map keys in the document are strings, and serializing fails only for others.
    let json = Bytes::from(document.to_json().unwrap_or_default());
    let config = Config::new(["/openapi.json"])
        // Otherwise the page requests a badge from a validator on the internet.
        .validator_url("none")
        // The other layout has a field for the URL of any document.
        .use_base_layout()
        // The numbers of the default theme have too little contrast.
        .with_syntax_highlight(SyntaxHighlight::default().theme("obsidian"))
        .try_it_out_enabled(true);
    let config = Arc::new(config);
    let file = move |path: Option<Path<String>>| {
        let path = path.map_or_else(String::new, |Path(path)| path);
        let config = Arc::clone(&config);
        async move { page_file(&path, config) }
    };
    Router::new()
        .route(
            "/openapi.json",
            get(async move || ([(CONTENT_TYPE, "application/json")], json)),
        )
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route("/docs/", get(file.clone()))
        .route("/docs/{*file}", get(file))
}

/// Answers a request for a file of the page.
fn page_file(path: &str, config: Arc<Config<'static>>) -> Response {
    let path = if path.is_empty() { "index.html" } else { path };
    if let Some((_, kind, text)) = FILES.into_iter().find(|(file, ..)| *file == path) {
        return ([(CONTENT_TYPE, kind)], text).into_response();
    }
    let Ok(Some(file)) = swagger::serve(path, config) else {
        return Problem::new(Code::NotFound, "There is nothing at this path.").into_response();
    };
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        // The one file with the configuration in it, a few hundred bytes.
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let mut response = ([(CONTENT_TYPE, file.content_type)], bytes).into_response();
    if file.gzpipped {
        let gzip = axum::http::HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    response
}
