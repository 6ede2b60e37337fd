//! Who is calling, and what they may do: each request to `/v1` bears a channel's API key, or a token (JWT) of the channel, which
//! may be valid for one user alone. It is counted against the channel's limits here as well, before anything is done for it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::extract::User;
use super::limits::{Allowance, Excess, Limits};
use super::problem::{Code, Problem};
use crate::bridge::{Caller, Channel};
use crate::crypto::{self, ApiKeyHash, JwtKey, Refusal};
use crate::types::audit::Actor;
use crate::types::ids::UserId;
use crate::types::trace::Trace;

/// What a token for one user opens beside that user's own paths: there, other users' things are left out.
const FOR_ONE_USER: [&str; 2] = ["/v1/events", "/v1/messages/{message_id}"];

/// How a channel proves who it is, and how much it may ask.
#[derive(Debug)]
pub struct ChannelAccess {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The hashes of its keys; several while one is being replaced.
    pub keys: Vec<ApiKeyHash>,
    /// What its tokens are checked with.
    pub jwt_keys: Vec<JwtKey>,
    /// The origins of pages that may call with a token of one user.
    pub cors_origins: Vec<String>,
    /// How much it may ask.
    pub limits: Limits,
}

/// How all channels do; cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Arc<[ChannelAccess]>);

impl Access {
    /// Access for these channels.
    #[must_use]
    pub fn new(channels: Vec<ChannelAccess>) -> Self {
        Self(channels.into())
    }

    /// Forgets the users who have asked nothing lately.
    pub fn forget_idle_users(&self) {
        for access in self.0.iter() {
            access.limits.forget_idle_users();
        }
    }

    /// The origins of all pages that may call.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        let origins = self.0.iter().flat_map(|access| &access.cors_origins);
        origins.map(String::as_str)
    }

    /// Whether a page of this origin may read what is answered to a request with these headers. Nothing is proven by that.
    pub(super) fn lets_read(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let claims = bearer(headers).and_then(crypto::unverified);
        let claims = claims.filter(|claims| claims.is_for_one_user);
        let access = claims.and_then(|claims| self.of_id(&claims.iss));
        let mut origins = access.into_iter().flat_map(|access| &access.cors_origins);
        origins.any(|known| known.as_bytes() == origin.as_bytes())
    }

    /// The channel whose key has this hash. Every channel's keys are looked at, whether one has matched or not, so that the time
    /// taken tells nothing.
    fn of_key(&self, presented: &ApiKeyHash) -> Option<&ChannelAccess> {
        let mut found = None;
        for access in self.0.iter() {
            if presented.is_among(&access.keys) {
                found = Some(access);
            }
        }
        found
    }

    fn of_id(&self, id: &str) -> Option<&ChannelAccess> {
        let mut channels = self.0.iter();
        channels.find(|access| access.channel.id.as_str() == id)
    }

    /// Whose key or token this is, which of both, and the one user whom it is valid for.
    fn identify(
        &self,
        presented: &str,
        now: DateTime<Utc>,
    ) -> Result<(&ChannelAccess, Actor, Option<UserId>), Problem> {
        let hash = ApiKeyHash::of(presented);
        if let Some(access) = self.of_key(&hash) {
            return Ok((access, Actor::ApiKey(hash.first_digits()), None));
        }
        let unknown = || Problem::from(Refusal::Untrusted);
        let claims = crypto::unverified(presented).ok_or_else(unknown)?;
        let access = self.of_id(&claims.iss).ok_or_else(unknown)?;
        let mut refusal = Refusal::Untrusted;
        for key in &access.jwt_keys {
            match key.verify(presented, now) {
                Ok(claims) => {
                    let user = claims.user.map(UserId::try_from).transpose();
                    let user = user.map_err(|_| Refusal::NoUser)?;
                    return Ok((access, Actor::Token, user));
                }
                // If one key trusts the token, its reason is the one to tell.
                Err(other) if refusal == Refusal::Untrusted => refusal = other,
                Err(_) => {}
            }
        }
        Err(refusal.into())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = match refusal {
            // The only one that somebody without a key of the channel's sees: it is the same
            // whatever is wrong.
            Refusal::Untrusted => "No channel has this API key, and it is no token of one.",
            Refusal::Critical => {
                "The token's header has crit, and none of its extensions is understood."
            }
            Refusal::Malformed => {
                "The token's claims are malformed, or one of them is there twice."
            }
            Refusal::Endless => "The token has no exp.",
            Refusal::NoTime => "The token's exp and nbf have to be numbers: seconds since 1970.",
            Refusal::Expired => "The token has expired.",
            Refusal::TooLong => {
                "The token's exp is more than a year ahead. It counts in seconds; this may be milliseconds."
            }
            Refusal::Early => {
                "The token is not valid yet: its nbf, in seconds since 1970, has not come."
            }
            Refusal::NoUser => {
                "The token's user is no user id: expected a string of 1 to 256 bytes without control characters, neither . nor .., or no user."
            }
        };
        Self::new(Code::Unauthorized, detail)
    }
}

/// Why a request does not pass.
#[derive(Debug)]
pub(super) enum Refused {
    Problem(Problem),
    Excess(Excess),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Excess(excess) => {
                let mut response = excess.problem().into_response();
                excess.describe(response.headers_mut());
                response
            }
        }
    }
}

/// Finds out whose a request to `/v1` is, and lets it pass if it is somebody's who may ask that, now; says what is left to them.
pub(super) async fn authenticate(
    access: &Access,
    now: DateTime<Utc>,
    parts: &mut Parts,
) -> Result<Allowance, Refused> {
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let Some(route) = route.filter(|route| route.as_str().starts_with("/v1/")) else {
        return Ok(Allowance::default());
    };
    let presented = bearer(&parts.headers).ok_or_else(|| {
        Problem::new(
            Code::Unauthorized,
            "Expected the header Authorization: Bearer KEY.",
        )
    })?;
    let (access, actor, user) = access.identify(presented, now)?;
    tracing::Span::current().record("channel.id", access.channel.id.as_str());
    // Where the path names nobody, or not rightly, that is the handler's to say.
    let named = if user.is_some() || access.limits.are_about_users() {
        let named = User::from_request_parts(parts, &()).await;
        named.ok().map(|User(user_id)| user_id)
    } else {
        None
    };
    if let Some(user) = &user {
        let is_own = named.as_ref() == Some(user);
        let is_open = parts.method == Method::GET && FOR_ONE_USER.contains(&route.as_str());
        if !is_own && !is_open {
            let detail = "The token is valid for one user's own paths, GET /v1/events and GET /v1/messages/{id} alone.";
            return Err(Problem::new(Code::Forbidden, detail).into());
        }
    }
    let allowance = access.limits.check(named.as_ref().or(user.as_ref()));
    let allowance = allowance.map_err(Refused::Excess)?;
    let trace = parts
        .extensions
        .get::<Arc<Trace>>()
        .ok_or_else(|| Problem::new(Code::InternalError, "The request has no trace."))?;
    let caller = Caller {
        channel: Arc::clone(&access.channel),
        actor,
        trace: Arc::clone(trace),
        user,
        claim: None,
    };
    parts.extensions.insert(caller);
    Ok(allowance)
}

/// Proves that the request is a channel's. It takes the caller out of the request, for the one handler that asks.
pub(super) struct AuthChannel(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for AuthChannel {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.remove::<Caller>();
        caller.map(Self).ok_or_else(|| {
            Problem::new(
                Code::InternalError,
                "Nobody has looked whose the request is.",
            )
        })
    }
}

/// The token of an `Authorization` header of the scheme `Bearer`, whose name is case-insensitive.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
