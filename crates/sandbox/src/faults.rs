//! Faults that a test orders: answers that replace the Cloud's own, and answers that never come.
//!
//! To add a fault: a variant of [`Answer`] (a type of its own also in the `pub use` of `lib.rs`), its effect in `server.rs`, an
//! entry of `TROUBLES` in `page/faults.js` if people are to order it by a click, a test in `tests/control.rs`, and a row in the
//! table "Trouble" of `docs/sandbox.md`. What strikes notifications rather than requests is a trouble (`hooks`).

use std::collections::VecDeque;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Sandbox;
use super::operation::Operation;
use super::order::{Order, read_times};

/// How a fault names that every operation is struck.
const ANY: &str = "any";

/// Seconds: the longest that an answer can be late.
const LATEST: u32 = 3600;

/// An order to answer requests otherwise than the Cloud would.
///
/// As JSON: `{"operation": "send", "times": 2, "after_applying": true, "answer": {"reply": {"status": 503}}}` or
/// `{"operation": "any", "answer": "stall"}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation whose next requests are struck; none for every operation, in JSON `"any"`.
    #[serde(
        serialize_with = "write_operation",
        deserialize_with = "read_operation"
    )]
    pub operation: Option<Operation>,
    /// The text that the body of a struck request holds; none for every request. It is told by its bytes, as they are in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containing: Option<String>,
    /// How many requests pass before the first that is struck; none unless said otherwise.
    #[serde(default)]
    pub skip: u32,
    /// How many requests are struck; one unless said otherwise.
    #[serde(default = "once", deserialize_with = "read_times")]
    pub times: u32,
    /// Whether the request takes its effect before its own answer is lost or made to wait.
    #[serde(default)]
    pub after_applying: bool,
    /// What the caller gets instead.
    pub answer: Answer,
}

/// What the caller of a struck request gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This answer.
    Reply(Reply),
    /// None at all: the connection stays open until the caller gives up.
    Stall,
    /// None at all: the connection ends.
    Cut,
    /// The Cloud's own answer, late.
    Delay(Delay),
}

/// How late an answer is, by the sandbox's clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// 1 to 3600 s.
    #[serde(deserialize_with = "read_delay")]
    pub seconds: u32,
}

/// An answer that replaces the Cloud's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// HTTP status.
    #[serde(serialize_with = "write_status", deserialize_with = "read_status")]
    pub status: StatusCode,
    /// Body, empty unless given.
    #[serde(default)]
    pub body: String,
    /// `Content-Type`, left out unless given.
    #[serde(default, deserialize_with = "read_header")]
    pub content_type: Option<String>,
    /// `Retry-After`, in seconds or as a date; left out unless given.
    #[serde(default, deserialize_with = "read_header")]
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
    pub fn new(operation: impl Into<Option<Operation>>, answer: Answer) -> Self {
        Self {
            operation: operation.into(),
            containing: None,
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

    pub(super) fn list(&self) -> Vec<Fault> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn withdraw(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.0).into()
    }

    /// The fault that strikes a request of `operation` with this body, counted off.
    pub(super) fn take(&mut self, operation: Operation, body: &[u8]) -> Option<Fault> {
        let strikes = |fault: &Fault| {
            fault.operation.is_none_or(|struck| struck == operation)
                && fault
                    .containing
                    .as_ref()
                    .is_none_or(|text| String::from_utf8_lossy(body).contains(text))
        };
        let index = self.0.iter().position(strikes)?;
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

/// An answer that never begins: its body breaks before anything of it is written, so the connection just ends.
pub(super) fn cut() -> Response {
    let broken = stream::iter([Err::<&str, _>(std::io::Error::other("cut on order"))]);
    Response::new(Body::from_stream(broken))
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/faults", get(list).post(order).delete(withdraw))
}

async fn list(State(sandbox): State<Sandbox>) -> Json<Vec<Fault>> {
    Json(sandbox.faults())
}

async fn order(State(sandbox): State<Sandbox>, Order(fault): Order<Fault>) -> StatusCode {
    sandbox.inject(fault);
    StatusCode::NO_CONTENT
}

async fn withdraw(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.state().faults.withdraw();
    StatusCode::NO_CONTENT
}

fn once() -> u32 {
    1
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn write_operation<S: Serializer>(
    operation: &Option<Operation>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match operation {
        Some(operation) => operation.serialize(serializer),
        None => serializer.serialize_str(ANY),
    }
}

fn read_operation<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Operation>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name == ANY {
        return Ok(None);
    }
    let read = Operation::read(&name).map(Some);
    read.map_err(|unread| D::Error::custom(format!("{unread}, or `{ANY}`")))
}

fn read_delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        seconds @ 1..=LATEST => Ok(seconds),
        seconds => {
            let complaint = format!("{seconds} s late, expected 1 to {LATEST}");
            Err(D::Error::custom(complaint))
        }
    }
}

fn read_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<String>::deserialize(deserializer)?;
    match value.as_ref().map(HeaderValue::try_from) {
        Some(Err(_)) => Err(D::Error::custom("no value of a header")),
        _ => Ok(value),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
pub(super) fn write_status<S: Serializer>(
    status: &StatusCode,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

pub(super) fn read_status<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<StatusCode, D::Error> {
    StatusCode::from_u16(u16::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
