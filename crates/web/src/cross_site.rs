//! Protection against web pages of other sites, for servers that browsers can reach and the
//! internet cannot.
//!
//! Any page can make its browser send requests to internal addresses, such as 127.0.0.1. Two rules
//! keep such a page from acting and reading there:
//!
//! * [`HostNames`]: a page may make its own host name resolve to an internal address (DNS
//!   rebinding). The browser then treats both as one site, but the request still carries the page's
//!   host name.
//! * [`is_cross_site`]: browsers report if a page of another origin makes the request.
//!
//! Programs call the server by its address and send no headers about a page, so both rules allow
//! them.

use std::net::IpAddr;
use std::sync::Arc;

/// The host names by which a server may be called, besides IP addresses and `localhost`. Clones
/// share them.
#[derive(Debug, Clone, Default)]
pub struct HostNames(Arc<[String]>);

impl HostNames {
    /// Creates the list of exactly these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| without_dot(&name).to_owned());
        Self(names.collect())
    }

    /// True if a request may have this `host[:port]` as its `Host` header. An empty header is
    /// allowed, since no page sends it.
    ///
    /// DNS rebinding needs a name: an IP address is not resolved, and browsers use the loopback
    /// address for `localhost` without DNS.
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

/// Returns `host[:port]` without the port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Returns a name without the dot at its end, which DNS allows.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// The headers that name the page behind a request, and the server.
#[derive(Debug, Clone, Copy)]
pub struct Initiator<'a> {
    /// The `Origin` header. Browsers send it with every request that may change something.
    pub origin: Option<&'a [u8]>,
    /// The `Host` header.
    pub host: Option<&'a [u8]>,
}

/// True if a browser reports that a page of another origin makes the request. `sites` are the
/// values of `Sec-Fetch-Site`.
///
/// `same-site` counts as another origin too, since all ports of a host are one site. Browsers omit
/// `Sec-Fetch-Site` on connections that have neither TLS nor a loopback address. There `Origin`
/// decides. Source: W3C, Fetch Metadata Request Headers, 2.3 and 3.
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
    fn only_addresses_localhost_and_known_names_are_allowed_as_hosts() {
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
    fn a_page_of_another_origin_is_recognized_by_browser_headers() {
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
        // A proxy may have changed the host. The browser's own header then decides.
        assert!(!is(&["same-origin"], Some("https://admin.internal")));
    }
}
