//! The JWTs by which a channel authenticates, in place of an API key.
//!
//! The algorithm is the configured one, not the one that a token names. So a public key is never
//! used as a shared secret. The algorithm `none` is not supported.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// 60 s: the tolerance for the clock of the token's issuer.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// 366 days, the longest year. A token lives for hours. If one ends far later, its times are most
/// likely in milliseconds.
const MAX_LIFETIME: TimeDelta = TimeDelta::days(366);

/// 32 bytes: a shared secret is at least as long as the hash. Source: RFC 7518, section 3.2.
const MIN_SECRET_BYTES: usize = 32;

/// 4096 bytes: far more than the claims that are read need.
const MAX_TOKEN_BYTES: usize = 4096;

/// The algorithm by which tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// Returns the algorithm with this name, as a token's header has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "RS256" => Self::Rs256,
            "ES256" => Self::Es256,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    /// Describes a key for this algorithm, to follow "expected".
    #[must_use]
    pub const fn expected_key(self) -> &'static str {
        match self {
            Self::Hs256 => "a secret of at least 32 bytes",
            Self::Rs256 => "an RSA public key in PEM format",
            Self::Es256 => "a P-256 public key in PEM format",
            Self::EdDsa => "an Ed25519 public key in PEM format",
        }
    }
}

/// A key that verifies tokens. It is cheap to clone.
#[derive(Clone)]
pub struct JwtKey {
    algorithm: JwtAlgorithm,
    key: Arc<DecodingKey>,
}

impl fmt::Debug for JwtKey {
    /// Leaves out the key, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The claims of a token whose signature and times are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The issuer: a channel's id.
    pub iss: String,
    /// The user that the token is valid for; `None` for all users of the channel.
    pub user: Option<String>,
}

/// The claims of a token before its signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// The issuer.
    pub iss: String,
    /// True if the token is valid for one user only.
    pub is_for_one_user: bool,
}

/// The claims of a token as they were signed. A duplicate makes the whole token unreadable.
#[derive(Deserialize)]
struct SignedClaims {
    iss: String,
    #[serde(default, deserialize_with = "present")]
    user: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
}

/// Reads a claim so that `null` differs from a missing one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The reason to refuse a token. All but the first apply only to a token with a valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is not a token, or was signed with another key or algorithm.
    #[error("the token is malformed or was not signed with the channel's key")]
    Untrusted,
    /// Its header has `crit`. That lists extensions that must be understood, and none is supported.
    /// Source: RFC 7515, section 4.1.11.
    #[error("the token's header has crit, which is not supported")]
    Critical,
    /// Its claims are malformed, or one of them occurs twice.
    #[error("the token's claims are malformed")]
    Malformed,
    /// It has no `exp`.
    #[error("the token has no exp")]
    MissingExpiry,
    /// Its `exp` or `nbf` is not a number.
    #[error("the token's exp or nbf is not a number")]
    InvalidTime,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `exp` is more than a year ahead.
    #[error("the token's exp is more than a year ahead")]
    ExpiryTooFar,
    /// Its `nbf` is still ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its `user` is present and not a string.
    #[error("the token's user is not a string")]
    InvalidUser,
}

impl JwtKey {
    /// Reads a key: for HS256 the secret itself, for the others a public key as PEM.
    #[must_use]
    pub fn read(algorithm: JwtAlgorithm, text: &str) -> Option<Self> {
        let key = match algorithm {
            JwtAlgorithm::Hs256 => (text.len() >= MIN_SECRET_BYTES)
                .then(|| DecodingKey::from_secret(text.as_bytes()))?,
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(text.as_bytes()).ok()?,
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(text.as_bytes()).ok()?,
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(text.as_bytes()).ok()?,
        };
        Some(Self {
            algorithm,
            key: Arc::new(key),
        })
    }

    /// Verifies a token's signature with this key, and its times; returns its claims.
    ///
    /// # Errors
    ///
    /// [`JwtError`]. If the signature is not valid, the error is always [`JwtError::Untrusted`].
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, JwtError> {
        let mut validation = Validation::new(self.algorithm.algorithm());
        // The times are checked below, by the service's own clock. An audience is not required.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        decode_header(token).map_err(|_| JwtError::Untrusted)?;
        decode::<IgnoredAny>(token, &self.key, &validation).map_err(|error| {
            match error.kind() {
                // The header was read before, so this error is about the claims, which are read
                // after the signature is verified.
                ErrorKind::Json(_) => JwtError::Malformed,
                _ => JwtError::Untrusted,
            }
        })?;

        if has_critical_extensions(token) {
            return Err(JwtError::Critical);
        }
        let signed: SignedClaims =
            insecure_decode_claims(token).map_err(|_| JwtError::Malformed)?;
        let exp = parse_time(&signed.exp.ok_or(JwtError::MissingExpiry)?)?;
        if exp + LEEWAY <= now {
            return Err(JwtError::Expired);
        }
        if exp - LEEWAY > now + MAX_LIFETIME {
            return Err(JwtError::ExpiryTooFar);
        }
        let nbf = signed.nbf.as_ref().map(parse_time).transpose()?;
        if nbf.is_some_and(|nbf| nbf - LEEWAY > now) {
            return Err(JwtError::NotYetValid);
        }
        let user = match signed.user {
            None => None,
            Some(Value::String(user)) => Some(user),
            Some(_) => return Err(JwtError::InvalidUser),
        };
        Ok(Claims {
            iss: signed.iss,
            user,
        })
    }
}

/// Reads the unverified issuer of a token; `None` if it is not a token.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<UnverifiedClaims> {
    if token.len() > MAX_TOKEN_BYTES || decode_header(token).is_err() {
        return None;
    }
    // The claims are read as raw values, since errors in other claims are reported only after the
    // signature is verified.
    let claims: HashMap<String, Box<RawValue>> = insecure_decode_claims(token).ok()?;
    let user = claims.get("user");
    Some(UnverifiedClaims {
        iss: serde_json::from_str(claims.get("iss")?.get()).ok()?,
        is_for_one_user: user.is_some_and(|user| user.get().starts_with('"')),
    })
}

/// True if the header of a token has `crit`, whatever its value, or cannot be read.
fn has_critical_extensions(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    header.is_none_or(|header| header.get("crit").is_some())
}

/// Reads a time in the form that tokens have: seconds since the epoch, not necessarily whole.
/// Source: RFC 7519, section 2.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time out of range saturates and is refused"
)]
fn parse_time(seconds: &Value) -> Result<DateTime<Utc>, JwtError> {
    let seconds = seconds.as_f64().ok_or(JwtError::InvalidTime)?;
    // The bound is in the year 8941: later than any real time, and with room for the leeway.
    let milliseconds = (seconds * 1000.0) as i64;
    DateTime::from_timestamp_millis(milliseconds.clamp(0, 220_000_000_000_000))
        .ok_or(JwtError::InvalidTime)
}

#[cfg(test)]
mod tests;
