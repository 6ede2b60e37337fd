//! How long and how hard a run is. `scripts/crash` says so by the environment; without it a run is short.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::parts::{Mix, Part};
use crate::support::database::Engine;

/// 25 deeds a second of all users together: what two cores carry with the debug build and its PostgreSQL.
const DEEDS_PER_SECOND: u32 = 25;

/// What a run is made with. The seed repeats what is broken how often and in which order, not the moments of two machines.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) engine: Engine,
    /// How long things break.
    pub(super) duration: Duration,
    pub(super) users: u32,
    pub(super) seed: u64,
    pub(super) mix: Mix,
    /// A PostgreSQL that is there already, and is not the test's to break; in it the test makes a schema.
    pub(super) database_url: Option<String>,
}

/// Names such a database.
pub(super) const DATABASE_URL: &str = "CRASH_DATABASE_URL";

/// Who draws by chance; each has a sequence of its own, so that none disturbs another's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dice {
    Trouble(Part),
    Callback,
    Agent(u32),
    /// What a user does.
    User(u32),
    /// How a user waits, which depends on what it is answered.
    Patience(u32),
}

impl Settings {
    /// 30 s and 8 users, unless said otherwise: with both engines a minute.
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

    pub(super) fn chance(&self, dice: Dice) -> StdRng {
        let (kind, number) = match dice {
            Dice::Trouble(part) => (0, part as u64),
            Dice::Callback => (1, 0),
            Dice::Agent(number) => (2, u64::from(number)),
            Dice::User(number) => (3, u64::from(number)),
            Dice::Patience(number) => (4, u64::from(number)),
        };
        let of_run = self.seed.wrapping_mul(31);
        StdRng::seed_from_u64(of_run.wrapping_add(kind * 1_000_000 + number))
    }

    /// How long a user waits between two deeds, on average.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs(1) * self.users / DEEDS_PER_SECOND
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
