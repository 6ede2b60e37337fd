//! Authentication and authorization. Each request to `/v1` has a channel's API key, or a JWT of the
//! channel that may be valid for a single user. A signed link to a file has a token in its path.
//! Here the request also counts against the channel's rate limits, before any work is done for it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::extract::User;
use super::limits::{LimitReached, Limits, RemainingLimit};
use super::problem::{Code, Problem};
use super::wrong_keys::RefusedLink;
use crate::bounds::Holder;
use crate::bridge::{Caller, Channel};
use crate::crypto::{
    self, ApiKeyHash, FileLinkError, FileLinkKeys, FileLinkToken, JwtError, JwtKey,
};
use crate::types::audit::Actor;
use crate::types::file::FileId;
use crate::types::ids::UserId;
use crate::types::trace::Trace;

/// The routes that a token for one user may call, besides the user's own paths. Their responses
/// leave out other users' data.
const FOR_ONE_USER: [&str; 2] = ["/v1/events", "/v1/messages/{message_id}"];

/// The route of the signed links to files.
const FILE_LINK: &str = "/files/{token}";

/// The credentials of a channel, and its rate limits.
#[derive(Debug)]
pub struct ChannelAccess {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The hashes of its API keys; several while one is being replaced.
    pub keys: Vec<ApiKeyHash>,
    /// The keys that verify its tokens.
    pub jwt_keys: Vec<JwtKey>,
    /// The origins of the pages that may call with a token for one user.
    pub cors_origins: Vec<String>,
    /// The keys that verify its signed links to files; `None` if it has no such links.
    pub file_link_keys: Option<FileLinkKeys>,
    /// The rate limits of the channel.
    pub limits: Limits,
}

/// The access of all channels. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Access(Arc<[ChannelAccess]>);

impl Access {
    /// Creates the access for these channels.
    #[must_use]
    pub fn new(channels: Vec<ChannelAccess>) -> Self {
        Self(channels.into())
    }

    /// Forgets the users without recent requests.
    pub fn forget_idle_users(&self) {
        for access in self.0.iter() {
            access.limits.forget_idle_users();
        }
    }

    /// Returns the origins of all pages that may call.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        let origins = self.0.iter().flat_map(|access| &access.cors_origins);
        origins.map(String::as_str)
    }

    /// True if a page of this origin may read the response to a request with these headers. The
    /// token is not verified here, so this grants no access.
    pub(super) fn may_read(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let claims = bearer(headers).and_then(crypto::unverified_claims);
        let claims = claims.filter(|claims| claims.is_for_one_user);
        let access = claims.and_then(|claims| self.find_by_id(&claims.iss));
        let mut origins = access.into_iter().flat_map(|access| &access.cors_origins);
        origins.any(|known| known.as_bytes() == origin.as_bytes())
    }

    /// Finds the channel of the key with this hash. The keys of every channel are compared even
    /// after a match, so that the time taken reveals nothing.
    fn find_by_key(&self, presented: &ApiKeyHash) -> Option<&ChannelAccess> {
        let mut found = None;
        for access in self.0.iter() {
            if presented.is_among(&access.keys) {
                found = Some(access);
            }
        }
        found
    }

    fn find_by_id(&self, id: &str) -> Option<&ChannelAccess> {
        let mut channels = self.0.iter();
        channels.find(|access| access.channel.id.as_str() == id)
    }

    /// Identifies a key or token. Returns its channel and the kind of credential, and the user if
    /// it is valid for a single user.
    fn identify(
        &self,
        presented: &str,
        now: DateTime<Utc>,
    ) -> Result<(&ChannelAccess, Actor, Option<UserId>), Problem> {
        let hash = ApiKeyHash::of(presented);
        if let Some(access) = self.find_by_key(&hash) {
            return Ok((access, Actor::ApiKey(hash.first_digits()), None));
        }
        let unknown = || Problem::from(JwtError::Untrusted);
        let claims = crypto::unverified_claims(presented).ok_or_else(unknown)?;
        let access = self.find_by_id(&claims.iss).ok_or_else(unknown)?;
        let mut refusal = JwtError::Untrusted;
        for key in &access.jwt_keys {
            match key.verify(presented, now) {
                Ok(claims) => {
                    let user = claims.user.map(UserId::try_from).transpose();
                    let user = user.map_err(|_| JwtError::InvalidUser)?;
                    return Ok((access, Actor::Token, user));
                }
                // If several keys trust the token, the reason of the first one is reported.
                Err(other) if refusal == JwtError::Untrusted => refusal = other,
                Err(_) => {}
            }
        }
        Err(refusal.into())
    }

    /// Verifies the token of a signed link. Returns its channel and its file.
    fn identify_link(
        &self,
        token: &FileLinkToken,
        now: DateTime<Utc>,
    ) -> Result<(&ChannelAccess, FileId), FileLinkError> {
        for access in self.0.iter() {
            let Some(keys) = &access.file_link_keys else {
                continue;
            };
            match keys.verify(token, now) {
                Ok(file) => return Ok((access, FileId::from_bytes(file))),
                Err(FileLinkError::Untrusted) => {}
                Err(expired @ FileLinkError::Expired) => return Err(expired),
            }
        }
        Err(FileLinkError::Untrusted)
    }
}

/// The file to which the verified link of a request leads.
#[derive(Debug, Clone)]
pub(super) struct LinkedFile {
    /// The channel whose link it is.
    pub(super) channel: Arc<Channel>,
    /// The file.
    pub(super) id: FileId,
    /// The id as text.
    name: String,
}

impl LinkedFile {
    /// Returns the holder of the permits that the request takes. A link may be in many hands, so
    /// the requests for one file have the share of a user.
    pub(super) fn holder(&self) -> Holder<'_> {
        Holder {
            channel: self.channel.id.as_str(),
            user: Some(&self.name),
        }
    }
}

impl From<FileLinkError> for Problem {
    fn from(refusal: FileLinkError) -> Self {
        match refusal {
            FileLinkError::Untrusted => Self::new(
                Code::FileNotFound,
                "This link leads to no file; it may be incomplete.",
            ),
            FileLinkError::Expired => Self::new(
                Code::FileLinkExpired,
                "This link has expired; the channel can still fetch the file with its API key.",
            ),
        }
    }
}

impl From<JwtError> for Problem {
    fn from(refusal: JwtError) -> Self {
        let detail = match refusal {
            // A caller without a valid key sees only this refusal. Its text is the same for every
            // cause.
            JwtError::Untrusted => "This is neither a known API key nor a valid token.",
            JwtError::Critical => "The token's header has crit, but no extensions are supported.",
            JwtError::Malformed => "The token's claims are malformed, or one of them occurs twice.",
            JwtError::MissingExpiry => "The token has no exp.",
            JwtError::InvalidTime => "The token's exp and nbf must be numbers: seconds since 1970.",
            JwtError::Expired => "The token has expired.",
            JwtError::ExpiryTooFar => {
                "The token's exp is more than a year ahead. It must be in seconds; this value may be in milliseconds."
            }
            JwtError::NotYetValid => {
                "The token is not valid yet: its nbf, in seconds since 1970, is in the future."
            }
            JwtError::InvalidUser => {
                "The token's user is not a user id: expected a string of 1 to 256 bytes without control characters and other than . and .., or no user."
            }
        };
        Self::new(Code::Unauthorized, detail)
    }
}

/// The reason for which a request is refused.
#[derive(Debug)]
pub(super) enum Refused {
    Problem(Problem),
    Link(FileLinkError),
    LimitReached(LimitReached),
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
            Self::Link(refusal) => {
                let mut response = Problem::from(refusal).into_response();
                response.extensions_mut().insert(RefusedLink);
                response
            }
            Self::LimitReached(limit) => {
                let mut response = limit.problem().into_response();
                limit.add_headers(response.headers_mut());
                response
            }
        }
    }
}

/// Identifies the caller of a request to `/v1`, or verifies the link of a request for a file.
/// Checks its permission and its rate limits, and returns the remaining limits.
pub(super) async fn authenticate(
    access: &Access,
    now: DateTime<Utc>,
    parts: &mut Parts,
) -> Result<RemainingLimit, Refused> {
    let route = parts.extensions.get::<MatchedPath>().cloned();
    if route
        .as_ref()
        .is_some_and(|route| route.as_str() == FILE_LINK)
    {
        return verify_link(access, now, parts).await;
    }
    let Some(route) = route.filter(|route| route.as_str().starts_with("/v1/")) else {
        return Ok(RemainingLimit::default());
    };
    let presented = bearer(&parts.headers).ok_or_else(|| {
        Problem::new(
            Code::Unauthorized,
            "Expected the header Authorization: Bearer KEY.",
        )
    })?;
    let (access, actor, user) = access.identify(presented, now)?;
    tracing::Span::current().record("channel.id", access.channel.id.as_str());
    // A path with a missing or malformed user id is left to the handler to report.
    let named = if user.is_some() || access.limits.has_user_limit() {
        let named = User::from_request_parts(parts, &()).await;
        named.ok().map(|User(user_id)| user_id)
    } else {
        None
    };
    if let Some(user) = &user {
        let is_own = named.as_ref() == Some(user);
        let is_open = parts.method == Method::GET && FOR_ONE_USER.contains(&route.as_str());
        if !is_own && !is_open {
            let detail = "The token is valid only for its user's own paths, GET /v1/events and GET /v1/messages/{id}.";
            return Err(Problem::new(Code::Forbidden, detail).into());
        }
    }
    let remaining = access.limits.check(named.as_ref().or(user.as_ref()));
    let remaining = remaining.map_err(Refused::LimitReached)?;
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
    Ok(remaining)
}

/// Verifies the link of a request for a file, and checks the rate limits. The user of the file is
/// not known yet, so the file takes its place.
async fn verify_link(
    access: &Access,
    now: DateTime<Utc>,
    parts: &mut Parts,
) -> Result<RemainingLimit, Refused> {
    let token = Path::<String>::from_request_parts(parts, &()).await;
    let token = token.ok().map(|Path(token)| token);
    let token = token.and_then(|token| FileLinkToken::decode(&token));
    let token = token.ok_or(Refused::Link(FileLinkError::Untrusted))?;
    let (access, id) = access.identify_link(&token, now).map_err(Refused::Link)?;
    tracing::Span::current().record("channel.id", access.channel.id.as_str());
    let remaining = access.limits.check_link(&id);
    let remaining = remaining.map_err(Refused::LimitReached)?;
    parts.extensions.insert(LinkedFile {
        channel: Arc::clone(&access.channel),
        id,
        name: id.to_string(),
    });
    Ok(remaining)
}

/// The proof that the request comes from a channel. It takes the caller out of the request, so only
/// one handler can have it.
pub(super) struct AuthChannel(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for AuthChannel {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.remove::<Caller>();
        caller
            .map(Self)
            .ok_or_else(|| Problem::new(Code::InternalError, "The caller was not identified."))
    }
}

/// Returns the token of an `Authorization` header with the scheme `Bearer`, whose name is
/// case-insensitive.
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
    fn only_a_bearer_token_is_read_as_an_api_key() {
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
