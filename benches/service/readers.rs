//! Readers that wait at the end of a channel's log, each for every event, by long polling or on a
//! stream. All of them are in this process, on the load's core.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout_at};

use crate::bed::Bed;
use crate::cloud::ACCOUNT;
use crate::figures::{Figures, percentile};
use crate::machine::Meter;
use crate::notifications;

/// The number of readers.
pub(crate) const READERS: u32 = 200;

/// 100 ms: the interval of notifications.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(100);

/// The marker before the send time in each text. The time is in microseconds.
const SENT_AT: &str = "sent at ";

/// The way in which events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By long polling.
    Polling,
    /// As server-sent events.
    Stream,
}

/// The events that a reader has received.
#[derive(Default)]
struct Tally {
    /// The number of answers with at least one event, or of events on a stream.
    answers: u32,
    /// The times from a notification until its event was read.
    lags: Vec<Duration>,
    failed: u64,
}

/// Lets readers wait while notifications arrive steadily. Counts the events received, and measures
/// the cost of an answer.
///
/// The times are from the sending of a notification until a reader has its event.
pub(crate) fn measure(bed: &Bed, duration: Duration, way: Way) -> Figures {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let processes = bed.processes();
    runtime.block_on(async {
        let address: Arc<str> = bed.address().into();
        let head = end_of_log(&address).await;
        let mut connections = Vec::new();
        for _ in 0..READERS {
            connections.push(Connection::open(&address).await);
        }
        let meter = Meter::start(&processes);
        let begun = Instant::now();
        let end = begun + duration;
        let mut readers = JoinSet::new();
        for connection in connections {
            let head = head.clone();
            readers.spawn(async move {
                match way {
                    Way::Polling => read(connection, head, begun, end).await,
                    Way::Stream => follow(connection, head, begun, end).await,
                }
            });
        }
        // It always times out.
        let _elapsed = timeout_at(end, notify(&address, begun, NOTIFY_INTERVAL)).await;
        let tallies = readers.join_all().await;
        let answers: u32 = tallies.iter().map(|it| it.answers).sum();
        let failed = tallies.iter().map(|it| it.failed).sum();
        let mut lags: Vec<_> = tallies.into_iter().flat_map(|it| it.lags).collect();
        lags.sort_unstable();
        let events = u32::try_from(lags.len()).unwrap();
        Figures {
            per_second: f64::from(events) / duration.as_secs_f64(),
            p50: percentile(&lags, 500),
            p99: percentile(&lags, 990),
            p999: None,
            failed,
            cpu: meter.share(f64::from(answers.max(1))),
            spread: None,
            backlog: None,
        }
    })
}

/// Runs one reader until the end.
async fn read(mut connection: Connection, head: String, begun: Instant, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut after = head;
    while let Ok((status, body)) = timeout_at(end, connection.page(&after, "&wait=30")).await {
        if status != 200 {
            tally.failed += 1;
            continue;
        }
        let now = begun.elapsed();
        let before = tally.lags.len();
        tally.lags.extend(lags(&body, now));
        tally.answers += u32::from(tally.lags.len() > before);
        next(&body).clone_into(&mut after);
    }
    tally
}

/// Follows a stream until the end.
async fn follow(mut connection: Connection, head: String, begun: Instant, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let request = format!(
        "GET /v1/events?after={head} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer bench-key\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    connection.0.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    while let Ok(length) = timeout_at(end, connection.0.read_line(&mut line)).await {
        if length.unwrap() == 0 {
            tally.failed += 1;
            break;
        }
        tally.lags.extend(lags(&line, begun.elapsed()));
        line.clear();
    }
    tally.answers = u32::try_from(tally.lags.len()).unwrap();
    tally
}

/// Returns the age at `now` of each text of [`notify`].
fn lags(body: &str, now: Duration) -> impl Iterator<Item = Duration> {
    body.split(SENT_AT).skip(1).map(move |rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        let sent = Duration::from_micros(digits.unwrap().parse().unwrap());
        now.saturating_sub(sent)
    })
}

/// Sends notifications with an agent's message at a steady interval.
pub(crate) async fn notify(address: &str, begun: Instant, every: Duration) {
    let mut connection = Connection::open(address).await;
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        let text = format!("{SENT_AT}{}", begun.elapsed().as_micros());
        let (signature, body) = notifications::next(&text);
        let request = format!(
            "POST /webhooks/{ACCOUNT} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             X-LivePerson-Account-Id: {ACCOUNT}\r\nX-LivePerson-Client-Id: bench\r\n\
             X-LivePerson-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = connection.send(&request).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// Returns the cursor after all existing events.
pub(crate) async fn end_of_log(address: &str) -> String {
    let mut connection = Connection::open(address).await;
    // An empty cursor: the beginning of the log.
    let mut after = String::new();
    loop {
        let (status, body) = connection.page(&after, "&limit=1000").await;
        assert_eq!(status, 200, "{body}");
        next(&body).clone_into(&mut after);
        if body.starts_with(r#"{"events":[]"#) {
            return after;
        }
    }
}

/// Returns the cursor of an answer to continue with.
fn next(body: &str) -> &str {
    let (_, rest) = body.rsplit_once(r#""next":""#).unwrap();
    rest.split('"').next().unwrap()
}

/// A connection to the service.
pub(crate) struct Connection(pub(crate) BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Returns the events after a cursor, or from the oldest one on if the cursor is empty.
    async fn page(&mut self, after: &str, parameters: &str) -> (u16, String) {
        let after = if after.is_empty() {
            String::new()
        } else {
            format!("&after={after}")
        };
        let query = format!("{parameters}{after}");
        let query = query.trim_start_matches('&');
        let head = "Host: bench\r\nAuthorization: Bearer bench-key";
        self.send(&format!(
            "GET /v1/events?{query} HTTP/1.1\r\n{head}\r\n\r\n"
        ))
        .await
    }

    /// Sends a request; returns the status and the body of its answer.
    pub(crate) async fn send(&mut self, request: &str) -> (u16, String) {
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}
