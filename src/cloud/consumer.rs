//! The consumer's `ConsumerJWS`: it never expires, so whoever asks for one keeps it.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::host::Endpoint;
use super::retry::Repeat;
use super::transport::{Body, Call};
use super::wire::tokens;
use super::{Client, Error, answer, jwt};
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// What lets the bridge speak for a consumer.
#[derive(Clone)]
pub struct ConsumerToken {
    /// The `ConsumerJWS`.
    pub token: SecretString,
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
                    Error::Refused { status: 401, .. } => Error::AppTokenRefused,
                    error => error,
                })?;
            let claims: tokens::ConsumerClaims = jwt::claims(answered.token.expose_secret())
                .ok_or_else(|| answer::undecodable(answer))?;
            Ok(ConsumerToken {
                token: answered.token,
                consumer_id: claims.lp_consumer_id,
            })
        })
        .await
    }
}
