//! One account: the way to its services, and the calls that need its `AppJWT`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::auth::AppTokens;
use super::breaker::{Breakers, Pace, ServiceBreakers};
use super::domains::{Directory, Domains};
use super::recovery::Recovery;
use super::transport::{AT_ONCE, Call, Transport};
use super::watch::Watch;
use super::{Account, Error, Limits};
use crate::clock::SharedClock;
use crate::http::{self, Answer};
use crate::telemetry::metrics::Metrics;
use crate::types::status::AwayHost;
use crate::types::trace::Trace;

pub(super) struct Site {
    pub(super) transport: Arc<Transport>,
    pub(super) tokens: AppTokens,
}

impl Site {
    pub(super) fn new(
        http: http::Client,
        clock: SharedClock,
        metrics: &Metrics,
        account: Account,
        limits: Limits,
        recovery: &Recovery,
    ) -> Self {
        let account = Arc::new(account);
        let watch = Arc::new(Watch::new(metrics.clone(), Arc::clone(&clock)));
        let transport = Arc::new(Transport {
            domains: Domains::new(Directory {
                http: http.clone(),
                clock: Arc::clone(&clock),
                watch: Arc::clone(&watch),
                limits,
                account: Arc::clone(&account),
                breakers: Breakers::new(Pace::LogIn, recovery.clone()),
            }),
            http,
            clock,
            metrics: metrics.clone(),
            watch,
            limits,
            breakers: ServiceBreakers::new(recovery),
            places: Semaphore::new(AT_ONCE),
        });
        Self {
            tokens: AppTokens::new(Arc::clone(&transport), account),
            transport,
        }
    }

    /// The hosts that are taken for away.
    pub(super) fn away_hosts(&self) -> Vec<AwayHost> {
        let Transport {
            breakers, domains, ..
        } = self.transport.as_ref();
        breakers.away_hosts(domains.breakers())
    }

    /// A request's id, for its answer to be known by: unique, and text, since a number would come back as text.
    pub(super) fn request_id(&self) -> String {
        self.transport.clock.uuid().to_string()
    }

    /// Makes the call under the account's `AppJWT`, and once more under a new one where the Cloud refuses that
    /// or answers 401 without saying which token it refuses.
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
                // In a box, as everything that is rare: the room for it is then not taken by every call.
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
