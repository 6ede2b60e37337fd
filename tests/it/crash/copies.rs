//! Messages that the Cloud has more than once, and the check that the contract allows each copy.
//!
//! SEND has no idempotency key. A message without an answer is sent again if no echo of it came
//! within 10 s of the attempt (docs/idempotency.md). The simulated Cloud shows for each copy which
//! request published it, when it took effect, and when its echo was accepted. The request's id
//! carries the time of the attempt. So for each copy but the last, the reason for sending the next
//! one can be determined.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// 10 s: the longest time in which an echo may come.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);

/// 1 s: the time that may pass between a database read of the bridge and its next step. Also the
/// tolerance between the bridge's clock and the Cloud's.
const SLACK: TimeDelta = TimeDelta::seconds(1);

/// 45 s: the longest time in which a request takes effect. A longer time means that the clock was
/// stepped.
const MAX_LATENCY: TimeDelta = TimeDelta::seconds(45);

/// A message as the Cloud has it.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "each is a time of something")]
pub(super) struct SentCopy {
    /// The time at which the bridge began to send it.
    pub(super) begun_at: DateTime<Utc>,
    /// The time at which it took effect.
    pub(super) applied_at: DateTime<Utc>,
    /// The time at which the bridge accepted its echo.
    pub(super) echoed_at: Option<DateTime<Utc>>,
}

/// The reason for sending a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The copy took effect more than 10 s after the attempt began.
    AppliedLate,
    /// Its echo never came, or came after the next attempt had begun.
    EchoMissing,
    /// Its echo came more than 10 s after the attempt began, but before the next recorded attempt.
    /// The bridge had given up waiting, and an attempt in between did not reach the Cloud.
    EchoLate,
    /// The echo had come, or could still come in time.
    NotAllowed,
}

impl SentCopy {
    /// Creates a copy that the request with this id published.
    pub(super) fn new(
        request_id: Option<&str>,
        applied_at: DateTime<Utc>,
        echoed_at: Option<DateTime<Utc>>,
    ) -> Self {
        let begun_at = request_id.and_then(time_of);
        let is_likely =
            |at: &DateTime<Utc>| *at <= applied_at + SLACK && *at >= applied_at - MAX_LATENCY;
        Self {
            begun_at: begun_at.filter(is_likely).unwrap_or(applied_at),
            applied_at,
            echoed_at,
        }
    }

    /// Returns the reason for sending the next copy.
    fn cause_of(&self, next: &Self) -> Cause {
        let deadline = self.begun_at + PATIENCE - SLACK;
        let was_echoed_before =
            |by: DateTime<Utc>| self.echoed_at.is_some_and(|echoed_at| echoed_at < by);
        if next.begun_at < deadline || was_echoed_before(deadline) {
            Cause::NotAllowed
        } else if self.applied_at >= deadline {
            Cause::AppliedLate
        } else if was_echoed_before(next.begun_at - SLACK) {
            Cause::EchoLate
        } else {
            Cause::EchoMissing
        }
    }
}

impl Cause {
    /// Returns the name under which the verdict counts it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AppliedLate => "doubled: took effect after 10 s",
            Self::EchoMissing => "doubled: no echo before it was sent again",
            Self::EchoLate => "doubled: an echo after 10 s, before it was sent again",
            Self::NotAllowed => "doubled, not allowed",
        }
    }
}

/// Returns the reason for each copy but the first.
pub(super) fn causes(copies: &[SentCopy]) -> Vec<Cause> {
    let mut attempts: Vec<_> = copies.iter().collect();
    attempts.sort_by_key(|copy| copy.begun_at);
    let pairs = attempts.windows(2);
    pairs.map(|pair| pair[0].cause_of(pair[1])).collect()
}

/// Returns the time in a version 7 id.
fn time_of(id: &str) -> Option<DateTime<Utc>> {
    let (seconds, nanoseconds) = id.parse::<Uuid>().ok()?.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn copy(begun: i64, applied: i64, echoed: Option<i64>) -> SentCopy {
        SentCopy {
            begun_at: at(begun),
            applied_at: at(applied),
            echoed_at: echoed.map(at),
        }
    }

    #[test]
    fn a_second_copy_is_allowed_without_an_echo_within_ten_seconds() {
        let again = copy(30, 30, Some(31));

        for (first, cause) in [
            (copy(0, 0, None), Cause::EchoMissing),
            (copy(0, 1, Some(40)), Cause::EchoMissing),
            (copy(0, 1, Some(20)), Cause::EchoLate),
            (copy(0, 15, Some(31)), Cause::AppliedLate),
            // The bridge had the echo in time.
            (copy(0, 1, Some(2)), Cause::NotAllowed),
            // Sent again too soon.
            (copy(25, 25, None), Cause::NotAllowed),
        ] {
            assert_eq!(
                causes(&[first.clone(), again.clone()]),
                [cause],
                "{first:?}"
            );
        }
    }

    #[test]
    fn attempts_are_ordered_by_start_not_by_effect() {
        let stuck = copy(0, 40, Some(41));

        assert_eq!(
            causes(&[copy(12, 12, Some(13)), stuck]),
            [Cause::AppliedLate]
        );
    }

    #[test]
    fn a_request_id_carries_the_start_time_of_the_attempt() {
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 100, 0)).to_string();

        let begun_at = |id, applied| SentCopy::new(id, at(applied), None).begun_at;

        assert_eq!(begun_at(Some(&id), 112), at(100));
        assert_eq!(
            begun_at(Some(&id), 700),
            at(700),
            "by a clock that was stepped"
        );
        assert_eq!(begun_at(None, 112), at(112));
    }
}
