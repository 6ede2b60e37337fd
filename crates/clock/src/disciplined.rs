//! The clock of the service: it runs by itself and is kept in line with a reference.
//!
//! It counts with a monotonic clock of the machine. So its time advances evenly, even if the
//! machine's time of day is set. Its owner measures the reference from time to time, and corrects
//! the clock. The clock never goes back.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::thread;

use chrono::TimeDelta;
use rustix::time::{ClockId, clock_gettime};

use super::timeline::{Correction, Reading, Reference, Timeline};
use super::{Clock, wall_us};

/// A clock that also counts while the machine sleeps. On systems other than Linux, the plain
/// monotonic clock.
#[cfg(target_os = "linux")]
const ELAPSED_CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const ELAPSED_CLOCK: ClockId = ClockId::Monotonic;

/// A clock that is kept in line with a reference.
#[derive(Debug)]
pub struct DisciplinedClock {
    reference: Reference,
    /// Odd while the timeline is being replaced.
    version: AtomicU64,
    timeline: AtomicTimeline,
    /// Held while the timeline is replaced. Readers never wait for it.
    correction_lock: Mutex<()>,
}

/// A timeline, as one atomic for each field.
#[derive(Debug)]
struct AtomicTimeline {
    start_elapsed_us: AtomicI64,
    start_time_us: AtomicI64,
    slew_us: AtomicI64,
    rate: AtomicI64,
}

impl DisciplinedClock {
    /// Creates a clock that starts at the time of a measurement.
    #[must_use]
    pub fn new(reference: Reference, reading: Reading) -> Self {
        let timeline = Timeline::starting_with(reading);
        Self {
            reference,
            version: AtomicU64::new(0),
            timeline: AtomicTimeline {
                start_elapsed_us: AtomicI64::new(timeline.start_elapsed_us),
                start_time_us: AtomicI64::new(timeline.start_time_us),
                slew_us: AtomicI64::new(timeline.slew_us),
                rate: AtomicI64::new(timeline.rate),
            },
            correction_lock: Mutex::default(),
        }
    }

    /// Returns the reference that the clock is kept in line with.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.reference
    }

    /// Corrects the clock by a measurement of the reference.
    pub fn correct(&self, reading: Reading) -> Correction {
        let _guard = self
            .correction_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.timeline.load();
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        // The time is read after the version has become odd. So each reader that used the old
        // timeline had read an earlier time.
        let now = elapsed_us();
        let (timeline, correction) = before.corrected(now, reading, self.reference);
        self.timeline.store(&timeline);
        self.version.store(version + 2, Ordering::Release);
        correction
    }

    /// Returns how far the clock is ahead of its reference; negative if it is behind. Zero except
    /// while a correction is in progress.
    #[must_use]
    pub fn lead(&self) -> TimeDelta {
        TimeDelta::microseconds(-self.read(Timeline::remaining))
    }

    /// Reads the timeline at the present moment. If it is being replaced, which takes less than a
    /// microsecond, reads it again.
    fn read<T>(&self, read: impl Fn(&Timeline, i64) -> T) -> T {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version.is_multiple_of(2) {
                let now = elapsed_us();
                let timeline = self.timeline.load();
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == version {
                    return read(&timeline, now);
                }
            }
            // On a single core, the thread that replaces the timeline may need this core.
            thread::yield_now();
        }
    }
}

impl AtomicTimeline {
    fn load(&self) -> Timeline {
        Timeline {
            start_elapsed_us: self.start_elapsed_us.load(Ordering::Relaxed),
            start_time_us: self.start_time_us.load(Ordering::Relaxed),
            slew_us: self.slew_us.load(Ordering::Relaxed),
            rate: self.rate.load(Ordering::Relaxed),
        }
    }

    fn store(&self, timeline: &Timeline) {
        self.start_elapsed_us
            .store(timeline.start_elapsed_us, Ordering::Relaxed);
        self.start_time_us
            .store(timeline.start_time_us, Ordering::Relaxed);
        self.slew_us.store(timeline.slew_us, Ordering::Relaxed);
        self.rate.store(timeline.rate, Ordering::Relaxed);
    }
}

impl Clock for DisciplinedClock {
    fn now_ms(&self) -> i64 {
        self.read(Timeline::at) / 1000
    }

    fn is_ahead(&self) -> bool {
        self.reference == Reference::Database && self.read(Timeline::is_ahead)
    }

    fn machine_offset(&self) -> Option<TimeDelta> {
        let (shown, remaining) =
            self.read(|timeline, now| (timeline.at(now), timeline.remaining(now)));
        let right = match self.reference {
            Reference::Database => shown + remaining,
            Reference::Machine => shown,
        };
        Some(TimeDelta::microseconds(wall_us() - right))
    }
}

/// Returns the time since some moment before the process began, in microseconds.
#[must_use]
pub fn elapsed_us() -> i64 {
    let elapsed = clock_gettime(ELAPSED_CLOCK);
    elapsed.tv_sec * 1_000_000 + elapsed.tv_nsec / 1000
}

/// Measures the machine's time of day as a reference.
#[must_use]
pub fn machine_reading() -> Reading {
    let before = elapsed_us();
    let shown = wall_us();
    Reading::between(before, shown, elapsed_us())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn clock(reference: Reference) -> DisciplinedClock {
        DisciplinedClock::new(reference, machine_reading())
    }

    /// Returns a reading of a reference that is this number of seconds ahead of the machine's time
    /// of day.
    fn reading(ahead: i64) -> Reading {
        Reading {
            reference_us: machine_reading().reference_us + ahead * 1_000_000,
            ..machine_reading()
        }
    }

    /// Returns how far the clock is ahead of the machine's time of day, in seconds.
    fn shown_ahead(clock: &DisciplinedClock) -> i64 {
        (clock.now_ms() - wall_us() / 1000 + 500).div_euclid(1000)
    }

    #[test]
    fn a_disciplined_clock_starts_at_its_first_reading() {
        let clock = DisciplinedClock::new(Reference::Database, reading(-86_400));

        assert_eq!(shown_ahead(&clock), -86_400);
        assert!(!clock.is_ahead());
        let offset = clock.machine_offset().unwrap();
        assert_eq!((offset.num_milliseconds() + 500) / 1000, 86_400);
    }

    #[test]
    fn a_replica_that_is_behind_catches_up() {
        let clock = clock(Reference::Database);

        let correction = clock.correct(reading(600));

        assert!(matches!(correction, Correction::Stepped(_)));
        assert_eq!(shown_ahead(&clock), 600);
        assert_eq!(clock.lead(), TimeDelta::zero());
    }

    #[test]
    fn a_clock_that_is_far_ahead_reports_it_and_never_goes_back() {
        let clock = clock(Reference::Database);
        let before = clock.now_ms();

        let correction = clock.correct(reading(-600));

        assert!(matches!(correction, Correction::Slewed(_)));
        assert!(clock.now_ms() >= before);
        assert!(clock.is_ahead());
        assert!(clock.lead() > TimeDelta::seconds(590));
        // The machine's clock is 600 s ahead of the database's clock, too.
        let offset = clock.machine_offset().unwrap();
        assert_eq!((offset.num_milliseconds() + 500) / 1000, 600);
    }

    #[test]
    fn a_clock_that_follows_the_machine_is_never_ahead() {
        let clock = clock(Reference::Machine);

        clock.correct(reading(-600));

        assert_eq!(shown_ahead(&clock), 0);
        assert!(!clock.is_ahead());
    }

    #[test]
    fn readers_see_no_time_go_back_during_a_correction() {
        let clock = clock(Reference::Database);
        let is_over = AtomicBool::new(false);

        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let now = clock.read(Timeline::at);
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                });
            }
            for round in 0..20_000 {
                // Each correction reverts the other: one slows the clock down quickly, the other
                // puts it forward.
                let _ = clock.correct(reading(if round % 2 == 0 {
                    -60
                } else {
                    1 + round / 1000
                }));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
