//! Files: asking for temporary URLs, and the message that publishes a file.

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

/// The answer to either.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct TemporaryUrl {
    pub(in crate::cloud) relative_path: String,
    query_params: Map<String, Value>,
}

impl TemporaryUrl {
    /// The query, in which every value stands as it came: they are the signature and its time.
    pub(in crate::cloud) fn query(&self) -> String {
        let pairs = self.query_params.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// The `message` of an event whose content type is `hosted/file`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct HostedFile<'a> {
    /// Always there, if empty: the vendor's pages disagree on whether it may be left out.
    pub(in crate::cloud) caption: &'a str,
    pub(in crate::cloud) relative_path: &'a str,
    pub(in crate::cloud) file_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) preview: Option<&'a str>,
}
