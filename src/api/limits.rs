//! The rate limits of a channel: requests per second, in total and about each user. Each process
//! counts for itself.
//!
//! The response headers follow the IETF draft on the header fields `RateLimit` and
//! `RateLimit-Policy`.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::problem::{Code, Problem};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A limiter with a counter per user. Users are identified by a hash with a random key of this
/// process, so every id takes the same space.
type UserLimiter =
    RateLimiter<u64, DefaultKeyedStateStore<u64>, DefaultClock, StateInformationMiddleware>;
type ChannelLimiter =
    RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// 5 a second: the requests by the signed link of one file, with a burst of 20. Each causes a
/// request to the Cloud, and anyone who has the message has the link. So this limit holds for
/// channels without limits, too.
const REQUESTS_OF_LINK: NonZeroU32 = NonZeroU32::new(5).unwrap();
const BURST_OF_LINK: NonZeroU32 = NonZeroU32::new(20).unwrap();
const POLICY_OF_LINK: HeaderValue = HeaderValue::from_static("\"link\";q=20;w=4");

/// The rate limits of a channel, with their current use.
#[derive(Debug)]
pub struct Limits {
    channel: Option<ChannelLimiter>,
    user: Option<UserLimiter>,
    links: UserLimiter,
    hasher: RandomState,
    /// The limits as the `RateLimit-Policy` header states them.
    policy: Option<HeaderValue>,
}

/// The `RateLimit` headers for a request that passes: the remaining requests and the policy.
#[derive(Debug, Default)]
pub(super) struct RemainingLimit(Option<(HeaderValue, HeaderValue)>);

/// A rate limit that was reached.
#[derive(Debug)]
pub(super) struct LimitReached {
    scope: &'static str,
    wait_seconds: u64,
    policy: HeaderValue,
}

impl Limits {
    /// Creates limits per second. `None` means no limit.
    #[must_use]
    pub fn new(channel: Option<NonZeroU32>, user: Option<NonZeroU32>) -> Self {
        let policies = [("channel", channel), ("user", user)];
        let policies = policies.into_iter().filter_map(|(name, limit)| {
            let limit = limit?;
            Some(format!("\"{name}\";q={limit};w=1"))
        });
        let policies = policies.collect::<Vec<_>>().join(", ");
        let policies = HeaderValue::try_from(policies).ok();
        Self {
            channel: channel
                .map(|limit| RateLimiter::direct(Quota::per_second(limit)).with_middleware()),
            user: user.map(|limit| RateLimiter::keyed(Quota::per_second(limit)).with_middleware()),
            links: RateLimiter::keyed(
                Quota::per_second(REQUESTS_OF_LINK).allow_burst(BURST_OF_LINK),
            )
            .with_middleware(),
            hasher: RandomState::new(),
            policy: policies.filter(|policies| !policies.is_empty()),
        }
    }

    /// True if there is a limit per user, so that the user of a request matters.
    pub(super) fn has_user_limit(&self) -> bool {
        self.user.is_some()
    }

    /// Counts a request by a signed link, of which any number may exist for one file.
    pub(super) fn check_link(&self, file: &impl Hash) -> Result<RemainingLimit, LimitReached> {
        let counted = self.links.check_key(&self.hasher.hash_one(file));
        counted.map_err(|until| LimitReached {
            scope: "link",
            wait_seconds: seconds_until(&until),
            policy: POLICY_OF_LINK,
        })?;
        self.check(Some(file))
    }

    /// Counts a request, which may be about a user. For a signed link, its file takes the place of
    /// the user.
    pub(super) fn check(&self, user: Option<&impl Hash>) -> Result<RemainingLimit, LimitReached> {
        let Some(policy) = &self.policy else {
            return Ok(RemainingLimit::default());
        };
        let limit_reached = |scope, until: NotUntil<_>| LimitReached {
            scope,
            wait_seconds: seconds_until(&until),
            policy: policy.clone(),
        };
        // The user's limit is checked first. So excess requests about one user do not use up
        // the channel's limit.
        let user = user.map(|user| self.hasher.hash_one(user));
        let of_user = self.user.as_ref().zip(user);
        let of_user = of_user.map(|(limiter, user)| limiter.check_key(&user));
        let of_user = of_user
            .transpose()
            .map_err(|until| limit_reached("user", until))?;
        let of_channel = self.channel.as_ref().map(RateLimiter::check);
        let of_channel = of_channel
            .transpose()
            .map_err(|until| limit_reached("channel", until))?;
        let remaining = [("channel", of_channel), ("user", of_user)];
        let remaining = remaining.into_iter().filter_map(|(name, state)| {
            let remaining = state?.remaining_burst_capacity();
            Some(format!("\"{name}\";r={remaining};t=1"))
        });
        let remaining = remaining.collect::<Vec<_>>().join(", ");
        let remaining = HeaderValue::try_from(remaining).ok();
        let remaining = remaining.filter(|remaining| !remaining.is_empty());
        let headers = remaining.map(|remaining| (remaining, policy.clone()));
        Ok(RemainingLimit(headers))
    }

    /// Forgets the users whose limit is fully available again, because they were idle long enough.
    pub(super) fn forget_idle_users(&self) {
        for limiter in self.user.iter().chain([&self.links]) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(None, None)
    }
}

/// Returns the time until a request may pass, rounded up.
fn seconds_until(until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>) -> u64 {
    let wait = until.wait_time_from(DefaultClock::default().now());
    wait.as_secs() + 1
}

impl RemainingLimit {
    /// Adds the `RateLimit` headers to the response.
    pub(super) fn add_headers(self, headers: &mut HeaderMap) {
        if let Some((remaining, policy)) = self.0 {
            headers.insert(RATE_LIMIT, remaining);
            headers.insert(RATE_LIMIT_POLICY, policy);
        }
    }
}

impl LimitReached {
    pub(super) fn problem(&self) -> Problem {
        let detail = match self.scope {
            "link" => "The limit of requests per second by links to this file is reached.",
            "user" => "The channel's limit of requests per second about this user is reached.",
            _ => "The channel's limit of requests per second is reached.",
        };
        Problem::new(Code::TooManyRequests, detail).retry_after(self.wait_seconds)
    }

    /// Adds the `RateLimit` headers, which state that no request remains, and for how long.
    pub(super) fn add_headers(self, headers: &mut HeaderMap) {
        let (name, seconds) = (self.scope, self.wait_seconds);
        let value = HeaderValue::try_from(format!("\"{name}\";r=0;t={seconds}"));
        headers.extend(value.ok().map(|value| (RATE_LIMIT, value)));
        headers.insert(RATE_LIMIT_POLICY, self.policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::UserId;

    fn limits(channel: u32, user: u32) -> Limits {
        Limits::new(NonZeroU32::new(channel), NonZeroU32::new(user))
    }

    fn user(name: &str) -> UserId {
        UserId::try_from(name.to_owned()).unwrap()
    }

    fn headers_of(add_headers: impl FnOnce(&mut HeaderMap)) -> (String, String) {
        let mut headers = HeaderMap::new();
        add_headers(&mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        (text("ratelimit"), text("ratelimit-policy"))
    }

    #[test]
    fn a_user_over_the_limit_does_not_affect_other_users() {
        let limits = limits(100_000, 1);
        let policy = "\"channel\";q=100000;w=1, \"user\";q=1;w=1";

        let first = limits.check(Some(&user("ada"))).unwrap();
        let excess = limits.check(Some(&user("ada"))).unwrap_err();
        let other = limits.check(Some(&user("bob"))).unwrap();

        let (remaining, policies) = headers_of(|headers| first.add_headers(headers));
        assert_eq!(remaining, "\"channel\";r=99999;t=1, \"user\";r=0;t=1");
        assert_eq!(policies, policy);
        let refused = headers_of(|headers| excess.add_headers(headers));
        assert_eq!(refused, ("\"user\";r=0;t=1".to_owned(), policy.to_owned()));
        let (remaining, _) = headers_of(|headers| other.add_headers(headers));
        assert!(remaining.ends_with("\"user\";r=0;t=1"), "{remaining}");
    }

    #[test]
    fn the_limit_of_a_channel_counts_requests_for_all_users() {
        let limits = limits(1, 0);

        limits.check(Some(&user("ada"))).unwrap();

        let excess = limits.check(Some(&user("bob"))).unwrap_err();
        assert_eq!(excess.scope, "channel");
        assert_eq!(limits.check(None::<&UserId>).unwrap_err().scope, "channel");
    }

    #[test]
    fn without_limits_nothing_is_counted_and_no_header_is_set() {
        let limits = limits(0, 0);
        let mut headers = HeaderMap::new();

        for _ in 0..1000 {
            let remaining = limits.check(Some(&user("ada"))).unwrap();
            remaining.add_headers(&mut headers);
        }

        assert!(headers.is_empty());
    }

    #[test]
    fn the_limits_of_idle_users_are_forgotten() {
        // At a million a second, each user's limit is fully available again a moment later.
        let limits = limits(0, 1_000_000);
        for number in 0..100 {
            limits.check(Some(&user(&format!("u{number}")))).unwrap();
        }

        while !limits.user.as_ref().unwrap().is_empty() {
            limits.forget_idle_users();
        }
    }

    #[test]
    fn links_to_a_file_have_a_limit_even_without_limits_of_the_channel() {
        let limits = Limits::default();
        let passed = (0..100).take_while(|_| limits.check_link(&"file_1").is_ok());

        let passed = passed.count();

        assert!((20..30).contains(&passed), "{passed}");
        assert!(limits.check_link(&"file_2").is_ok());
        let excess = (0..100).find_map(|_| limits.check_link(&"file_1").err());
        let (remaining, policy) = headers_of(|headers| excess.unwrap().add_headers(headers));
        assert_eq!(
            (&*remaining, &*policy),
            ("\"link\";r=0;t=1", "\"link\";q=20;w=4")
        );
    }
}
