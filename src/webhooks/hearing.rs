//! The notification lag of an account, collected for one second at a time so that storing it is
//! cheap.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::Hearing;

/// 1 s: the interval at which the lag is stored.
const NOTED: TimeDelta = TimeDelta::seconds(1);

/// 5 s: the age from which a notification counts as late. Notifications usually take less than 1 s,
/// and the Cloud's clock may be behind ours.
const OLD: TimeDelta = TimeDelta::seconds(5);

/// The lag of an account since it was last stored.
#[derive(Debug, Default)]
pub(super) struct Heard {
    noted_at: Option<DateTime<Utc>>,
    told_us_at: Option<DateTime<Utc>>,
    /// The time of the oldest event, by the Cloud's clock.
    oldest: Option<DateTime<Utc>>,
    behind_at: Option<DateTime<Utc>>,
}

impl Heard {
    /// Records a change, with the time of its event if it has one.
    pub(super) fn hear(&mut self, happened_at: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        // Earlier notifications say nothing about the present lag.
        if self.told_us_at.is_some_and(|at| now - at >= NOTED) {
            self.oldest = None;
        }
        self.told_us_at = Some(now);
        self.oldest = self.oldest.into_iter().chain(happened_at).min();
        if happened_at.is_some_and(|at| now - at > OLD) {
            self.behind_at = Some(now);
        }
    }

    /// Returns the record that is due to be stored, if any.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<Hearing> {
        let is_due = self.noted_at.is_none_or(|at| now - at >= NOTED);
        let heard_at = self.told_us_at.filter(|_| is_due)?;
        Some(Hearing {
            heard_at,
            told_at: self.oldest,
            behind_at: self.behind_at,
        })
    }

    /// Starts a new interval after the record was stored.
    pub(super) fn note(&mut self, now: DateTime<Utc>) {
        *self = Self {
            noted_at: Some(now),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tenths: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(100 * tenths)
    }

    fn hearing(heard_at: i64, told_at: i64, behind_at: Option<i64>) -> Hearing {
        Hearing {
            heard_at: at(heard_at),
            told_at: Some(at(told_at)),
            behind_at: behind_at.map(at),
        }
    }

    #[test]
    fn each_second_records_its_oldest_event_and_last_late_notification() {
        let mut heard = Heard::default();
        assert_eq!(heard.due(at(1000)), None);
        heard.hear(Some(at(999)), at(1000));
        assert_eq!(heard.due(at(1000)), Some(hearing(1000, 999, None)));
        heard.note(at(1000));

        for (happened_at, now) in [(Some(at(1003)), 1004), (Some(at(940)), 1005), (None, 1006)] {
            heard.hear(happened_at, at(now));
            assert_eq!(heard.due(at(now)), None);
        }
        heard.hear(Some(at(1010)), at(1011));

        let noted = heard.due(at(1011));
        assert_eq!(noted, Some(hearing(1011, 940, Some(1005))));
    }

    #[test]
    fn an_old_event_does_not_count_in_a_later_second() {
        let mut heard = Heard::default();
        heard.note(at(1000));
        heard.hear(Some(at(990)), at(1001));

        heard.hear(Some(at(1199)), at(1200));

        assert_eq!(heard.due(at(1200)), Some(hearing(1200, 1199, None)));
    }
}
