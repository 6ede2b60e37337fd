//! The transport of an account: sends a call to the host of its service, with the retries that the
//! call allows.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;

use super::breaker::ServiceBreakers;
use super::domains::Domains;
use super::host::{Endpoint, Host};
use super::observer::Observer;
use super::retry::{RetryPolicy, with_retries};
use super::service::Service;
use super::wire::request::ClientProperties;
use super::{Error, Limits, capture};
use crate::clock::SharedClock;
use crate::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use crate::http::{self, Answer, Method};
use crate::telemetry::metrics::Metrics;
use crate::types::conversation::Features;
use crate::types::trace::Trace;

/// 256: the number of requests of an account that may be in flight at once. The Cloud limits them
/// too and does not publish the limit.
pub(super) const MAX_IN_FLIGHT: usize = 256;

/// 2.9 s, just below the shortest of the usual time limits: only after this time does a missing
/// answer count against the host.
const MIN_WAIT_FOR_BLAME: Duration = Duration::from_millis(2900);

/// The consumer's token. A sibling API calls this header `LP-On-Behalf`.
const ON_BEHALF: HeaderName = HeaderName::from_static("x-lp-on-behalf");
const CLIENT_PROPERTIES: HeaderName = HeaderName::from_static("client-properties");

/// A POST, built once: its attempts share the body and the header values.
pub(super) struct Call {
    /// The call's name in spans and metrics.
    pub(super) operation: &'static str,
    pub(super) endpoint: Endpoint,
    pub(super) retry: RetryPolicy,
    /// The time limit of one attempt.
    pub(super) limit: Duration,
    pub(super) body: Body,
    pub(super) on_behalf: Option<HeaderValue>,
    pub(super) client_properties: Option<HeaderValue>,
}

/// The body of a POST.
pub(super) struct Body {
    media_type: HeaderValue,
    bytes: Bytes,
}

impl Body {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self {
            media_type: HeaderValue::from_static("application/json"),
            bytes: json(value).into(),
        }
    }

    /// Creates a form. It may hold a secret, so it is zeroed once it is sent.
    pub(super) fn form(members: &[(&str, &str)]) -> Self {
        // Allocated in full, since a string that grows leaves copies of its beginning behind.
        let capacity = members
            .iter()
            .map(|(name, value)| name.len() + 3 * value.len() + 2);
        let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(capacity.sum()));
        form.extend_pairs(members);
        Self {
            media_type: HeaderValue::from_static("application/x-www-form-urlencoded"),
            bytes: Bytes::from_owner(Zeroizing::new(form.finish().into_bytes())),
        }
    }
}

/// Returns a token as a header value that is never shown. All copies share one buffer, which is
/// zeroed with the last of them.
pub(super) fn secret_header(token: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(token)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the features as a header value.
#[expect(
    clippy::expect_used,
    reason = "names of features consist of capital letters, digits and underscores"
)]
pub(super) fn client_properties(features: &Features) -> Option<HeaderValue> {
    (!features.is_empty()).then(|| {
        let value = json(&ClientProperties::new(features.names()));
        HeaderValue::try_from(value).expect("ASCII is a valid header value")
    })
}

/// Serializes the value as JSON.
#[expect(
    clippy::expect_used,
    reason = "the wire types have text keys and nothing that fails to serialize"
)]
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a wire type serializes to JSON")
}

/// The transport to the services of one account.
pub(super) struct Transport {
    pub(super) http: http::Client,
    pub(super) clock: SharedClock,
    pub(super) metrics: Metrics,
    pub(super) observer: Arc<Observer>,
    pub(super) limits: Limits,
    pub(super) domains: Domains,
    pub(super) breakers: ServiceBreakers,
    /// The permits for requests in flight. They keep waiting requests from reaching the Cloud all
    /// at once when it recovers.
    pub(super) in_flight: Semaphore,
}

impl Transport {
    /// Makes the call as often as it allows, and reads its answer.
    pub(super) async fn call<T>(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
        trace: &Trace,
        read: impl Fn(&Answer, DateTime<Utc>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        with_retries(call.retry, self.limits.pause, || {
            self.observer.measure(call.operation, async || {
                let read = |answer: Answer| {
                    capture::record(call.operation, &answer);
                    read(&answer, self.clock.now())
                };
                self.attempt(call, authorization, trace, read).await
            })
        })
        .await
    }

    /// Makes one attempt of a call.
    async fn attempt<T>(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
        trace: &Trace,
        read: impl FnOnce(Answer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let post = |host: &Host| {
            let uri = host.uri(call.endpoint).clone();
            let mut request = http::request(Method::POST, uri, call.body.bytes.clone());
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, call.body.media_type.clone());
            for (name, value) in [
                (AUTHORIZATION, authorization),
                (ON_BEHALF, call.on_behalf.as_ref()),
                (CLIENT_PROPERTIES, call.client_properties.as_ref()),
            ] {
                if let Some(value) = value {
                    headers.insert(name, value.clone());
                }
            }
            self.http.send(call.operation, trace, call.limit, request)
        };
        self.send_to(call.endpoint.service(), trace, post, read)
            .await
    }

    /// Makes one request to the host of a service, and reads its answer. If the host refuses the
    /// connection, looks the service up again, so that the next attempt finds its new host.
    pub(super) async fn send_to<A, T, F>(
        &self,
        service: Service,
        trace: &Trace,
        request: impl FnOnce(&Host) -> F,
        read: impl FnOnce(A) -> Result<T, Error>,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<A, http::Error>>,
    {
        let host = self.domains.find(service, trace).await;
        let host = host.map_err(Error::into_not_attempted)?;
        let breakers = self.breakers.of(service);
        let permit = breakers.acquire(host.value.base.authority())?;
        let _in_flight = match self.in_flight.try_acquire() {
            Ok(in_flight) => in_flight,
            Err(_) => Box::pin(self.wait_for_permit()).await?,
        };
        let begun = Instant::now();
        let answer = request(&host.value).await;
        if let Err(http::Error::NotSent(_)) = answer {
            Box::pin(self.domains.look_up_again(service, &host, trace)).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            // The time limit may have been shorter than usual, so the missing answer does not prove
            // that the host is slow.
            Err(error @ http::Error::NoAnswer(_)) if begun.elapsed() < MIN_WAIT_FOR_BLAME => {
                return Err(error.into());
            }
            Err(error) => {
                permit.fail(&error.clone().into());
                return Err(error.into());
            }
        };
        let outcome = read(answer);
        permit.settle(outcome.as_ref().err());
        outcome
    }

    /// Waits for a permit if all are taken. The request's own time limit begins once it has a
    /// permit.
    async fn wait_for_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        match timeout(self.limits.send, self.in_flight.acquire()).await {
            Ok(Ok(in_flight)) => Ok(in_flight),
            _ => Err(Error::Throttled { retry_after: None }.into_not_attempted()),
        }
    }
}
