//! The bodies that request temporary URLs, and the message that publishes a file.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The body of `ms.GenerateURLForUploadFile`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct UploadUrl<'a> {
    /// Bytes, as text: the form that the vendor documents.
    pub(in crate::cloud) file_size: &'a str,
    pub(in crate::cloud) file_type: &'a str,
}

/// The body of `ms.GenerateURLForDownloadFile`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct DownloadUrl<'a> {
    pub(in crate::cloud) relative_path: &'a str,
}

/// The characters that end or change a value in a query. `%` is not among them, so that an encoded
/// value stays as it is.
const QUERY_ESCAPES: AsciiSet = CONTROLS.add(b'+').add(b' ').add(b'&').add(b'#');

/// The answer to either request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct TemporaryUrl {
    pub(in crate::cloud) relative_path: String,
    query_params: Map<String, Value>,
}

impl TemporaryUrl {
    /// Returns the query. The values are the signature and its time, so they stay as they arrived,
    /// except for characters with a meaning in a query.
    pub(in crate::cloud) fn query(&self) -> String {
        let pairs = self.query_params.iter().map(|(name, value)| {
            let value = match value {
                Value::String(text) => utf8_percent_encode(text, &QUERY_ESCAPES).to_string(),
                other => other.to_string(),
            };
            format!("{name}={value}")
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// The `message` of an event whose content type is `hosted/file`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct HostedFile<'a> {
    /// Always sent, even if empty: the vendor's pages disagree on whether it may be left out.
    pub(in crate::cloud) caption: &'a str,
    pub(in crate::cloud) relative_path: &'a str,
    pub(in crate::cloud) file_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) preview: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ambiguous_characters_in_query_values_are_escaped() {
        let url: TemporaryUrl = serde_json::from_value(json!({
            "relativePath": "/v1/file",
            "queryParams": {"temp_url_expires": 1_700_000_000, "temp_url_sig": "a+b/c=&d#e f%2Bg"},
        }))
        .unwrap();

        assert_eq!(
            url.query(),
            "temp_url_expires=1700000000&temp_url_sig=a%2Bb/c=%26d%23e%20f%2Bg"
        );
    }
}
