//! The timing of the wait for an echo: pure functions of the start of an attempt and of the Cloud's
//! notifications since.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::NotificationLag;

/// 10 s: the time that an echo may take. The echo counts as missing on two conditions: the Cloud
/// has reported an event that happened this long after the attempt, and no old event for this long.
const ECHO_TIME: TimeDelta = TimeDelta::seconds(10);

/// 2 s: an event that happened this long after the attempt is reported after the echo. An earlier
/// event may be reported before an echo that an outage holds back.
const NEWER_EVENT: TimeDelta = TimeDelta::seconds(2);

/// 30 s: the time that an echo may take while the Cloud sends nothing at all, as in an outage of
/// its notifications.
const SILENT_ECHO_TIME: TimeDelta = TimeDelta::seconds(30);

/// 5 min: the longest time that an echo may take, if the Cloud reports only old events or events
/// without times.
const MAX_ECHO_TIME: TimeDelta = TimeDelta::minutes(5);

/// 2 s: the interval at which the Cloud's notifications are checked.
const CHECK_INTERVAL: TimeDelta = TimeDelta::seconds(2);

/// Returns the next time to check for the echo of an attempt; `None` if the echo is missing for
/// good.
///
/// After an outage of its notifications, the Cloud first reports old events. Only a report of an
/// event since the attempt shows that an echo would have come. Each conversation can fall behind by
/// itself. So a recent event of one says nothing about another for as long as the Cloud also
/// reports old events.
pub(super) fn next_check(
    begun_at: DateTime<Utc>,
    lag: Option<NotificationLag>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let oldest_change_at = lag.and_then(|lag| lag.oldest_change_at);
    let last_late_at = lag.and_then(|lag| lag.last_late_at);
    let echo_due_at = begun_at + ECHO_TIME;
    let caught_up = last_late_at.map_or(begun_at, |at| at.max(begun_at)) + ECHO_TIME;
    let last_notified_at = lag.map_or(begun_at, |lag| lag.last_notified_at.max(begun_at));
    let deadline = match oldest_change_at {
        Some(oldest_change_at) if oldest_change_at >= echo_due_at => caught_up,
        Some(oldest_change_at) if oldest_change_at >= begun_at + NEWER_EVENT => {
            last_notified_at + ECHO_TIME
        }
        _ => last_notified_at + SILENT_ECHO_TIME,
    };
    let deadline = deadline.min(begun_at + MAX_ECHO_TIME);
    if now >= deadline {
        None
    } else if now < echo_due_at {
        Some(echo_due_at)
    } else {
        Some(deadline.min(now + CHECK_INTERVAL))
    }
}

/// Returns the time from which a likely echo counts as proof. By then, an exact one would have
/// come.
pub(super) fn likely_counts_at(begun_at: DateTime<Utc>) -> DateTime<Utc> {
    begun_at + ECHO_TIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_missing_after_later_notifications_or_long_silence() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let lag_with_late = |last_notified_at, oldest_change_at, last_late_at: Option<i64>| {
            Some(NotificationLag {
                last_notified_at: at(last_notified_at),
                oldest_change_at: Some(at(oldest_change_at)),
                last_late_at: last_late_at.map(at),
            })
        };
        let on_time = |last_notified_at, oldest_change_at| {
            lag_with_late(last_notified_at, oldest_change_at, None)
        };
        // The attempt begins at 100.
        for (lag, now, next) in [
            (None, 101, Some(110)),
            (None, 110, Some(112)),
            (None, 129, Some(130)),
            (None, 130, None),
            // The Cloud reports what happened before.
            (on_time(99, 99), 130, None),
            (on_time(105, 99), 134, Some(135)),
            (on_time(105, 99), 135, None),
            // It reports what happened at the same time, and then nothing.
            (on_time(101, 101), 112, Some(114)),
            (on_time(101, 101), 131, None),
            // It reports what happened soon after, and then nothing.
            (on_time(105, 104), 109, Some(110)),
            (on_time(105, 104), 110, Some(112)),
            (on_time(105, 104), 114, Some(115)),
            (on_time(105, 104), 115, None),
            // It reports what happened well after.
            (on_time(111, 110), 111, None),
            (on_time(104, 300), 109, Some(110)),
            (on_time(104, 300), 110, None),
            // It is behind, and goes on reporting.
            (on_time(160, 99), 160, Some(162)),
            (on_time(398, 99), 399, Some(400)),
            (on_time(399, 99), 400, None),
            // It was behind a while ago, perhaps in other users' notifications.
            (lag_with_late(111, 110, Some(95)), 111, None),
            (lag_with_late(115, 114, Some(106)), 115, Some(116)),
            (lag_with_late(116, 114, Some(106)), 116, None),
            (lag_with_late(399, 398, Some(398)), 399, Some(400)),
            (lag_with_late(399, 398, Some(398)), 400, None),
        ] {
            let found = next_check(at(100), lag, at(now));
            assert_eq!(found, next.map(at), "{lag:?} at {now}");
        }
    }
}
