//! The subscription of an app installation to notifications.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use url::Url;

/// A subscription: the destination of an account's notifications, their signature and their
/// retries.
///
/// As JSON: `{"account_id": "12345678", "client_id": "app", "client_secret": "…", "url":
/// "https://…", "algorithm": "sha256", "retry": {"time_to_live": 86400}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The account id.
    pub account_id: String,
    /// The client id of the app installation.
    pub client_id: String,
    /// The client secret, which signs the notifications.
    #[serde(deserialize_with = "read_secret")]
    pub client_secret: SecretString,
    /// The URL to which they are sent, by POST.
    #[serde(deserialize_with = "read_url")]
    pub url: Url,
    /// The hash of the signature; SHA-1 by default, which the Cloud uses for most accounts.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The retries of a notification that is not accepted; no retries by default.
    #[serde(default)]
    pub retry: Retry,
}

/// The hash in a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// HMAC-SHA1, `sha1=`.
    #[default]
    Sha1,
    /// HMAC-SHA256, `sha256=`, for accounts that the vendor switched over.
    Sha256,
}

/// The retries of a notification that is not accepted. Source: vendor's Webhooks documentation,
/// "Retry policy".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// A maximum number of further attempts, 0 to 5, made 30 s apart. Later notifications do not
    /// wait.
    #[serde(deserialize_with = "read_number")]
    ByNumber(u32),
    /// A time to live in seconds, 2 to 259,200. Attempts follow after 2, 4, 8 … 300 s until then.
    /// Meanwhile no other notification of the app is sent, and afterwards all of them in order.
    #[serde(deserialize_with = "read_seconds")]
    TimeToLive(u32),
}

impl Default for Retry {
    fn default() -> Self {
        Self::ByNumber(0)
    }
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// Reads the URL to which notifications go.
///
/// # Errors
///
/// When it is not an http or https URL; the text says so.
pub fn read_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if ["http", "https"].contains(&url.scheme()) {
        Ok(url)
    } else {
        Err("expected an http or https URL".to_owned())
    }
}

fn read_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    read_endpoint(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        number @ 0..=5 => Ok(number),
        number => Err(serde::de::Error::custom(format!(
            "{number} retries, expected 0 to 5"
        ))),
    }
}

fn read_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        seconds @ 2..=259_200 => Ok(seconds),
        seconds => Err(serde::de::Error::custom(format!(
            "a lifetime of {seconds} s, expected 2 to 259200"
        ))),
    }
}
