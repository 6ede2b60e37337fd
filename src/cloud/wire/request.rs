//! The envelope that every messaging request goes in.

use serde::Serialize;

/// One request; its answer bears the same id as `reqId`.
#[derive(Serialize)]
pub(in crate::cloud) struct Request<'a, B> {
    kind: &'static str,
    id: &'a str,
    #[serde(rename = "type")]
    name: &'static str,
    body: B,
}

impl<'a, B> Request<'a, B> {
    pub(in crate::cloud) fn new(id: &'a str, name: &'static str, body: B) -> Self {
        Self {
            kind: "req",
            id,
            name,
            body,
        }
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
