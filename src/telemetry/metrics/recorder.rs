//! The recorder, which stores the values of one service's metrics and renders them for Prometheus.
//!
//! Nothing is global: each service in a process has its own recorder, which is passed to its parts.
//! To count, a caller looks up the metric's handle by its labels and adds to an atomic number. It
//! does not wait while the metrics are read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::time::{MissedTickBehavior, interval};

use super::handles::Handles;
use super::{
    ALL, BUILD, Counter, DROPPED, Definition, EXPIRED, Gauge, Histogram, Kind, MATCHED_LATER,
    MEMORY, OPEN_FILES, process,
};

/// 5 s: the interval at which the observations of histograms are aggregated. Until then each
/// observation is stored.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metadata of the caller, which the recorder ignores.
const METADATA: Metadata<'_> = Metadata::new("liveperson_bridge", Level::INFO, None);

/// The metrics of one service. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    counters: Handles<metrics::Counter>,
    histograms: Handles<metrics::Histogram>,
}

impl Metrics {
    /// Adds to a counter.
    pub fn count<const LABELS: usize>(
        &self,
        counter: &Counter<LABELS>,
        labels: [&str; LABELS],
        by: u64,
    ) {
        let Counter(metric) = counter;
        let counter = self.0.counters.get(metric.name, &labels, || {
            let key = key(metric, labels);
            self.0.recorder.register_counter(&key, &METADATA)
        });
        counter.increment(by);
    }

    /// Sets a gauge.
    pub fn set<const LABELS: usize>(
        &self,
        gauge: &Gauge<LABELS>,
        labels: [&str; LABELS],
        value: f64,
    ) {
        let key = key(&gauge.0, labels);
        self.0.recorder.register_gauge(&key, &METADATA).set(value);
    }

    /// Adds an observation to a histogram.
    pub fn observe<const LABELS: usize>(
        &self,
        histogram: &Histogram<LABELS>,
        labels: [&str; LABELS],
        value: f64,
    ) {
        let Histogram(metric) = histogram;
        let histogram = self.0.histograms.get(metric.name, &labels, || {
            let key = key(metric, labels);
            self.0.recorder.register_histogram(&key, &METADATA)
        });
        histogram.record(value);
    }

    /// Aggregates observations at an interval, so that they do not pile up if the metrics are not
    /// read.
    pub async fn run_upkeep(self) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.0.handle.run_upkeep();
        }
    }

    /// Renders all metrics in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(kib) = process::resident_kib() {
            self.set(&MEMORY, [], f64::from(kib) * 1024.0);
        }
        if let Some(files) = process::open_files() {
            self.set(&OPEN_FILES, [], f64::from(files));
        }
        self.0.handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let recorder = recorder();
        for metric in ALL {
            let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        let metrics = Self(Arc::new(Inner {
            recorder,
            handle,
            counters: Handles::default(),
            histograms: Handles::default(),
        }));
        metrics.set(&BUILD, [env!("CARGO_PKG_VERSION")], 1.0);
        // These counters exist from the start, so that their first event is an increase.
        for counter in [&EXPIRED, &MATCHED_LATER, &DROPPED] {
            metrics.count(counter, [], 0);
        }
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[expect(
    clippy::expect_used,
    reason = "only a histogram without buckets is refused, and a test checks that each has some"
)]
fn recorder() -> PrometheusRecorder {
    let histograms = ALL.iter().filter(|metric| metric.kind == Kind::Histogram);
    let builder = histograms.fold(PrometheusBuilder::new(), |builder, metric| {
        let name = Matcher::Full(metric.name.to_owned());
        let with_buckets = builder.set_buckets_for_metric(name, metric.buckets);
        with_buckets.expect("a histogram has buckets")
    });
    builder.build_recorder()
}

fn key<const LABELS: usize>(metric: &Definition, values: [&str; LABELS]) -> Key {
    if LABELS == 0 {
        return Key::from_static_name(metric.name);
    }
    let pairs = metric.labels.iter().zip(values);
    let labels: Vec<_> = pairs
        .map(|(name, value)| Label::new(*name, value.to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}

#[cfg(test)]
mod tests {
    use super::super::{QUEUED_REQUESTS, REQUESTS};
    use super::*;

    #[test]
    fn recorded_metrics_are_rendered_with_help_type_and_labels() {
        let metrics = Metrics::default();

        metrics.set(&QUEUED_REQUESTS, ["sms"], 3.0);
        metrics.observe(&REQUESTS, ["/v1/users/{user_id}", "GET", "200"], 0.2);
        metrics.observe(&REQUESTS, ["/v1/users/{user_id}", "GET", "200"], 7.0);

        let text = metrics.render();
        for line in [
            "# TYPE liveperson_bridge_queued_requests gauge",
            "liveperson_bridge_queued_requests{channel=\"sms\"} 3",
            "# TYPE liveperson_bridge_http_request_seconds histogram",
            "liveperson_bridge_http_request_seconds_bucket{route=\"/v1/users/{user_id}\",method=\"GET\",status=\"200\",le=\"0.25\"} 1",
            "liveperson_bridge_http_request_seconds_count{route=\"/v1/users/{user_id}\",method=\"GET\",status=\"200\"} 2",
            "liveperson_bridge_webhook_changes_dropped_total 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
        let help = "# HELP liveperson_bridge_queued_requests Queued requests";
        assert!(text.contains(help), "{text}");
    }

    #[test]
    fn two_services_in_a_process_share_no_metrics() {
        let (one, other) = (Metrics::default(), Metrics::default());

        one.count(&EXPIRED, [], 2);

        assert!(
            one.render()
                .contains("liveperson_bridge_deliveries_expired_total 2")
        );
        assert!(
            other
                .render()
                .contains("liveperson_bridge_deliveries_expired_total 0")
        );
    }
}
