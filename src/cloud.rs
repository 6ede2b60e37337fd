//! The client of the Conversational Cloud: what the bridge asks of it, for any configured account.
//!
//! It owns what is needed to ask (domains, `AppJWT`s, envelopes, headers), the classification of answers
//! ([`Error`]), and the tries that are safe at once. It keeps nothing of users: their `ConsumerJWS`s and conversations
//! come with each call. Longer retries, and what to do about an unknown outcome, are the caller's.
//!
//! Users share no lock: a call takes one only where a domain or an `AppJWT` has to be obtained first.
//!
//! To add an operation of the Cloud:
//!
//! 1. its request and answer in `wire`, with the name of the vendor's page that they are from;
//! 2. a method of [`Client`] in the file of its service, or a variant of [`Signal`] (`send.rs`), which says whether it may be
//!    made again (`retry`); for a URL of its own an `Endpoint` (`host.rs`), for a host of its own a [`Service`] (`service.rs`,
//!    `breaker.rs`, `domains.rs`);
//! 3. what is new of its answers in `answer.rs`, where failures are classified;
//! 4. the same operation in the simulated Cloud (`crates/sandbox`: `operation.rs`, `server.rs` and the file of its service), written
//!    from the vendor's page and not from here, and in `docs/sandbox.md`;
//! 5. a test of the client in `cloud/tests`, of the simulated Cloud in `crates/sandbox/src/tests`, and of both in `tests/it`, and a row in `docs/assumptions.md` for what no document says.

mod answer;
mod auth;
mod breaker;
mod cache;
mod consumer;
mod conversation;
mod domains;
mod error;
mod files;
mod health;
mod host;
mod jwt;
mod monitoring;
pub mod probe;
mod recovery;
mod retry;
mod send;
mod service;
mod site;
mod transport;
mod watch;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use url::Url;

pub use self::consumer::{ConsumerJws, ConsumerToken};
pub use self::conversation::Opening;
pub use self::error::Error;
pub use self::files::Download;

use self::recovery::{Recoveries, Recovery};
pub use self::send::{Content, Conversation, File, RawRequest, Signal, chars_around_text};
pub use self::service::Service;
use self::site::Site;

use crate::clock::SharedClock;
use crate::http;
use crate::telemetry::metrics::Metrics;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// An account, with the app installation that the bridge uses there.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The app installation's id.
    pub client_id: String,
    /// The app installation's secret.
    pub client_secret: SecretString,
    /// Where the account's services are looked up.
    pub domain_api: Url,
    /// Hosts that may be reached without TLS although they were looked up by TLS.
    pub allow_http_hosts: Vec<String>,
}

/// A consumer of an account, with the token that lets the bridge speak for them.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// The consumer's `ConsumerJWS`.
    pub token: &'a ConsumerJws,
}

/// Talks to the Cloud; a clone shares connections, domains and tokens.
#[derive(Clone)]
pub struct Client {
    sites: Arc<HashMap<AccountId, Site>>,
    recoveries: Arc<Recoveries>,
}

/// The time that one try may take, by kind of call.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Short: a channel's request may need several of these before its own.
    look_up: Duration,
    token: Duration,
    /// The time after which a channel is told that the Cloud is slow.
    conversation: Duration,
    send: Duration,
    /// 3 MB take a second at 24 Mbit/s.
    upload: Duration,
    /// The first pause before a call that can be repeated freely is repeated.
    pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            look_up: Duration::from_secs(3),
            token: Duration::from_secs(3),
            conversation: Duration::from_secs(5),
            send: Duration::from_secs(5),
            upload: Duration::from_secs(10),
            pause: Duration::from_millis(100),
        }
    }
}

impl Client {
    /// A client for these accounts.
    #[must_use]
    pub fn new(
        http: &http::Client,
        clock: &SharedClock,
        metrics: &Metrics,
        accounts: impl IntoIterator<Item = Account>,
    ) -> Self {
        Self::with_limits(http, clock, metrics, accounts, Limits::default())
    }

    fn with_limits(
        http: &http::Client,
        clock: &SharedClock,
        metrics: &Metrics,
        accounts: impl IntoIterator<Item = Account>,
        limits: Limits,
    ) -> Self {
        let recoveries = Arc::new(Recoveries::default());
        let site = |account: Account| {
            let id = account.id.clone();
            let recovery = Recovery::new(id.clone(), Arc::clone(&recoveries));
            let (http, clock) = (http.clone(), Arc::clone(clock));
            let site = Site::new(http, clock, metrics, account, limits, &recovery);
            (id, site)
        };
        Self {
            sites: Arc::new(accounts.into_iter().map(site).collect()),
            recoveries,
        }
    }

    /// Where a service of the account is.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn find_domain(
        &self,
        account: &AccountId,
        service: Service,
        trace: &Trace,
    ) -> Result<Url, Error> {
        let domains = &self.site(account)?.transport.domains;
        Ok(domains.find(service, trace).await?.value.base.clone())
    }

    /// The time at the Cloud; none where its answer tells none.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn date(
        &self,
        account: &AccountId,
        trace: &Trace,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.site(account)?.transport.domains.date(trace).await
    }

    /// Makes sure that the account's credentials yield an `AppJWT`.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn check_credentials(&self, account: &AccountId, trace: &Trace) -> Result<(), Error> {
        self.site(account)?.tokens.get(trace).await.map(drop)
    }

    /// How many hosts of each account are taken for away.
    #[must_use]
    pub fn hosts_away(&self) -> Vec<(AccountId, usize)> {
        let sites = self.sites.iter();
        sites
            .map(|(account, site)| (account.clone(), site.away_hosts().len()))
            .collect()
    }

    /// True if the account's messaging service has answered a request itself within the last minute, as far as this
    /// replica knows.
    #[must_use]
    pub fn is_messaging(&self, account: &AccountId) -> bool {
        let messaging = |site: &Site| site.transport.breakers.of(Service::Messaging).is_serving();
        self.sites.get(account).is_some_and(messaging)
    }

    /// True if the account's messaging service is taken for away.
    #[must_use]
    pub fn is_messaging_away(&self, account: &AccountId) -> bool {
        let messaging = |site: &Site| site.transport.breakers.of(Service::Messaging).is_away();
        self.sites.get(account).is_some_and(messaging)
    }

    fn site(&self, account: &AccountId) -> Result<&Site, Error> {
        self.sites
            .get(account)
            .ok_or_else(|| Error::UnknownAccount(account.clone()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.sites.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
