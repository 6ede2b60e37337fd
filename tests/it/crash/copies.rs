//! Messages that are at the Cloud more than once, and whether the contract allows it.
//!
//! SEND has no idempotency key. A message without an answer is sent again where no echo of it came within 10 s of the try
//! (docs/idempotency.md, "What remains"). The simulated Cloud shows for each copy which request published it, whose id bears
//! the time of the try; when it took effect; and when its echo was taken. So each copy but the last can be asked why the next
//! one was sent.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// 10 s: how long an echo may take.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);

/// 1 s: between what the bridge reads of its database and what it does then, and between its clock and the time of its answer.
const SLACK: TimeDelta = TimeDelta::seconds(1);

/// 45 s: a try takes no longer on its way; a request that says otherwise comes from a clock that was stepped.
const LONGEST_WAY: TimeDelta = TimeDelta::seconds(45);

/// A message as the Cloud has it.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "each is a time of something")]
pub(super) struct SentCopy {
    /// When the bridge began to send it.
    pub(super) begun_at: DateTime<Utc>,
    /// When it took effect.
    pub(super) applied_at: DateTime<Utc>,
    /// When the bridge took its echo.
    pub(super) told_at: Option<DateTime<Utc>>,
}

/// Why a message was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It took effect more than 10 s after the try began.
    AppliedLate,
    /// Its echo never came, or only after the next try had begun.
    EchoMissing,
    /// Its echo came more than 10 s after the try began, yet before the next one did: it was given up, and a try in between
    /// did not reach the Cloud.
    EchoLate,
    /// The echo had come, or could still come in time.
    NotAllowed,
}

impl SentCopy {
    /// A copy that a request of this id published.
    pub(super) fn new(
        request_id: Option<&str>,
        applied_at: DateTime<Utc>,
        told_at: Option<DateTime<Utc>>,
    ) -> Self {
        let begun_at = request_id.and_then(time_of);
        let is_likely =
            |at: &DateTime<Utc>| *at <= applied_at + SLACK && *at >= applied_at - LONGEST_WAY;
        Self {
            begun_at: begun_at.filter(is_likely).unwrap_or(applied_at),
            applied_at,
            told_at,
        }
    }

    /// Why the next copy was sent.
    fn cause_of(&self, next: &Self) -> Cause {
        let patient_until = self.begun_at + PATIENCE - SLACK;
        let was_told = |by: DateTime<Utc>| self.told_at.is_some_and(|told_at| told_at < by);
        if next.begun_at < patient_until || was_told(patient_until) {
            Cause::NotAllowed
        } else if self.applied_at >= patient_until {
            Cause::AppliedLate
        } else if was_told(next.begun_at - SLACK) {
            Cause::EchoLate
        } else {
            Cause::EchoMissing
        }
    }
}

impl Cause {
    /// What it is counted under.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AppliedLate => "doubled: took effect after 10 s",
            Self::EchoMissing => "doubled: no echo before it was sent again",
            Self::EchoLate => "doubled: an echo after 10 s, before it was sent again",
            Self::NotAllowed => "doubled, not allowed",
        }
    }
}

/// Why each copy but the first was sent.
pub(super) fn causes(copies: &[SentCopy]) -> Vec<Cause> {
    let mut tries: Vec<_> = copies.iter().collect();
    tries.sort_by_key(|copy| copy.begun_at);
    let pairs = tries.windows(2);
    pairs.map(|pair| pair[0].cause_of(pair[1])).collect()
}

/// The time that an id of version 7 bears.
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

    fn copy(begun: i64, applied: i64, told: Option<i64>) -> SentCopy {
        SentCopy {
            begun_at: at(begun),
            applied_at: at(applied),
            told_at: told.map(at),
        }
    }

    #[test]
    fn a_second_copy_is_allowed_where_no_echo_came_within_ten_seconds() {
        let again = copy(30, 30, Some(31));

        for (first, cause) in [
            (copy(0, 0, None), Cause::EchoMissing),
            (copy(0, 1, Some(40)), Cause::EchoMissing),
            (copy(0, 1, Some(20)), Cause::EchoLate),
            (copy(0, 15, Some(31)), Cause::AppliedLate),
            // Known to the bridge in time.
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
    fn tries_are_told_apart_by_when_they_began_not_by_when_they_took_effect() {
        let stuck = copy(0, 40, Some(41));

        assert_eq!(
            causes(&[copy(12, 12, Some(13)), stuck]),
            [Cause::AppliedLate]
        );
    }

    #[test]
    fn the_id_of_a_request_bears_the_time_of_the_try() {
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
