use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;
use wiremock::matchers::{header, header_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn trace() -> Trace {
    Trace::continue_from(Some("req-1"), None, Uuid::nil())
}

fn get(address: impl std::fmt::Display) -> Request {
    let url = format!("http://{address}/secret-path?token=secret-query");
    Request::new(Method::GET, url.parse().unwrap())
}

async fn send(limit: Duration, request: Request) -> Result<Answer, Error> {
    let client = Client::new(Proxy::None).unwrap();
    client.send("test.get", &trace(), limit, request).await
}

/// A server that takes one request, answers these bytes and hangs up.
async fn answering(listener: TcpListener, bytes: &[u8]) {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    assert!(connection.read(&mut request).await.unwrap() > 0);
    connection.write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn a_request_bears_the_request_id_the_trace_and_our_name() {
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

    let answer = send(PATIENCE, get(server.address())).await.unwrap();

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "hello");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/elsewhere"))
        .expect(1)
        .mount(&server)
        .await;

    let answer = send(PATIENCE, get(server.address())).await.unwrap();

    assert_eq!(answer.status, StatusCode::FOUND);
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);

    let error = send(PATIENCE, get(address)).await.unwrap_err();

    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();

        let (answer, ()) = tokio::join!(
            send(PATIENCE, get(address)),
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
        .respond_with(ResponseTemplate::new(200).set_delay(PATIENCE))
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

        let answer = send(PATIENCE, get(server.address())).await;

        assert_eq!(answer.is_ok(), fits, "{size}");
    }
}

#[tokio::test]
async fn a_streamed_answer_is_passed_on_while_it_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (goes_on, wait) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
            .await
            .unwrap();
        wait.await.unwrap();
        connection.write_all(b" last").await.unwrap();
    };
    let reading = async {
        let client = Client::new(Proxy::None).unwrap();
        let begun = client.stream("test.get", &trace(), get(address)).await;
        let mut begun = begun.unwrap();
        assert_eq!(begun.status, StatusCode::OK);
        assert_eq!(next(&mut begun.body).await.unwrap().unwrap(), "first");
        goes_on.send(()).unwrap();
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

/// The next bytes of a body.
async fn next(body: &mut Body) -> Option<Result<Bytes, reqwest::Error>> {
    let frame =
        std::future::poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut *body), context));
    Some(frame.await?.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn no_error_shows_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, ()) = tokio::join!(send(PATIENCE, get(address)), answering(listener, b""));
    let refused = send(PATIENCE, get(address)).await;

    for error in [cut.unwrap_err(), refused.unwrap_err()] {
        let first: &dyn std::error::Error = &error;
        let chain = std::iter::successors(Some(first), |error| error.source());
        let shown: Vec<_> = chain.map(|error| format!("{error:?} {error}")).collect();
        let shown = shown.join(" ");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
