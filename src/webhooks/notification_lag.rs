//! The notification lag of an account, collected for a second at a time, so that it is cheap to
//! store.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::NotificationLag;

/// 1 s: the interval at which the lag is stored.
const SAVE_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// 5 s: the age from which a notification counts as late. Notifications usually take less than 1 s,
/// and the Cloud's clock may be behind ours.
const LATE_AFTER: TimeDelta = TimeDelta::seconds(5);

/// The lag of an account since it was last stored.
#[derive(Debug, Default)]
pub(super) struct LagTracker {
    saved_at: Option<DateTime<Utc>>,
    received_at: Option<DateTime<Utc>>,
    /// The time of the oldest event, by the Cloud's clock.
    oldest: Option<DateTime<Utc>>,
    last_late_at: Option<DateTime<Utc>>,
}

impl LagTracker {
    /// Records a change, with the time of its event if it has one.
    pub(super) fn record(&mut self, occurred_at: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        // Earlier notifications do not show the present lag.
        if self.received_at.is_some_and(|at| now - at >= SAVE_INTERVAL) {
            self.oldest = None;
        }
        self.received_at = Some(now);
        self.oldest = self.oldest.into_iter().chain(occurred_at).min();
        if occurred_at.is_some_and(|at| now - at > LATE_AFTER) {
            self.last_late_at = Some(now);
        }
    }

    /// Returns the record that is due to be stored, if any.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<NotificationLag> {
        let is_due = self.saved_at.is_none_or(|at| now - at >= SAVE_INTERVAL);
        let last_notified_at = self.received_at.filter(|_| is_due)?;
        Some(NotificationLag {
            last_notified_at,
            oldest_change_at: self.oldest,
            last_late_at: self.last_late_at,
        })
    }

    /// Starts a new interval after the record was stored.
    pub(super) fn mark_saved(&mut self, now: DateTime<Utc>) {
        *self = Self {
            saved_at: Some(now),
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

    fn lag(
        last_notified_at: i64,
        oldest_change_at: i64,
        last_late_at: Option<i64>,
    ) -> NotificationLag {
        NotificationLag {
            last_notified_at: at(last_notified_at),
            oldest_change_at: Some(at(oldest_change_at)),
            last_late_at: last_late_at.map(at),
        }
    }

    #[test]
    fn each_second_records_its_oldest_event_and_last_late_notification() {
        let mut tracker = LagTracker::default();
        assert_eq!(tracker.due(at(1000)), None);
        tracker.record(Some(at(999)), at(1000));
        assert_eq!(tracker.due(at(1000)), Some(lag(1000, 999, None)));
        tracker.mark_saved(at(1000));

        for (occurred_at, now) in [(Some(at(1003)), 1004), (Some(at(940)), 1005), (None, 1006)] {
            tracker.record(occurred_at, at(now));
            assert_eq!(tracker.due(at(now)), None);
        }
        tracker.record(Some(at(1010)), at(1011));

        let due = tracker.due(at(1011));
        assert_eq!(due, Some(lag(1011, 940, Some(1005))));
    }

    #[test]
    fn an_old_event_does_not_count_in_a_later_second() {
        let mut tracker = LagTracker::default();
        tracker.mark_saved(at(1000));
        tracker.record(Some(at(990)), at(1001));

        tracker.record(Some(at(1199)), at(1200));

        assert_eq!(tracker.due(at(1200)), Some(lag(1200, 1199, None)));
    }
}
