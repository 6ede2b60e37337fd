//! Temporary URLs, the only credential of the file storage.
//!
//! They have the form that the object store Swift uses. A URL is signed with HMAC-SHA1 over its
//! method, its expiry and its path, so it allows one method on one file for a minute.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::rand::SystemRandom;
use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::hex;
use super::recording::RecordedRequest;

/// The lifetime in seconds. Source: vendor's Send API examples, section on file sharing.
const LIFETIME: i64 = 60;

const SIGNATURE: &str = "temp_url_sig";
const EXPIRY: &str = "temp_url_expires";

/// The issuer of temporary URLs.
#[derive(Debug)]
pub(super) struct TempUrls(hmac::Key);

impl TempUrls {
    pub(super) fn generate() -> Result<Self, Unspecified> {
        let key = hmac::Key::generate(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &SystemRandom::new())?;
        Ok(Self(key))
    }

    /// Returns the query parameters that allow one method on one path from now on.
    pub(super) fn issue(&self, method: &Method, path: &str, now: DateTime<Utc>) -> Value {
        let expires = (now.timestamp() + LIFETIME).to_string();
        json!({SIGNATURE: self.sign(method.as_str(), &expires, path), EXPIRY: expires})
    }

    /// Checks the URL of a request. The error describes the mistake.
    pub(super) fn verify(
        &self,
        request: &RecordedRequest,
        now: DateTime<Utc>,
    ) -> Result<(), String> {
        let parameter = |name| {
            let value = request.parameter(name);
            value.ok_or_else(|| format!("query: expected {name}"))
        };
        let (signature, expires) = (parameter(SIGNATURE)?, parameter(EXPIRY)?);
        let (method, path) = (&request.method, &request.path);
        let expected = self.sign(method, &expires, path);
        verify_slices_are_equal(expected.as_bytes(), signature.as_bytes()).map_err(|_| {
            format!(
                "{SIGNATURE}: not valid for `{method} {path}` until {expires}; \
                 a URL is valid only for the method and path for which it was issued"
            )
        })?;
        match expires.parse::<i64>() {
            Ok(expires) if now.timestamp() <= expires => Ok(()),
            _ => Err(format!(
                "{EXPIRY}: it expired at {expires}, and the time is {}",
                now.timestamp()
            )),
        }
    }

    fn sign(&self, method: &str, expires: &str, path: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{method}\n{expires}\n{path}").as_bytes());
        hex::encode(tag.as_ref())
    }
}

/// True if a request has a signature, whatever its path.
pub(super) fn is_signed(request: &RecordedRequest) -> bool {
    request.parameter(SIGNATURE).is_some()
}
