//! Requests written byte for byte. A client library would correct them, refuse to send them, or
//! send them in one piece.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::channel::{Channel, Reply};
use super::patience::PATIENCE;

/// A connection to the service.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to the address of a channel.
    pub(crate) async fn open(channel: &Channel) -> std::io::Result<Self> {
        let stream = TcpStream::connect(channel.address()).await?;
        Ok(Self::of(stream))
    }

    /// Wraps an existing connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Writes the head of a request: its first line and headers.
    pub(crate) async fn write_head(&mut self, lines: &[&str]) {
        let head = format!("{}\r\nHost: localhost\r\n\r\n", lines.join("\r\n"));
        self.write(&head).await;
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.try_write(text).await.unwrap();
    }

    /// Writes text to a connection that the service may have closed.
    pub(crate) async fn try_write(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(text.as_bytes()).await
    }

    /// Waits for the next byte. Returns true if the connection ends instead.
    pub(crate) async fn reads_end(&mut self) -> bool {
        let mut next = [0];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut next)).await;
        // A connection with unread data is reset.
        read.expect("neither a byte nor the end of the connection arrived")
            .map_or(true, |count| count == 0)
    }

    /// Reads an answer that has a `Content-Length`.
    pub(crate) async fn read(&mut self) -> Reply {
        let status = self.read_line().await;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        loop {
            let line = self.read_line().await;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let length = headers.get("content-length");
        let length = length.map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Reply {
            status,
            headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    async fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }
}

/// Sends one request over a connection of its own.
pub(crate) async fn exchange(channel: &Channel, head: &[&str], body: &str) -> Reply {
    let mut connection = Connection::open(channel).await.unwrap();
    connection.write_head(head).await;
    connection.write(body).await;
    connection.read().await
}
