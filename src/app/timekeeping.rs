//! The clock of the service, synchronized with the database's clock. Wrong clocks are logged.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::clock::{
    Clock as _, Correction, DisciplinedClock, Reading, Reference, SharedClock, elapsed_us,
    machine_reading,
};
use crate::store::{self, ServerTime, Store};

/// 5 s: the interval at which the reference is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// 500 ms: the limit of a measurement's uncertainty. A worse one, which took more than a second, is
/// ignored.
const MAX_UNCERTAINTY_US: i64 = 500_000;

/// 1 s: the offset from which a machine's clock counts as wrong, so that an operator is warned.
pub(crate) const CLOCK_WRONG_FROM: TimeDelta = TimeDelta::seconds(1);

/// 500 ms: the offset below which a wrong clock counts as right again. It is lower than the offset
/// above, so that a clock near the limit is logged once.
const CLOCK_RIGHT_BELOW: TimeDelta = TimeDelta::milliseconds(500);

/// The task that corrects the service's clock by the reference. That is PostgreSQL's clock, which
/// all replicas share, or the machine's clock if there is one process with an embedded database.
#[derive(Debug)]
pub struct Timekeeper {
    clock: Arc<DisciplinedClock>,
    store: Store,
    logged: LoggedState,
}

/// The states that were logged, so that each is logged once.
#[derive(Debug, Default)]
struct LoggedState {
    is_machine_wrong: bool,
    is_ahead: bool,
}

impl Timekeeper {
    /// Measures the reference for the first time.
    ///
    /// # Errors
    ///
    /// If the database does not respond.
    pub async fn begin(store: &Store) -> Result<Self, store::Error> {
        let clock = match read_server_time(store).await? {
            Some(reading) => DisciplinedClock::new(Reference::Database, reading),
            None => DisciplinedClock::new(Reference::Machine, machine_reading()),
        };
        Ok(Self {
            clock: Arc::new(clock),
            store: store.clone(),
            logged: LoggedState::default(),
        })
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock) as SharedClock
    }

    /// Measures at intervals, forever. While the database is unavailable, the clock runs on by
    /// itself.
    pub async fn run(mut self) {
        let mut ticks = interval_at(Instant::now() + MEASURE_INTERVAL, MEASURE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.log_changes();
        loop {
            ticks.tick().await;
            let reading = match self.clock.reference() {
                Reference::Machine => Some(machine_reading()),
                Reference::Database => self.measure().await,
            };
            if let Some(reading) = reading {
                self.correct(reading);
                self.log_changes();
            }
        }
    }

    async fn measure(&self) -> Option<Reading> {
        match read_server_time(&self.store).await {
            Ok(reading) => reading.filter(|it| it.uncertainty_us() <= MAX_UNCERTAINTY_US),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the database's clock could not be read"
                );
                None
            }
        }
    }

    fn correct(&self, reading: Reading) {
        match self.clock.correct(reading) {
            Correction::None => {}
            Correction::Stepped(by_us) => tracing::warn!(
                by_s = seconds(TimeDelta::microseconds(by_us)),
                "the service's clock was behind the database's and was moved forward; the database's clock was set, or this machine was suspended"
            ),
            Correction::Slewed(by_us) => tracing::debug!(
                by_s = seconds(TimeDelta::microseconds(by_us)),
                "the service's clock is being corrected gradually"
            ),
        }
    }

    /// Logs the states that have begun or ended.
    fn log_changes(&mut self) {
        let offset = self.clock.machine_offset().unwrap_or_default();
        let is_wrong = offset.abs()
            >= if self.logged.is_machine_wrong {
                CLOCK_RIGHT_BELOW
            } else {
                CLOCK_WRONG_FROM
            };
        if is_wrong != self.logged.is_machine_wrong {
            self.logged.is_machine_wrong = is_wrong;
            let offset_s = seconds(offset);
            match (self.clock.reference(), is_wrong) {
                (Reference::Database, true) => tracing::warn!(
                    offset_s,
                    "this machine's clock differs from the database's, which the service follows; synchronize both with NTP"
                ),
                (Reference::Machine, true) => tracing::warn!(
                    offset_s,
                    "this machine's clock was set while the service was running; the service follows it at 6 s per minute, a restart applies the new time at once"
                ),
                (_, false) => tracing::info!(offset_s, "this machine's clock is correct again"),
            }
        }
        let is_ahead = self.clock.is_ahead();
        if is_ahead != self.logged.is_ahead {
            self.logged.is_ahead = is_ahead;
            let ahead_s = seconds(self.clock.lead());
            if is_ahead {
                tracing::error!(
                    ahead_s,
                    "not ready: the database's clock was set back, and the service waits until it catches up; a restart applies its time at once"
                );
            } else {
                tracing::info!(ahead_s, "the service's clock matches the database's again");
            }
        }
    }
}

/// Reads the database's clock; `None` if the database has none of its own.
async fn read_server_time(store: &Store) -> Result<Option<Reading>, store::Error> {
    let time = store.server_time(elapsed_us).await?;
    Ok(time.map(|time| {
        let ServerTime {
            requested_us,
            server_us,
            answered_us,
        } = time;
        Reading::between(requested_us, server_us, answered_us)
    }))
}

/// Converts a difference to seconds with a fraction, for the log.
fn seconds(difference: TimeDelta) -> f64 {
    difference.as_seconds_f64()
}
