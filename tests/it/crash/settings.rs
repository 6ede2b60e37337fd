//! The length and the load of a run. `scripts/crash` sets them in the environment; without it a run
//! is short.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::parts::{Mix, Part};
use crate::support::database::Engine;

/// 25 actions per second of all users together: the load that two cores can carry with a debug
/// build and its PostgreSQL.
const ACTIONS_PER_SECOND: u32 = 25;

/// The settings of a run. The same seed repeats the number and the order of the faults, but not
/// their exact times.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) engine: Engine,
    /// The time during which faults happen.
    pub(super) duration: Duration,
    pub(super) users: u32,
    pub(super) seed: u64,
    pub(super) mix: Mix,
    /// An existing PostgreSQL, which the test must not break. The test creates a schema in it.
    pub(super) database_url: Option<String>,
}

/// The variable with the URL of such a database.
pub(super) const DATABASE_URL: &str = "CRASH_DATABASE_URL";

/// The streams of random numbers. Each purpose has its own, so that none affects another.
#[derive(Debug, Clone, Copy)]
pub(super) enum RngStream {
    Fault(Part),
    Callback,
    Agent(u32),
    /// The actions of a user.
    User(u32),
    /// The waiting times of a user, which depend on the answers.
    Wait(u32),
}

impl Settings {
    /// Reads the settings. The defaults are 30 s and 8 users: about a minute for both engines.
    pub(super) fn from_environment(engine: Engine) -> Self {
        let duration = Duration::from_secs(read("CRASH_SECONDS").unwrap_or(30));
        Self {
            engine,
            duration,
            users: read("CRASH_USERS").unwrap_or(8),
            seed: read("CRASH_SEED").unwrap_or_else(rand::random),
            mix: Mix::from_environment(engine, duration),
            database_url: std::env::var(DATABASE_URL).ok(),
        }
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.mix.has(part)
    }

    pub(super) fn rng(&self, stream: RngStream) -> StdRng {
        let (kind, number) = match stream {
            RngStream::Fault(part) => (0, part as u64),
            RngStream::Callback => (1, 0),
            RngStream::Agent(number) => (2, u64::from(number)),
            RngStream::User(number) => (3, u64::from(number)),
            RngStream::Wait(number) => (4, u64::from(number)),
        };
        let of_run = self.seed.wrapping_mul(31);
        StdRng::seed_from_u64(of_run.wrapping_add(kind * 1_000_000 + number))
    }

    /// Returns the average pause of a user between two actions.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs(1) * self.users / ACTIONS_PER_SECOND
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs();
        let (engine, users, seed) = (self.engine, self.users, self.seed);
        writeln!(f, "{engine:?}, {seconds} s, {users} users, seed {seed}")?;
        write!(f, "{}", self.mix)
    }
}

fn read<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(number) = value.parse() else {
        panic!("{name}: `{value}`, expected a number");
    };
    Some(number)
}
