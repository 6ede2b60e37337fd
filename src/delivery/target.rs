//! The addresses to which callbacks may be sent.
//!
//! A callback's URL is not under the operator's control. The channel's owner may have chosen it,
//! and its name may resolve to another machine at any time. So addresses that are not public are
//! refused unless the configuration lists them. The check covers the very address that the client
//! connects to: [`Resolver`] gives the client no other one. An IP address in the URL itself is not
//! resolved, so [`Rules::check`] checks it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::http::Resolve;

/// The error that the address of a callback is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address is private, local or reserved, and in no network of allow_private_callbacks")]
pub struct Refused;

/// The reason why a host name yields no usable address.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// The name does not resolve.
    #[error("the host name has no address")]
    Unknown(#[from] io::Error),
    /// No address of the name is allowed.
    #[error("the host name has no address that may be called")]
    Refused(#[from] Refused),
}

/// The rules for the addresses that may be called; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    allowed: Arc<[IpNet]>,
}

/// A resolver that returns only addresses that may be called.
#[derive(Debug, Clone, Default)]
pub struct Resolver(Rules);

/// IPv4 addresses that are not on the public Internet.
///
/// Source: IANA's IPv4 Special-Purpose Address Registry; also multicast and class E.
const NON_PUBLIC_V4: [Ipv4Net; 17] = [
    v4([0, 0, 0, 0], 8),       // this network
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // carrier-grade NAT
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, and cloud metadata services with machine credentials
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 31, 196, 0], 24), // sinks for reverse lookups
    v4([192, 88, 99, 0], 24),  // 6to4 relays
    v4([192, 168, 0, 0], 16),  // private
    v4([192, 175, 48, 0], 24), // sinks for reverse lookups
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, and the broadcast address
];

/// IPv6 addresses that are not on the public Internet, except those that embed an IPv4 address.
///
/// Source: IANA's IPv6 Special-Purpose Address Registry; also multicast and deprecated ranges.
const NON_PUBLIC_V6: [Ipv6Net; 12] = [
    v6([0, 0, 0, 0], 96), // unspecified, loopback, and IPv4-compatible (deprecated)
    v6([0x64, 0xff9b, 1, 0], 48), // local NAT64 translation
    v6([0x100, 0, 0, 0], 64), // discard-only
    v6([0x100, 0, 0, 1], 64), // dummy prefix
    v6([0x2001, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarks, identifiers
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0], 20), // documentation
    v6([0x5f00, 0, 0, 0], 16), // segment routing
    v6([0xfc00, 0, 0, 0], 7), // private (ULA)
    v6([0xfe80, 0, 0, 0], 10), // link-local
    v6([0xfec0, 0, 0, 0], 10), // site-local
    v6([0xff00, 0, 0, 0], 8), // multicast
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d]: [u16; 4], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

impl Rules {
    /// Creates rules that refuse all addresses that are not public, except those in these networks.
    #[must_use]
    pub fn new(allowed: &[IpNet]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Checks an IP address in a URL. A name is checked when it is resolved.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the address may not be called.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.allows(address) {
            Ok(())
        } else {
            Err(Refused)
        }
    }

    /// True if an address may be called.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let listed =
            |address: &IpAddr| self.allowed.iter().any(|network| network.contains(address));
        if listed(&address) {
            return true;
        }
        match address {
            IpAddr::V4(address) => NON_PUBLIC_V4.iter().all(|net| !net.contains(&address)),
            IpAddr::V6(address) => match embedded(address) {
                // It reaches the same machine as the embedded IPv4 address.
                Some(embedded) => self.allows(embedded.into()),
                None => NON_PUBLIC_V6.iter().all(|net| !net.contains(&address)),
            },
        }
    }
}

/// Returns the IPv4 address that an IPv6 address embeds: mapped, translated (NAT64, RFC 6052;
/// SIIT, RFC 2765) or tunnelled (6to4, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => pair(high, low),
        _ => None,
    }
}

impl Resolver {
    /// Creates a resolver with these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(rules)
    }
}

impl Resolve for Resolver {
    type Error = Unresolved;

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let addresses = tokio::net::lookup_host((name, 0)).await?;
        let allowed = addresses.filter(|address| self.0.allows(address.ip()));
        let allowed: Vec<_> = allowed.collect();
        if allowed.is_empty() {
            return Err(Refused.into());
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests;
