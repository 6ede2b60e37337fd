//! The `Client-Properties` header: a JSON object in one line.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Mismatch, read};
use crate::recording::RecordedRequest;

const HEADER: &str = "client-properties";

/// The contents of the header. Source: vendor's schema of the client properties header.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ClientProperties {
    r#type: Type,
    pub(crate) features: BTreeSet<String>,
    app_id: Option<String>,
    app_version: Option<String>,
    ip_address: Option<String>,
    device_family: Option<String>,
    os: Option<String>,
    os_version: Option<String>,
    os_name: Option<String>,
    integration: Option<String>,
    integration_version: Option<String>,
    browser: Option<String>,
    browser_version: Option<String>,
    time_zone: Option<String>,
    device_manufacture: Option<String>,
    device_model: Option<String>,
}

/// The value of `type`. Sources show all three.
#[derive(Debug, Deserialize)]
enum Type {
    #[serde(rename = ".ClientProperties")]
    Dotted,
    #[serde(rename = ".ams.headers.ClientProperties")]
    Qualified,
    #[serde(rename = "ClientProperties")]
    Plain,
}

impl ClientProperties {
    /// Reads the header; `None` if there is no such header.
    pub(crate) fn of(request: &RecordedRequest) -> Result<Option<Self>, Mismatch> {
        let Some(text) = request.header(HEADER) else {
            return Ok(None);
        };
        let value = serde_json::from_str(text)
            .map_err(|e| Mismatch(format!("Client-Properties: expected a JSON object: {e}")))?;
        read("Client-Properties", &value).map(Some)
    }
}
