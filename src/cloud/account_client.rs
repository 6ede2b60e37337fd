//! An account at the Cloud: the transport to its services, and the calls that need its `AppJWT`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::auth::AppTokens;
use super::breaker::{BreakerPolicy, Breakers, ServiceBreakers};
use super::domains::{DomainApi, Domains};
use super::observer::Observer;
use super::recovery::Recovery;
use super::transport::{Call, MAX_IN_FLIGHT, Transport};
use super::{Account, Error, Limits};
use crate::clock::SharedClock;
use crate::http::{self, Answer};
use crate::telemetry::metrics::Metrics;
use crate::types::status::UnavailableHost;
use crate::types::trace::Trace;

pub(super) struct AccountClient {
    pub(super) transport: Arc<Transport>,
    pub(super) tokens: AppTokens,
}

impl AccountClient {
    pub(super) fn new(
        http: http::Client,
        clock: SharedClock,
        metrics: &Metrics,
        account: Account,
        limits: Limits,
        recovery: &Recovery,
    ) -> Self {
        let account = Arc::new(account);
        let observer = Arc::new(Observer::new(metrics.clone(), Arc::clone(&clock)));
        let transport = Arc::new(Transport {
            domains: Domains::new(DomainApi {
                http: http.clone(),
                clock: Arc::clone(&clock),
                observer: Arc::clone(&observer),
                limits,
                account: Arc::clone(&account),
                breakers: Breakers::new(BreakerPolicy::LogIn, recovery.clone()),
            }),
            http,
            clock,
            metrics: metrics.clone(),
            observer,
            limits,
            breakers: ServiceBreakers::new(recovery),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        });
        Self {
            tokens: AppTokens::new(Arc::clone(&transport), account),
            transport,
        }
    }

    /// Returns the hosts whose circuit breaker is open.
    pub(super) fn unavailable_hosts(&self) -> Vec<UnavailableHost> {
        let Transport {
            breakers, domains, ..
        } = self.transport.as_ref();
        breakers.unavailable_hosts(domains.breakers())
    }

    /// Returns a new request id, by which the answer is recognized. It is unique. It is text, since
    /// the Cloud would return a number as text.
    pub(super) fn request_id(&self) -> String {
        self.transport.clock.uuid().to_string()
    }

    /// Makes the call with the account's `AppJWT`. Repeats it with a new one if the Cloud refuses
    /// the `AppJWT`, or answers 401 without saying which token it refuses.
    pub(super) async fn call<T>(
        &self,
        call: &Call,
        trace: &Trace,
        read: impl Fn(&Answer, DateTime<Utc>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let token = self.tokens.get(trace).await?;
        let outcome = self.transport.call(call, Some(&token.value), trace, &read);
        match outcome.await {
            Err(error @ (Error::AppTokenRefused | Error::Unauthorized { .. })) => {
                // Boxed, because it is rare and would make the future of every call larger.
                Box::pin(async {
                    let is_certain = matches!(error, Error::AppTokenRefused);
                    let token = self.tokens.replace(&token, is_certain, trace).await?;
                    let outcome = self.transport.call(call, Some(&token.value), trace, &read);
                    outcome.await
                })
                .await
            }
            outcome => outcome,
        }
    }
}
