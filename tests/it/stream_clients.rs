//! Clients of event streams, byte for byte: the first request of each library, and the one that it
//! sends to resume after a cut.
//!
//! The requests were recorded between the libraries and the service. The host, the key and the
//! cursors are replaced by names in braces.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::TestApp;
use crate::support::configuration::SMS_KEY;
use crate::support::database::Engine;
use crate::support::events::{Block, Fields, append_texts};
use crate::support::patience::PATIENCE;

on_both_engines!(every_client_resumes_after_its_last_event);

/// A client, with its first request and the one that it sends to resume.
struct Client {
    name: &'static str,
    first: &'static str,
    again: &'static str,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "eventsource 4.1.1 (npm) on Node.js 20",
        first: "GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nAccept: text/event-stream\r\n\
                Authorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
                pragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
        again: "GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nAccept: text/event-stream\r\n\
                Last-Event-ID: {seen}\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
    },
    Client {
        name: "event-source-polyfill 1.0.31 (npm) on Node.js 20",
        first: "GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nAccept: text/event-stream\r\n\
                Authorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
                pragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
        again: "GET /v1/events?lastEventId={seen} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\n\
                Accept: text/event-stream\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
    },
    Client {
        name: "event-source-polyfill 1.0.31 (npm) from a cursor",
        first: "GET /v1/events?after={start} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\n\
                Accept: text/event-stream\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
        again: "GET /v1/events?after={start}&lastEventId={seen} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\n\
                Accept: text/event-stream\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
    },
    Client {
        name: "event-source-polyfill 1.0.31 (npm), whose parameter is named after",
        first: "GET /v1/events?after={start} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\n\
                Accept: text/event-stream\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
        again: "GET /v1/events?&after={seen} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\n\
                Accept: text/event-stream\r\nAuthorization: Bearer {key}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\npragma: no-cache\r\ncache-control: no-cache\r\naccept-encoding: gzip, deflate\r\n\r\n",
    },
    Client {
        name: "@microsoft/fetch-event-source 2.0.1 (npm) on Node.js 20",
        first: "GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nAuthorization: Bearer {key}\r\n\
                accept: text/event-stream\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
                accept-encoding: gzip, deflate\r\n\r\n",
        again: "GET /v1/events HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nAuthorization: Bearer {key}\r\n\
                accept: text/event-stream\r\nlast-event-id: {seen}\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                user-agent: node\r\naccept-encoding: gzip, deflate\r\n\r\n",
    },
    Client {
        name: "event-source-polyfill 1.0.31 in Chromium 148",
        first: "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nPragma: no-cache\r\n\
                Cache-Control: no-cache\r\nsec-ch-ua-platform: \"Linux\"\r\nAuthorization: Bearer {key}\r\n\
                User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/148.0.0.0 \
                Safari/537.36\r\nAccept: text/event-stream\r\nsec-ch-ua: \"Not/A)Brand\";v=\"99\", \"Chromium\";v=\"148\"\r\n\
                sec-ch-ua-mobile: ?0\r\nOrigin: http://127.0.0.1:23200\r\nSec-Fetch-Site: same-site\r\n\
                Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: http://127.0.0.1:23200/\r\n\
                Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n",
        again: "GET /v1/events?lastEventId={seen} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nPragma: no-cache\r\n\
                Cache-Control: no-cache\r\nsec-ch-ua-platform: \"Linux\"\r\nAuthorization: Bearer {key}\r\n\
                User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/148.0.0.0 \
                Safari/537.36\r\nAccept: text/event-stream\r\nsec-ch-ua: \"Not/A)Brand\";v=\"99\", \"Chromium\";v=\"148\"\r\n\
                sec-ch-ua-mobile: ?0\r\nOrigin: http://127.0.0.1:23200\r\nSec-Fetch-Site: same-site\r\n\
                Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: http://127.0.0.1:23200/\r\n\
                Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n",
    },
    Client {
        name: "httpx-sse 0.4.3 (Python)",
        first: "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
                User-Agent: python-httpx/0.28.1\r\nAuthorization: Bearer {key}\r\nAccept: text/event-stream\r\n\
                Cache-Control: no-store\r\n\r\n",
        again: "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
                User-Agent: python-httpx/0.28.1\r\nAuthorization: Bearer {key}\r\nLast-Event-ID: {seen}\r\n\
                Accept: text/event-stream\r\nCache-Control: no-store\r\n\r\n",
    },
    Client {
        name: "sseclient-py 1.9.0 (Python) on requests",
        first: "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nUser-Agent: python-requests/2.34.2\r\n\
                Accept-Encoding: gzip, deflate\r\nAccept: text/event-stream\r\nConnection: keep-alive\r\n\
                Authorization: Bearer {key}\r\n\r\n",
        again: "GET /v1/events HTTP/1.1\r\nHost: {host}\r\nUser-Agent: python-requests/2.34.2\r\n\
                Accept-Encoding: gzip, deflate\r\nAccept: text/event-stream\r\nConnection: keep-alive\r\n\
                Authorization: Bearer {key}\r\nLast-Event-ID: {seen}\r\n\r\n",
    },
];

/// A stream, and the part of it that a client has read but not parsed.
struct Reading {
    connection: BufReader<TcpStream>,
    text: String,
    fields: Fields,
}

impl Reading {
    /// Sends the bytes of a request, and reads the head of its answer.
    async fn begin(host: &str, request: &str) -> Self {
        let mut connection = BufReader::new(TcpStream::connect(host).await.unwrap());
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            connection.read_line(&mut head).await.unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{request}{head}");
        assert!(
            head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        Self {
            connection,
            text: String::new(),
            fields: Fields::default(),
        }
    }

    /// Reads the next event, and returns its id and its data.
    async fn event(&mut self) -> (String, String) {
        loop {
            while let Some(end) = self.text.find('\n') {
                let line: String = self.text.drain(..=end).collect();
                match self.fields.read(line.trim_end()) {
                    Some(Block::Event { id, data, .. }) => return (id, data),
                    Some(Block::Comment) | None => {}
                }
            }
            let chunk = timeout(PATIENCE, self.chunk()).await;
            self.text.push_str(&chunk.expect("the stream is silent"));
        }
    }

    async fn chunk(&mut self) -> String {
        let mut size = String::new();
        self.connection.read_line(&mut size).await.unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.connection.read_exact(&mut chunk).await.unwrap();
        String::from_utf8(chunk[..size].to_vec()).unwrap()
    }
}

async fn every_client_resumes_after_its_last_event(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["one", "two", "three"]).await;
    let host = app.sms.address();

    for client in CLIENTS {
        let request = |text: &str, seen: &str| {
            text.replace("{host}", host)
                .replace("{key}", SMS_KEY)
                .replace("{start}", "c0")
                .replace("{seen}", seen)
        };
        let mut first = Reading::begin(host, &request(client.first, "")).await;
        let (_, one) = first.event().await;
        let (seen, two) = first.event().await;
        drop(first);

        let mut again = Reading::begin(host, &request(client.again, &seen)).await;
        let (_, three) = again.event().await;

        for (event, text) in [(one, "one"), (two, "two"), (three, "three")] {
            assert!(event.contains(text), "{}: {event}", client.name);
        }
    }
}
