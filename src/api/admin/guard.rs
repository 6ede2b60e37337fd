//! The guard of the admin address, which refuses requests from pages of other sites. Reading needs
//! no key there, so such a page could otherwise use the address through an operator's browser.
//!
//! | path | host name must be known | requests from other sites' pages are refused |
//! | --- | --- | --- |
//! | `/livez`, `/readyz` | no: they reveal nothing, and orchestrators call them by any name | yes |
//! | the operator's page | yes | no: any site may link to it |
//! | its API, `/metrics` and all else | yes | yes |

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};

use super::page;
use crate::api::around::Next;
use crate::api::problem::{Code, Problem};
use crate::api::request_log::{AnonymousLog, RequestLog};
use crate::clock::SharedClock;
use crate::web::cross_site::{HostNames, Initiator, is_cross_site};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The guard of the admin address.
pub(super) struct Guard {
    hosts: HostNames,
    clock: SharedClock,
    anonymous: AnonymousLog,
}

impl Guard {
    /// Creates a guard that lets requests to these hosts pass.
    pub(super) fn new(hosts: HostNames, clock: SharedClock) -> Self {
        Self {
            hosts,
            clock,
            anonymous: AnonymousLog::default(),
        }
    }

    /// Checks the host and the origin of a request.
    ///
    /// # Errors
    ///
    /// The problem to answer the request with.
    fn check<B>(&self, request: &axum::http::Request<B>) -> Result<(), Problem> {
        let path = request.uri().path();
        let is_probe = matches!(path, "/livez" | "/readyz");
        if !is_probe && !self.has_known_host(request) {
            let detail = "Call the admin address by an IP address, localhost, or one of admin_hosts in the configuration.";
            return Err(Problem::new(Code::MisdirectedRequest, detail));
        }
        let headers = request.headers();
        let sites = headers.get_all(SEC_FETCH_SITE).iter();
        let initiator = Initiator {
            origin: headers.get(ORIGIN).map(HeaderValue::as_bytes),
            host: headers.get(HOST).map(HeaderValue::as_bytes),
        };
        if !page::is_file(path) && is_cross_site(sites.map(HeaderValue::as_bytes), initiator) {
            let detail = "Only the page at this address and programs may call this, not pages of other sites.";
            return Err(Problem::new(Code::CrossSite, detail));
        }
        Ok(())
    }

    /// True if the hosts in the request's target and in its `Host` header are known.
    fn has_known_host<B>(&self, request: &axum::http::Request<B>) -> bool {
        let target = request.uri().authority();
        let mut hosts = request.headers().get_all(HOST).iter();
        target.is_none_or(|authority| self.hosts.allow(authority.as_str()))
            && hosts.all(|host| host.to_str().is_ok_and(|host| self.hosts.allow(host)))
    }
}

/// Passes a request on, or answers it with the problem that the guard found.
pub(super) async fn guard(
    guard: Arc<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    match guard.check(&request) {
        Ok(()) => Ok(next.run(request).await),
        Err(problem) => {
            let log = RequestLog::open(&mut request, &*guard.clock);
            Ok(log.finish_uncounted(problem.into_response(), &guard.anonymous))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::clock::SystemClock;

    fn checked(target: &str, headers: &[(&str, &str)]) -> Result<(), Code> {
        let hosts = HostNames::new(["bridge-admin.internal".to_owned()]);
        let guard = Guard::new(hosts, Arc::new(SystemClock));
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let checked = guard.check(&request.body(()).unwrap());
        checked.map_err(|problem| problem.code())
    }

    #[test]
    fn an_unknown_host_is_refused_in_the_target_and_the_header() {
        for (target, host) in [
            ("/metrics", "127.0.0.1:9090"),
            ("/metrics", "bridge-admin.internal"),
            ("http://127.0.0.1:9090/metrics", "127.0.0.1:9090"),
            ("/readyz", "evil.example"),
            ("/livez", "evil.example"),
        ] {
            assert_eq!(
                checked(target, &[("host", host)]),
                Ok(()),
                "{target} {host}"
            );
        }
        // HTTP/1.0 has no `Host` header, and some load balancers use it.
        assert_eq!(checked("/metrics", &[]), Ok(()));
        for (target, host) in [
            ("/metrics", "evil.example"),
            ("/", "evil.example:9090"),
            ("/operator/api.js", "evil"),
            ("/api/overview", "evil"),
            ("/nothing", "evil"),
            ("http://evil.example/metrics", "127.0.0.1:9090"),
            ("http://127.0.0.1:9090/metrics", "evil.example"),
        ] {
            let refused = Err(Code::MisdirectedRequest);
            assert_eq!(
                checked(target, &[("host", host)]),
                refused,
                "{target} {host}"
            );
        }
    }

    #[test]
    fn cross_site_requests_may_fetch_only_the_admin_page() {
        for path in ["/", "/operator/operator.js"] {
            assert_eq!(checked(path, &[("sec-fetch-site", "cross-site")]), Ok(()));
        }
        for path in ["/livez", "/readyz", "/metrics", "/api/audit", "/api", "/x"] {
            for other in [
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-site", "same-site"),
                ("origin", "http://evil.example"),
            ] {
                assert_eq!(checked(path, &[other]), Err(Code::CrossSite), "{path}");
            }
            assert_eq!(checked(path, &[("sec-fetch-site", "same-origin")]), Ok(()));
        }
    }
}
