//! The shapes of a connector's requests, as the vendor's documents give them.
//!
//! Each shape is a type, and reading it is the check. The shapes are strict: a member that is
//! unknown, misspelt, `null` or of another type is a [`Mismatch`] that names it, even where the
//! real Cloud might ignore it.

pub(super) mod client_properties;
pub(super) mod engagement;
pub(super) mod envelope;
pub(super) mod event;
pub(super) mod field;
pub(super) mod file;
pub(super) mod opening;
pub(super) mod profile;

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::recording::RecordedRequest;
use super::refusal::Refusal;

/// The members that may be `null`. The vendor's table allows that for the first. The other two
/// belong to a rating, and the encoding of a skipped rating is not documented.
const NULLABLE: [&str; 3] = ["ttrDefName", "csatRate", "csatResolutionConfirmation"];

/// A member that differs from the form that the Cloud expects.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Mismatch(pub(super) String);

impl From<Mismatch> for Refusal {
    fn from(mismatch: Mismatch) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, mismatch.to_string())
    }
}

/// An id that sources show as text and as an integer; it can exceed 32 bits.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a string or an integer")]
pub(super) enum TextOrInteger {
    Text(String),
    Integer(i64),
}

/// Reads a value as a `T`. `path` is its position in the body.
pub(super) fn read<T: DeserializeOwned>(path: &str, value: &Value) -> Result<T, Mismatch> {
    if let Some(member) = null_member(path, value) {
        return Err(Mismatch(format!(
            "{member}: null, expected a value or no such member"
        )));
    }
    serde_path_to_error::deserialize(value).map_err(|e| {
        let member = match e.path().to_string().as_str() {
            "." if path.is_empty() => "body".to_owned(),
            "." => path.to_owned(),
            below => join(path, below),
        };
        Mismatch(format!("{member}: {}", e.into_inner()))
    })
}

/// Reads the body of a request as JSON.
pub(super) fn parse(request: &RecordedRequest) -> Result<Value, Mismatch> {
    request
        .json()
        .map_err(|e| Mismatch(format!("body: expected JSON: {e}")))
}

/// Refuses a body that is not declared to be JSON.
pub(super) fn expect_json(request: &RecordedRequest) -> Result<(), Refusal> {
    match request.media_type().as_str() {
        "application/json" => Ok(()),
        other => Err(Refusal::plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Content-Type: `{other}`, expected `application/json`"),
        )),
    }
}

fn null_member(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(path.to_owned()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| null_member(&format!("{path}[{index}]"), item)),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !NULLABLE.contains(&name.as_str()))
            .find_map(|(name, member)| null_member(&join(path, name), member)),
        _ => None,
    }
}

fn join(path: &str, member: &str) -> String {
    match path {
        "" => member.to_owned(),
        path => format!("{path}.{member}"),
    }
}
