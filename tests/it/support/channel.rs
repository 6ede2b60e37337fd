//! A channel adapter, which calls the API with its key.

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// A channel that calls one address with one key.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    client: Client,
    base: String,
    key: String,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The body as JSON; null if it is empty or not JSON.
    pub(crate) body: Value,
}

/// A part of a form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    pub(crate) file_name: Option<&'a str>,
    pub(crate) content: &'a [u8],
}

/// The media type of a form.
pub(crate) const FORM: &str = "multipart/form-data; boundary=a-line-between-parts";

/// Returns the body of a form.
pub(crate) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let file_name = part
            .file_name
            .map(|file_name| format!("; filename=\"{file_name}\"\r\nContent-Type: image/png"));
        let head = format!(
            "--a-line-between-parts\r\nContent-Disposition: form-data; name=\"{}\"{}\r\n\r\n",
            part.name,
            file_name.unwrap_or_default()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--a-line-between-parts--\r\n");
    body
}

impl Channel {
    #[expect(
        clippy::disallowed_methods,
        reason = "a channel is another program: it shares nothing with the service"
    )]
    pub(crate) fn new(base: &str, key: &str) -> Self {
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            base: base.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Returns the same channel with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Returns the host and port that it calls.
    pub(crate) fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        send(with_json(self.request(Method::POST, path), &body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        send(with_json(self.request(Method::PUT, path), &body)).await
    }

    /// Posts text with the media type of JSON.
    pub(crate) async fn post_text(&self, path: &str, text: &str) -> Reply {
        let request = self.request(Method::POST, path);
        send(
            request
                .header("content-type", "application/json")
                .body(text.to_owned()),
        )
        .await
    }

    /// Posts a form. A part with a file name is a file.
    pub(crate) async fn post_form(&self, path: &str, parts: &[Part<'_>]) -> Reply {
        let request = self.request(Method::POST, path);
        let request = request.header("content-type", FORM).body(form(parts));
        send(request).await
    }

    /// Sends a file of a user.
    pub(crate) async fn send_file(&self, user_id: &str, content: &[u8]) -> Reply {
        let file = Part {
            name: "file",
            file_name: Some("file"),
            content,
        };
        self.post_form(&format!("/v1/users/{user_id}/files"), &[file])
            .await
    }

    /// Sends a text of a user.
    pub(crate) async fn say(&self, user_id: &str, text: &str) -> Reply {
        let body = serde_json::json!({"text": text});
        self.post(&format!("/v1/users/{user_id}/messages"), body)
            .await
    }

    /// Sends a text of a user, with a `Prefer` header.
    pub(crate) async fn say_preferring(&self, user_id: &str, text: &str, prefer: &str) -> Reply {
        let path = format!("/v1/users/{user_id}/messages");
        let body = serde_json::json!({"text": text});
        let request = with_json(self.request(Method::POST, &path), &body);
        send(request.header("prefer", prefer)).await
    }
}

fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.unwrap()
}

/// Sends a request like [`send`], to a service that may be unreachable.
pub(crate) async fn try_send(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    Ok(Reply {
        status,
        headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    })
}

impl Reply {
    /// Checks the status of an answer, and returns its body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// Checks that the answer is a complete problem with this status and code, and returns it.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["code"], code, "{:#}", self.body);
        assert_eq!(
            self.body["type"],
            format!("urn:liveperson-bridge:problem:{code}")
        );
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        assert!(self.body["retryable"].is_boolean());
        assert_eq!(
            self.body["request_id"].as_str().unwrap().as_bytes(),
            self.headers["x-request-id"].as_bytes()
        );
        self.body
    }
}
