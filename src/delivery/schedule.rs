//! The schedule of attempts after a failure. These are pure functions: the random jitter is an
//! argument.

use std::time::Duration;

/// 300 s: the longest pause between two attempts.
const MAX_DELAY: Duration = Duration::from_mins(5);

/// 60 s: the longest pause between two probes, so that a callback that works again is found within
/// a minute. A probe is one request, even if many users wait.
const MAX_PROBE_DELAY: Duration = Duration::from_mins(1);

/// 1 h: the longest `Retry-After` that is honoured. A mistake in one must not delay a user's
/// messages for days.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Returns the pause after this number of failures in a row, from 1: 1, 2, 4 … 300 s, times the
/// jitter.
///
/// `retry_after` is the channel's `Retry-After`. The pause is at least that long, up to an hour.
///
/// ```
/// use std::time::Duration;
/// use liveperson_bridge::delivery::schedule::delay;
///
/// assert_eq!(delay(3, 1.0, None), Duration::from_secs(4));
/// assert_eq!(delay(1, 1.0, Some(Duration::from_secs(30))), Duration::from_secs(30));
/// ```
#[must_use]
pub fn delay(failures: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
    backoff(failures, MAX_DELAY)
        .mul_f64(jitter)
        .max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Returns the pause before the next probe of a callback that is unavailable, after this number of
/// probes, times the jitter.
#[must_use]
pub fn probe_delay(probes: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
    backoff(probes.saturating_add(1), MAX_PROBE_DELAY)
        .mul_f64(jitter)
        .max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Returns a random factor for a pause, from 0.8 to 1.2. It spreads the retries of attempts that
/// failed at the same time.
pub(super) fn jitter() -> f64 {
    rand::random_range(0.8..=1.2)
}

fn backoff(failures: u32, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs(1 << doublings).min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let delays: Vec<_> = (1..=11).map(|n| delay(n, 1.0, None).as_secs()).collect();

        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(delay(u32::MAX, 1.0, None), MAX_DELAY);
        assert_eq!(delay(0, 1.0, None).as_secs(), 1);
    }

    #[test]
    fn a_pause_requested_by_a_callback_is_at_most_an_hour() {
        let delay_for = |seconds| delay(1, 1.0, Some(Duration::from_secs(seconds))).as_secs();

        assert_eq!(delay_for(0), 1);
        assert_eq!(delay_for(30), 30);
        assert_eq!(delay_for(86_400), 3600);
        assert_eq!(delay_for(u64::MAX), 3600);
    }

    #[test]
    fn probes_are_a_minute_apart_at_most() {
        let delays: Vec<_> = (0..8)
            .map(|n| probe_delay(n, 1.0, None).as_secs())
            .collect();

        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        let retry_after = Some(Duration::from_secs(90));
        assert_eq!(probe_delay(0, 1.0, retry_after).as_secs(), 90);
    }

    proptest! {
        #[test]
        fn a_delay_is_within_a_fifth_of_its_value(failures: u32) {
            let exact = delay(failures, 1.0, None).as_secs_f64();
            let drawn = delay(failures, jitter(), None).as_secs_f64();

            prop_assert!((0.8 * exact - 1e-6..=1.2 * exact + 1e-6).contains(&drawn));
        }
    }
}
