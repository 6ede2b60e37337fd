//! The answers with domains and tokens.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The domain API's answer in either of its forms: one entry, or the list of all of them.
#[derive(Deserialize)]
pub(in crate::cloud) struct BaseUris {
    #[serde(flatten)]
    one: Option<BaseUri>,
    #[serde(rename = "baseURIs", default)]
    all: Vec<BaseUri>,
}

#[derive(Deserialize)]
struct BaseUri {
    service: String,
    #[serde(rename = "baseURI")]
    base_uri: String,
}

impl BaseUris {
    /// Returns the base URL of the service with exactly this name.
    pub(in crate::cloud) fn find(&self, service: &str) -> Option<&str> {
        self.one
            .iter()
            .chain(&self.all)
            .find(|entry| entry.service == service)
            .map(|entry| entry.base_uri.as_str())
    }
}

/// Sentinel's answer.
#[derive(Deserialize)]
pub(in crate::cloud) struct AppToken {
    pub(in crate::cloud) access_token: SecretString,
    /// The token's lifetime. OAuth 2.0 defines it; the vendor's pages do not show it.
    #[serde(default)]
    pub(in crate::cloud) expires_in: Seconds,
}

/// The claims of an `AppJWT` that determine its lifetime, since the epoch.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::cloud) struct AppClaims {
    pub(in crate::cloud) iat: Seconds,
    pub(in crate::cloud) exp: Seconds,
}

/// A number of seconds as any issuer may write it: whole, with a fraction (RFC 7519 allows it), or
/// either as text. `None` for everything else.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub(in crate::cloud) struct Seconds(Option<f64>);

impl From<Value> for Seconds {
    fn from(value: Value) -> Self {
        let seconds = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        Self(seconds.filter(|seconds: &f64| seconds.is_finite()))
    }
}

impl Seconds {
    /// Returns the same time in milliseconds.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a value outside the range of i64 becomes its nearest bound"
    )]
    pub(in crate::cloud) fn milliseconds(&self) -> Option<i64> {
        self.0.map(|seconds| (seconds * 1000.0) as i64)
    }
}

/// The request to IDP.
#[derive(Serialize)]
pub(in crate::cloud) struct ConsumerRequest<'a> {
    pub(in crate::cloud) ext_consumer_id: &'a str,
}

/// IDP's answer.
#[derive(Deserialize)]
pub(in crate::cloud) struct ConsumerToken {
    pub(in crate::cloud) token: SecretString,
}

/// The claim of a `ConsumerJWS` that names the consumer.
#[derive(Deserialize)]
pub(in crate::cloud) struct ConsumerClaims {
    pub(in crate::cloud) lp_consumer_id: String,
}
