use std::future;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;
use wiremock::matchers::{header, header_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const MAX_WAIT: Duration = Duration::from_secs(10);

fn trace() -> Trace {
    Trace::continue_from(Some("req-1"), None, Uuid::nil())
}

fn get(address: impl fmt::Display) -> Request {
    let url = format!("http://{address}/secret-path?token=secret-query");
    request(Method::GET, url.parse().unwrap(), Bytes::new())
}

async fn send(limit: Duration, request: Request) -> Result<Answer, Error> {
    let client = Client::new(Proxy::None).unwrap();
    client.send("test.get", &trace(), limit, request).await
}

/// Takes one request, answers with these bytes and closes the connection.
async fn answering(listener: TcpListener, bytes: &[u8]) {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    assert!(connection.read(&mut request).await.unwrap() > 0);
    connection.write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn a_request_carries_its_request_id_trace_context_and_user_agent() {
    let server = MockServer::start().await;
    Mock::given(header("x-request-id", "req-1"))
        .and(header_regex(
            "traceparent",
            "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$",
        ))
        .and(header_regex("user-agent", "^liveperson-bridge/[0-9.]+$"))
        .respond_with(ResponseTemplate::new(200).set_body_string("hello"))
        .mount(&server)
        .await;

    let answer = send(MAX_WAIT, get(server.address())).await.unwrap();

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "hello");
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/elsewhere"))
        .expect(1)
        .mount(&server)
        .await;

    let answer = send(MAX_WAIT, get(server.address())).await.unwrap();

    assert_eq!(answer.status, StatusCode::FOUND);
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);

    let error = send(MAX_WAIT, get(address)).await.unwrap_err();

    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();

        let (answer, ()) = tokio::join!(
            send(MAX_WAIT, get(address)),
            answering(listener, bytes.as_bytes())
        );

        let error = answer.unwrap_err();
        assert!(matches!(error, Error::NoAnswer(_)), "{bytes:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_limit_leaves_the_outcome_unknown() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ResponseTemplate::new(200).set_delay(MAX_WAIT))
        .mount(&server)
        .await;

    let limit = Duration::from_millis(50);
    let error = send(limit, get(server.address())).await.unwrap_err();

    assert!(matches!(error, Error::NoAnswer(_)), "{error:?}");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_bound_and_no_further() {
    let server = MockServer::start().await;
    for (size, fits) in [(MAX_BODY_BYTES, true), (MAX_BODY_BYTES + 1, false)] {
        server.reset().await;
        Mock::given(wiremock::matchers::any())
            .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![b'x'; size]))
            .mount(&server)
            .await;

        let answer = send(MAX_WAIT, get(server.address())).await;

        assert_eq!(answer.is_ok(), fits, "{size}");
    }
}

#[tokio::test]
async fn a_streamed_answer_is_passed_on_while_it_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (resume, resumed) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
            .await
            .unwrap();
        resumed.await.unwrap();
        connection.write_all(b" last").await.unwrap();
    };
    let reading = async {
        let client = Client::new(Proxy::None).unwrap();
        let begun = client.stream("test.get", &trace(), get(address)).await;
        let mut begun = begun.unwrap();
        assert_eq!(begun.status, StatusCode::OK);
        assert_eq!(next(&mut begun.body).await.unwrap().unwrap(), "first");
        resume.send(()).unwrap();
        assert_eq!(next(&mut begun.body).await.unwrap().unwrap(), " last");
        assert!(next(&mut begun.body).await.is_none());
    };

    tokio::join!(serving, reading);
}

#[tokio::test]
async fn a_streamed_answer_that_breaks_off_fails_and_does_not_show_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(Proxy::None).unwrap();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

    let trace = trace();
    let (begun, ()) = tokio::join!(
        client.stream("test.get", &trace, get(address)),
        answering(listener, half)
    );

    let mut body = begun.unwrap().body;
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "half");
    let error = next(&mut body).await.unwrap().unwrap_err();
    assert!(
        !format!("{error:?} {error}").contains("secret"),
        "{error:?}"
    );
}

/// Reads the next bytes of a body.
async fn next(body: &mut Body) -> Option<Result<Bytes, NoAnswerReason>> {
    let frame = body.frame().await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn no_error_shows_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, ()) = tokio::join!(send(MAX_WAIT, get(address)), answering(listener, b""));
    let refused = send(MAX_WAIT, get(address)).await;

    for error in [cut.unwrap_err(), refused.unwrap_err()] {
        let first: &dyn std::error::Error = &error;
        let chain = std::iter::successors(Some(first), |error| (*error).source());
        let shown: Vec<_> = chain.map(|error| format!("{error:?} {error}")).collect();
        let shown = shown.join(" ");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

/// Returns the messages of an error and of its causes.
fn messages(error: &Error) -> String {
    let first: &dyn StdError = error;
    let chain = iter::successors(Some(first), |error| (*error).source());
    let messages: Vec<_> = chain.map(ToString::to_string).collect();
    messages.join(": ")
}

/// Reads a client's request up to the end of its headers.
async fn head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Requests this URL through a proxy that gives this answer; returns the proxy's request and the
/// outcome.
async fn proxied(url: &str, answer: &[u8]) -> (String, Result<Answer, Error>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://us%20er:pa55@{}", listener.local_addr().unwrap());
    let proxies = Matcher::builder().all(proxy).no("direct.example").build();
    let client = Client::with_proxies(Some(proxies)).unwrap();
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let sent = head(&mut connection).await;
        connection.write_all(answer).await.unwrap();
        sent
    };
    let trace = trace();
    let request = request(Method::GET, url.parse().unwrap(), Bytes::new());
    tokio::join!(serving, client.send("test.get", &trace, MAX_WAIT, request))
}

const PROXY_AUTHORIZATION_LINE: &str = "authorization: Basic dXMgZXI6cGE1NQ==\r\n";

#[tokio::test]
async fn a_proxy_receives_the_full_url_and_the_proxy_credentials() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    let (sent, answer) = proxied("http://cloud.example/path?v=1", answer).await;

    let line = "GET http://cloud.example/path?v=1 HTTP/1.1\r\n";
    assert!(sent.starts_with(line), "{sent}");
    assert!(sent.contains("\r\nhost: cloud.example\r\n"), "{sent}");
    let authorization = format!("\r\nproxy-{PROXY_AUTHORIZATION_LINE}");
    assert!(sent.contains(&authorization), "{sent}");
    assert_eq!(answer.unwrap().body, "hello");
}

#[tokio::test]
async fn a_tls_request_is_sent_only_through_a_proxy_tunnel() {
    let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";

    let (sent, answer) = proxied("https://cloud.example/secret?v=secret", answer).await;

    let line = "CONNECT cloud.example:443 HTTP/1.1\r\n";
    assert!(sent.starts_with(line), "{sent}");
    let sent = sent.to_lowercase();
    let authorization = format!("\r\nproxy-{PROXY_AUTHORIZATION_LINE}").to_lowercase();
    assert!(sent.contains(&authorization), "{sent}");
    assert!(
        sent.contains("\r\nuser-agent: liveperson-bridge/"),
        "{sent}"
    );
    assert!(!sent.contains("secret"), "{sent}");
    let error = answer.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    assert!(
        messages(&error).ends_with("proxy authorization required"),
        "{}",
        messages(&error)
    );
}

#[tokio::test]
async fn an_exempt_host_is_reached_without_the_proxy() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let proxies = Matcher::builder()
        .all("http://127.0.0.1:1")
        .no("127.0.0.0/8");
    let client = Client::with_proxies(Some(proxies.build())).unwrap();

    let trace = trace();
    let answer = client.send("test.get", &trace, MAX_WAIT, get(server.address()));

    assert_eq!(answer.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_timeout_means_that_nothing_was_sent() {
    // The server accepts connections and sends nothing, so that TLS does not begin.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = Duration::from_millis(50);
    let client = Client {
        pools: Pools::new(pool(), Connector::new(SystemResolver, None, limit).unwrap()),
        proxies: None,
        stream_timeout: None,
    };
    let url = format!("https://{}/", listener.local_addr().unwrap());

    let request = request(Method::POST, url.parse().unwrap(), Bytes::from("body"));
    let trace = trace();
    let answer = client.send("test.post", &trace, MAX_WAIT, request);

    let error = answer.await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    assert!(
        messages(&error).ends_with("operation timed out"),
        "{}",
        messages(&error)
    );
}

#[tokio::test]
async fn a_connection_is_used_again_until_the_other_side_closes_it() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(Proxy::None).unwrap();
    let (close, closing) = tokio::sync::oneshot::channel();
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let serving = async {
        let (mut first, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            head(&mut first).await;
            first.write_all(ANSWER).await.unwrap();
        }
        let () = closing.await.unwrap();
        first.shutdown().await.unwrap();
        // The client closes its side as soon as it learns of the shutdown.
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        closed.send(()).unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        head(&mut second).await;
        second.write_all(ANSWER).await.unwrap();
    };
    let calling = async {
        let trace = trace();
        let call = async || {
            client
                .send("test.get", &trace, MAX_WAIT, get(address))
                .await
        };
        assert_eq!(call().await.unwrap().body, "ok");
        assert_eq!(call().await.unwrap().body, "ok");
        close.send(()).unwrap();
        is_closed.await.unwrap();
        assert_eq!(call().await.unwrap().body, "ok");
    };

    tokio::join!(serving, calling);
}

#[tokio::test]
async fn a_streamed_response_that_stalls_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client {
        stream_timeout: Some(Duration::from_millis(200)),
        ..Client::new(Proxy::None).unwrap()
    };
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        head(&mut connection).await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        connection.write_all(half).await.unwrap();
        connection
    };
    let trace = trace();
    let (_open, begun) = tokio::join!(serving, client.stream("test.get", &trace, get(address)));

    let mut body = begun.unwrap().body;
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "half");
    let error = next(&mut body).await.unwrap().unwrap_err();

    assert!(matches!(error, NoAnswerReason::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn only_a_refused_http_2_stream_counts_as_declined() {
    for (reason, declined) in [(Reason::REFUSED_STREAM, true), (Reason::CANCEL, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connector = Connector::new(SystemResolver, None, MAX_WAIT).unwrap();
        let pool: legacy::Client<_, Full<Bytes>> = legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build(connector);
        let serving = async {
            let (connection, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(connection).await.unwrap();
            let (_, mut stream) = connection.accept().await.unwrap().unwrap();
            stream.send_reset(reason);
            // The reset is sent while the server waits for the next request.
            connection.accept().await.is_some()
        };

        let outcome = tokio::select! {
            outcome = pool.request(get(address)) => outcome,
            _ = serving => panic!("the client went away"),
        };

        let error = outcome.unwrap_err();
        assert_eq!(was_declined(&error), declined, "{error:?}");
    }
}

#[test]
fn credentials_in_a_url_become_an_authorization_header() {
    let of = |url: &str| request_to(Method::POST, &url.parse().unwrap(), Bytes::new()).unwrap();

    let named = of("https://us%20er:pa55@host.example:8443/path?key=1");
    let nameless = of("https://host.example/path");

    assert_eq!(named.uri(), "https://host.example:8443/path?key=1");
    let authorization = &named.headers()[AUTHORIZATION];
    assert_eq!(authorization, "Basic dXMgZXI6cGE1NQ==");
    assert!(authorization.is_sensitive());
    assert!(!nameless.headers().contains_key(AUTHORIZATION));
}

/// Returns this number of fields with this total size in bytes.
fn fields(count: usize, bytes: usize) -> Vec<(String, String)> {
    let value = "v".repeat(bytes / count - "x-0000".len());
    let fields = (0..count).map(|number| (format!("x-{number:04}"), value.clone()));
    fields.collect()
}

#[tokio::test]
async fn callback_response_heads_have_a_limit_in_both_http_versions() {
    let connector = || Connector::new(SystemResolver, None, MAX_WAIT).unwrap();
    let client = |pool: &legacy::Builder| Client {
        pools: Pools::new(pool.clone(), connector()),
        proxies: None,
        stream_timeout: None,
    };
    let first = client(&callback_pool());
    let second = client(callback_pool().http2_only(true));
    for (count, bytes, fits) in [
        (101, 8_000, true),
        (1_000, 30_000, true),
        (50, 200_000, true),
        (50, 600_000, false),
    ] {
        let fields = fields(count, bytes);
        let lines = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.collect::<String>());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            self::head(&mut connection).await;
            // The client closes the connection once the head is too large.
            let _written = connection.write_all(head.as_bytes()).await;
        };
        let trace = trace();
        let (answer, ()) = tokio::join!(first.stream("test.get", &trace, get(address)), serving);
        assert_eq!(answer.is_ok(), fits, "{count} fields of {bytes} bytes");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (connection, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(connection).await.unwrap();
            let (_, mut stream) = connection.accept().await.unwrap().unwrap();
            let mut response = hyper::http::Response::new(());
            for (name, value) in &fields {
                let name: HeaderName = name.parse().unwrap();
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            stream.send_response(response, true).unwrap();
            // The answer is sent while the server waits for the next request, which never comes.
            while connection.accept().await.is_some() {}
            future::pending::<()>().await;
        };
        let answer = tokio::select! {
            answer = second.stream("test.get", &trace, get(address)) => answer,
            () = serving => panic!("the server has ended"),
        };
        assert_eq!(
            answer.is_ok(),
            fits,
            "{count} fields of {bytes} bytes, HTTP/2"
        );
    }
}
