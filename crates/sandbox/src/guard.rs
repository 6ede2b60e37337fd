//! A guard that keeps pages of other sites away from the sandbox's page and control API, which need
//! no key.
//!
//! Programs such as curl are not affected. A link on another site to the control API works: the
//! person who follows it sees the answer, and the page with the link does not.

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Sandbox;
use super::refusal::Refusal;
use liveperson_bridge_web::cross_site::{Initiator, is_cross_site};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Passes a request on if no page of another site made it, and its host name is known.
pub(super) async fn guard(
    State(sandbox): State<Sandbox>,
    request: Request,
    next: Next,
) -> Response {
    match check(&sandbox, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(sandbox: &Sandbox, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let names = &sandbox.0.options.hosts;
    let mut hosts = headers.get_all(HOST).iter();
    let target = request.uri().authority();
    let is_known = target.is_none_or(|authority| names.allow(authority.as_str()))
        && hosts.all(|host| host.to_str().is_ok_and(|host| names.allow(host)));
    if !is_known {
        let complaint = "Host: expected an IP address, localhost, or a name that --host or SANDBOX_HOSTS gives the sandbox";
        return Err(Refusal::plain(StatusCode::MISDIRECTED_REQUEST, complaint));
    }
    let sites = headers.get_all(SEC_FETCH_SITE).iter();
    let initiator = Initiator {
        origin: headers.get(ORIGIN).map(HeaderValue::as_bytes),
        host: headers.get(HOST).map(HeaderValue::as_bytes),
    };
    let is_cross_site = is_cross_site(sites.map(HeaderValue::as_bytes), initiator);
    if is_cross_site && !(request.method().is_safe() && is_navigation(headers)) {
        let complaint = "the request came from a page of another site: expected the sandbox's own page, or a program";
        return Err(Refusal::plain(StatusCode::FORBIDDEN, complaint));
    }
    Ok(())
}

/// True if the browser requests a document to show in place of the present page.
fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name, value: &str| headers.get(name).is_some_and(|it| it == value);
    is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document")
}
