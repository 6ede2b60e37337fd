//! Events brought to a callback: notifications come in for as long as a load lasts, and the measurement ends when all that
//! they told is delivered.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::bed::Bed;
use crate::database::Database;
use crate::figures::{Figures, percentile};
use crate::load::{Call, Load};
use crate::machine::Meter;

/// How often it is looked whether something is left to do.
const LOOK: Duration = Duration::from_millis(50);

/// How long that may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// Whether a request or an event waits that is due before the year 2096, when those are that the database was filled with.
const BUSY: &str = "SELECT CAST(CASE WHEN
         EXISTS (SELECT 1 FROM users WHERE send_at < 4000000000000)
         OR EXISTS (SELECT 1 FROM delivery_lanes WHERE channel_id = 'bench' AND due_at < 4000000000000)
     THEN 1 ELSE 0 END AS BIGINT)";

const HEAD: &str = "SELECT COALESCE(MAX(head), 0) FROM logs";

/// Of each try to deliver what stands behind a position: how old the event was at its end, and the status.
const TRIES: &str = "SELECT a.at + a.duration_ms - e.created_at, COALESCE(a.status, 0)
     FROM events e JOIN attempts a ON a.event_id = e.id
     WHERE e.channel_id = 'bench' AND e.position > $1";

/// Puts load on the webhook, and measures what each event that is delivered costs from the notification on.
///
/// Its times are those from when an event was stored until the callback had it.
pub(crate) fn measure(load: &Load, bed: &Bed, connections: u32) -> Figures {
    let runtime = Runtime::new().unwrap();
    let mut database = runtime.block_on(bed.database());
    let head = runtime.block_on(database.number(HEAD, &[]));
    let processes = bed.processes();
    let meter = Meter::start(&processes);
    let begun = Instant::now();
    let told = load.run(bed.address(), connections, &Call::Webhook, &[]);
    let ended = Instant::now();
    runtime.block_on(until_idle(&mut database));
    let (whole, backlog) = (begun.elapsed(), ended.elapsed());
    // Before anything else is asked of the database.
    let cpu = meter.share(1.0);
    let tries = runtime.block_on(database.pairs(TRIES, head));
    runtime.block_on(database.close());
    let arrived = tries.iter().filter(|(_, status)| *status == 204);
    let mut lags: Vec<_> = arrived
        .map(|(lag, _)| Duration::from_millis(lag.max(&0).unsigned_abs()))
        .collect();
    lags.sort_unstable();
    let count = u32::try_from(lags.len()).unwrap().max(1);
    let failed = u64::try_from(tries.len() - lags.len()).unwrap();
    Figures {
        per_second: f64::from(count) / whole.as_secs_f64(),
        p50: percentile(&lags, 50),
        p99: percentile(&lags, 99),
        failed: told.failed + failed,
        cpu: cpu
            .into_iter()
            .map(|(name, cpu)| (name, cpu / count))
            .collect(),
        backlog: Some(backlog),
    }
}

/// Waits until a service has nothing left to do.
pub(crate) fn rest(bed: &Bed) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut database = bed.database().await;
        until_idle(&mut database).await;
        database.close().await;
    });
}

async fn until_idle(database: &mut Database) {
    let begun = Instant::now();
    while database.number(BUSY, &[]).await == 1 {
        assert!(begun.elapsed() < PATIENCE, "what waits is never done");
        sleep(LOOK);
    }
}
