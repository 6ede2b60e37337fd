//! Which addresses callbacks may be sent to.
//!
//! A callback's URL is not the operator's own word: whoever runs the channel may have chosen it, and its name may come to
//! mean another machine at any time. So addresses inside the network of the bridge are refused unless the configuration
//! lists them, and what is checked is the very address that is connected to: [`Resolver`] hands the client nothing
//! else, and an address that is written into the URL itself, which is never resolved, is checked by [`Rules::check`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::http::Resolve;

/// The address of a callback is one that callbacks are not sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address is private, local or reserved, and not in a network that allow_private_callbacks lists"
)]
pub struct Refused;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// The machine knows no address of it.
    #[error("the name has no address")]
    Unknown(#[from] io::Error),
    /// None of its addresses may be called.
    #[error("the name has no address that may be called")]
    Refused(#[from] Refused),
}

/// Says which addresses may be called; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    allowed: Arc<[IpNet]>,
}

/// Resolves names to the addresses that may be called.
#[derive(Debug, Clone, Default)]
pub struct Resolver(Rules);

/// Addresses of IPv4 that are not of the public Internet.
///
/// Source: IANA's IPv4 Special-Purpose Address Registry; multicast and class E besides.
const INNER_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),       // this network
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // shared by the customers of a provider
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, and where clouds keep a machine's credentials
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 31, 196, 0], 24), // sinks for reverse look-ups
    v4([192, 88, 99, 0], 24),  // relays of 6to4
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, and the broadcast address
];

/// Addresses of IPv6 that are not of the public Internet, but for those that stand for one of IPv4.
///
/// Source: IANA's IPv6 Special-Purpose Address Registry; multicast and what is deprecated besides.
const INNER_V6: [Ipv6Net; 11] = [
    v6([0, 0, 0, 0], 96), // unspecified, loopback, and what was once compatible with IPv4
    v6([0x64, 0xff9b, 1, 0], 48), // translation within a network
    v6([0x100, 0, 0, 0], 64), // discarded
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
    /// Rules that refuse every inner network but these.
    #[must_use]
    pub fn new(allowed: &[IpNet]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Checks an address that a URL is written with; a name is checked when it is resolved.
    ///
    /// # Errors
    ///
    /// [`Refused`] where the URL has the address of an inner network.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.allow(address) {
            Ok(())
        } else {
            Err(Refused)
        }
    }

    /// Whether an address may be called.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        let listed =
            |address: &IpAddr| self.allowed.iter().any(|network| network.contains(address));
        if listed(&address) {
            return true;
        }
        match address {
            IpAddr::V4(address) => INNER_V4.iter().all(|inner| !inner.contains(&address)),
            IpAddr::V6(address) => match embedded(address) {
                // It reaches the same machine as the address of IPv4 in it.
                Some(embedded) => self.allow(embedded.into()),
                None => INNER_V6.iter().all(|inner| !inner.contains(&address)),
            },
        }
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped, translated (NAT64, RFC 6052) or tunnelled to (6to4, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            pair(high, low)
        }
        [0x2002, high, low, ..] => pair(high, low),
        _ => None,
    }
}

impl Resolver {
    /// A resolver that keeps these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(rules)
    }
}

impl Resolve for Resolver {
    type Error = Unresolved;

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        let allowed: Vec<_> = found.filter(|found| self.0.allow(found.ip())).collect();
        if allowed.is_empty() {
            return Err(Refused.into());
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests;
