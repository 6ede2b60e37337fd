//! The requests that the Cloud got, for tests to look at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::http::request::Parts;
use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded;

use super::operation::Operation;

/// Enough for a load test's last seconds without growing for ever in a long demo.
const CAPACITY: usize = 10_000;

/// One request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRequest {
    /// The endpoint that it went to; none for a path that the Cloud does not have.
    pub operation: Option<Operation>,
    /// HTTP method.
    pub method: String,
    /// Path, still percent-encoded.
    pub path: String,
    /// Query without the question mark, still percent-encoded; empty when there was none.
    pub query: String,
    /// Headers by lower-case name; of a repeated one the last value.
    pub headers: BTreeMap<String, String>,
    /// Body as text; what is not UTF-8 is replaced.
    pub body: String,
}

impl RecordedRequest {
    pub(super) fn new(operation: Option<Operation>, parts: &Parts, body: &[u8]) -> Self {
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Self {
            operation,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    /// The value of a header, given its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The decoded value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        read_form(&self.query).remove(name)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    ///
    /// When the body is not JSON.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// The media type of the body, without parameters, in lower case.
    pub(super) fn media_type(&self) -> String {
        let content_type = self.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

/// The parameters of a query or of a form body.
pub(super) fn read_form(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Recording(VecDeque<Arc<RecordedRequest>>);

impl Recording {
    pub(super) fn push(&mut self, request: Arc<RecordedRequest>) {
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(super) fn list(&self) -> Vec<RecordedRequest> {
        self.0.iter().map(|r| RecordedRequest::clone(r)).collect()
    }
}
