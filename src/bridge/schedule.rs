//! When a request is tried again: pure functions of how often it was tried, of what the Cloud asks for, and of chance.

use std::time::Duration;

use chrono::TimeDelta;
use rand::{Rng, RngExt as _};

/// The vendor's advice for an answer of the 5xx kind: three tries after 5, 10 and 15 s, then ever longer pauses.
const PAUSES: [i64; 7] = [5, 10, 15, 30, 60, 120, 240];

/// The vendor's advice for 429: at least 1 s.
const THROTTLED_PAUSES: [i64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// 1 h: longer than any sane `Retry-After`; one that asks for more is asked again then.
const LONGEST: Duration = Duration::from_hours(1);

/// How long to wait after the try of this number, counted from 1.
pub(super) fn delay(
    tried: u32,
    is_throttled: bool,
    asked: Option<Duration>,
    chance: &mut impl Rng,
) -> TimeDelta {
    let pauses = if is_throttled {
        THROTTLED_PAUSES
    } else {
        PAUSES
    };
    let place = usize::try_from(tried.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = pauses.len() - 1;
    let pause = pauses.get(place.min(last)).copied().unwrap_or_default();
    let low = if is_throttled { 1000 } else { 800 };
    let pause = TimeDelta::milliseconds(pause * chance.random_range(low..=1200));
    let asked = asked.map(|asked| asked.min(LONGEST));
    let asked = asked.and_then(|asked| TimeDelta::from_std(asked).ok());
    asked.map_or(pause, |asked| asked.max(pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(delay: TimeDelta) -> f64 {
        f64::from(i32::try_from(delay.num_milliseconds()).unwrap()) / 1000.0
    }

    #[test]
    fn pauses_grow_as_the_vendor_advises_within_a_fifth() {
        for (tried, expected) in [
            (1, 5.0),
            (2, 10.0),
            (3, 15.0),
            (4, 30.0),
            (7, 240.0),
            (99, 240.0),
        ] {
            for _ in 0..50 {
                let delay = seconds(delay(tried, false, None, &mut rand::rng()));
                assert!(
                    (delay - expected).abs() <= expected / 5.0,
                    "{tried}: {delay}"
                );
            }
        }
    }

    #[test]
    fn who_throttles_is_left_alone_for_a_second_at_least() {
        for _ in 0..50 {
            let delay = seconds(delay(1, true, None, &mut rand::rng()));
            assert!((1.0..=1.2).contains(&delay), "{delay}");
        }
    }

    #[test]
    fn what_the_cloud_asks_for_is_granted_up_to_an_hour() {
        let asked = |seconds| Some(Duration::from_secs(seconds));

        let granted = |asked| seconds(delay(1, true, asked, &mut rand::rng()));

        assert!((granted(asked(7)) - 7.0).abs() < 0.001);
        assert!((granted(asked(1_000_000)) - 3600.0).abs() < 0.001);
    }
}
