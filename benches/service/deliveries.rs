//! Deliveries to a callback. Notifications arrive during a load, and the measurement ends when all
//! of their events are delivered.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::bed::Bed;
use crate::database::Database;
use crate::figures::{Figures, percentile};
use crate::load::{Call, Load};
use crate::machine::Meter;

/// The interval at which the database is checked for remaining work.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The longest wait until no work remains.
const PATIENCE: Duration = Duration::from_mins(10);

/// A query that returns 1 if a request or an event is due before the prepared ones, else 0. The
/// prepared ones are due in the year 2096.
const BUSY: &str = "SELECT CAST(CASE WHEN
         EXISTS (SELECT 1 FROM users WHERE send_at < 4000000000000)
         OR EXISTS (SELECT 1 FROM delivery_lanes WHERE channel_id = 'bench' AND due_at < 4000000000000)
     THEN 1 ELSE 0 END AS BIGINT)";

const HEAD: &str = "SELECT COALESCE(MAX(head), 0) FROM logs";

/// For each event after a position: its age at the end of the attempt that delivered it, and the
/// status of that attempt; 0 if it was not delivered.
const ATTEMPTS: &str =
    "SELECT COALESCE(attempted_at + duration_ms - created_at, 0), COALESCE(status, 0)
     FROM events WHERE channel_id = 'bench' AND position > $1";

/// Puts load on the webhook, and measures the CPU time per delivered event, including that of its
/// notification.
///
/// The times are from the storage of an event until the callback has received it.
pub(crate) fn measure(load: &Load, bed: &Bed, connections: u32) -> Figures {
    let runtime = Runtime::new().unwrap();
    let mut database = runtime.block_on(bed.database());
    let head = runtime.block_on(database.number(HEAD, &[]));
    let processes = bed.processes();
    let meter = Meter::start(&processes);
    let begun = Instant::now();
    let notified = load.run(bed.address(), connections, &Call::Webhook, &[]);
    let ended = Instant::now();
    runtime.block_on(poll_until_idle(&mut database));
    let (total, backlog) = (begun.elapsed(), ended.elapsed());
    // Before any other query, whose CPU time would count as well.
    let cpu = meter.share(1.0);
    let attempts = runtime.block_on(database.pairs(ATTEMPTS, head));
    runtime.block_on(database.close());
    let arrived = attempts.iter().filter(|(_, status)| *status == 204);
    let mut lags: Vec<_> = arrived
        .map(|(lag, _)| Duration::from_millis(lag.max(&0).unsigned_abs()))
        .collect();
    lags.sort_unstable();
    let count = u32::try_from(lags.len()).unwrap().max(1);
    let failed = u64::try_from(attempts.len() - lags.len()).unwrap();
    Figures {
        per_second: f64::from(count) / total.as_secs_f64(),
        p50: percentile(&lags, 500),
        p99: percentile(&lags, 990),
        p999: None,
        failed: notified.failed + failed,
        cpu: cpu
            .into_iter()
            .map(|(name, cpu)| (name, cpu / count))
            .collect(),
        spread: None,
        backlog: Some(backlog),
    }
}

/// Waits until a service has no work left.
pub(crate) fn wait_until_idle(bed: &Bed) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut database = bed.database().await;
        poll_until_idle(&mut database).await;
        database.close().await;
    });
}

async fn poll_until_idle(database: &mut Database) {
    let begun = Instant::now();
    while database.number(BUSY, &[]).await == 1 {
        assert!(begun.elapsed() < PATIENCE, "not idle after {PATIENCE:?}");
        sleep(POLL_INTERVAL);
    }
}
