//! The account's `AppJWT`: asked for at Sentinel, kept, renewed ahead of its end.
//!
//! The token goes out as it is, without `Bearer`, as a header value that is made once per token.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::cache::{self, Cache, Cached};
use super::health::TokenTimes;
use super::host::Endpoint;
use super::retry::Repeat;
use super::transport::{Body, Call, Transport, secret_header};
use super::wire::tokens::{AppClaims, AppToken};
use super::{Account, Error, answer, jwt};
use crate::http::Answer;
use crate::http::header::HeaderValue;
use crate::telemetry::metrics::APP_TOKENS;
use crate::types::trace::Trace;

/// 5 minutes before its end, as the vendor advises, a token is renewed.
const RENEW_BEFORE_MS: i64 = 5 * 60 * 1000;

/// The `AppJWT`s of one account; the value that is kept is the `Authorization` header's.
pub(super) struct AppTokens {
    issuer: Arc<Issuer>,
    cache: Cache<HeaderValue>,
}

struct Issuer {
    transport: Arc<Transport>,
    account: Arc<Account>,
}

impl AppTokens {
    pub(super) fn new(transport: Arc<Transport>, account: Arc<Account>) -> Self {
        // From the beginning, so that the first one is an increase.
        let id = account.id.as_str();
        transport.metrics.count(&APP_TOKENS, [id, "renewed"], 0);
        Self {
            issuer: Arc::new(Issuer { transport, account }),
            cache: Cache::default(),
        }
    }

    /// A token that is valid, as far as is known.
    pub(super) async fn get(&self, trace: &Trace) -> Result<Arc<Cached<HeaderValue>>, Error> {
        let clock = self.issuer.transport.clock.as_ref();
        let issue = |repeat| Issuer::issue(&self.issuer, repeat, trace);
        self.cache.get(clock, issue).await
    }

    /// The times of the token at hand.
    pub(super) fn times(&self) -> Option<TokenTimes> {
        let token = self.cache.at_hand()?;
        let time = DateTime::from_timestamp_millis;
        Some(TokenTimes {
            obtained_at: time(token.obtained_at)?,
            renew_at: time(token.renew_at)?,
            expires_at: time(token.expires_at)?,
        })
    }

    /// A token in place of one that the Cloud refused.
    pub(super) async fn replace(
        &self,
        refused: &Arc<Cached<HeaderValue>>,
        trace: &Trace,
    ) -> Result<Arc<Cached<HeaderValue>>, Error> {
        self.cache.forget(refused);
        self.get(trace).await
    }
}

impl Issuer {
    fn issue(this: &Arc<Self>, repeat: Repeat, trace: &Trace) -> cache::Request<HeaderValue> {
        let (this, trace) = (Arc::clone(this), trace.clone());
        Box::pin(async move { this.ask(repeat, &trace).await })
    }

    async fn ask(&self, repeat: Repeat, trace: &Trace) -> Result<Cached<HeaderValue>, Error> {
        let call = Call {
            operation: "cloud.app_token",
            endpoint: Endpoint::AppToken,
            repeat,
            limit: self.transport.limits.token,
            // All in the body: a URL with the secret would end up in somebody's log.
            body: Body::form(&[
                ("v", "1.0"),
                ("grant_type", "client_credentials"),
                ("client_id", &self.account.client_id),
                ("client_secret", self.account.client_secret.expose_secret()),
            ]),
            on_behalf: None,
            client_properties: None,
        };
        // Before the request: a lifetime that is counted from too early ends too early, which does no harm.
        let asked_at = self.transport.clock.now();
        let read = |answer: &Answer, now| read(answer, asked_at, now);
        let outcome = self.transport.call(&call, None, trace, read).await;
        let word = outcome.as_ref().map_or_else(Error::word, |_| "renewed");
        let account = self.account.id.as_str();
        self.transport
            .metrics
            .count(&APP_TOKENS, [account, word], 1);
        outcome
    }
}

fn read(
    answer: &Answer,
    asked_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Cached<HeaderValue>, Error> {
    let token: AppToken = answer::decode(answer, now).map_err(|error| match error {
        Error::Refused { status, .. } => Error::CredentialsRefused { status },
        error => error,
    })?;
    let undecodable = || answer::undecodable(answer);
    let claims: AppClaims =
        jwt::claims(token.access_token.expose_secret()).ok_or_else(undecodable)?;
    let lifetime_ms = lifetime_ms(&claims, asked_at)
        .filter(|lifetime| *lifetime > 0)
        .ok_or_else(undecodable)?;
    let bytes = Zeroizing::new(token.access_token.expose_secret().as_bytes().to_vec());
    let value = secret_header(bytes).ok_or_else(undecodable)?;
    let expires_at = asked_at.timestamp_millis().saturating_add(lifetime_ms);
    Ok(Cached {
        value,
        obtained_at: asked_at.timestamp_millis(),
        // A token too short-lived for that is renewed after half its time.
        renew_at: expires_at - RENEW_BEFORE_MS.min(lifetime_ms / 2),
        expires_at,
    })
}

/// How long the token lives, by its own two times: the clocks of the Cloud and of this machine may differ.
fn lifetime_ms(claims: &AppClaims, asked_at: DateTime<Utc>) -> Option<i64> {
    let begun = claims.iat.unwrap_or_else(|| asked_at.timestamp());
    claims.exp.checked_sub(begun)?.checked_mul(1000)
}
