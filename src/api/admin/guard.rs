//! Refuses what pages of other sites ask of the admin address, which asks nobody who only looks for a key.
//!
//! | path | host name must be known | other sites' pages are refused |
//! | --- | --- | --- |
//! | `/livez`, `/readyz` | no: they tell nothing, and orchestrators call them by whatever name | yes |
//! | the operator's page | yes | no: a link to it may stand anywhere |
//! | its API, `/metrics` and all else | yes | yes |

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};

use super::page;
use crate::api::around::Next;
use crate::api::envelope::{AnonymousLog, Envelope};
use crate::api::problem::{Code, Problem};
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
    /// A guard that lets requests for these hosts pass.
    pub(super) fn new(hosts: HostNames, clock: SharedClock) -> Self {
        Self {
            hosts,
            clock,
            anonymous: AnonymousLog::default(),
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    ///
    /// The problem that it is answered with.
    fn check<B>(&self, request: &axum::http::Request<B>) -> Result<(), Problem> {
        let path = request.uri().path();
        let is_probe = matches!(path, "/livez" | "/readyz");
        if !is_probe && !self.knows_host_of(request) {
            let detail = "The admin address is called by an IP address, localhost, or one of admin_hosts in the configuration.";
            return Err(Problem::new(Code::MisdirectedRequest, detail));
        }
        let headers = request.headers();
        let sites = headers.get_all(SEC_FETCH_SITE).iter();
        let initiator = Initiator {
            origin: headers.get(ORIGIN).map(HeaderValue::as_bytes),
            host: headers.get(HOST).map(HeaderValue::as_bytes),
        };
        if !page::is_file(path) && is_cross_site(sites.map(HeaderValue::as_bytes), initiator) {
            let detail = "This serves the page of its own address, and programs, but no page of another site.";
            return Err(Problem::new(Code::CrossSite, detail));
        }
        Ok(())
    }

    /// True if the host is known by which the request calls, in its target as well as in its header.
    fn knows_host_of<B>(&self, request: &axum::http::Request<B>) -> bool {
        let target = request.uri().authority();
        let mut hosts = request.headers().get_all(HOST).iter();
        target.is_none_or(|authority| self.hosts.allow(authority.as_str()))
            && hosts.all(|host| host.to_str().is_ok_and(|host| self.hosts.allow(host)))
    }
}

/// The answer to a request that may pass, or the problem that refuses it.
pub(super) async fn guard(
    guard: Arc<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    match guard.check(&request) {
        Ok(()) => Ok(next.run(request).await),
        Err(problem) => {
            let envelope = Envelope::open(&mut request, &*guard.clock);
            Ok(envelope.seal_uncounted(problem.into_response(), &guard.anonymous))
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
    fn a_host_is_known_in_the_target_and_in_the_header() {
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
        // HTTP/1.0 has none, as some load balancers ask.
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
    fn pages_of_other_sites_may_link_to_the_page_alone() {
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
