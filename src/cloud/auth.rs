//! The account's `AppJWT`: obtained from Sentinel, cached, and renewed before it expires.
//!
//! The token is sent as it is, without `Bearer`. Its header value is built once per token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::cache::{self, Cache, Cached};
use super::host::Endpoint;
use super::retry::RetryPolicy;
use super::transport::{Body, Call, Transport, secret_header};
use super::wire::tokens::{AppClaims, AppToken, Seconds};
use super::{Account, Error, answer, jwt};
use crate::http::Answer;
use crate::http::header::HeaderValue;
use crate::telemetry::metrics::APP_TOKENS;
use crate::types::status::TokenTimes;
use crate::types::trace::Trace;

/// 5 minutes: how long before its end a token is renewed. Source: vendor's advice.
const RENEW_BEFORE_MS: i64 = 5 * 60 * 1000;

/// 1 h: the lifetime of a token that names none. Source: vendor's Send API page "Authorization and
/// Authentication".
const DEFAULT_LIFETIME_MS: i64 = 60 * 60 * 1000;

/// 5 s: the minimum time between two renewals caused by a 401 that does not say which token it
/// refuses. Without it, a gateway that answers 401 to everything would cause a new token for each
/// request.
const UNCERTAIN_RENEWAL_PAUSE_MS: i64 = 5_000;

/// The `AppJWT`s of one account. The cached value is the `Authorization` header's.
pub(super) struct AppTokens {
    issuer: Arc<Issuer>,
    cache: Cache<HeaderValue>,
    /// The time of the last renewal after a 401 that did not say which token it refused, in
    /// milliseconds since the epoch.
    uncertain_renewal_at: AtomicI64,
}

struct Issuer {
    transport: Arc<Transport>,
    account: Arc<Account>,
}

impl AppTokens {
    pub(super) fn new(transport: Arc<Transport>, account: Arc<Account>) -> Self {
        // The metric starts at zero, so that the first renewal is visible as an increase.
        let id = account.id.as_str();
        transport.metrics.count(&APP_TOKENS, [id, "renewed"], 0);
        Self {
            issuer: Arc::new(Issuer { transport, account }),
            cache: Cache::default(),
            uncertain_renewal_at: AtomicI64::new(i64::MIN),
        }
    }

    /// Returns a token that is valid as far as this replica knows.
    pub(super) async fn get(&self, trace: &Trace) -> Result<Arc<Cached<HeaderValue>>, Error> {
        let clock = self.issuer.transport.clock.as_ref();
        let issue = |retry| Issuer::issue(&self.issuer, retry, trace);
        self.cache.get(clock, issue).await
    }

    /// Returns the times of the cached token.
    pub(super) fn times(&self) -> Option<TokenTimes> {
        let token = self.cache.peek()?;
        let time = DateTime::from_timestamp_millis;
        Some(TokenTimes {
            obtained_at: time(token.obtained_at)?,
            renew_at: time(token.renew_at)?,
            expires_at: time(token.expires_at)?,
        })
    }

    /// Returns a token in place of one that the Cloud refused, or may have refused. If the refusal
    /// is uncertain and such a refusal caused a renewal moments ago, returns the cached token.
    pub(super) async fn replace(
        &self,
        refused: &Arc<Cached<HeaderValue>>,
        is_certain: bool,
        trace: &Trace,
    ) -> Result<Arc<Cached<HeaderValue>>, Error> {
        if !is_certain {
            let now = self.issuer.transport.clock.now_ms();
            let if_due = |at: i64| {
                let is_due = now.saturating_sub(at) >= UNCERTAIN_RENEWAL_PAUSE_MS;
                is_due.then_some(now)
            };
            let order = Ordering::Relaxed;
            if self
                .uncertain_renewal_at
                .fetch_update(order, order, if_due)
                .is_err()
            {
                return self.get(trace).await;
            }
        }
        self.cache.invalidate(refused);
        self.get(trace).await
    }
}

impl Issuer {
    fn issue(this: &Arc<Self>, retry: RetryPolicy, trace: &Trace) -> cache::Request<HeaderValue> {
        let (this, trace) = (Arc::clone(this), trace.clone());
        Box::pin(async move { this.request_token(retry, &trace).await })
    }

    async fn request_token(
        &self,
        retry: RetryPolicy,
        trace: &Trace,
    ) -> Result<Cached<HeaderValue>, Error> {
        let call = Call {
            operation: "cloud.app_token",
            endpoint: Endpoint::AppToken,
            retry,
            limit: self.transport.limits.token,
            // All in the body: a URL with the secret would end up in a log.
            body: Body::form(&[
                ("v", "1.0"),
                ("grant_type", "client_credentials"),
                ("client_id", &self.account.client_id),
                ("client_secret", self.account.client_secret.expose_secret()),
            ]),
            on_behalf: None,
            client_properties: None,
        };
        // Taken before the request: a lifetime that is counted from too early a time ends early,
        // which does no harm.
        let requested_at = self.transport.clock.now();
        let read = |answer: &Answer, now| read(answer, requested_at, now);
        let outcome = self.transport.call(&call, None, trace, read).await;
        let result = outcome.as_ref().map_or_else(Error::name, |_| "renewed");
        let account = self.account.id.as_str();
        self.transport
            .metrics
            .count(&APP_TOKENS, [account, result], 1);
        outcome
    }
}

fn read(
    answer: &Answer,
    requested_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Cached<HeaderValue>, Error> {
    let token: AppToken = answer::decode(answer, now).map_err(|error| match error {
        Error::Refused { status, .. } => Error::CredentialsRefused { status },
        Error::Unauthorized { .. } => Error::CredentialsRefused { status: 401 },
        error => error,
    })?;
    let undecodable = || answer::undecodable(answer);
    let value = token.access_token.expose_secret().trim();
    let lifetime_ms = lifetime_ms(value, &token.expires_in, requested_at);
    let bytes = Zeroizing::new(value.as_bytes().to_vec());
    let value = secret_header(bytes)
        .filter(|value| !value.is_empty())
        .ok_or_else(undecodable)?;
    let expires_at = requested_at.timestamp_millis().saturating_add(lifetime_ms);
    Ok(Cached {
        value,
        obtained_at: requested_at.timestamp_millis(),
        // A token that lives less than 10 minutes is renewed after half of its lifetime.
        renew_at: expires_at - RENEW_BEFORE_MS.min(lifetime_ms / 2),
        expires_at,
    })
}

/// Returns the token's lifetime. It is the difference of the token's own two times, since the
/// clocks of the Cloud and of this machine may differ. If these are unusable, it is the lifetime in
/// the answer, or else the default. A guess is better than an error: a token that the Cloud
/// refuses is renewed, but without a token nothing works.
fn lifetime_ms(token: &str, expires_in: &Seconds, requested_at: DateTime<Utc>) -> i64 {
    let claims: AppClaims = jwt::claims(token).unwrap_or_default();
    let issued_at = claims
        .iat
        .milliseconds()
        .unwrap_or(requested_at.timestamp_millis());
    let by_claims = claims
        .exp
        .milliseconds()
        .and_then(|end| end.checked_sub(issued_at));
    let by_answer = expires_in.milliseconds();
    let mut lifetimes = [by_claims, by_answer].into_iter().flatten();
    lifetimes
        .find(|lifetime| *lifetime > 0)
        .unwrap_or(DEFAULT_LIFETIME_MS)
}
