//! Checks that a callback URL can receive events, without sending any.

use ipnet::IpNet;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use url::{Host, Url};

use super::attempt::{ATTEMPT_TIMEOUT, TIMED_OUT, cause};
use super::target::{Resolver, Rules, Unresolved};
use crate::http::{self, Method, Resolve as _, StatusCode};
use crate::types::ids::ChannelId;
use crate::types::trace::Trace;

/// The reason why no event would arrive, as text for an operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// Sends a `HEAD` request to the URL, over a connection like that of a delivery: to an allowed
/// address, and with TLS if the URL requires it. Any status counts as a success, since the server
/// need not support this method.
///
/// # Errors
///
/// If no response arrives.
pub async fn check(url: &Url, allowed: &[IpNet], trace: &Trace) -> Result<StatusCode, Unreachable> {
    let rules = Rules::new(allowed);
    let unreachable = |error: &(dyn std::error::Error + 'static)| Unreachable(cause(error));
    rules.check(url).map_err(|refused| unreachable(&refused))?;
    let client = http::Client::for_callbacks(Resolver::new(rules));
    let client = client.map_err(|error| unreachable(&error))?;
    let request = http::request_to(Method::HEAD, url, Bytes::new());
    let request = request.map_err(|error| unreachable(&error))?;
    match timeout(
        ATTEMPT_TIMEOUT,
        client.stream("doctor.callback", trace, request),
    )
    .await
    {
        Ok(Ok(response)) => Ok(response.status),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(_) => Err(Unreachable(TIMED_OUT.to_owned())),
    }
}

/// Logs a warning if the address of a callback may not be called, since then no event arrives. A
/// name that does not resolve is no reason for a warning: it may do so later.
pub(super) async fn warn_if_refused(rules: Rules, channel_id: ChannelId, url: Url) {
    let is_refused = match url.host() {
        Some(Host::Domain(name)) => {
            let resolved = Resolver::new(rules).resolve(name).await;
            matches!(resolved, Err(Unresolved::Refused(_)))
        }
        _ => rules.check(&url).is_err(),
    };
    if is_refused {
        tracing::warn!(
            channel.id = %channel_id,
            host = url.host_str(),
            "the callback gets no events: its address is private, local or reserved, and in no network of allow_private_callbacks"
        );
    }
}
