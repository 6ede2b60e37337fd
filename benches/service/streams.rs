//! Streams of events that stay open during a measurement, each for one user, as an app has them.

use std::time::UNIX_EPOCH;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::readers::Connection;

/// The number of streams.
pub(crate) const STREAMS: u32 = 10_000;

/// The key of the channel's tokens.
pub(crate) const KEY: &str = "a-key-of-thirty-two-bytes-or-more";

/// Opens the streams, 100 at a time, and reads them until they are dropped.
pub(crate) async fn open(address: &str, head: &str) -> JoinSet<()> {
    let mut streams = JoinSet::new();
    for first in (0..STREAMS).step_by(100) {
        let mut opening = JoinSet::new();
        for user in first..first + 100 {
            let (address, token, head) = (address.to_owned(), token(user), head.to_owned());
            opening.spawn(async move {
                let mut connection = Connection::open(&address).await;
                let request = format!(
                    "GET /v1/events?after={head} HTTP/1.1\r\nHost: bench\r\n\
                     Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
                );
                connection.0.write_all(request.as_bytes()).await.unwrap();
                let mut start = [0; 12];
                connection.0.read_exact(&mut start).await.unwrap();
                assert_eq!(&start, b"HTTP/1.1 200");
                connection
            });
        }
        for mut connection in opening.join_all().await {
            streams.spawn(async move {
                let mut buffer = [0; 1024];
                while matches!(connection.0.read(&mut buffer).await, Ok(read) if read > 0) {}
            });
        }
    }
    streams
}

/// Returns a token of a user, who may be one of those who get messages.
fn token(user: u32) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({"iss": "bench", "user": format!("user-{user}"), "exp": now + 86_400});
    let signed = format!("{}.{}", part(&json!({"alg": "HS256"})), part(&claims));
    let key = Key::new(HMAC_SHA256, KEY.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}
