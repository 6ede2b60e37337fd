//! Domains and tokens.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

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
    /// The base of exactly this service.
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
}

/// The claims of an `AppJWT` that say how long it lives, in seconds since the epoch.
#[derive(Deserialize)]
pub(in crate::cloud) struct AppClaims {
    pub(in crate::cloud) iat: Option<i64>,
    pub(in crate::cloud) exp: i64,
}

/// What IDP is asked.
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
