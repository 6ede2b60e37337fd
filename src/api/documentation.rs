//! The OpenAPI document, by itself and in a browser, from files within the binary alone.
//!
//! Nobody needs a key for these, and whoever does not read them may be many. So a file is never
//! copied for a request: all responses share its bytes.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi as Document;
use utoipa_swagger_ui::{self as swagger, Config};

use super::problem::{Code, Problem};

/// `/openapi.json`, and `/docs`, where a browser shows it.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &Document) -> Router<S> {
    // It has text keys alone, and serializing fails for others.
    let json = Bytes::from(document.to_json().unwrap_or_default());
    let config = Config::new(["/openapi.json"])
        // Else the page asks a validator on the internet for a badge.
        .validator_url("none")
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

/// A file of the page.
fn page_file(path: &str, config: Arc<Config<'static>>) -> Response {
    let Ok(Some(file)) = swagger::serve(path, config) else {
        return Problem::new(Code::NotFound, "There is nothing at this path.").into_response();
    };
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        // The one file that the configuration is written into, some hundred bytes.
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let mut response = ([(CONTENT_TYPE, file.content_type)], bytes).into_response();
    if file.gzpipped {
        let gzip = axum::http::HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    response
}
