//! The quick retries: which calls are repeated at once, and after which pauses.
//!
//! Retries over seconds and hours are up to the caller that stores the request. One retry is never
//! nested in another.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::sleep;

use super::Error;

/// The number of attempts that a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryPolicy {
    /// One: the caller can do without the answer for now.
    Never,
    /// Two, the second one only if nothing was sent. For calls that change something and have no
    /// idempotency key.
    Unsent,
    /// Up to three, with pauses between them. For calls that can be repeated without harm.
    Freely,
}

impl RetryPolicy {
    /// Returns the pauses before further attempts.
    fn pauses(self, first: Duration) -> impl Iterator<Item = Duration> {
        let at_once = (self == Self::Unsent).then_some(Duration::ZERO);
        let growing = (self == Self::Freely).then(|| {
            ExponentialBuilder::default()
                .with_min_delay(first)
                .with_max_times(2)
                .with_jitter()
                .build()
        });
        at_once.into_iter().chain(growing.into_iter().flatten())
    }

    /// True if a call of this kind is repeated after this error.
    fn allows(self, error: &Error) -> bool {
        match self {
            Self::Never => false,
            Self::Unsent => matches!(error, Error::Unreachable(_)),
            Self::Freely => is_quickly_retryable(error),
        }
    }
}

/// Makes the call as often as the policy allows. The pauses begin with `pause` and grow, with
/// jitter.
pub(super) async fn with_retries<T, F, Fut>(
    policy: RetryPolicy,
    pause: Duration,
    mut call: F,
) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let mut pauses = None;
    // A single `await` for all attempts: the future then holds the call only once.
    let outcome = loop {
        let outcome = call().await;
        let Err(error) = &outcome else {
            return outcome;
        };
        if !policy.allows(error) {
            break outcome;
        }
        let pauses = pauses.get_or_insert_with(|| Box::new(policy.pauses(pause)));
        match pauses.next() {
            Some(Duration::ZERO) => {}
            Some(pause) => Box::pin(sleep(pause)).await,
            None => break outcome,
        }
    };
    if policy == RetryPolicy::Unsent {
        return outcome;
    }
    // An unknown outcome of a call that can be repeated freely does not matter.
    outcome.map_err(|error| {
        if error.outcome_unknown() {
            error.into_not_attempted()
        } else {
            error
        }
    })
}

/// True for a transient fault, except if the host asks for a pause.
fn is_quickly_retryable(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable(_)
            | Error::NoAnswer(_)
            | Error::Undecodable { .. }
            | Error::Unavailable {
                retry_after: None,
                ..
            }
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const UNAVAILABLE: Error = Error::Unavailable {
        status: 503,
        retry_after: None,
    };

    /// Makes a call that always fails with `error`; returns the number of attempts and the final
    /// error.
    async fn attempts(policy: RetryPolicy, error: Error) -> (u32, Error) {
        let count = Cell::new(0);
        let outcome = with_retries(policy, Duration::from_millis(100), || {
            count.set(count.get() + 1);
            let error = error.clone();
            async { Err::<(), _>(error) }
        })
        .await;
        (count.get(), outcome.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeatable_call_is_attempted_up_to_three_times() {
        assert_eq!(attempts(RetryPolicy::Freely, UNAVAILABLE).await.0, 3);
        assert_eq!(attempts(RetryPolicy::Unsent, UNAVAILABLE).await.0, 1);
        assert_eq!(attempts(RetryPolicy::Never, UNAVAILABLE).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_not_repeated_if_the_cloud_asks_for_a_pause() {
        let retry_after = Some(Duration::from_secs(1));
        for error in [
            Error::Throttled { retry_after: None },
            Error::Unavailable {
                status: 503,
                retry_after,
            },
        ] {
            assert_eq!(attempts(RetryPolicy::Freely, error).await.0, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_that_is_unsafe_to_repeat_has_an_unknown_outcome() {
        let gateway_timeout = Error::Unavailable {
            status: 504,
            retry_after: None,
        };
        for error in [gateway_timeout, Error::Undecodable { status: 200 }] {
            for (policy, unknown) in [
                (RetryPolicy::Unsent, true),
                (RetryPolicy::Freely, false),
                (RetryPolicy::Never, false),
            ] {
                let (_, outcome) = attempts(policy, error.clone()).await;
                assert_eq!(outcome.outcome_unknown(), unknown, "{policy:?}");
                assert!(outcome.is_transient(), "{policy:?}");
            }
        }
    }
}
