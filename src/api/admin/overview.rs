//! The overview of the replica, its database, the accounts and the channels.

use axum::Json as Body;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Admin;
use crate::bridge::{ChannelOverview, Overview};
use crate::types::delivery::{DeliveryCounts, PROBE_AFTER_FAILURES, Pause};
use crate::types::rejection::Rejected;
use crate::types::status::{Backlog, CloseBacklog, EngineKind, Health, Outage};

/// The overview, as this replica sees it.
#[derive(Debug, Serialize)]
pub(super) struct OverviewView {
    version: &'static str,
    now: DateTime<Utc>,
    started_at: DateTime<Utc>,
    ready: bool,
    /// The reasons for which the service is not ready.
    reasons: Vec<&'static str>,
    /// True if an operator key is configured, so that operators may act.
    may_act: bool,
    database: DatabaseView,
    accounts: Vec<AccountView>,
    /// Rejected notifications for accounts that are not configured.
    foreign_notifications: Vec<RejectedView>,
    channels: Vec<ChannelView>,
}

/// Notifications that were rejected for the same reason, over all replicas.
#[derive(Debug, Serialize)]
struct RejectedView {
    reason: &'static str,
    /// True if they were answered with a 4xx. The others have a valid signature but could not be
    /// used.
    refused: bool,
    count: u64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct DatabaseView {
    engine: &'static str,
    answers: bool,
    /// True if it accepts writes, without which no action is possible.
    writable: bool,
    /// The connections of this replica.
    connections: Vec<ConnectionsView>,
}

#[derive(Debug, Serialize)]
struct ConnectionsView {
    pool: &'static str,
    in_use: u32,
    idle: u32,
}

#[derive(Debug, Serialize)]
struct AccountView {
    id: String,
    /// The hosts of its services that have been looked up.
    hosts: Vec<HostView>,
    hosts_away: Vec<UnavailableHostView>,
    app_token: Option<TokenView>,
    last_trouble: Option<LastErrorView>,
    /// The pending closes of erased users' conversations.
    erasure_closes: WaitingView,
    /// The notifications that were rejected, the latest first.
    rejected_notifications: Vec<RejectedView>,
}

#[derive(Debug, Serialize)]
struct HostView {
    service: &'static str,
    host: String,
    looked_up_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct UnavailableHostView {
    host: String,
    failures: u32,
    error: &'static str,
}

#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of all times end in _at"
)]
struct TokenView {
    obtained_at: DateTime<Utc>,
    renew_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct LastErrorView {
    at: DateTime<Utc>,
    operation: &'static str,
    error: &'static str,
}

/// A channel. Fields that come from the database are left out while it does not answer.
#[derive(Debug, Serialize)]
struct ChannelView {
    id: String,
    account_id: String,
    /// True if the channel has a callback URL.
    has_callback: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<WaitingView>,
    /// The users with pending deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<WaitingView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<CountsView>,
}

#[derive(Debug, Serialize)]
struct WaitingView {
    waiting: u32,
    oldest_at: Option<DateTime<Utc>>,
}

/// The state of a callback URL.
#[derive(Debug, Serialize)]
pub(super) struct CallbackView {
    state: CallbackState,
    /// The number of failures in a row.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<PausedBy>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum CallbackState {
    /// Every event is sent, and the last one was accepted.
    Active,
    /// Every event is sent, and the last few failed.
    Failing,
    /// A single event at a time is sent, since many have failed in a row.
    Probed,
    /// Nothing is sent.
    Paused,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum PausedBy {
    Operator,
    /// The callback has answered 410.
    Gone,
}

#[derive(Debug, Serialize)]
struct CountsView {
    pending: u32,
    failed: u32,
    delivered: u32,
    /// The number of newest events that are examined to count `delivered`.
    recent: u32,
    /// The number at which the counting of `pending` and `failed` stops.
    most: u32,
}

pub(super) async fn show(State(admin): State<Admin>) -> Body<OverviewView> {
    let overview = admin.bridge.overview().await;
    let storage = if overview.storage_answers {
        admin.bridge.check_storage().await
    } else {
        Err(Outage::Silent)
    };
    Body(OverviewView::new(&admin, overview, storage))
}

impl OverviewView {
    fn new(admin: &Admin, overview: Overview, storage: Result<(), Outage>) -> Self {
        let reasons = admin.readiness.reasons_with(storage);
        let connections = overview
            .connections
            .into_iter()
            .map(|pool| ConnectionsView {
                pool: pool.pool,
                in_use: pool.in_use,
                idle: pool.idle,
            });
        let rejections = overview.rejections;
        let foreign = rejections.iter().filter(|it| it.account_id.is_none());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: admin.clock.now(),
            started_at: admin.started_at,
            ready: reasons.is_empty(),
            reasons,
            may_act: admin.operators.may_act(),
            database: DatabaseView {
                engine: match overview.engine {
                    EngineKind::Postgres => "PostgreSQL",
                    EngineKind::Sqlite => "SQLite",
                },
                answers: overview.storage_answers,
                writable: storage.is_ok(),
                connections: connections.collect(),
            },
            accounts: overview
                .accounts
                .into_iter()
                .map(|health| AccountView::new(health, &overview.closes, &rejections))
                .collect(),
            foreign_notifications: foreign.map(RejectedView::from).collect(),
            channels: overview
                .channels
                .into_iter()
                .map(ChannelView::from)
                .collect(),
        }
    }
}

impl AccountView {
    fn new(health: Health, closes: &[CloseBacklog], rejections: &[Rejected]) -> Self {
        let closes = closes.iter().find(|it| it.account_id == health.account_id);
        let rejected = rejections
            .iter()
            .filter(|it| it.account_id.as_ref() == Some(&health.account_id));
        let rejected_notifications = rejected.map(RejectedView::from).collect();
        let hosts = health.hosts.into_iter().map(|known| HostView {
            service: known.service,
            host: known.host,
            looked_up_at: known.looked_up_at,
        });
        let unavailable = health.unavailable_hosts.into_iter();
        let away = unavailable.map(|away| UnavailableHostView {
            host: away.host,
            failures: away.failures,
            error: away.error,
        });
        Self {
            id: health.account_id.to_string(),
            hosts: hosts.collect(),
            hosts_away: away.collect(),
            app_token: health.app_token.map(|times| TokenView {
                obtained_at: times.obtained_at,
                renew_at: times.renew_at,
                expires_at: times.expires_at,
            }),
            last_trouble: health.last_error.map(|error| LastErrorView {
                at: error.at,
                operation: error.operation,
                error: error.error,
            }),
            erasure_closes: WaitingView {
                waiting: closes.map_or(0, |it| it.waiting),
                oldest_at: closes.map(|it| it.oldest),
            },
            rejected_notifications,
        }
    }
}

impl From<&Rejected> for RejectedView {
    fn from(rejected: &Rejected) -> Self {
        Self {
            reason: rejected.reason.as_str(),
            refused: rejected.reason.is_refusal(),
            count: rejected.count,
            first_at: rejected.first_at,
            last_at: rejected.last_at,
        }
    }
}

impl From<ChannelOverview> for ChannelView {
    fn from(overview: ChannelOverview) -> Self {
        let has_callback = overview.channel.deliver_for.is_some();
        let backlog = overview.backlog.as_ref();
        let waiting = |waiting, oldest_at| WaitingView { waiting, oldest_at };
        Self {
            id: overview.channel.id.to_string(),
            account_id: overview.channel.account_id.to_string(),
            has_callback,
            requests: backlog.map(|it| waiting(it.requests, it.oldest_request)),
            lanes: backlog.map(|it| waiting(it.delivery_lanes, it.oldest_event)),
            callback: backlog.filter(|_| has_callback).map(CallbackView::from),
            deliveries: overview.deliveries.map(CountsView::from),
        }
    }
}

impl From<&Backlog> for CallbackView {
    fn from(backlog: &Backlog) -> Self {
        let (failures, pause) = (backlog.callback_failures, backlog.callback_pause);
        let state = match failures {
            _ if pause.is_some() => CallbackState::Paused,
            0 => CallbackState::Active,
            _ if failures < PROBE_AFTER_FAILURES => CallbackState::Failing,
            _ => CallbackState::Probed,
        };
        let by = |pause: Pause| {
            if pause.by_operator {
                PausedBy::Operator
            } else {
                PausedBy::Gone
            }
        };
        Self {
            state,
            failures,
            paused_at: pause.map(|pause| pause.since),
            paused_by: pause.map(by),
        }
    }
}

impl From<DeliveryCounts> for CountsView {
    fn from(counts: DeliveryCounts) -> Self {
        Self {
            pending: counts.pending,
            failed: counts.failed,
            delivered: counts.delivered,
            recent: counts.recent,
            most: DeliveryCounts::MAX,
        }
    }
}
