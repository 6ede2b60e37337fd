//! Keeps pages of other sites out of what a browser reaches and the internet does not.
//!
//! A page anywhere can have the browser that shows it ask addresses inside, such as 127.0.0.1. Two rules stop it from acting
//! and reading there:
//!
//! * [`HostNames`]: a page may have its own host name resolve to an address inside (DNS rebinding), and the browser then takes
//!   both for one site. The request still bears the page's host name.
//! * [`is_cross_site`]: browsers say where the page comes from that makes a request.
//!
//! Programs name the address that they call and say nothing of a page, so they notice neither rule.

use std::net::IpAddr;
use std::sync::Arc;

/// The host names by which a server may be called, beside every IP address and `localhost`; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HostNames(Arc<[String]>);

impl HostNames {
    /// These names and no others.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| without_dot(&name).to_owned());
        Self(names.collect())
    }

    /// True if a request may be made to this `host[:port]`, the value of `Host`. An empty one is no page's.
    ///
    /// Nobody can have an IP address resolve to another one, and browsers take `localhost` for the loopback address without
    /// asking DNS.
    #[must_use]
    pub fn allow(&self, authority: &str) -> bool {
        let host = without_port(authority);
        if host.is_empty() {
            return true;
        }
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if address.unwrap_or(host).parse::<IpAddr>().is_ok() {
            return true;
        }
        let host = without_dot(host);
        let mut names = self.0.iter().map(String::as_str).chain(["localhost"]);
        names.any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// `host[:port]` without the port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// A name without the dot that may end it in DNS.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What a request says of the page that makes it, by the values of its headers.
#[derive(Debug, Clone, Copy)]
pub struct Initiator<'a> {
    /// `Origin`; browsers send it with every request that may change something.
    pub origin: Option<&'a [u8]>,
    /// `Host`.
    pub host: Option<&'a [u8]>,
}

/// True if a browser says that a page of another origin makes the request; `sites` are the values of `Sec-Fetch-Site`.
///
/// `same-site` is such a page, too: ports of one host are of one site. Browsers leave `Sec-Fetch-Site` out where neither TLS nor
/// the loopback address protects the connection; there `Origin` tells. Source: W3C, Fetch Metadata Request Headers, 2.3 and 3.
#[must_use]
pub fn is_cross_site<'a>(
    sites: impl IntoIterator<Item = &'a [u8]>,
    Initiator { origin, host }: Initiator<'_>,
) -> bool {
    let mut sites = sites.into_iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| matches!(site, b"same-origin" | b"none"));
    }
    let Some(origin) = origin else { return false };
    let authority = [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    !authority
        .zip(host)
        .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_localhost_or_a_name_that_is_known() {
        let names = HostNames::new(["bridge-admin.internal".to_owned(), "b.example.".to_owned()]);
        for good in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:9090",
            "[::1]",
            "[::1]:9090",
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "bridge-admin.internal",
            "Bridge-Admin.Internal:9090",
            "bridge-admin.internal.:1",
            "b.example",
            "",
            ":9090",
        ] {
            assert!(names.allow(good), "{good}");
        }
        for bad in [
            "evil",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.bridge-admin.internal",
            "bridge-admin.internal.evil.example",
            "a@127.0.0.1",
            "127.0.0.1:80:evil",
            "[::1].evil.example",
            "[evil]",
            "..",
            ".",
        ] {
            assert!(!names.allow(bad), "{bad}");
        }
        assert!(!HostNames::default().allow("bridge-admin.internal"));
    }

    #[test]
    fn a_page_of_another_origin_is_known_by_what_its_browser_says() {
        let is = |sites: &[&'static str], origin: Option<&str>| {
            let initiator = Initiator {
                origin: origin.map(str::as_bytes),
                host: Some(b"127.0.0.1:9090"),
            };
            is_cross_site(sites.iter().map(|site| site.as_bytes()), initiator)
        };

        for own in [&[][..], &["same-origin"], &["none"]] {
            assert!(!is(own, None), "{own:?}");
        }
        for other in [
            &["cross-site"][..],
            &["same-site"],
            &["same-origin", "cross-site"],
            &["something new"],
            &[""],
        ] {
            assert!(is(other, None), "{other:?}");
            assert!(is(other, Some("http://127.0.0.1:9090")), "{other:?}");
        }
        for own in ["http://127.0.0.1:9090", "https://127.0.0.1:9090"] {
            assert!(!is(&[], Some(own)), "{own}");
        }
        for other in [
            "null",
            "",
            "http://127.0.0.1:8080",
            "http://evil.example",
            "http://127.0.0.1:9090.evil.example",
            "127.0.0.1:9090",
        ] {
            assert!(is(&[], Some(other)), "{other}");
        }
        // A proxy may have put another host there; what the browser itself says counts then.
        assert!(!is(&["same-origin"], Some("https://admin.internal")));
    }
}
