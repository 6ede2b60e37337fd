//! JWTs by which a channel proves who it is, in place of an API key.
//!
//! The algorithm is the configured one, whatever a token says of itself: that is what keeps a public key from being taken for
//! a shared secret. `none` is no algorithm here.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// 60 s: by how much the clock of who made a token may be off.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// 32 bytes: a shared secret is as long as the hash at least. Source: RFC 7518, section 3.2.
const LEAST_SECRET: usize = 32;

/// 4096 bytes: far more than the claims that are looked at.
const LONGEST_TOKEN: usize = 4096;

/// How tokens are signed.
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
    /// The algorithm of a name that a token's header may bear.
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

    /// What a key of it is, after "expected".
    #[must_use]
    pub const fn expected_key(self) -> &'static str {
        match self {
            Self::Hs256 => "a secret of at least 32 bytes",
            Self::Rs256 => "a PEM public key of RSA",
            Self::Es256 => "a PEM public key of P-256",
            Self::EdDsa => "a PEM public key of Ed25519",
        }
    }
}

/// A key that tokens are checked with; cheap to clone.
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

/// What a token says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Claims {
    /// Who made it: a channel's id.
    pub iss: String,
    /// The one user whom it is valid for.
    #[serde(default)]
    pub user: Option<String>,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token, lacks a claim, or was signed by another or in another way.
    #[error("the token is not one of the channel's")]
    Untrusted,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    Early,
}

impl JwtKey {
    /// Reads a key: of HS256 the secret itself, of the others a public key as PEM.
    #[must_use]
    pub fn read(algorithm: JwtAlgorithm, text: &str) -> Option<Self> {
        let key = match algorithm {
            JwtAlgorithm::Hs256 => {
                (text.len() >= LEAST_SECRET).then(|| DecodingKey::from_secret(text.as_bytes()))?
            }
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(text.as_bytes()).ok()?,
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(text.as_bytes()).ok()?,
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(text.as_bytes()).ok()?,
        };
        Some(Self {
            algorithm,
            key: Arc::new(key),
        })
    }

    /// What a token says that was signed with this key's other half and whose time it is.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, Refusal> {
        let mut validation = Validation::new(self.algorithm.algorithm());
        // By our own clock, below; and nobody is asked to name an audience.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let token = decode::<Claims>(token, &self.key, &validation);
        let claims = token.map_err(|_| Refusal::Untrusted)?.claims;
        if time(claims.exp)? + LEEWAY <= now {
            return Err(Refusal::Expired);
        }
        let from = claims.nbf.map(time).transpose()?;
        if from.is_some_and(|from| from - LEEWAY > now) {
            return Err(Refusal::Early);
        }
        Ok(claims)
    }
}

/// Who a token says that it is of, which nobody has checked yet; nobody where it is no token.
#[must_use]
pub fn unverified(token: &str) -> Option<Claims> {
    let is_token = token.len() <= LONGEST_TOKEN && decode_header(token).is_ok();
    is_token.then(|| insecure_decode_claims(token).ok())?
}

/// A time as tokens name it: seconds since the epoch, which need not be whole.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time out of range saturates and is refused"
)]
fn time(seconds: f64) -> Result<DateTime<Utc>, Refusal> {
    // A century past the year 9000 is nobody's time, and leaves room for the leeway.
    let milliseconds = (seconds * 1000.0) as i64;
    DateTime::from_timestamp_millis(milliseconds.clamp(0, 220_000_000_000_000))
        .ok_or(Refusal::Untrusted)
}

#[cfg(test)]
mod tests;
