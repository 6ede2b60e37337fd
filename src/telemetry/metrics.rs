//! The table of all metrics of the service.
//!
//! It holds each metric with its unit, its labels and its meaning. `docs/metrics.md` says the same
//! to operators, and a test compares the two. A label has few values, all from the code or the
//! configuration: never a user, a URL, a text or a token. Code that counts names a metric of this
//! table. The compiler checks that the code fits the metric's type and gives a value for each
//! label. The recorder stores and renders the values.
//!
//! To add a metric:
//!
//! 1. Add a constant here, and list it in [`ALL`].
//! 2. Add a row to `docs/metrics.md` at the same position and with the same text, and a row for a
//!    new label.
//! 3. Add a panel to `deploy/grafana/liveperson-bridge.json`.
//! 4. Call `Metrics` in the code that counts. A counter without labels is set to 0 in
//!    `recorder.rs`; a gauge that has to be looked up gets its value in `bridge/queue_metrics.rs`.

mod handles;
mod process;
mod recorder;

pub use recorder::Metrics;

/// The type of a metric in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that only grows until the process ends.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// The number of observations by size, and their sum.
    Histogram,
}

impl Kind {
    /// Returns Prometheus' name for the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of the table.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name. The last part is the unit, or `total` for a counter.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its description, in one line.
    pub help: &'static str,
    /// The upper bounds of a histogram's buckets.
    buckets: &'static [f64],
}

/// A counter with `LABELS` labels.
#[derive(Debug)]
pub struct Counter<const LABELS: usize>(Definition);

/// A gauge with `LABELS` labels.
#[derive(Debug)]
pub struct Gauge<const LABELS: usize>(Definition);

/// A histogram with `LABELS` labels.
#[derive(Debug)]
pub struct Histogram<const LABELS: usize>(Definition);

/// Bucket bounds in seconds for a caller's waiting time. The shortest wait is for one database
/// statement, the longest for a file that arrives slowly.
const WAIT_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Bucket bounds in seconds for work that may wait for hours.
const LAG_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0,
];

/// Bucket bounds in seconds for a transaction. The Cloud waits for 2.5 s.
const COMMIT_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Bucket bounds for the number of changes that share a transaction.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const fn counter<const LABELS: usize>(
    name: &'static str,
    labels: &'static [&'static str; LABELS],
    help: &'static str,
) -> Counter<LABELS> {
    Counter(Definition {
        name,
        kind: Kind::Counter,
        labels,
        help,
        buckets: &[],
    })
}

const fn gauge<const LABELS: usize>(
    name: &'static str,
    labels: &'static [&'static str; LABELS],
    help: &'static str,
) -> Gauge<LABELS> {
    Gauge(Definition {
        name,
        kind: Kind::Gauge,
        labels,
        help,
        buckets: &[],
    })
}

const fn histogram<const LABELS: usize>(
    name: &'static str,
    labels: &'static [&'static str; LABELS],
    buckets: &'static [f64],
    help: &'static str,
) -> Histogram<LABELS> {
    Histogram(Definition {
        name,
        kind: Kind::Histogram,
        labels,
        help,
        buckets,
    })
}

/// The time from a request to the beginning of its answer.
pub const REQUESTS: Histogram<3> = histogram(
    "liveperson_bridge_http_request_seconds",
    &["route", "method", "status"],
    WAIT_BUCKETS,
    "Time from a request of a channel or of the Cloud until its answer begins",
);

/// Requests that were answered with a problem.
pub const PROBLEMS: Counter<1> = counter(
    "liveperson_bridge_http_problems_total",
    &["code"],
    "Requests that were answered with a problem, by code",
);

/// Requests with an idempotency key.
pub const KEYED_REQUESTS: Counter<2> = counter(
    "liveperson_bridge_idempotency_requests_total",
    &["channel", "outcome"],
    "Requests with an Idempotency-Key: fresh, replayed, resumed, in_use or reused",
);

/// The duration of attempts to send a request to the Cloud.
pub const CLOUD_REQUESTS: Histogram<2> = histogram(
    "liveperson_bridge_cloud_request_seconds",
    &["operation", "outcome"],
    WAIT_BUCKETS,
    "Duration of attempts to send a request to the Cloud, by outcome",
);

/// Requests for a new `AppJWT`.
pub const APP_TOKENS: Counter<2> = counter(
    "liveperson_bridge_cloud_app_token_renewals_total",
    &["account", "outcome"],
    "AppJWTs that were requested, by outcome",
);

/// Hosts of the Cloud with an open circuit breaker.
pub const HOSTS_AWAY: Gauge<1> = gauge(
    "liveperson_bridge_cloud_hosts_away",
    &["account"],
    "Hosts of the Cloud with an open circuit breaker: they get single probes only",
);

/// Queued requests.
pub const QUEUED_REQUESTS: Gauge<1> = gauge(
    "liveperson_bridge_queued_requests",
    &["channel"],
    "Queued requests, of all replicas; counted up to 100000",
);

/// Users with queued requests.
pub const QUEUED_LANES: Gauge<0> = gauge(
    "liveperson_bridge_queued_lanes",
    &[],
    "Users with queued requests, of all replicas; counted up to 100000",
);

/// The age of the oldest queued request.
pub const OLDEST_REQUEST: Gauge<1> = gauge(
    "liveperson_bridge_oldest_queued_request_seconds",
    &["channel"],
    "Age of the oldest queued request; 0 if there is none",
);

/// Pending closes.
pub const PENDING_CLOSES: Gauge<1> = gauge(
    "liveperson_bridge_erasure_closes",
    &["account"],
    "Conversations of erased users that the Cloud has still to close, of all replicas; counted up to 100000",
);

/// Pending closes that were given up.
pub const CLOSES_DROPPED: Counter<1> = counter(
    "liveperson_bridge_erasure_closes_dropped_total",
    &["account"],
    "Conversations of erased users that could not be closed within 24 hours and were left to the Cloud",
);

/// The duration of attempts to deliver an event.
pub const DELIVERY_ATTEMPTS: Histogram<2> = histogram(
    "liveperson_bridge_delivery_attempt_seconds",
    &["channel", "outcome"],
    WAIT_BUCKETS,
    "Duration of attempts to deliver an event to a callback: delivered, refused (422), gone (410) or failed",
);

/// The time from the storage of an event to its delivery.
pub const DELIVERY_LAG: Histogram<1> = histogram(
    "liveperson_bridge_delivery_lag_seconds",
    &["channel"],
    LAG_BUCKETS,
    "Time from the storage of an event to its delivery",
);

/// Events that grew too old before they were delivered.
pub const EXPIRED: Counter<0> = counter(
    "liveperson_bridge_deliveries_expired_total",
    &[],
    "Events that became too old before they were delivered",
);

/// Users with undelivered events.
pub const DELIVERY_LANES: Gauge<1> = gauge(
    "liveperson_bridge_delivery_lanes",
    &["channel"],
    "Users with pending events, of all replicas; counted up to 100000",
);

/// The age of the oldest undelivered event.
pub const OLDEST_EVENT: Gauge<1> = gauge(
    "liveperson_bridge_oldest_undelivered_event_seconds",
    &["channel"],
    "Age of the oldest pending event; 0 if there is none",
);

/// The number of consecutive failed deliveries to a callback.
pub const CALLBACK_FAILURES: Gauge<1> = gauge(
    "liveperson_bridge_callback_failures",
    &["channel"],
    "Consecutive failed deliveries to the callback; from 20 on it gets single probes only",
);

/// 1 if a callback is paused, else 0.
pub const CALLBACK_PAUSED: Gauge<1> = gauge(
    "liveperson_bridge_callback_paused",
    &["channel"],
    "1 if the callback is paused, by an operator or because it answered 410; else 0",
);

/// The duration of transactions that store notifications.
pub const WEBHOOK_COMMITS: Histogram<1> = histogram(
    "liveperson_bridge_webhook_commit_seconds",
    &["outcome"],
    COMMIT_BUCKETS,
    "Duration of transactions that store notifications of the Cloud: stored or failed",
);

/// The number of changes that share a transaction.
pub const WEBHOOK_BATCHES: Histogram<0> = histogram(
    "liveperson_bridge_webhook_batch_changes",
    &[],
    BATCH_BUCKETS,
    "Number of changes that share a transaction",
);

/// Changes that the Cloud reported.
pub const WEBHOOK_CHANGES: Counter<2> = counter(
    "liveperson_bridge_webhook_changes_total",
    &["account", "fate"],
    "Changes that the Cloud reported: taken, adopted, duplicate, unmatched, other_connector, withheld, erased, not_understood or too_old",
);

/// Notifications that were rejected.
pub const WEBHOOK_REJECTED: Counter<2> = counter(
    "liveperson_bridge_webhook_rejected_total",
    &["account", "reason"],
    "Notifications that were refused, or signed but not used, by reason",
);

/// Unmatched changes whose conversation became known.
pub const MATCHED_LATER: Counter<0> = counter(
    "liveperson_bridge_webhook_changes_matched_later_total",
    &[],
    "Unmatched changes whose conversation became known",
);

/// Unmatched changes that were dropped.
pub const DROPPED: Counter<0> = counter(
    "liveperson_bridge_webhook_changes_dropped_total",
    &[],
    "Unmatched changes that were dropped after 10 minutes: those of other connectors, or lost ones",
);

/// Connections to the database.
pub const CONNECTIONS: Gauge<2> = gauge(
    "liveperson_bridge_storage_connections",
    &["pool", "state"],
    "Connections to the database: in_use or idle",
);

/// 1 if the database answers, else 0.
pub const STORAGE_UP: Gauge<0> = gauge(
    "liveperson_bridge_storage_up",
    &[],
    "1 if the database answered the last query for these metrics; else 0, and they keep their last values",
);

/// The difference between the machine's clock and the clock that the service follows.
pub const CLOCK_OFFSET: Gauge<0> = gauge(
    "liveperson_bridge_clock_offset_seconds",
    &[],
    "The machine's clock minus the clock that the service follows: the database's, or with the embedded database the service's own",
);

/// The version of the running build.
pub const BUILD: Gauge<1> = gauge(
    "liveperson_bridge_build_info",
    &["version"],
    "Always 1; the label is the version of the running build",
);

/// The memory of the process; the name is Prometheus' own.
pub const MEMORY: Gauge<0> = gauge(
    "process_resident_memory_bytes",
    &[],
    "Resident memory of the process; Linux only",
);

/// The open files of the process; the name is Prometheus' own.
pub const OPEN_FILES: Gauge<0> = gauge(
    "process_open_fds",
    &[],
    "Open files and connections of the process; Linux only",
);

/// All metrics, in the order in which they are documented.
pub const ALL: &[Definition] = &[
    REQUESTS.0,
    PROBLEMS.0,
    KEYED_REQUESTS.0,
    CLOUD_REQUESTS.0,
    APP_TOKENS.0,
    HOSTS_AWAY.0,
    QUEUED_REQUESTS.0,
    QUEUED_LANES.0,
    OLDEST_REQUEST.0,
    PENDING_CLOSES.0,
    CLOSES_DROPPED.0,
    DELIVERY_ATTEMPTS.0,
    DELIVERY_LAG.0,
    EXPIRED.0,
    DELIVERY_LANES.0,
    OLDEST_EVENT.0,
    CALLBACK_FAILURES.0,
    CALLBACK_PAUSED.0,
    WEBHOOK_COMMITS.0,
    WEBHOOK_BATCHES.0,
    WEBHOOK_CHANGES.0,
    WEBHOOK_REJECTED.0,
    MATCHED_LATER.0,
    DROPPED.0,
    CONNECTIONS.0,
    STORAGE_UP.0,
    CLOCK_OFFSET.0,
    BUILD.0,
    MEMORY.0,
    OPEN_FILES.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_follow_the_conventions_and_are_unique() {
        for (index, metric) in ALL.iter().enumerate() {
            let ours = metric.name.starts_with("liveperson_bridge_");
            assert!(
                ours || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            let others = ALL.iter().skip(index + 1);
            assert!(others.into_iter().all(|other| other.name != metric.name));
        }
    }

    #[test]
    fn only_histograms_have_buckets_and_they_ascend() {
        for metric in ALL {
            let is_histogram = metric.kind == Kind::Histogram;
            assert_eq!(!metric.buckets.is_empty(), is_histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
        }
    }
}
