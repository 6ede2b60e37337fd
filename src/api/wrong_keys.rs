//! The delay for wrong keys and links. An address that presents many gets slower responses, so that
//! no client can try thousands of them in a second.
//!
//! A key is checked before anything is delayed, so valid keys from the same address, such as a load
//! balancer's, are not slowed down. A delayed response holds a connection, but no permit.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::problem::{Code, Problem};

/// 10 a second: the number of wrong keys that one address may present before it is slowed down.
/// Below that, a client with an outdated key gets its error at once.
const WRONG_KEYS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// 1 s: the delay of each further wrong key.
const DELAY: Duration = Duration::from_secs(1);

/// 256: the number of counters, whatever the number of addresses. Addresses that share a counter
/// share its limit.
const COUNTERS: usize = 256;

/// 1024: the limit on delayed responses. Any further one is sent at once, so that they do not take
/// all connections.
const MAX_DELAYED: usize = 1024;

/// Marks the refusal of a wrong or expired link to a file. It counts as a wrong key.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedLink;

/// The counters of wrong keys.
#[derive(Debug)]
pub(super) struct WrongKeys {
    counters: Vec<DefaultDirectRateLimiter>,
    hasher: RandomState,
    delayed: Semaphore,
}

impl Default for WrongKeys {
    fn default() -> Self {
        let counter = || RateLimiter::direct(Quota::per_second(WRONG_KEYS_PER_SECOND));
        Self {
            counters: std::iter::repeat_with(counter).take(COUNTERS).collect(),
            hasher: RandomState::new(),
            delayed: Semaphore::new(MAX_DELAYED),
        }
    }
}

impl WrongKeys {
    /// Delays the response if it refuses a key and its address has presented many wrong ones.
    pub(super) async fn slow_down(&self, answer: Response, address: Option<IpAddr>) -> Response {
        let problem = answer.extensions().get::<Problem>();
        let is_wrong_key = problem.is_some_and(|problem| {
            matches!(
                problem.code(),
                Code::Unauthorized | Code::OperatorKeyRefused
            )
        });
        let is_wrong_link = answer.extensions().get::<RefusedLink>().is_some();
        if (is_wrong_key || is_wrong_link)
            && !self.count_wrong_key(address)
            && let Ok(_permit) = self.delayed.try_acquire()
        {
            sleep(DELAY).await;
        }
        answer
    }

    /// Counts a wrong key; true if the address is within the limit.
    fn count_wrong_key(&self, address: Option<IpAddr>) -> bool {
        let hash = self.hasher.hash_one(address);
        let index = usize::try_from(hash % COUNTERS as u64).unwrap_or_default();
        let counter = self.counters.get(index);
        counter.is_none_or(|counter| counter.check().is_ok())
    }
}

/// Returns the address of the client; `None` if the request did not come over a connection.
pub(super) fn address(request: &Request) -> Option<IpAddr> {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    connection.map(|ConnectInfo(address)| address.ip())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use tokio::time::Instant;

    use super::*;

    fn answer(code: Code) -> Response {
        Problem::new(code, "A detail.").into_response()
    }

    /// Returns the total delay of `count` responses, one after the other.
    async fn total_delay(
        wrong_keys: &WrongKeys,
        code: Code,
        count: u32,
        from: [u8; 4],
    ) -> Duration {
        let begun = Instant::now();
        for _ in 0..count {
            let answer = wrong_keys.slow_down(answer(code), Some(from.into())).await;
            assert_eq!(answer.status().as_u16(), code.status());
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn many_wrong_keys_from_one_address_are_answered_more_slowly() {
        let wrong_keys = WrongKeys::default();
        let (free, address) = (WRONG_KEYS_PER_SECOND.get(), [10, 0, 0, 1]);

        let first = total_delay(&wrong_keys, Code::Unauthorized, free, address).await;
        assert_eq!(first, Duration::ZERO);
        // The counters use the real system clock, which advances a little.
        let more = total_delay(&wrong_keys, Code::OperatorKeyRefused, 100, address).await;
        assert!(more > 50 * DELAY, "{more:?}");
        // Responses to valid keys are never delayed.
        let valid = total_delay(&wrong_keys, Code::NotFound, 100, address).await;
        assert_eq!(valid, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_links_are_answered_as_slowly_as_wrong_keys() {
        let wrong_keys = WrongKeys::default();
        let begun = Instant::now();
        for _ in 0..100 {
            let mut wrong_link = answer(Code::FileNotFound);
            wrong_link.extensions_mut().insert(RefusedLink);
            wrong_keys.slow_down(wrong_link, None).await;
        }

        assert!(begun.elapsed() > 50 * DELAY, "{:?}", begun.elapsed());
        // The same problem is not delayed if the caller has a valid key.
        let valid = total_delay(&wrong_keys, Code::FileNotFound, 100, [10, 0, 0, 1]).await;
        assert_eq!(valid, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_delayed_responses_is_bounded() {
        let wrong_keys = WrongKeys::default();
        let _permit = wrong_keys
            .delayed
            .try_acquire_many(MAX_DELAYED.try_into().unwrap());

        let more = total_delay(&wrong_keys, Code::Unauthorized, 100, [10, 0, 0, 1]).await;

        assert_eq!(more, Duration::ZERO);
    }
}
