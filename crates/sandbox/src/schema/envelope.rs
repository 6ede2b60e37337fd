//! The envelope of every request to CONVERSATION and SEND.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Mismatch, TextOrInteger, join, read};

/// The highest number of characters in an id. Source: vendor's schema of the request envelope.
const ID_LIMIT: usize = 64;

/// One request in its envelope.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The id, returned as `reqId`; a string even if it was an integer.
    pub(crate) id: String,
    /// The name of the request, such as `ms.PublishEvent`.
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) metadata: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    kind: Kind,
    id: TextOrInteger,
    r#type: String,
    body: Map<String, Value>,
    metadata: Option<Vec<Metadata>>,
}

#[derive(Debug, Deserialize)]
enum Kind {
    #[serde(rename = "req")]
    Request,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    r#type: String,
}

impl Envelope {
    /// Reads the request at `path` of the body.
    pub(crate) fn read(path: &str, value: &Value) -> Result<Self, Mismatch> {
        let id = read_id(path, value)?;
        let members: Members = read(path, value)?;
        Ok(Self {
            id,
            name: members.r#type,
            body: Value::Object(members.body),
            metadata: value.get("metadata").cloned(),
        })
    }
}

/// Reads the id alone, so that the answer to an otherwise malformed request can still hold it.
pub(crate) fn read_id(path: &str, value: &Value) -> Result<String, Mismatch> {
    let member = join(path, "id");
    let id = value
        .get("id")
        .ok_or_else(|| Mismatch(format!("{member}: missing, expected a string")))?;
    let id = match read(&member, id)? {
        TextOrInteger::Text(id) => id,
        TextOrInteger::Integer(id) => id.to_string(),
    };
    match id.chars().count() {
        1..=ID_LIMIT => Ok(id),
        length => Err(Mismatch(format!(
            "{member}: {length} characters, expected 1 to {ID_LIMIT}"
        ))),
    }
}
