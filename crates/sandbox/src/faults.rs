//! Faults that a test injects: answers that replace the Cloud's own, and answers that never come.
//!
//! To add a fault:
//!
//! * Add a variant to [`Answer`]. If it has a type of its own, add that to the `pub use` of
//!   `lib.rs`.
//! * Implement its effect in `server.rs`, and test it in `tests/control.rs`.
//! * Add an entry to `OFFERED_FAULTS` in `page/faults.js`, if people are to inject it by a click.
//! * Add a row to the table in the section "Faults" of `docs/sandbox.md`.
//!
//! A fault in notifications rather than requests is a disturbance (`webhooks`).

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
use super::control_request::{JsonBody, read_times};
use super::operation::Operation;
use super::schema::event::EventType;

/// The name that stands for every operation.
const ANY: &str = "any";

/// The longest delay of an answer, in seconds.
const MAX_DELAY_SECONDS: u32 = 3600;

/// An instruction to answer requests differently from the Cloud.
///
/// As JSON: `{"operation": "any", "answer": "stall"}`, or `{"operation": "send", "times": 2,
/// "after_applying": true, "answer": {"reply": {"status": 503}}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation whose next requests are affected; `None`, in JSON `"any"`, for every
    /// operation.
    #[serde(
        serialize_with = "write_operation",
        deserialize_with = "read_operation"
    )]
    pub operation: Option<Operation>,
    /// A text that the body of an affected request contains; `None` for any body. It is compared
    /// with the raw JSON, before escapes are decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containing: Option<String>,
    /// The type of the event that an affected SEND publishes; `None` for any request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventType>,
    /// The number of matching requests that pass before the first affected one; zero by default.
    #[serde(default)]
    pub skip: u32,
    /// The number of affected requests; one by default.
    #[serde(default = "once", deserialize_with = "read_times")]
    pub times: u32,
    /// True if the request takes effect before its answer is replaced, lost or delayed.
    #[serde(default)]
    pub after_applying: bool,
    /// The answer that the caller gets.
    pub answer: Answer,
}

/// The answer that the caller of an affected request gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This answer.
    Reply(Reply),
    /// No answer: the connection stays open until the caller gives up.
    Stall,
    /// No answer: the connection is closed.
    Cut,
    /// The Cloud's own answer, late.
    Delay(Delay),
}

/// The delay of an answer, by the sandbox's clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// The delay in seconds, 1 to 3600.
    #[serde(deserialize_with = "read_delay")]
    pub seconds: u32,
}

/// An answer that replaces the Cloud's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The HTTP status.
    #[serde(serialize_with = "write_status", deserialize_with = "read_status")]
    pub status: StatusCode,
    /// The body; empty by default.
    #[serde(default)]
    pub body: String,
    /// The `Content-Type`; left out by default.
    #[serde(default, deserialize_with = "read_header")]
    pub content_type: Option<String>,
    /// The `Retry-After`, in seconds or as a date; left out by default.
    #[serde(default, deserialize_with = "read_header")]
    pub retry_after: Option<String>,
}

impl Fault {
    /// Creates a fault: the next request of `operation` is answered with `status` and an empty
    /// body.
    #[must_use]
    pub fn status(operation: Operation, status: StatusCode) -> Self {
        Self::new(operation, Answer::Reply(Reply::new(status)))
    }

    /// Creates a fault: the next request of `operation` is never answered.
    #[must_use]
    pub fn stall(operation: Operation) -> Self {
        Self::new(operation, Answer::Stall)
    }

    /// Creates a fault: the next request of `operation` gets this answer. `None` means any
    /// operation.
    #[must_use]
    pub fn new(operation: impl Into<Option<Operation>>, answer: Answer) -> Self {
        Self {
            operation: operation.into(),
            containing: None,
            event: None,
            skip: 0,
            times: once(),
            after_applying: false,
            answer,
        }
    }

    /// True if the fault is for requests of `operation` with this body.
    fn matches(&self, operation: Operation, body: &[u8]) -> bool {
        let is_contained = |text: &String| String::from_utf8_lossy(body).contains(text);
        let is_published = |event: EventType| EventType::of(body) == Some(event);
        self.operation.is_none_or(|affected| affected == operation)
            && self.containing.as_ref().is_none_or(is_contained)
            && self.event.is_none_or(is_published)
    }
}

impl Reply {
    /// Creates an answer without a body.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            body: String::new(),
            content_type: None,
            retry_after: None,
        }
    }

    /// Builds the response. Leaves out a header whose value is not valid.
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

/// The pending faults, in the order of their injection.
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

    /// Returns the fault for a request of `operation` with this body, and counts it down.
    pub(super) fn take(&mut self, operation: Operation, body: &[u8]) -> Option<Fault> {
        let affects = |fault: &Fault| fault.matches(operation, body);
        let index = self.0.iter().position(affects)?;
        let fault = self.0.get_mut(index)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        let applied = fault.clone();
        if applied.times == 0 {
            self.0.remove(index);
        }
        Some(applied)
    }
}

/// Returns an answer that never begins. Its body fails before the first byte is written, so the
/// connection just ends.
pub(super) fn cut() -> Response {
    let broken = stream::iter([Err::<&str, _>(std::io::Error::other(
        "connection cut by a fault",
    ))]);
    Response::new(Body::from_stream(broken))
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/faults", get(list).post(inject).delete(withdraw))
}

async fn list(State(sandbox): State<Sandbox>) -> Json<Vec<Fault>> {
    Json(sandbox.faults())
}

async fn inject(State(sandbox): State<Sandbox>, JsonBody(fault): JsonBody<Fault>) -> StatusCode {
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
    reason = "serde calls it with these types"
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
        seconds @ 1..=MAX_DELAY_SECONDS => Ok(seconds),
        seconds => {
            let complaint = format!("a delay of {seconds} s, expected 1 to {MAX_DELAY_SECONDS}");
            Err(D::Error::custom(complaint))
        }
    }
}

fn read_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<String>::deserialize(deserializer)?;
    match value.as_ref().map(HeaderValue::try_from) {
        Some(Err(_)) => Err(D::Error::custom("not a valid header value")),
        _ => Ok(value),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with these types"
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
