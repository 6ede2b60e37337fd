//! The decision after a failed attempt: whether there is another one, and when.

use std::time::Duration;

use chrono::TimeDelta;
use rand::{Rng, RngExt as _};

use crate::bridge::{CloudFailure, Error};
use crate::cloud;
use crate::types::event::data::Failure;
use crate::types::problem::{BLOCKED, Code, SEQUENCE_UNKNOWN};

/// The reason for a pause after an attempt that may have reached the Cloud.
pub(crate) const OUTCOME_UNKNOWN: &str = Code::CloudOutcomeUnknown.as_str();

/// Pauses in seconds, as the vendor advises for 5xx answers: three attempts after 5, 10 and 15 s,
/// then ever longer pauses.
const PAUSES: [i64; 7] = [5, 10, 15, 30, 60, 120, 240];

/// Pauses in seconds for answers with 429: the vendor advises at least 1 s.
const THROTTLED_PAUSES: [i64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// 1 h: longer than any sensible `Retry-After`. If the Cloud asks for more, the next attempt is
/// made after this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The meaning of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A failure that another attempt would repeat.
    Final,
    /// A request that the Cloud does not have; another attempt may succeed.
    Retry(Pause),
    /// A request that the Cloud may have, with the reason.
    Unknown(&'static str),
}

/// The pause before another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// The reason, as a code of the table of problems.
    pub(crate) why: &'static str,
    pub(crate) is_throttled: bool,
    /// True if a gateway answered a published message in place of the Cloud. It may never let the
    /// message through.
    pub(crate) is_blocked: bool,
    /// The `Retry-After` of the Cloud's answer.
    pub(crate) retry_after: Option<Duration>,
}

impl Verdict {
    /// Judges a failed attempt. `is_in_flight` is true if a message was in flight that must not be
    /// repeated blindly.
    pub(crate) fn of(error: &Error, is_in_flight: bool) -> Self {
        let (is_unknown, is_throttled, retry_after) = match error {
            Error::Cloud(error) if error.is_transient() => (
                error.outcome_unknown(),
                matches!(error, cloud::Error::Throttled { .. }),
                error.retry_after(),
            ),
            Error::OutOfTime { is_sent } => (*is_sent, false, None),
            Error::OpeningPending { .. } | Error::ConversationLost | Error::SurveyPending => {
                (false, false, None)
            }
            _ => return Self::Final,
        };
        let is_blocked =
            is_in_flight && matches!(error, Error::Cloud(cloud::Error::Blocked { .. }));
        let why = if is_blocked { BLOCKED } else { code_of(error) };
        if is_unknown && is_in_flight {
            return Self::Unknown(why);
        }
        Self::Retry(Pause {
            why,
            is_throttled,
            is_blocked,
            retry_after,
        })
    }

    /// Judges a failed attempt of a stored request. There, failures of the bridge itself are
    /// retried too: they pass, or an operator corrects them.
    pub(crate) fn of_stored(error: &Error, is_in_flight: bool) -> Self {
        let is_internal = match error {
            Error::Cloud(error) => is_about_credentials(error),
            Error::Store(_) | Error::Seal(_) | Error::Interrupted => true,
            _ => false,
        };
        match Self::of(error, is_in_flight) {
            Self::Final if is_internal => Self::Retry(Pause::because(code_of(error))),
            verdict => verdict,
        }
    }
}

impl Pause {
    /// Creates the usual pause for a reason.
    pub(crate) fn because(why: &'static str) -> Self {
        Self {
            why,
            is_throttled: false,
            is_blocked: false,
            retry_after: None,
        }
    }

    /// Returns the time until the next attempt. `attempt` is the number of the last one, counted
    /// from 1.
    pub(crate) fn after(&self, attempt: u32) -> TimeDelta {
        delay(
            attempt,
            self.is_throttled,
            self.retry_after,
            &mut rand::rng(),
        )
    }
}

fn delay(
    attempt: u32,
    is_throttled: bool,
    retry_after: Option<Duration>,
    rng: &mut impl Rng,
) -> TimeDelta {
    let pauses = if is_throttled {
        THROTTLED_PAUSES
    } else {
        PAUSES
    };
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = pauses.len() - 1;
    let pause = pauses.get(index.min(last)).copied().unwrap_or_default();
    let low = if is_throttled { 1000 } else { 800 };
    let pause = TimeDelta::milliseconds(pause * rng.random_range(low..=1200));
    let retry_after = retry_after.map(|it| it.min(MAX_RETRY_AFTER));
    let retry_after = retry_after.and_then(|it| TimeDelta::from_std(it).ok());
    retry_after.map_or(pause, |it| it.max(pause))
}

fn is_about_credentials(error: &cloud::Error) -> bool {
    match error {
        cloud::Error::NotAttempted(cause) => is_about_credentials(cause),
        cloud::Error::CredentialsRefused { .. }
        | cloud::Error::AppTokenRefused
        | cloud::Error::ConsumerTokenRefused
        | cloud::Error::Unauthorized { .. } => true,
        _ => false,
    }
}

/// Returns the reason of a failed attempt, as a code.
fn code_of(error: &Error) -> &'static str {
    match error {
        Error::Cloud(cloud::Error::MissingSequence) => SEQUENCE_UNKNOWN,
        error => error.code().as_str(),
    }
}

/// Returns the failure that a channel gets for a request that has failed for good.
pub(crate) fn failure(error: &Error) -> Failure {
    let (code, upstream) = match error {
        Error::Cloud(cause @ cloud::Error::Blocked { .. }) => {
            let failure = CloudFailure::of(cause);
            (Code::CloudRefused.as_str(), failure.upstream)
        }
        Error::Cloud(cause @ cloud::Error::Refused { .. }) => {
            (code_of(error), CloudFailure::of(cause).upstream)
        }
        error => (code_of(error), None),
    };
    Failure {
        code: code.to_owned(),
        upstream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(delay: TimeDelta) -> f64 {
        f64::from(i32::try_from(delay.num_milliseconds()).unwrap()) / 1000.0
    }

    #[test]
    fn pauses_grow_as_liveperson_advises_with_a_fifth_of_jitter() {
        for (attempt, expected) in [
            (1, 5.0),
            (2, 10.0),
            (3, 15.0),
            (4, 30.0),
            (7, 240.0),
            (99, 240.0),
        ] {
            for _ in 0..50 {
                let delay = seconds(delay(attempt, false, None, &mut rand::rng()));
                assert!(
                    (delay - expected).abs() <= expected / 5.0,
                    "{attempt}: {delay}"
                );
            }
        }
    }

    #[test]
    fn the_pause_after_throttling_is_at_least_a_second() {
        for _ in 0..50 {
            let delay = seconds(delay(1, true, None, &mut rand::rng()));
            assert!((1.0..=1.2).contains(&delay), "{delay}");
        }
    }

    #[test]
    fn a_pause_requested_by_the_cloud_is_at_most_an_hour() {
        let retry_after = |seconds| Some(Duration::from_secs(seconds));

        let granted = |retry_after| seconds(delay(1, true, retry_after, &mut rand::rng()));

        assert!((granted(retry_after(7)) - 7.0).abs() < 0.001);
        assert!((granted(retry_after(1_000_000)) - 3600.0).abs() < 0.001);
    }
}
