//! The envelope of every messaging request.

use serde::Serialize;

use crate::types::message::Metadata;

/// One request. Its answer has the same id as `reqId`.
#[derive(Serialize)]
pub(in crate::cloud) struct Request<'a, B> {
    kind: &'static str,
    id: &'a str,
    #[serde(rename = "type")]
    name: &'a str,
    body: B,
    /// Beside the body, since the Cloud ignores it inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
}

impl<'a, B> Request<'a, B> {
    pub(in crate::cloud) fn new(id: &'a str, name: &'a str, body: B) -> Self {
        Self {
            kind: "req",
            id,
            name,
            body,
            metadata: None,
        }
    }

    pub(in crate::cloud) fn with_metadata(self, metadata: Option<&'a Metadata>) -> Self {
        Self { metadata, ..self }
    }
}

/// The value of the `Client-Properties` header.
#[derive(Serialize)]
pub(in crate::cloud) struct ClientProperties<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    features: &'a [String],
}

impl<'a> ClientProperties<'a> {
    pub(in crate::cloud) fn new(features: &'a [String]) -> Self {
        Self {
            kind: ".ClientProperties",
            features,
        }
    }
}
