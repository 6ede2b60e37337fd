//! Gauges, which are measured when metrics are requested: backlogs, unreachable hosts, connections
//! in use.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use crate::bridge::Bridge;
use crate::store;
use crate::telemetry::metrics::{
    CALLBACK_FAILURES, CALLBACK_PAUSED, CLOCK_OFFSET, CONNECTIONS, DELIVERY_LANES, HOSTS_AWAY,
    Metrics, OLDEST_EVENT, OLDEST_REQUEST, PENDING_CLOSES, QUEUED_LANES, QUEUED_REQUESTS,
    STORAGE_UP,
};
use crate::types::status::Backlog;

/// 3 s: the time limit of the measurement. Clients usually wait 10 s, and get everything else even
/// if the database does not answer.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(3);

impl Bridge {
    /// Returns all current metrics of the service, in the text format of Prometheus.
    pub async fn metrics(&self) -> String {
        let metrics = &self.parts.metrics;
        for (account, count) in self.parts.cloud.unavailable_host_counts() {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics.set(&HOSTS_AWAY, [account.as_str()], count.into());
        }
        if let Some(offset) = self.parts.clock.machine_offset() {
            metrics.set(&CLOCK_OFFSET, [], offset.as_seconds_f64());
        }
        let measured = timeout(QUERY_LIMIT, self.measure_backlogs()).await;
        let is_up = matches!(measured, Ok(Ok(())));
        metrics.set(&STORAGE_UP, [], u8::from(is_up).into());
        // This is read after the database was queried, so that the connection of those queries is
        // idle again.
        for pool in self.parts.store.connections() {
            metrics.set(&CONNECTIONS, [pool.pool, "in_use"], pool.in_use.into());
            metrics.set(&CONNECTIONS, [pool.pool, "idle"], pool.idle.into());
        }
        if let Ok(Err(error)) = measured
            && !error.is_outage()
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "pending work could not be counted"
            );
        }
        metrics.render()
    }

    async fn measure_backlogs(&self) -> Result<(), store::Error> {
        let (store, metrics) = (&self.parts.store, &self.parts.metrics);
        let lanes = store.request_lanes().await?;
        metrics.set(&QUEUED_LANES, [], lanes.into());
        let now = self.parts.clock.now();
        for backlog in store.backlogs(self.parts.channels.keys()).await? {
            set_gauges(metrics, &backlog, now);
        }
        let closes = store.close_backlogs().await?;
        let accounts = self.parts.channels.values().map(|it| &it.account_id);
        for account in accounts.collect::<BTreeSet<_>>() {
            let waiting = closes.iter().find(|it| it.account_id == *account);
            let waiting = waiting.map_or(0, |it| it.waiting);
            metrics.set(&PENDING_CLOSES, [account.as_str()], waiting.into());
        }
        Ok(())
    }
}

fn set_gauges(metrics: &Metrics, backlog: &Backlog, now: DateTime<Utc>) {
    let channel = [backlog.channel_id.as_str()];
    metrics.set(&QUEUED_REQUESTS, channel, backlog.requests.into());
    metrics.set(&OLDEST_REQUEST, channel, age(backlog.oldest_request, now));
    metrics.set(&DELIVERY_LANES, channel, backlog.delivery_lanes.into());
    metrics.set(&OLDEST_EVENT, channel, age(backlog.oldest_event, now));
    let failures = backlog.callback_failures;
    metrics.set(&CALLBACK_FAILURES, channel, failures.into());
    let paused = u8::from(backlog.callback_pause.is_some());
    metrics.set(&CALLBACK_PAUSED, channel, paused.into());
}

/// Returns the seconds since a moment, at least zero: clocks of two replicas may differ a little.
fn age(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> f64 {
    let age = at.map_or(TimeDelta::zero(), |at| now - at);
    age.to_std().unwrap_or_default().as_secs_f64()
}
