//! The tokens of Sentinel and of IDP, with their issue, verification and revocation.
//!
//! A token is valid while its `kid` names the current generation of its issuer, so moving on to the
//! next generation revokes all tokens. The `kid` also separates the tokens of the two issuers,
//! which share one key.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Sandbox;
use super::control_request::JsonBody;

/// The reason that a sandbox could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine's cryptography generated no key.
    #[error("the sandbox cannot create its keys")]
    Generation(#[from] aws_lc_rs::error::Unspecified),
    /// The key is not in a form that can sign tokens.
    #[error("the sandbox cannot read the RSA key that it created")]
    Encoding(#[from] jsonwebtoken::errors::Error),
    /// The machine's TLS set-up is not usable.
    #[error(
        "the sandbox cannot create an HTTP client; check that the machine has root certificates"
    )]
    Http(#[from] reqwest::Error),
}

/// The claims of an AppJWT.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AppClaims {
    /// The account id.
    pub(super) aud: String,
    /// The client id of the app installation.
    pub(super) azp: String,
    pub(super) scope: String,
    pub(super) iss: String,
    /// The time of issue, in seconds since the epoch.
    pub(super) iat: i64,
    /// The expiry, in the form that [`super::TokenForm`] sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<Value>,
}

/// The claims of a ConsumerJWS, which has no time in it and never expires.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConsumerClaims {
    #[serde(rename = "account_id")]
    pub(super) account: String,
    pub(super) ext_consumer_id: String,
    pub(super) lp_consumer_id: String,
}

#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) app: Issuer<AppClaims>,
    pub(super) consumer: Issuer<ConsumerClaims>,
}

impl Tokens {
    pub(super) fn generate() -> Result<Self, Error> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        // PEM is the only encoding of PKCS #8 that jsonwebtoken reads.
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(private.as_ref())
        );
        let signing = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let verifying = DecodingKey::from_rsa_der(pair.public_key().as_ref());
        Ok(Self {
            app: Issuer::new("sandbox-app", &signing, &verifying),
            consumer: Issuer::new("sandbox-consumer", &signing, &verifying),
        })
    }
}

/// The issuer of one kind of token.
pub(super) struct Issuer<Claims> {
    name: &'static str,
    generation: AtomicU64,
    signing: EncodingKey,
    verifying: DecodingKey,
    claims: PhantomData<fn() -> Claims>,
}

impl<Claims: Serialize + DeserializeOwned> Issuer<Claims> {
    fn new(name: &'static str, signing: &EncodingKey, verifying: &DecodingKey) -> Self {
        Self {
            name,
            generation: AtomicU64::new(1),
            signing: signing.clone(),
            verifying: verifying.clone(),
            claims: PhantomData,
        }
    }

    pub(super) fn issue(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid());
        encode(&header, claims, &self.signing)
    }

    /// Returns the claims of a token that is signed and not revoked. The caller has the clock and
    /// checks the times.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, String> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
        let kid = decoded.kid.unwrap_or_default();
        if kid != self.kid() {
            return Err(format!(
                "its kid is `{kid}`, expected `{}`: it was revoked, or another sandbox issued it",
                self.kid()
            ));
        }
        let data = decode(token, &self.verifying, &validation).map_err(|e| e.to_string())?;
        Ok(data.claims)
    }

    pub(super) fn revoke(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn kid(&self) -> String {
        format!("{}-{}", self.name, self.generation.load(Ordering::SeqCst))
    }
}

/// The kinds of token to revoke.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    #[serde(default)]
    app: bool,
    #[serde(default)]
    consumer: bool,
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/tokens/revoke", post(revoke))
}

async fn revoke(
    State(sandbox): State<Sandbox>,
    JsonBody(revocation): JsonBody<Revocation>,
) -> StatusCode {
    if revocation.app {
        sandbox.revoke_app_tokens();
    }
    if revocation.consumer {
        sandbox.revoke_consumer_tokens();
    }
    StatusCode::NO_CONTENT
}

impl<Claims> std::fmt::Debug for Issuer<Claims> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
