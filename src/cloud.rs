//! The client of the Conversational Cloud, for all configured accounts.
//!
//! It adds to a request what the Cloud requires (domain, `AppJWT`, envelope, headers), classifies
//! the answers ([`Error`]), and makes the quick retries that are safe. It stores nothing about
//! users: each call passes the `ConsumerJWS` and the conversation. Later retries, and the handling
//! of an unknown outcome, are up to the caller.
//!
//! Calls for different users wait for each other in two cases only: a domain or an `AppJWT` is
//! being obtained, or all permits of the account are in use.
//!
//! To add an operation of the Cloud:
//!
//! 1. Add its request and answer to `wire`, with the title of the vendor's page about them.
//! 2. Add a method of [`Client`] in the file of its service, or a variant of [`Signal`]
//!    (`send.rs`). State there whether the call may be repeated (`retry`). If the operation has a
//!    URL of its own, add an `Endpoint` (`host.rs`). If it has a host of its own, add a [`Service`]
//!    (`service.rs`, `breaker.rs`, `domains.rs`).
//! 3. If its answers report failures in a new way, classify them in `answer.rs`.
//! 4. Add the operation to the simulated Cloud (`crates/sandbox`: `operation.rs`, `server.rs` and
//!    the file of its service) and to `docs/sandbox.md`. Write it from the vendor's page and not
//!    from the client.
//! 5. Add a test of the client to `cloud/tests`, of the simulated Cloud to
//!    `crates/sandbox/src/tests`, and of both to `tests/it`. Add a row to `docs/assumptions.md` for
//!    each assumption that no document confirms.

mod account_client;
mod answer;
mod auth;
mod breaker;
mod cache;
pub mod capture;
mod consumer;
mod conversation;
mod domains;
mod error;
mod files;
mod health;
mod host;
mod jwt;
mod monitoring;
mod observer;
mod recovery;
mod retry;
mod send;
mod service;
mod transport;
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

use self::account_client::AccountClient;
use self::breaker::Breakers;
use self::recovery::{Recoveries, Recovery};
pub use self::send::{Content, Conversation, File, RawRequest, Signal, envelope_chars};
pub use self::service::Service;

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
    /// The URL of the domain API, which names the hosts of the account's services.
    pub domain_api: Url,
    /// Hosts that may be reached without TLS although the domain API was called over TLS.
    pub allow_http_hosts: Vec<String>,
}

/// A consumer of an account, with the token that authorizes requests for them.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// The consumer's `ConsumerJWS`.
    pub token: &'a ConsumerJws,
}

/// A client of the Cloud. Clones share connections, domains and tokens.
#[derive(Clone)]
pub struct Client {
    clients: Arc<HashMap<AccountId, AccountClient>>,
    recoveries: Arc<Recoveries>,
}

/// The time limits of one attempt, by kind of call.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The limit of a lookup at the domain API or the Monitoring API. It is short, since a
    /// channel's request may need several lookups before its own call.
    lookup: Duration,
    token: Duration,
    /// The limit of an opening. After this time the channel learns that the Cloud is slow.
    conversation: Duration,
    send: Duration,
    /// The limit of a file's upload. It is enough for 3 MB, which take one second at 24 Mbit/s.
    upload: Duration,
    /// The pause before the first retry of a call that may be repeated freely.
    pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(3),
            token: Duration::from_secs(3),
            conversation: Duration::from_secs(5),
            send: Duration::from_secs(5),
            upload: Duration::from_secs(10),
            pause: Duration::from_millis(100),
        }
    }
}

impl Client {
    /// Creates a client for these accounts.
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
        let entry = |account: Account| {
            let id = account.id.clone();
            let recovery = Recovery::new(id.clone(), Arc::clone(&recoveries));
            let (http, clock) = (http.clone(), Arc::clone(clock));
            let client = AccountClient::new(http, clock, metrics, account, limits, &recovery);
            (id, client)
        };
        Self {
            clients: Arc::new(accounts.into_iter().map(entry).collect()),
            recoveries,
        }
    }

    /// Returns the base URL of a service of the account.
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
        let domains = &self.client_of(account)?.transport.domains;
        Ok(domains.find(service, trace).await?.value.base.clone())
    }

    /// Returns the current time of the Cloud's clock; `None` if the answer has no date.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn date(
        &self,
        account: &AccountId,
        trace: &Trace,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.client_of(account)?.transport.domains.date(trace).await
    }

    /// Checks that the account's credentials yield an `AppJWT`.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn check_credentials(&self, account: &AccountId, trace: &Trace) -> Result<(), Error> {
        self.client_of(account)?.tokens.get(trace).await.map(drop)
    }

    /// Returns, for each account, the number of hosts with an open circuit breaker.
    #[must_use]
    pub fn unavailable_host_counts(&self) -> Vec<(AccountId, usize)> {
        let clients = self.clients.iter();
        clients
            .map(|(account, client)| (account.clone(), client.unavailable_hosts().len()))
            .collect()
    }

    /// True if the account's messaging service itself has answered a request of this replica within
    /// the last minute.
    #[must_use]
    pub fn is_messaging_serving(&self, account: &AccountId) -> bool {
        self.messaging_breakers(account)
            .is_some_and(Breakers::is_serving)
    }

    /// True if the circuit breaker of the account's messaging service is open.
    #[must_use]
    pub fn is_messaging_unavailable(&self, account: &AccountId) -> bool {
        self.messaging_breakers(account)
            .is_some_and(Breakers::is_unavailable)
    }

    fn messaging_breakers(&self, account: &AccountId) -> Option<&Breakers> {
        let client = self.clients.get(account)?;
        Some(client.transport.breakers.of(Service::Messaging))
    }

    fn client_of(&self, account: &AccountId) -> Result<&AccountClient, Error> {
        self.clients
            .get(account)
            .ok_or_else(|| Error::UnknownAccount(account.clone()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.clients.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
