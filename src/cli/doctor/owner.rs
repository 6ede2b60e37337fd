//! The process that owns the embedded database while the doctor runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio_util::bytes::Bytes;
use url::Url;

use crate::http::{self, Method, Proxy, StatusCode};
use crate::types::trace::Trace;

/// 2 s: a running service answers at once.
const LIMIT: Duration = Duration::from_secs(2);

/// Describes the owner, after it was asked at the admin address if it is ready. `id` is the id of
/// its process, if that is known.
pub(super) async fn describe(id: Option<u32>, admin_listen: SocketAddr, trace: &Trace) -> String {
    let process = id.map(|id| format!("process id {id}"));
    let readiness = readiness(admin_listen, trace).await;
    let name = if readiness.is_some() {
        "a running service"
    } else {
        "another process"
    };
    let readiness = readiness.map(|status| {
        if status.is_success() {
            "ready".to_owned()
        } else {
            format!("/readyz answers {}", status.as_u16())
        }
    });
    let details: Vec<_> = process.into_iter().chain(readiness).collect();
    if details.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({})", details.join(", "))
    }
}

/// Returns the status of `/readyz`; `None` if no service answers on the admin address.
async fn readiness(mut address: SocketAddr, trace: &Trace) -> Option<StatusCode> {
    // Port 0 stands for a port that only the service knows.
    if address.port() == 0 {
        return None;
    }
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        address.set_ip(loopback);
    }
    let url = Url::parse(&format!("http://{address}/readyz")).ok()?;
    let client = http::Client::new(Proxy::None).ok()?;
    let request = http::request_to(Method::GET, &url, Bytes::new()).ok()?;
    let answer = client.send("doctor.readiness", trace, LIMIT, request).await;
    answer.ok().map(|answer| answer.status)
}
