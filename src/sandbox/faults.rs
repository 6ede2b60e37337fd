//! Faults that a test orders: answers that replace the Cloud's own, and answers that never come.

use std::collections::VecDeque;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Deserializer};

use super::operation::Operation;

/// An order to answer requests otherwise than the Cloud would.
///
/// As JSON: `{"operation": "send", "times": 2, "after_applying": true, "answer": {"reply": {"status": 503}}}` or
/// `{"operation": "send", "answer": "stall"}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation whose next requests are struck.
    pub operation: Operation,
    /// How many requests pass before the first that is struck; none unless said otherwise.
    #[serde(default)]
    pub skip: u32,
    /// How many requests are struck; one unless said otherwise.
    #[serde(default = "once")]
    pub times: u32,
    /// Whether the request takes its effect before its own answer is lost.
    #[serde(default)]
    pub after_applying: bool,
    /// What the caller gets instead.
    pub answer: Answer,
}

/// What the caller of a struck request gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This answer.
    Reply(Reply),
    /// None at all: the connection stays open until the caller gives up.
    Stall,
}

/// An answer that replaces the Cloud's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// HTTP status.
    #[serde(deserialize_with = "read_status")]
    pub status: StatusCode,
    /// Body, empty unless given.
    #[serde(default)]
    pub body: String,
    /// `Content-Type`, left out unless given.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `Retry-After`, in seconds or as a date; left out unless given.
    #[serde(default)]
    pub retry_after: Option<String>,
}

impl Fault {
    /// The next request of `operation` is answered with `status` and an empty body.
    #[must_use]
    pub fn status(operation: Operation, status: StatusCode) -> Self {
        Self::new(operation, Answer::Reply(Reply::new(status)))
    }

    /// The next request of `operation` is never answered.
    #[must_use]
    pub fn stall(operation: Operation) -> Self {
        Self::new(operation, Answer::Stall)
    }

    /// The next request of `operation` is answered so.
    #[must_use]
    pub fn new(operation: Operation, answer: Answer) -> Self {
        Self {
            operation,
            skip: 0,
            times: once(),
            after_applying: false,
            answer,
        }
    }
}

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            body: String::new(),
            content_type: None,
            retry_after: None,
        }
    }

    /// A header whose value cannot stand in one is left out.
    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::RETRY_AFTER, self.retry_after),
        ];
        for (name, value) in headers {
            if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The faults that are still to strike, in the order in which they were ordered.
#[derive(Debug, Default)]
pub(super) struct Faults(VecDeque<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.0.push_back(fault);
        }
    }

    pub(super) fn withdraw(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.0).into()
    }

    /// The fault that strikes a request of `operation`, counted off.
    pub(super) fn take(&mut self, operation: Operation) -> Option<Fault> {
        let index = self.0.iter().position(|f| f.operation == operation)?;
        let fault = self.0.get_mut(index)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        let struck = fault.clone();
        if struck.times == 0 {
            self.0.remove(index);
        }
        Some(struck)
    }
}

fn once() -> u32 {
    1
}

fn read_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    StatusCode::from_u16(u16::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
