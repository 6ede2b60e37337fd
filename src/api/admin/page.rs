//! The operator's page: files in the binary, which are served to a browser. The page gets its data
//! from the admin API.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;

use super::Admin;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Lists the files as path, media type and content.
macro_rules! files {
    ($($path:literal: $kind:ident = $file:literal,)+) => {
        [$(($path, $kind, include_str!(concat!("page/", $file))),)+]
    };
}

const FILES: [(&str, &str, &str); 17] = files! {
    "/": HTML = "index.html",
    "/operator/icon.svg": SVG = "icon.svg",
    "/operator/operator.css": CSS = "operator.css",
    "/operator/parts.css": CSS = "parts.css",
    "/operator/operator.js": JAVASCRIPT = "operator.js",
    "/operator/api.js": JAVASCRIPT = "api.js",
    "/operator/dom.js": JAVASCRIPT = "dom.js",
    "/operator/words.js": JAVASCRIPT = "words.js",
    "/operator/summary.js": JAVASCRIPT = "summary.js",
    "/operator/overview.js": JAVASCRIPT = "overview.js",
    "/operator/channels.js": JAVASCRIPT = "channels.js",
    "/operator/failures.js": JAVASCRIPT = "failures.js",
    "/operator/timeline.js": JAVASCRIPT = "timeline.js",
    "/operator/user.js": JAVASCRIPT = "user.js",
    "/operator/audit.js": JAVASCRIPT = "audit.js",
    "/operator/dialogs.js": JAVASCRIPT = "dialogs.js",
    "/operator/replay.js": JAVASCRIPT = "replay.js",
};

/// Adds the routes of the page's files.
pub(super) fn routes(router: Router<Admin>) -> Router<Admin> {
    FILES
        .into_iter()
        .fold(router, |router, (path, kind, text)| {
            let serve = move || async move { ([(CONTENT_TYPE, kind)], text).into_response() };
            router.route(path, get(serve))
        })
}

/// True if the page has a file at this path.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_refers_to_all_its_files_and_no_other_site() {
        let texts = FILES.map(|(_, _, text)| text).concat();

        for (path, _, text) in FILES {
            let name = path.rsplit('/').next().unwrap();
            assert!(
                path == "/" || texts.contains(&format!("/{name}\"")),
                "nothing refers to {path}"
            );
            assert!(text.lines().count() <= 250, "{path} is long");
            for elsewhere in ["http:", "https:", "\"//", "'//", "@import", "url("] {
                let known = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!known.contains(elsewhere), "{elsewhere} in {path}");
            }
        }
    }

    #[test]
    fn the_admin_page_cannot_turn_text_into_a_script() {
        for (path, kind, text) in FILES {
            for means in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "localStorage",
                "document.cookie",
            ] {
                assert!(!text.contains(means), "{means} in {path}");
            }
            if kind == HTML {
                for inline in [
                    "<style",
                    " style=",
                    " onclick",
                    " onsubmit",
                    "<script>",
                    "javascript:",
                ] {
                    assert!(!text.contains(inline), "{inline} in {path}");
                }
            }
        }
    }
}
