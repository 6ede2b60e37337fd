//! Serving of a router on a listener. A connection serves one request after the other until it is
//! idle or slow, or the service stops.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Connection, Connections};
use super::refusals::ProblemWriter;
use super::responses::ResponseTracker;
use super::threads::Threads;
use super::unread::UnreadBody;
use crate::api::{MAX_HEAD_BYTES, ProtocolErrors};

/// 75 s: the time limit for a request's head and for an idle connection. It is longer than load
/// balancers keep an idle connection (60 s), so that none sends a request on a connection that is
/// just being closed.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(75);

/// 3 s: the time that a stop waits for a connection on which no request is processed and nothing is
/// written.
const STALL_LIMIT_AT_STOP: Duration = Duration::from_secs(3);

/// 15 s: the time that a stop waits for a client that reads its response slowly.
const RESPONSE_LIMIT_AT_STOP: Duration = Duration::from_secs(15);

/// Serves a router until the listener gives no more connections. Then idle connections close,
/// requests in flight finish, and connections without any progress are cut.
pub(super) async fn serve(
    mut connections: Connections<impl Future<Output = ()>>,
    router: Router,
    errors: Option<ProtocolErrors>,
    head_limit: Duration,
    threads: &Threads,
) {
    let stopping = CancellationToken::new();
    let tasks = TaskTracker::new();
    while let Some(accepted) = connections.next().await {
        let (router, errors, stopping) = (router.clone(), errors.clone(), stopping.clone());
        let serving = async move {
            match accepted.open() {
                Ok(stream) => serve_one(stream, router, errors, head_limit, stopping).await,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an accepted connection could not be served"
                ),
            }
        };
        threads.spawn(tasks.track_future(serving));
    }
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

/// Serves one connection to its end.
async fn serve_one<T: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: Connection<T>,
    router: Router,
    errors: Option<ProtocolErrors>,
    head_limit: Duration,
    stopping: CancellationToken,
) {
    let (traffic, address) = (stream.traffic(), stream.address());
    let (unread, responses) = (UnreadBody::default(), ResponseTracker::default());
    let stream = ProblemWriter::new(stream, responses.clone(), errors.clone());
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let (active, pending) = (traffic.begin(), responses.begin());
        let mut request = unread.track(request);
        request.extensions_mut().insert(ConnectInfo(address));
        let refused = errors
            .as_ref()
            .and_then(|errors| errors.refuse(&mut request));
        let answer = match refused {
            Some(refused) => Either::Left(ready(Ok(refused))),
            None => Either::Right(router.call(request)),
        };
        let (unread, stopping) = (&unread, &stopping);
        async move {
            let mut answer = answer.await;
            if let Ok(answer) = &mut answer {
                // A stop does not wait for input that is only read to be dropped.
                stopping
                    .run_until_cancelled(unread.drain_or_close(answer))
                    .await;
            }
            drop(active);
            answer.map(|answer| pending.until_end_of(answer))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Head and body in one write: nearly all are small, and several buffers cost the kernel
            // more than copying them.
            .writev(false)
            .timer(TokioTimer::new())
            .header_read_timeout(head_limit)
            .max_header_size(MAX_HEAD_BYTES)
            // Hyper's read buffer grows with the body up to this limit, and a connection keeps it.
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping.cancelled() => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => ended,
            () = traffic.wait_until_stalled(STALL_LIMIT_AT_STOP) => Ok(()),
            () = traffic.wait_until_idle(RESPONSE_LIMIT_AT_STOP) => Ok(()),
        }
    };
    if let Err(error) = ended {
        // The client disconnected, was too slow, or does not speak HTTP.
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::header;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;
    use tokio::time::{interval, timeout};

    use super::*;
    use crate::app::connections::IdleLimits;
    use crate::clock::SystemClock;

    const TEST_LIMIT: Duration = Duration::from_secs(20);

    /// Serves a router; returns the address.
    async fn serve_router(router: Router, head_limit: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections =
            Connections::new(listener, 9, IdleLimits::default(), std::future::pending());
        let errors = ProtocolErrors::of_operators(Arc::new(SystemClock));
        #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
        tokio::spawn(async move {
            let threads = Threads::default();
            serve(connections, router, Some(errors), head_limit, &threads).await;
        });
        address
    }

    /// Reads one response, whose body is `no`.
    async fn answer(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nno") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn an_endless_request_head_is_cut_off_unlike_a_slow_response() {
        let head = Duration::from_millis(300);
        let slow = async move || {
            tokio::time::sleep(head * 2).await;
            "ok"
        };
        let address = serve_router(Router::new().route("/", get(slow)), head).await;

        let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        writer.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let speaking = async {
            let mut times = interval(head / 20);
            while writer.write_all(b"x").await.is_ok() {
                times.tick().await;
            }
        };
        let mut answer = Vec::new();
        let cut = async {
            tokio::select! {
                () = speaking => {}
                _ = reader.read_to_end(&mut answer) => {}
            }
        };
        timeout(TEST_LIMIT, cut).await.unwrap();

        let mut patient = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n";
        patient.write_all(request).await.unwrap();
        let mut answer = String::new();
        patient.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
    }

    /// Reads the responses on a connection to its end: the status, the head and the body of each.
    async fn answers(address: SocketAddr, requests: &[u8]) -> Vec<(u16, String, String)> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(requests).await.unwrap();
        let mut read = String::new();
        let reading = timeout(TEST_LIMIT, stream.read_to_string(&mut read)).await;
        reading.unwrap().unwrap();
        let mut answers = Vec::new();
        let mut remaining = &*read;
        while let Some((head, after)) = remaining.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length = length.split("\r\n").next().unwrap().parse().unwrap();
            let (body, after) = after.split_at(length);
            answers.push((
                head[9..12].parse().unwrap(),
                head.to_owned(),
                body.to_owned(),
            ));
            remaining = after;
        }
        assert_eq!(remaining, "", "{read}");
        answers
    }

    #[tokio::test]
    async fn an_unreadable_request_head_is_answered_with_a_complete_problem() {
        let address = serve_router(Router::new().route("/", get(async || "ok")), TEST_LIMIT).await;
        let many = "x: y\r\n".repeat(101);
        let good = "GET / HTTP/1.1\r\nHost: bridge\r\n\r\n";

        for (head, status, code) in [
            (
                format!(
                    "GET /?{} HTTP/1.1\r\nHost: bridge\r\n\r\n",
                    "x".repeat(70_000)
                ),
                414,
                "uri-too-long",
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: bridge\r\n{many}\r\n"),
                431,
                "headers-too-large",
            ),
            (
                format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(500_000)),
                431,
                "headers-too-large",
            ),
            (
                "GET / HTTP/1.1\r\n: y\r\n\r\n".to_owned(),
                400,
                "malformed-request",
            ),
            ("\0\u{1}\u{2}\r\n\r\n".to_owned(), 400, "malformed-request"),
        ] {
            // First on the connection, and behind responses of the service.
            for before in ["", good, &good.repeat(20)] {
                let mut answers = answers(address, format!("{before}{head}").as_bytes()).await;

                let (answered, headers, body) = answers.pop().unwrap();
                assert_eq!(answered, status, "{headers}");
                let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(problem["code"], code);
                assert_eq!(problem["status"], status);
                let id = format!(
                    "\r\nx-request-id: {}\r\n",
                    problem["request_id"].as_str().unwrap()
                );
                for field in [
                    &*id,
                    "\r\ncontent-type: application/problem+json\r\n",
                    "\r\nconnection: close\r\n",
                    "\r\ndate: ",
                ] {
                    assert!(
                        format!("{headers}\r\n").contains(field),
                        "{field} in {headers}"
                    );
                }
                assert_eq!(answers.len(), before.len() / good.len());
                assert!(
                    answers
                        .iter()
                        .all(|(status, _, body)| *status == 200 && body == "ok")
                );
            }
        }
    }

    #[tokio::test]
    async fn a_response_body_is_not_mistaken_for_the_http_servers_refusal() {
        const REFUSAL: &str =
            "HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        // In pieces, each of which is written separately.
        let pieces = async || {
            let pieces = futures_util::stream::unfold(0, async |n| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                (n < 3).then_some((Ok::<_, std::io::Error>(REFUSAL), n + 1))
            });
            let length = [(header::CONTENT_LENGTH, REFUSAL.len() * 3)];
            (
                length.map(|(name, length)| (name, length.to_string())),
                Body::from_stream(pieces),
            )
        };
        let address = serve_router(Router::new().route("/", get(pieces)), TEST_LIMIT).await;

        let request = b"GET / HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        timeout(TEST_LIMIT, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();

        assert!(
            answer.ends_with(&format!("\r\n\r\n{}", REFUSAL.repeat(3))),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_request_with_an_invalid_host_is_refused_and_the_next_served() {
        let address = serve_router(Router::new().route("/", post(async || "ok")), TEST_LIMIT).await;

        for (hosts, version, status) in [
            ("", "1.1", 400),
            ("Host: a\r\nHost: a\r\n", "1.1", 400),
            ("Host: a/b\r\n", "1.1", 400),
            ("Host: a\r\nhost: b\r\n", "1.0", 400),
            ("", "1.0", 200),
            ("Host:\r\n", "1.1", 200),
        ] {
            let field = "Connection: keep-alive\r\n";
            let odd =
                format!("POST / HTTP/{version}\r\n{hosts}{field}Content-Length: 2\r\n\r\n{{}}");
            let next =
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

            let answers = answers(address, format!("{odd}{next}").as_bytes()).await;

            let statuses: Vec<_> = answers.iter().map(|(status, ..)| *status).collect();
            assert_eq!(statuses, [status, 200], "{odd}");
            if status == 400 {
                assert!(
                    answers[0].2.contains(r#""code":"malformed-request""#),
                    "{}",
                    answers[0].2
                );
                assert!(answers[0].2.contains("Host"), "{}", answers[0].2);
            }
        }
    }

    #[tokio::test]
    async fn a_short_unread_body_keeps_the_connection_open() {
        let begun = Arc::new(Notify::new());
        let beginning = Arc::clone(&begun);
        let refusing = async move || {
            beginning.notify_one();
            "no"
        };
        let address = serve_router(Router::new().route("/", post(refusing)), TEST_LIMIT).await;
        let mut stream = TcpStream::connect(address).await.unwrap();

        for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
            let head = format!("POST / HTTP/1.1\r\nHost: bridge\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            timeout(TEST_LIMIT, begun.notified()).await.unwrap();
            let body: &[u8] = match framing {
                "Content-Length: 4" => b"body",
                _ => b"4\r\nbody\r\n0\r\n\r\n",
            };
            stream.write_all(body).await.unwrap();

            let answer = timeout(TEST_LIMIT, answer(&mut stream)).await.unwrap();

            assert!(!answer.contains("connection"), "{framing}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_response_to_a_large_unread_body_announces_the_close() {
        let address = serve_router(Router::new().route("/", post(async || "no")), TEST_LIMIT).await;

        for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: bridge\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            if framing.ends_with("chunked") {
                let chunk = format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000));
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }

            let answer = timeout(TEST_LIMIT, answer(&mut stream)).await.unwrap();

            assert!(
                answer.contains("\r\nconnection: close\r\n"),
                "{framing}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_response_to_an_unreadable_body_closes_the_connection() {
        let reading = async |body: axum::body::Bytes| drop(body);
        let address = serve_router(Router::new().route("/", post(reading)), TEST_LIMIT).await;
        let mut stream = TcpStream::connect(address).await.unwrap();

        let request =
            b"POST / HTTP/1.1\r\nHost: bridge\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = timeout(TEST_LIMIT, stream.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();

        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}
