//! Who is calling: API keys and the channels that they name.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::problem::{Code, Problem};
use crate::bridge::{Caller, Channel};
use crate::crypto::ApiKeyHash;
use crate::types::trace::Trace;

/// A channel with the hashes of its keys.
#[derive(Debug)]
pub struct ChannelKeys {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The hashes of its keys; several while one is being replaced.
    pub keys: Vec<ApiKeyHash>,
}

/// The keys of all channels; cheap to clone.
#[derive(Debug, Clone)]
pub struct Keys(Arc<[ChannelKeys]>);

impl Keys {
    /// The keys of these channels.
    #[must_use]
    pub fn new(channels: Vec<ChannelKeys>) -> Self {
        Self(channels.into())
    }

    /// The channel that a key names. Every key is looked at, whether one has matched or not, so that the time taken
    /// tells nothing.
    fn channel(&self, key: &str) -> Option<&Arc<Channel>> {
        let presented = ApiKeyHash::of(key);
        let mut found = None;
        for holder in self.0.iter() {
            for known in &holder.keys {
                if known.matches(&presented) {
                    found = Some(&holder.channel);
                }
            }
        }
        found
    }
}

/// Proves that the request bears a channel's key.
pub(super) struct AuthChannel(pub(super) Caller);

impl<S> FromRequestParts<S> for AuthChannel
where
    S: Send + Sync,
    Keys: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let key = bearer(&parts.headers).ok_or_else(|| {
            Problem::new(
                Code::Unauthorized,
                "Expected the header Authorization: Bearer KEY.",
            )
        })?;
        let keys = Keys::from_ref(state);
        let channel = keys
            .channel(key)
            .ok_or_else(|| Problem::new(Code::Unauthorized, "No channel has this API key."))?;
        tracing::Span::current().record("channel.id", channel.id.as_str());
        let trace = parts
            .extensions
            .get::<Arc<Trace>>()
            .ok_or_else(|| Problem::new(Code::InternalError, "The request has no trace."))?;
        Ok(Self(Caller {
            channel: Arc::clone(channel),
            trace: Arc::clone(trace),
            claim: parts.extensions.get().cloned(),
        }))
    }
}

/// The token of an `Authorization` header of the scheme `Bearer`, whose name is case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION).map(HeaderValue::to_str)?.ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_a_key() {
        let key = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            bearer(&headers).map(str::to_owned)
        };

        assert_eq!(key("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(key("bearer  abc").as_deref(), Some("abc"));
        for bad in ["abc", "Bearer", "Bearer ", "Basic abc"] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }
}
