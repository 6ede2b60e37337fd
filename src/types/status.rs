//! The state of the parts of the service, for operators.

use chrono::{DateTime, Utc};

use super::delivery::Pause;
use super::ids::{AccountId, ChannelId};

/// The waiting work of a channel, over all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The channel.
    pub channel_id: ChannelId,
    /// The number of queued requests, counted up to 100,000.
    pub requests: u32,
    /// The time at which the oldest of them arrived.
    pub oldest_request: Option<DateTime<Utc>>,
    /// The number of users with undelivered events, counted up to 100,000.
    pub delivery_lanes: u32,
    /// The time at which the oldest undelivered event was stored.
    pub oldest_event: Option<DateTime<Utc>>,
    /// The number of consecutive failed deliveries to the callback.
    pub callback_failures: u32,
    /// The pause of the callback; `None` if it is not paused.
    pub callback_pause: Option<Pause>,
}

/// The engine of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// A PostgreSQL database, which replicas share.
    Postgres,
    /// The embedded SQLite database.
    Sqlite,
}

/// The number of connections in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// The name of the pool.
    pub pool: &'static str,
    /// Connections that a statement uses.
    pub in_use: u32,
    /// Connections that no statement uses.
    pub idle: u32,
}

/// The pending closes of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseBacklog {
    /// The account.
    pub account_id: AccountId,
    /// Their number, counted up to 100,000 over all accounts.
    pub waiting: u32,
    /// The time at which the first of their users was erased.
    pub oldest: DateTime<Utc>,
}

/// The reason why the database cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It does not respond.
    Silent,
    /// It accepts no writes: its disk is full, or it has become a standby.
    Unwritable,
    /// A file of the embedded database was deleted, replaced or damaged.
    Files,
}

impl Outage {
    /// Returns the reason as text.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Silent => "the storage does not answer",
            Self::Unwritable => "the storage cannot be written",
            Self::Files => "the file of the embedded database was deleted, replaced or damaged",
        }
    }
}

/// The health of one account.
#[derive(Debug, Clone)]
pub struct Health {
    /// The account.
    pub account_id: AccountId,
    /// The hosts that have been looked up.
    pub hosts: Vec<KnownHost>,
    /// The hosts with an open circuit breaker, among the hosts that were called recently.
    pub unavailable_hosts: Vec<UnavailableHost>,
    /// The times of the current `AppJWT`, without which nothing is sent; `None` until it is first
    /// needed.
    pub app_token: Option<TokenTimes>,
    /// The last fault, if there was one.
    pub last_error: Option<LastError>,
}

/// The host of a service of the Cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// The domain API's name for the service.
    pub service: &'static str,
    /// The host and port of the service.
    pub host: String,
    /// The time of the lookup.
    pub looked_up_at: DateTime<Utc>,
}

/// A host with an open circuit breaker, which gets only single probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnavailableHost {
    /// The host and port.
    pub host: String,
    /// The number of consecutive failures.
    pub failures: u32,
    /// The name of the latest failure.
    pub error: &'static str,
}

/// The times of a token. The token itself is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    /// The time at which it was requested.
    pub obtained_at: DateTime<Utc>,
    /// The time from which it is renewed.
    pub renew_at: DateTime<Utc>,
    /// The time from which it is no longer valid.
    pub expires_at: DateTime<Utc>,
}

/// A request that the Cloud did not serve, for a reason that lies outside of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError {
    /// The time of the failure.
    pub at: DateTime<Utc>,
    /// The operation, such as `cloud.send`.
    pub operation: &'static str,
    /// The name of the failure.
    pub error: &'static str,
}
