//! The slowest messages: at half of the highest rate, while notifications arrive, retention removes
//! old events, and streams are open.
//!
//! Messages are sent at fixed times, whether or not earlier ones are answered. A message whose
//! connection is still busy at its time counts from that time. So a pause of the service delays all
//! messages that are due in it, as it would delay those of independent users.

use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::bed::Bed;
use crate::figures::{Figures, percentile};
use crate::load::TEXT;
use crate::machine::Meter;
use crate::readers::{self, Connection};
use crate::streams;

/// The number of connections.
const CONNECTIONS: u32 = 64;

/// 100 ms: the interval of notifications, as for the readers of events.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(100);

/// Makes all events of the log so old that retention removes them.
const AGE_EVENTS: &str = "UPDATE events SET created_at = 1700000000000";

/// Sends messages of `users` at this rate for a time.
pub(crate) fn measure(bed: &Bed, users: u32, per_second: f64, duration: Duration) -> Figures {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let processes = bed.processes();
    runtime.block_on(async {
        let mut database = bed.database().await;
        database.execute(AGE_EVENTS, &[]).await;
        database.close().await;
        let head = readers::end_of_log(bed.address()).await;
        let open = streams::open(bed.address(), &head).await;
        let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / per_second);
        let meter = Meter::start(&processes);
        let begun = Instant::now();
        let end = begun + duration;
        let mut writers = JoinSet::new();
        for number in 0..CONNECTIONS {
            let connection = Connection::open(bed.address()).await;
            let first = begun + interval * number / CONNECTIONS;
            writers.spawn(write(connection, number, users, first, interval, end));
        }
        let notify = readers::notify(bed.address(), begun, NOTIFY_INTERVAL);
        // It always times out.
        let _elapsed = timeout_at(end, notify).await;
        let tallies = writers.join_all().await;
        let failed = tallies.iter().map(|(_, failed)| failed).sum();
        let mut times: Vec<_> = tallies.into_iter().flat_map(|(times, _)| times).collect();
        times.sort_unstable();
        let count = u32::try_from(times.len()).unwrap();
        assert_eq!(open.len(), streams::STREAMS as usize, "a stream has ended");
        Figures {
            per_second: f64::from(count) / duration.as_secs_f64(),
            p50: percentile(&times, 500),
            p99: percentile(&times, 990),
            p999: Some(percentile(&times, 999)),
            failed,
            cpu: meter.share(f64::from(count.max(1))),
            spread: None,
            backlog: None,
        }
    })
}

/// Sends messages on one connection until the end. Returns the times until their answers, and the
/// number of answers other than 201.
async fn write(
    mut connection: Connection,
    number: u32,
    users: u32,
    first: Instant,
    interval: Duration,
    end: Instant,
) -> (Vec<Duration>, u64) {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut user = number;
    let mut due = first;
    while due < end {
        // The timer may fire up to 1 ms late, which is not the service's time.
        let is_late = Instant::now() > due;
        sleep_until(due).await;
        let from = if is_late { due } else { Instant::now() };
        let body = format!(r#"{{"text":"{TEXT}"}}"#);
        let request = format!(
            "POST /v1/users/user-{}/messages HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer bench-key\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            user % users + 1,
            body.len()
        );
        let (status, _) = connection.send(&request).await;
        times.push(from.elapsed());
        failed += u64::from(status != 201);
        user = user.wrapping_add(CONNECTIONS * 7919);
        due += interval;
    }
    (times, failed)
}
