//! The body of an engagement request to the Monitoring API.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The body of the request. Source: vendor's Monitoring API page "Engagement".
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EngagementRequest {
    #[serde(default)]
    pub(crate) identities: Vec<Identity>,
    consumer_id: Option<String>,
    client_properties: Option<Map<String, Value>>,
    entry_points: Option<Vec<String>>,
    engagement_attributes: Option<Vec<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    iss: Option<String>,
    acr: Assurance,
    /// The external consumer id.
    pub(crate) sub: String,
}

#[derive(Debug, Deserialize)]
enum Assurance {
    #[serde(rename = "loa1")]
    Loa1,
}
