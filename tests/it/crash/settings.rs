//! How long and how hard a run is. `scripts/crash` says so by the environment; without it a run is short.

use std::str::FromStr;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// 25 texts a second of all users together: what two cores carry with the debug build and its PostgreSQL.
const TEXTS_PER_SECOND: u32 = 25;

/// What a run is made with. The seed repeats what is broken how often and in which order, not the moments of two machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// How long things break.
    pub(super) duration: Duration,
    pub(super) users: u32,
    pub(super) seed: u64,
    /// True if the Cloud alters what it tells back of users' texts.
    pub(super) altered: bool,
}

impl Settings {
    /// 20 s and 8 users, unless said otherwise.
    pub(super) fn from_environment() -> Self {
        Self {
            duration: Duration::from_secs(read("CRASH_SECONDS").unwrap_or(20)),
            users: read("CRASH_USERS").unwrap_or(8),
            seed: read("CRASH_SEED").unwrap_or_else(rand::random),
            altered: read("CRASH_ALTERED").unwrap_or(0) != 0,
        }
    }

    /// Chance for one part of the run, of which each has its own.
    pub(super) fn chance(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(31).wrapping_add(part))
    }

    /// How long a user waits between two texts, on average.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs(1) * self.users / TEXTS_PER_SECOND
    }
}

fn read<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(number) = value.parse() else {
        panic!("{name}: `{value}`, expected a number");
    };
    Some(number)
}
