//! What the service counts: the table of all metrics, in one place.
//!
//! Everything that is counted stands here with its unit, its labels and what it means; `docs/metrics.md` says the same to
//! operators, and a test compares the two. A label has few values, all of them words of the code or of the configuration:
//! never a user, a URL, a text or a token. Whoever counts names a metric of this table, and the compiler checks that it
//! is one of its kind and gets a value for each label. How it is kept and shown is the recorder's.
//!
//! To add a metric:
//!
//! 1. a constant here, and its place in [`ALL`];
//! 2. a row in `docs/metrics.md` at the same place and in the same words, and one for a new label;
//! 3. a panel in `deploy/grafana/liveperson-bridge.json`;
//! 4. a call of `Metrics` where it is counted. A counter without labels begins at 0 in `recorder.rs`; a gauge that has to be
//!    looked up gets its value in `bridge/gauges.rs`.

mod handles;
mod process;
mod recorder;

pub use recorder::Metrics;

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It comes and goes.
    Gauge,
    /// How many there were, by size, and their sum.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
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
    /// Its name; the last part is the unit, or `total` of a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means: one line.
    pub help: &'static str,
    /// The upper bounds of a histogram's buckets.
    buckets: &'static [f64],
}

/// A counter with so many labels.
#[derive(Debug)]
pub struct Counter<const LABELS: usize>(Definition);

/// A gauge with so many labels.
#[derive(Debug)]
pub struct Gauge<const LABELS: usize>(Definition);

/// A histogram with so many labels.
#[derive(Debug)]
pub struct Histogram<const LABELS: usize>(Definition);

/// Seconds of what somebody waits for: from a statement to a file that arrives slowly.
const WAITED: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Seconds of what may wait for hours.
const LAG: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0,
];

/// Seconds of a transaction; the Cloud waits for 2.5.
const COMMIT: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Changes that share a transaction.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

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

/// Requests to the facade.
pub const REQUESTS: Histogram<3> = histogram(
    "liveperson_bridge_http_request_seconds",
    &["route", "method", "status"],
    WAITED,
    "Requests of channels and of the Cloud, until their answer begins",
);

/// Requests that were answered with a problem.
pub const PROBLEMS: Counter<1> = counter(
    "liveperson_bridge_http_problems_total",
    &["code"],
    "Requests that were answered with a problem, by its code",
);

/// Requests with a key.
pub const KEYED_REQUESTS: Counter<2> = counter(
    "liveperson_bridge_idempotency_requests_total",
    &["channel", "outcome"],
    "Requests with an Idempotency-Key: fresh, replayed, resumed, in_use or reused",
);

/// Requests to the Cloud.
pub const CLOUD_REQUESTS: Histogram<2> = histogram(
    "liveperson_bridge_cloud_request_seconds",
    &["operation", "outcome"],
    WAITED,
    "Tries of requests to the Cloud, by what came of them",
);

/// `AppJWT`s that were asked for.
pub const APP_TOKENS: Counter<2> = counter(
    "liveperson_bridge_cloud_app_token_renewals_total",
    &["account", "outcome"],
    "AppJWTs that were asked for, by what came of it",
);

/// Hosts of the Cloud that nothing is sent to.
pub const HOSTS_AWAY: Gauge<1> = gauge(
    "liveperson_bridge_cloud_hosts_away",
    &["account"],
    "Hosts of the Cloud whose breaker is open: they get single probes alone",
);

/// Requests that wait for the Cloud.
pub const QUEUED_REQUESTS: Gauge<1> = gauge(
    "liveperson_bridge_queued_requests",
    &["channel"],
    "Accepted requests that the Cloud does not have yet, of all replicas; counted to 100000",
);

/// Users of whom requests wait.
pub const QUEUED_LANES: Gauge<0> = gauge(
    "liveperson_bridge_queued_lanes",
    &[],
    "Users with accepted requests that the Cloud does not have yet, of all replicas; counted to 100000",
);

/// The age of the oldest request that waits.
pub const OLDEST_REQUEST: Gauge<1> = gauge(
    "liveperson_bridge_oldest_queued_request_seconds",
    &["channel"],
    "Age of the oldest accepted request that the Cloud does not have yet; 0: there is none",
);

/// Conversations of erased users that are still to be closed.
pub const PENDING_CLOSES: Gauge<1> = gauge(
    "liveperson_bridge_erasure_closes",
    &["account"],
    "Conversations of erased users that the Cloud is still to be told to close, of all replicas; counted to 100000",
);

/// Those that were given up.
pub const CLOSES_DROPPED: Counter<1> = counter(
    "liveperson_bridge_erasure_closes_dropped_total",
    &["account"],
    "Conversations of erased users that could not be closed for 24 hours and were left to the Cloud",
);

/// Tries to deliver an event.
pub const DELIVERY_ATTEMPTS: Histogram<2> = histogram(
    "liveperson_bridge_delivery_attempt_seconds",
    &["channel", "outcome"],
    WAITED,
    "Tries to deliver an event to a callback: delivered, refused (422), gone (410) or failed",
);

/// How long events took.
pub const DELIVERY_LAG: Histogram<1> = histogram(
    "liveperson_bridge_delivery_lag_seconds",
    &["channel"],
    LAG,
    "From when an event was stored until the channel had it",
);

/// Events that nobody got in time.
pub const EXPIRED: Counter<0> = counter(
    "liveperson_bridge_deliveries_expired_total",
    &[],
    "Events that grew too old before the channel had them",
);

/// Users for whom events wait.
pub const DELIVERY_LANES: Gauge<1> = gauge(
    "liveperson_bridge_delivery_lanes",
    &["channel"],
    "Users with events that are still to be delivered, of all replicas; counted to 100000",
);

/// The age of the oldest event that waits.
pub const OLDEST_EVENT: Gauge<1> = gauge(
    "liveperson_bridge_oldest_undelivered_event_seconds",
    &["channel"],
    "Age of the oldest event that is still to be delivered; 0: there is none",
);

/// How a callback fares.
pub const CALLBACK_FAILURES: Gauge<1> = gauge(
    "liveperson_bridge_callback_failures",
    &["channel"],
    "Deliveries to the callback that failed in a row; from 20 on it gets single probes alone",
);

/// Whether a callback is paused.
pub const CALLBACK_PAUSED: Gauge<1> = gauge(
    "liveperson_bridge_callback_paused",
    &["channel"],
    "1 after the callback answered 410, until it is resumed",
);

/// Transactions with notifications.
pub const WEBHOOK_COMMITS: Histogram<1> = histogram(
    "liveperson_bridge_webhook_commit_seconds",
    &["outcome"],
    COMMIT,
    "Transactions in which notifications of the Cloud are stored: stored or failed",
);

/// What shares a transaction.
pub const WEBHOOK_BATCHES: Histogram<0> = histogram(
    "liveperson_bridge_webhook_batch_changes",
    &[],
    BATCH,
    "Changes that shared a transaction",
);

/// What the Cloud told.
pub const WEBHOOK_CHANGES: Counter<2> = counter(
    "liveperson_bridge_webhook_changes_total",
    &["account", "fate"],
    "Changes that the Cloud told of: taken, adopted, duplicate, unmatched, other_connector, withheld, erased, not_understood or too_old",
);

/// Notifications that were not taken.
pub const WEBHOOK_REJECTED: Counter<2> = counter(
    "liveperson_bridge_webhook_rejected_total",
    &["account", "reason"],
    "Notifications that were refused, or signed and of no use, by the reason",
);

/// What was kept and then matched.
pub const MATCHED_LATER: Counter<0> = counter(
    "liveperson_bridge_webhook_changes_matched_later_total",
    &[],
    "Unmatched changes whose conversation became known",
);

/// What was kept and then dropped.
pub const DROPPED: Counter<0> = counter(
    "liveperson_bridge_webhook_changes_dropped_total",
    &[],
    "Unmatched changes that were dropped after 10 minutes: of other connectors, or lost",
);

/// Connections to the database.
pub const CONNECTIONS: Gauge<2> = gauge(
    "liveperson_bridge_storage_connections",
    &["pool", "state"],
    "Connections to the database, in_use or idle",
);

/// Whether the database answers.
pub const STORAGE_UP: Gauge<0> = gauge(
    "liveperson_bridge_storage_up",
    &[],
    "1 when the database told what waits; else 0, and what it last told is shown",
);

/// How far the machine's clock is off.
pub const CLOCK_OFFSET: Gauge<0> = gauge(
    "liveperson_bridge_clock_offset_seconds",
    &[],
    "The machine's clock minus the one that the service goes by: the database's, or of an embedded one the service's own",
);

/// Which build this is.
pub const BUILD: Gauge<1> = gauge(
    "liveperson_bridge_build_info",
    &["version"],
    "Always 1; the label says which build runs",
);

/// The memory of the process; the name is Prometheus' own.
pub const MEMORY: Gauge<0> = gauge(
    "process_resident_memory_bytes",
    &[],
    "Memory that the process holds; Linux alone",
);

/// The open files of the process; the name is Prometheus' own.
pub const OPEN_FILES: Gauge<0> = gauge(
    "process_open_fds",
    &[],
    "Open files and connections of the process; Linux alone",
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
    fn names_follow_the_conventions_and_are_given_once() {
        for (place, metric) in ALL.iter().enumerate() {
            let ours = metric.name.starts_with("liveperson_bridge_");
            assert!(
                ours || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            let others = ALL.iter().skip(place + 1);
            assert!(others.into_iter().all(|other| other.name != metric.name));
        }
    }

    #[test]
    fn buckets_of_histograms_alone_and_growing() {
        for metric in ALL {
            let is_histogram = metric.kind == Kind::Histogram;
            assert_eq!(!metric.buckets.is_empty(), is_histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
        }
    }
}
