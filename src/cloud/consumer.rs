//! The consumer's `ConsumerJWS`: it never expires, so whoever asks for one keeps it.

use std::fmt;

use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::host::Endpoint;
use super::retry::Repeat;
use super::transport::{Body, Call, secret_header};
use super::wire::tokens;
use super::{Client, Error, answer, jwt};
use crate::http::header::HeaderValue;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// A `ConsumerJWS` as requests bear it: it is not shown, and zeroed with its last copy, which all share.
#[derive(Debug, Clone)]
pub struct ConsumerJws(HeaderValue);

impl ConsumerJws {
    /// The token with these bytes; none where they could be no header's.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        secret_header(bytes).map(Self)
    }

    /// Its bytes, for whoever keeps them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// What lets the bridge speak for a consumer.
#[derive(Clone)]
pub struct ConsumerToken {
    /// The `ConsumerJWS`.
    pub token: ConsumerJws,
    /// The Cloud's own id of the consumer: what it calls the consumer in notifications.
    pub consumer_id: String,
}

impl fmt::Debug for ConsumerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsumerToken([REDACTED])")
    }
}

impl Client {
    /// Asks for a token of the consumer with this external id.
    ///
    /// # Errors
    ///
    /// See [`Error`]; no outcome is unknown, since asking again does no harm.
    pub async fn consumer_token(
        &self,
        account: &AccountId,
        external_id: &str,
        trace: &Trace,
    ) -> Result<ConsumerToken, Error> {
        let site = self.site(account)?;
        let call = Call {
            operation: "cloud.consumer_token",
            endpoint: Endpoint::Consumer,
            repeat: Repeat::Freely,
            limit: site.transport.limits.token,
            body: Body::json(&tokens::ConsumerRequest {
                ext_consumer_id: external_id,
            }),
            on_behalf: None,
            client_properties: None,
        };
        site.call(&call, trace, |answer, now| {
            let answered: tokens::ConsumerToken =
                answer::decode(answer, now).map_err(|error| match error {
                    // Only the AppJWT can be unauthorised here, and IDP does not number its errors.
                    Error::Unauthorized { .. } => Error::AppTokenRefused,
                    error => error,
                })?;
            let token = answered.token.expose_secret().trim();
            let undecodable = || answer::undecodable(answer);
            let claims: tokens::ConsumerClaims = jwt::claims(token).ok_or_else(undecodable)?;
            let bytes = Zeroizing::new(token.as_bytes().to_vec());
            Ok(ConsumerToken {
                token: ConsumerJws::new(bytes).ok_or_else(undecodable)?,
                consumer_id: claims.lp_consumer_id,
            })
        })
        .await
    }
}
