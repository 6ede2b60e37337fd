//! The recorded requests to the Cloud, for tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::http::request::Parts;
use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded;

use super::operation::Operation;

/// The highest number of requests: enough for the last seconds of a load test, and a bound for a
/// long demo.
const CAPACITY: usize = 10_000;

/// The highest number of bytes of all bodies, since some bodies are large.
const BODY_CAPACITY: usize = 64 * 1024 * 1024;

/// A request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRequest {
    /// The number, from 1. Numbering continues when requests are forgotten.
    pub id: u64,
    /// The endpoint; `None` for a path that the Cloud does not have.
    pub operation: Option<Operation>,
    /// The HTTP method.
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query without the question mark, still percent-encoded; empty if there was none.
    pub query: String,
    /// The headers by lower-case name. A repeated header has its last value.
    pub headers: BTreeMap<String, String>,
    /// The number of bytes in the body.
    pub size: usize,
    /// The body as text, with replacements for bytes that are not UTF-8. Empty for an upload, whose
    /// body is stored as a file.
    pub body: String,
}

impl RecordedRequest {
    pub(super) fn new(operation: Option<Operation>, parts: &Parts, body: &[u8]) -> Self {
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Self {
            id: 0,
            operation,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            size: body.len(),
            body: match operation {
                Some(Operation::Upload) => String::new(),
                _ => String::from_utf8_lossy(body).into_owned(),
            },
        }
    }

    /// Returns the value of a header, given its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the decoded value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        read_form(&self.query).remove(name)
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// When the body is not JSON.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// Returns the media type of the body, without parameters, in lower case.
    pub(super) fn media_type(&self) -> String {
        let content_type = self.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

/// Reads the parameters of a query or of a form body.
pub(super) fn read_form(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Recording {
    requests: VecDeque<Arc<RecordedRequest>>,
    /// The number of requests so far, including forgotten ones.
    count: u64,
    /// The number of bytes of all bodies.
    total_bytes: usize,
}

impl Recording {
    /// Records a request under the next number.
    pub(super) fn push(&mut self, request: RecordedRequest) -> Arc<RecordedRequest> {
        self.total_bytes += request.body.len();
        self.count += 1;
        let request = Arc::new(RecordedRequest {
            id: self.count,
            ..request
        });
        self.requests.push_back(Arc::clone(&request));
        while (self.requests.len() > CAPACITY || self.total_bytes > BODY_CAPACITY)
            && let Some(oldest) = self.requests.pop_front()
        {
            self.total_bytes -= oldest.body.len();
        }
        request
    }

    pub(super) fn clear(&mut self) {
        *self = Self {
            count: self.count,
            ..Self::default()
        };
    }

    pub(super) fn list(&self) -> Vec<RecordedRequest> {
        let requests = self.requests.iter();
        requests.map(|r| RecordedRequest::clone(r)).collect()
    }
}
