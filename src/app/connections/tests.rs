//! Tests on real sockets, with few connections at once and short time limits.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::app::serving;
use crate::app::threads::Threads;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bridge\r\n\r\n";
const TEST_LIMIT: Duration = Duration::from_secs(20);

/// Serves "ok" on at most `max_connections` connections; returns the address.
async fn serve(max_connections: usize, silence: Duration) -> SocketAddr {
    let router = Router::new().route("/", get(|| async { "ok" }));
    let limits = IdleLimits {
        silence,
        ..IdleLimits::default()
    };
    serve_router(router, max_connections, limits).await
}

async fn serve_router(router: Router, max_connections: usize, limits: IdleLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(listener, max_connections, limits, std::future::pending());
    #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
    tokio::spawn(async move {
        serving::serve(connections, router, None, TEST_LIMIT, &Threads::default()).await;
    });
    address
}

async fn request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(REQUEST).await?;
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

#[tokio::test]
async fn a_connection_over_the_bound_waits_until_another_ends() {
    let address = serve(2, TEST_LIMIT).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(request(&mut first).await.unwrap().ends_with(b"ok"));
    assert!(request(&mut second).await.unwrap().ends_with(b"ok"));

    let mut third = TcpStream::connect(address).await.unwrap();
    let waits = timeout(Duration::from_millis(200), request(&mut third)).await;
    assert!(waits.is_err());
    drop(first);

    // The request that it has already sent is answered.
    let mut answer = vec![0; 512];
    let length = timeout(TEST_LIMIT, third.read(&mut answer)).await.unwrap();
    assert!(answer[..length.unwrap()].ends_with(b"ok"));
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_an_active_one_is_not() {
    let address = serve(2, Duration::from_millis(500)).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    // The beginning of a head that never ends.
    silent.write_all(b"GET / HTT").await.unwrap();
    let mut active = TcpStream::connect(address).await.unwrap();

    let requests = async {
        loop {
            assert!(request(&mut active).await.unwrap().ends_with(b"ok"));
        }
    };
    let mut received = Vec::new();
    tokio::select! {
        ended = timeout(TEST_LIMIT, silent.read_to_end(&mut received)) => assert!(ended.is_ok(), "the connection is still open"),
        () = requests => {}
    }

    assert!(request(&mut active).await.unwrap().ends_with(b"ok"));
}

/// 16 MiB: more than the socket buffers of both sides hold.
const LENGTH: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_stalled_reader_is_cut_off_and_a_slow_reader_is_not() {
    let unread = Duration::from_millis(500);
    let limits = IdleLimits {
        unread,
        ..IdleLimits::default()
    };
    let router = Router::new().route("/", get(async || vec![b'x'; LENGTH]));
    let address = serve_router(router, 2, limits).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(REQUEST).await.unwrap();
    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled.write_all(REQUEST).await.unwrap();

    // It is served once the connection that reads nothing is closed.
    let third = async {
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(REQUEST).await.unwrap();
        third.read_u8().await.unwrap();
    };
    let mut third = std::pin::pin!(timeout(TEST_LIMIT, third));
    let (mut read, mut piece) = (0, vec![0; LENGTH / 64]);
    let mut times = tokio::time::interval(unread / 8);
    loop {
        tokio::select! {
            served = &mut third => break served.unwrap(),
            _ = times.tick() => {
                read += slow.read(&mut piece).await.unwrap();
            }
        }
    }

    while read < LENGTH {
        let more = slow.read(&mut piece).await.unwrap();
        assert!(more > 0, "cut off after {read} bytes");
        read += more;
    }
}

/// Serves "ok" on a listener with an immediate stop; returns when it has stopped.
async fn serve_and_stop(listener: TcpListener) {
    let router = Router::new().route("/", get(|| async { "ok" }));
    let connections = Connections::new(listener, 2, IdleLimits::default(), std::future::ready(()));
    serving::serve(connections, router, None, TEST_LIMIT, &Threads::default()).await;
}

#[tokio::test]
async fn a_stop_serves_queued_connections_and_accepts_no_new_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();

    #[expect(clippy::disallowed_methods, reason = "the test awaits the task")]
    let serving = tokio::spawn(serve_and_stop(listener));

    assert!(request(&mut first).await.unwrap().ends_with(b"ok"));
    assert!(TcpStream::connect(address).await.is_err());
    assert!(request(&mut second).await.unwrap().ends_with(b"ok"));
    timeout(TEST_LIMIT, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_connection_delays_a_stop_only_briefly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();

    let stopped = timeout(FIRST_BYTE_LIMIT * 10, serve_and_stop(listener)).await;

    assert!(stopped.is_ok(), "the stop waits for the silent client");
}

#[tokio::test]
async fn a_response_sent_before_the_body_ends_reaches_the_client() {
    let address = serve(2, TEST_LIMIT).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // More than the socket buffers of both sides hold.
    let body = vec![b'x'; 8 * 1024 * 1024];
    let head = format!(
        "POST / HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );

    let exchange = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(TEST_LIMIT, exchange).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn an_ipv6_network_counts_as_one_address() {
    for (address, counts_as) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ] {
        let network = network(address.parse().unwrap());
        assert_eq!(network.to_string(), counts_as);
    }
}
