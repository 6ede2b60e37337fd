//! The consumer's `ConsumerJWS`. It never expires, so the caller stores it.

use std::fmt;

use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::host::Endpoint;
use super::retry::RetryPolicy;
use super::transport::{Body, Call, secret_header};
use super::wire::tokens;
use super::{Client, Error, answer, jwt};
use crate::http::header::HeaderValue;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// A `ConsumerJWS` in the form that requests carry. It is never shown. All copies share one buffer,
/// which is zeroed with the last of them.
#[derive(Debug, Clone)]
pub struct ConsumerJws(HeaderValue);

impl ConsumerJws {
    /// Creates a token from these bytes; `None` if they are not valid in a header.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        secret_header(bytes).map(Self)
    }

    /// Returns the token's bytes, to be stored.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// The token that authorizes requests for a consumer.
#[derive(Clone)]
pub struct ConsumerToken {
    /// The `ConsumerJWS`.
    pub token: ConsumerJws,
    /// The Cloud's own id of the consumer, which notifications use.
    pub consumer_id: String,
}

impl fmt::Debug for ConsumerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsumerToken([REDACTED])")
    }
}

impl Client {
    /// Requests a token for the consumer with this external id.
    ///
    /// # Errors
    ///
    /// See [`Error`]. The outcome is never unknown, since the call can be repeated without harm.
    pub async fn consumer_token(
        &self,
        account: &AccountId,
        external_id: &str,
        trace: &Trace,
    ) -> Result<ConsumerToken, Error> {
        let client = self.client_of(account)?;
        let call = Call {
            operation: "cloud.consumer_token",
            endpoint: Endpoint::Consumer,
            retry: RetryPolicy::Freely,
            limit: client.transport.limits.token,
            body: Body::json(&tokens::ConsumerRequest {
                ext_consumer_id: external_id,
            }),
            on_behalf: None,
            client_properties: None,
        };
        client
            .call(&call, trace, |answer, now| {
                let response: tokens::ConsumerToken =
                    answer::decode(answer, now).map_err(|error| match error {
                        // A 401 can only mean the AppJWT here, and IDP's errors have no numbers.
                        Error::Unauthorized { .. } => Error::AppTokenRefused,
                        error => error,
                    })?;
                let token = response.token.expose_secret().trim();
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
