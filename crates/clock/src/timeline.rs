//! Timelines: the time as a function of the elapsed time, and its correction by a measurement. The
//! module reads no clock and has no state.

/// The reference that a clock is kept in line with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The clock of the database that replicas share. A replica that is far behind catches up at
    /// once. A replica that is far ahead does not act until it is in line, since other replicas'
    /// leases and deadlines must not end too early.
    Database,
    /// The machine's time of day, for the only process of an embedded database. The clock follows
    /// a jump of that time slowly, so that waiting work does not expire all at once.
    Machine,
}

/// 100 ms: a smaller difference is ignored, unless a correction is already in progress.
const NOISE_US: i64 = 100_000;

/// 1 s: a replica that is further behind catches up at once.
const STEP_THRESHOLD_US: i64 = 1_000_000;

/// 5 s: a replica that is further ahead of the others must not act on its time. The value is a
/// third of the shortest lease.
const MAX_LEAD_US: i64 = 5_000_000;

/// 10 %: the usual change of the clock's speed while a difference is corrected.
const SLEW_RATE: i64 = 100;

/// 90 %: the change of the speed in a replica that is too far ahead. Its clock nearly stops, so
/// that it is in line soon.
const FAST_RATE: i64 = 900;

/// A measurement of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the names carry the unit")]
pub struct Reading {
    /// The elapsed time at the measurement, in microseconds.
    pub(super) elapsed_us: i64,
    /// The time that the reference showed, in microseconds since the epoch.
    pub(super) reference_us: i64,
    /// The maximum error of the measurement, in microseconds.
    pub(super) uncertainty_us: i64,
}

/// The effect of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// No effect: the clock is in line.
    None,
    /// The clock was behind by this number of microseconds and was put forward.
    Stepped(i64),
    /// The clock is being corrected gradually by this number of microseconds.
    Slewed(i64),
}

/// The time as a function of the elapsed time, from some moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    /// The elapsed time at its start, in microseconds.
    pub(super) start_elapsed_us: i64,
    /// The time at its start, in microseconds since the epoch.
    pub(super) start_time_us: i64,
    /// The difference that is corrected gradually, in microseconds; negative if the clock is ahead.
    pub(super) slew_us: i64,
    /// The part of each second by which the clock is corrected, in thousandths. It is less than
    /// 1000, so that the time never goes back.
    pub(super) rate: i64,
}

impl Reading {
    /// Creates a reading from the reference's time and the elapsed times before and after it was
    /// read.
    #[must_use]
    pub fn between(before_us: i64, reference_us: i64, after_us: i64) -> Self {
        let half = (after_us - before_us) / 2;
        Self {
            elapsed_us: before_us + half,
            reference_us,
            uncertainty_us: half,
        }
    }

    /// Returns the maximum error of the reading, in microseconds: half of the duration of the
    /// measurement.
    #[must_use]
    pub fn uncertainty_us(&self) -> i64 {
        self.uncertainty_us
    }
}

impl Timeline {
    /// Creates the timeline that starts with a reading.
    pub(super) fn starting_with(reading: Reading) -> Self {
        Self {
            start_elapsed_us: reading.elapsed_us,
            start_time_us: reading.reference_us,
            slew_us: 0,
            rate: SLEW_RATE,
        }
    }

    /// Returns the time at `elapsed_us`, in microseconds since the epoch.
    pub(super) fn at(&self, elapsed_us: i64) -> i64 {
        let passed = (elapsed_us - self.start_elapsed_us).max(0);
        self.start_time_us + passed + self.slewed(passed)
    }

    /// Returns the remaining correction at `elapsed_us`, in microseconds; negative if the clock is
    /// ahead.
    pub(super) fn remaining(&self, elapsed_us: i64) -> i64 {
        let passed = (elapsed_us - self.start_elapsed_us).max(0);
        self.slew_us - self.slewed(passed)
    }

    /// True if the clock is too far ahead of the other replicas.
    pub(super) fn is_ahead(&self, elapsed_us: i64) -> bool {
        self.remaining(elapsed_us) < -MAX_LEAD_US
    }

    fn slewed(&self, passed: i64) -> i64 {
        if self.slew_us == 0 {
            return 0;
        }
        let max = passed.saturating_mul(self.rate) / 1000;
        self.slew_us.clamp(-max, max)
    }

    /// Returns the timeline from now on, corrected by a measurement.
    pub(super) fn corrected(
        &self,
        elapsed_us: i64,
        reading: Reading,
        reference: Reference,
    ) -> (Self, Correction) {
        let behind = reading.reference_us - self.at(reading.elapsed_us);
        let is_slewing = self.remaining(elapsed_us) != 0;
        let noise = if is_slewing { 0 } else { NOISE_US };
        let from_now = |ahead, slew_us, rate| Self {
            start_elapsed_us: elapsed_us,
            start_time_us: self.at(elapsed_us) + ahead,
            slew_us,
            rate,
        };
        if behind.abs() <= noise.max(reading.uncertainty_us) {
            return (from_now(0, 0, SLEW_RATE), Correction::None);
        }
        match reference {
            Reference::Database if behind > STEP_THRESHOLD_US => {
                (from_now(behind, 0, SLEW_RATE), Correction::Stepped(behind))
            }
            Reference::Database if behind < -MAX_LEAD_US => {
                (from_now(0, behind, FAST_RATE), Correction::Slewed(behind))
            }
            Reference::Database | Reference::Machine => {
                (from_now(0, behind, SLEW_RATE), Correction::Slewed(behind))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1000;
    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;
    /// The time at which the timelines of these tests begin.
    const START: i64 = 1_800_000_000 * SECOND;

    /// Returns a reading at an elapsed time. The reference is `ahead` microseconds ahead of the
    /// right time.
    fn reading(elapsed_us: i64, ahead: i64) -> Reading {
        Reading::between(elapsed_us - MS, START + elapsed_us + ahead, elapsed_us + MS)
    }

    fn begun() -> Timeline {
        Timeline::starting_with(reading(0, 0))
    }

    /// Returns a timeline corrected by a reading after one second.
    fn corrected(ahead: i64, reference: Reference) -> (Timeline, Correction) {
        begun().corrected(SECOND, reading(SECOND, ahead), reference)
    }

    #[test]
    fn a_reading_is_dated_at_the_middle_of_the_round_trip() {
        let reading = Reading::between(2000, START, 8000);

        assert_eq!(reading.elapsed_us, 5000);
        assert_eq!(reading.uncertainty_us(), 3000);
        assert_eq!(Timeline::starting_with(reading).at(6000), START + 1000);
    }

    #[test]
    fn without_corrections_the_clock_advances_with_elapsed_time() {
        let timeline = begun();

        assert_eq!(timeline.at(0), START);
        assert_eq!(timeline.at(DAY), START + DAY);
        assert_eq!(timeline.remaining(DAY), 0);
    }

    #[test]
    fn differences_below_100_ms_are_ignored() {
        for ahead in [0, 99 * MS, -99 * MS] {
            for reference in [Reference::Database, Reference::Machine] {
                let (timeline, correction) = corrected(ahead, reference);

                assert_eq!(correction, Correction::None);
                assert_eq!(timeline.at(2 * SECOND), START + 2 * SECOND);
            }
        }
    }

    #[test]
    fn a_difference_within_the_round_trip_uncertainty_is_ignored() {
        // The request took one second, so the reading may be off by half a second.
        let slow = Reading::between(0, START + SECOND, SECOND);

        let (_, correction) = begun().corrected(SECOND, slow, Reference::Database);

        assert_eq!(correction, Correction::None);
    }

    #[test]
    fn a_small_difference_is_corrected_at_a_rate_of_ten_percent() {
        for ahead in [300 * MS, -300 * MS] {
            for reference in [Reference::Database, Reference::Machine] {
                let (timeline, correction) = corrected(ahead, reference);

                assert_eq!(correction, Correction::Slewed(ahead));
                let shown = |after| timeline.at(SECOND + after) - (START + SECOND + after);
                assert_eq!(shown(0), 0);
                assert_eq!(shown(SECOND), ahead / 3);
                assert_eq!(shown(3 * SECOND), ahead);
                assert_eq!(shown(10 * SECOND), ahead);
                assert_eq!(timeline.remaining(SECOND + SECOND), ahead - ahead / 3);
            }
        }
    }

    #[test]
    fn a_started_correction_is_completed_even_below_the_noise_limit() {
        let (timeline, _) = corrected(300 * MS, Reference::Database);

        let again = reading(SECOND + 25 * SECOND / 10, 300 * MS);
        let (timeline, correction) =
            timeline.corrected(again.elapsed_us, again, Reference::Database);

        assert_eq!(correction, Correction::Slewed(50 * MS));
        let later = 10 * SECOND;
        assert_eq!(timeline.at(later), START + later + 300 * MS);
    }

    #[test]
    fn a_replica_that_is_far_behind_jumps_forward_immediately() {
        for ahead in [2 * SECOND, DAY] {
            let (timeline, correction) = corrected(ahead, Reference::Database);

            assert_eq!(correction, Correction::Stepped(ahead));
            assert_eq!(timeline.at(SECOND), START + SECOND + ahead);
            assert_eq!(timeline.remaining(SECOND), 0);
        }
    }

    #[test]
    fn the_clock_nearly_stops_while_a_replica_is_far_ahead() {
        let (timeline, correction) = corrected(-60 * SECOND, Reference::Database);

        assert_eq!(correction, Correction::Slewed(-60 * SECOND));
        assert_eq!(timeline.at(SECOND), START + SECOND);
        assert_eq!(timeline.at(11 * SECOND), START + 2 * SECOND);
        assert!(timeline.is_ahead(SECOND));
        assert!(timeline.is_ahead(SECOND + 61 * SECOND));
        assert!(!timeline.is_ahead(SECOND + 62 * SECOND));
        assert_eq!(timeline.at(101 * SECOND), START + 41 * SECOND);
    }

    #[test]
    fn a_replica_that_is_slightly_ahead_slows_down_and_keeps_acting() {
        let (timeline, _) = corrected(-5 * SECOND, Reference::Database);

        assert!(!timeline.is_ahead(SECOND));
        assert_eq!(timeline.at(11 * SECOND), START + 10 * SECOND);
    }

    #[test]
    fn the_embedded_databases_clock_follows_a_jump_slowly() {
        for ahead in [DAY, -DAY] {
            let (timeline, correction) = corrected(ahead, Reference::Machine);

            assert_eq!(correction, Correction::Slewed(ahead));
            let hour = 3600 * SECOND;
            let moved = timeline.at(SECOND + hour) - (START + SECOND + hour);
            assert_eq!(moved, ahead.signum() * hour / 10);
        }
    }

    #[test]
    fn a_reverted_jump_leaves_only_the_applied_part_to_correct() {
        let (timeline, _) = corrected(DAY, Reference::Machine);
        let back = 2 * SECOND;

        let (timeline, _) = timeline.corrected(back, reading(back, 0), Reference::Machine);

        assert_eq!(timeline.remaining(back), -100 * MS);
        assert_eq!(timeline.at(10 * SECOND), START + 10 * SECOND);
    }

    proptest! {
        #[test]
        fn the_time_never_goes_back(
            steps in prop::collection::vec((0..10 * SECOND, -2 * DAY..2 * DAY, 0..SECOND), 1..40),
            of_database: bool,
        ) {
            let reference = if of_database { Reference::Database } else { Reference::Machine };
            let (mut timeline, mut elapsed, mut last) = (begun(), 0, START);
            for (passes, ahead, round_trip) in steps {
                elapsed += passes;
                prop_assert!(timeline.at(elapsed) >= last);
                let reading = Reading::between(elapsed - round_trip, START + elapsed + ahead, elapsed);
                last = timeline.at(elapsed);
                timeline = timeline.corrected(elapsed, reading, reference).0;
                prop_assert!(timeline.at(elapsed) >= last);
                prop_assert!(timeline.at(elapsed + 1) >= timeline.at(elapsed));
            }
        }

        #[test]
        fn the_clock_converges_to_a_steady_reference(ahead in -600 * SECOND..600 * SECOND) {
            let mut timeline = begun();
            for round in 1..=1000 {
                let elapsed = round * 5 * SECOND;
                timeline = timeline.corrected(elapsed, reading(elapsed, ahead), Reference::Database).0;
            }
            let elapsed = 5001 * SECOND;
            prop_assert!((timeline.at(elapsed) - (START + elapsed + ahead)).abs() <= NOISE_US);
        }
    }
}
