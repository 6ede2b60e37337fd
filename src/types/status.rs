//! The state of the parts of the service, for operators.

use chrono::{DateTime, Utc};

use super::delivery::Pause;
use super::ids::{AccountId, ChannelId};

/// What of a channel waits, over all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The channel.
    pub channel_id: ChannelId,
    /// Requests that the Cloud does not have yet, up to 100,000.
    pub requests: u32,
    /// When the oldest of them came.
    pub oldest_request: Option<DateTime<Utc>>,
    /// Users with events that are still to be delivered, up to 100,000.
    pub delivery_lanes: u32,
    /// When the oldest event that is still to be delivered was stored.
    pub oldest_event: Option<DateTime<Utc>>,
    /// Deliveries to the callback that failed in a row.
    pub callback_failures: u32,
    /// Why the callback is paused, where it is.
    pub callback_pause: Option<Pause>,
}

/// Which of the two databases it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// A PostgreSQL that replicas share.
    Postgres,
    /// The embedded one.
    Sqlite,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// What they are for.
    pub pool: &'static str,
    /// Those that a statement is using.
    pub in_use: u32,
    /// Those that wait for one.
    pub idle: u32,
}

/// The closes that an account waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseBacklog {
    /// The account.
    pub account_id: AccountId,
    /// How many, up to 100,000 over all accounts.
    pub waiting: u32,
    /// When the oldest of these users was erased.
    pub oldest: DateTime<Utc>,
}

/// Why the database is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It gives no sign of life.
    Silent,
    /// It takes no writes: its disk is full, or it has become a standby.
    Unwritable,
    /// A file of the embedded one was deleted, replaced or damaged.
    Files,
}

impl Outage {
    /// The same in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Silent => "the storage does not answer",
            Self::Unwritable => "the storage cannot be written",
            Self::Files => "the file of the embedded database was deleted, replaced or damaged",
        }
    }
}

/// How one account fares.
#[derive(Debug, Clone)]
pub struct Health {
    /// The account.
    pub account_id: AccountId,
    /// The hosts that are known by now.
    pub hosts: Vec<KnownHost>,
    /// Those that are taken for away, of those that were tried lately.
    pub away: Vec<AwayHost>,
    /// The `AppJWT` at hand, without which nothing is sent; none before it is first needed.
    pub app_token: Option<TokenTimes>,
    /// What went wrong last, if anything did.
    pub last_trouble: Option<Trouble>,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// The domain API's name for the service.
    pub service: &'static str,
    /// Its host and port.
    pub host: String,
    /// When that was looked up.
    pub looked_up_at: DateTime<Utc>,
}

/// A host that nothing but single probes are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwayHost {
    /// The host and port.
    pub host: String,
    /// Failures in a row.
    pub failures: u32,
    /// The word for the latest of them.
    pub error: &'static str,
}

/// The times of a token; the token itself is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    /// When it was asked for.
    pub obtained_at: DateTime<Utc>,
    /// From then on it is renewed.
    pub renew_at: DateTime<Utc>,
    /// From then on it is of no use.
    pub expires_at: DateTime<Utc>,
}

/// A request that the Cloud did not serve, for a reason that is not the request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// When it failed.
    pub at: DateTime<Utc>,
    /// What was asked for, such as `cloud.send`.
    pub operation: &'static str,
    /// The word for why.
    pub error: &'static str,
}
