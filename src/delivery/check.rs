//! A check that a callback URL can receive events, without sending any.

use ipnet::IpNet;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use url::Url;

use super::attempt::{LIMIT, NO_ANSWER, cause};
use super::target::{Resolver, Rules};
use crate::http::{self, Method, StatusCode};
use crate::types::trace::Trace;

/// The reason why no event would arrive, as text for an operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// Sends a `HEAD` request to the URL, over a connection like that of a delivery: to an allowed
/// address, and with TLS if the URL requires it. Any status is a success, since the server need not
/// support this method.
///
/// # Errors
///
/// If no response arrives.
pub async fn check(url: &Url, allowed: &[IpNet], trace: &Trace) -> Result<StatusCode, Unreachable> {
    let rules = Rules::new(allowed);
    let told = |error: &(dyn std::error::Error + 'static)| Unreachable(cause(error));
    rules.check(url).map_err(|refused| told(&refused))?;
    let client = http::Client::for_callbacks(Resolver::new(rules)).map_err(|error| told(&error))?;
    let request = http::request_to(Method::HEAD, url, Bytes::new());
    let request = request.map_err(|error| told(&error))?;
    match timeout(LIMIT, client.stream("doctor.callback", trace, request)).await {
        Ok(Ok(answer)) => Ok(answer.status),
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err(Unreachable(NO_ANSWER.to_owned())),
    }
}
