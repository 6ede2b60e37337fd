//! Protocol errors: requests that violate HTTP itself. Each is answered with a problem before it is
//! routed.
//!
//! The service never sees a request whose head cannot be read. The HTTP server answers it with a
//! bare status, and `app/refusals.rs` completes that response with the help of this module.

use std::net::Ipv6Addr;

use axum::http::header::HOST;
use axum::http::{HeaderMap, Method, Request, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};

use super::problem::{Code, Problem};
use super::request_log::{AnonymousLog, RequestLog};
use crate::clock::SharedClock;
use crate::telemetry::metrics::Metrics;
use crate::types::links;

/// 128 KiB: the limit on the head of a request. Common proxies accept a third of it, and the
/// longest valid path fits.
pub const MAX_HEAD_BYTES: usize = 128 * 1024;

/// The handler of protocol errors of one address. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ProtocolErrors {
    clock: SharedClock,
    /// The metrics that count the responses; `None` for the admin address.
    metrics: Option<Metrics>,
    anonymous: AnonymousLog,
}

impl ProtocolErrors {
    /// Creates the handler for the address that channels call.
    #[must_use]
    pub fn of_channels(clock: SharedClock, metrics: Metrics) -> Self {
        Self {
            clock,
            metrics: Some(metrics),
            anonymous: AnonymousLog::default(),
        }
    }

    /// Creates the handler for the admin address.
    #[must_use]
    pub fn of_operators(clock: SharedClock) -> Self {
        Self {
            clock,
            metrics: None,
            anonymous: AnonymousLog::default(),
        }
    }

    /// Answers a request that must not be processed; `None` for a valid one.
    pub fn refuse<B>(&self, request: &mut Request<B>) -> Option<Response> {
        let problem = check_host(request.version(), request.headers()).err()?;
        Some(self.answer(request, problem))
    }

    /// Answers a request whose head the server could not read, given the status that the server
    /// chose.
    #[must_use]
    pub fn answer_unread(&self, status: StatusCode) -> Response {
        let problem = match status {
            // The limit of `http::Uri`.
            StatusCode::URI_TOO_LONG => Problem::new(
                Code::UriTooLong,
                "The path and query of a request may have at most 65534 bytes.",
            ),
            // 100 is hyper's default.
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::new(
                Code::HeadersTooLarge,
                format!(
                    "The head of a request may have at most 100 fields and {MAX_HEAD_BYTES} bytes."
                ),
            ),
            _ => Problem::new(
                Code::MalformedRequest,
                "The head of the request cannot be read as HTTP.",
            ),
        };
        let mut request = Request::new(());
        // The name that OpenTelemetry has for an unknown method.
        *request.method_mut() = Method::from_bytes(b"_OTHER").unwrap_or_default();
        self.answer(&mut request, problem)
    }

    fn answer<B>(&self, request: &mut Request<B>, problem: Problem) -> Response {
        let log = RequestLog::open(request, &*self.clock);
        let answer = problem.into_response();
        match &self.metrics {
            Some(metrics) => log.finish(answer, metrics, &self.anonymous),
            None => log.finish_uncounted(answer, &self.anonymous),
        }
    }
}

/// Refuses a request without exactly one valid host (RFC 9112, section 3.2), because a proxy and
/// the service could each read a different one. HTTP/1.0 may leave it out.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let detail = match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => "Expected the header Host.",
        (Some(_), Some(_)) => "Expected the header Host once.",
        (Some(host), None) if !is_host(host.as_bytes()) => {
            "The header Host: expected a host and an optional port."
        }
        _ => return Ok(()),
    };
    Err(Problem::new(Code::MalformedRequest, detail))
}

/// True for a host with an optional port (RFC 9110, section 7.2), and for an empty value, which is
/// correct for a target without an authority.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else {
        return false;
    };
    let address = text
        .strip_prefix('[')
        .and_then(|after| after.split_once(']'));
    let (is_host, port) = if let Some((address, port)) = address {
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_registered_name(name), port)
    };
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_number))
}

/// True for a `reg-name` (RFC 3986, section 3.2.2). An IPv4 address is one too.
fn is_registered_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    text.bytes().all(is_allowed) && links::is_percent_encoded(text)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_address_with_an_optional_port() {
        for good in [
            "",
            "bridge",
            "bridge.example.com:8080",
            "my_service:80",
            "127.0.0.1",
            "127.0.0.1:",
            "[::1]",
            "[::1]:8080",
            "xn--zo-hka.example",
            "a%41",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "a?b", "a#b", "user@a", "a:b", "a:80:80", "http://a", "zoë", "[::1",
            ":80:", "[::1]x", "[a]", "a%zz", "\u{1}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        assert!(!is_host(b"\xff"));
    }

    #[test]
    fn http_1_1_has_one_host_and_http_1_0_one_at_most() {
        let check = |version, hosts: &[&'static str]| {
            let hosts = hosts
                .iter()
                .map(|host| (HOST, HeaderValue::from_static(host)));
            let mut headers = HeaderMap::new();
            for (name, host) in hosts {
                headers.append(name, host);
            }
            check_host(version, &headers).is_ok()
        };

        assert!(check(Version::HTTP_11, &["a"]));
        assert!(check(Version::HTTP_11, &[""]));
        assert!(check(Version::HTTP_10, &["a"]));
        assert!(check(Version::HTTP_10, &[]));
        assert!(!check(Version::HTTP_11, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!check(version, &["a", "a"]));
            assert!(!check(version, &["a", ""]));
            assert!(!check(version, &["a/b"]));
        }
    }
}
