//! The replicas. At most one fault at a time holds each of them.

use std::collections::VecDeque;
use std::sync::Mutex;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{Mutex as Lock, MutexGuard};

use crate::support::fake_clock::FakeClock;
use crate::support::patience::eventually;
use crate::support::process::Process;
use crate::support::wire::Wire;

/// 64 MiB: the limit on the kept logs of replicas that have ended.
const LOG_CAPACITY: usize = 64 * 1024 * 1024;

/// All replicas, behind a balancer.
pub(super) struct Replicas {
    toml: String,
    balancer: Wire,
    places: Vec<Place>,
    logs: Mutex<Logs>,
}

/// The slot of a replica.
struct Place {
    process: Lock<Option<Process>>,
    /// The replica's clock, in runs that step clocks.
    clock: Option<FakeClock>,
}

/// The logs of replicas that have ended; the oldest are dropped.
#[derive(Debug, Default)]
struct Logs {
    kept: VecDeque<String>,
    bytes: usize,
}

/// A replica, held by one fault.
pub(super) struct Replica<'a> {
    all: &'a Replicas,
    place: usize,
    process: MutexGuard<'a, Option<Process>>,
}

impl Replicas {
    /// Starts `count` replicas, with clocks that can be stepped if `with_clocks` is true.
    pub(super) async fn start(
        toml: String,
        balancer: Wire,
        count: usize,
        with_clocks: bool,
    ) -> Self {
        let places = (0..count).map(|_| Place {
            process: Lock::default(),
            clock: with_clocks.then(|| FakeClock::new("+0")),
        });
        let replicas = Self {
            toml,
            balancer,
            places: places.collect(),
            logs: Mutex::default(),
        };
        for place in 0..count {
            replicas.at(place).await.start().await;
        }
        replicas
    }

    /// Holds a random replica, or the next one that no fault holds.
    pub(super) async fn choose(&self, chance: &mut StdRng) -> Replica<'_> {
        let first = chance.random_range(0..self.places.len());
        for step in 0..self.places.len() {
            let place = (first + step) % self.places.len();
            if let Ok(process) = self.places[place].process.try_lock() {
                return self.hold(place, process);
            }
        }
        self.at(first).await
    }

    /// Returns the clock of a random replica.
    pub(super) fn choose_clock(&self, chance: &mut StdRng) -> &FakeClock {
        let place = chance.random_range(0..self.places.len());
        self.places[place].clock.as_ref().unwrap()
    }

    async fn at(&self, place: usize) -> Replica<'_> {
        self.hold(place, self.places[place].process.lock().await)
    }

    fn hold<'a>(&'a self, place: usize, process: MutexGuard<'a, Option<Process>>) -> Replica<'a> {
        Replica {
            all: self,
            place,
            process,
        }
    }

    /// Returns the logs of all replicas.
    pub(super) async fn logs(&self) -> Vec<String> {
        let mut logs: Vec<_> = self.logs.lock().unwrap().kept.iter().cloned().collect();
        for (place, replica) in self.places.iter().enumerate() {
            if let Some(process) = &*replica.process.lock().await {
                logs.push(format!("replica {place} at the end\n{}", process.log()));
            }
        }
        logs
    }
}

impl Replica<'_> {
    /// Kills the replica in the middle of its work.
    pub(super) async fn kill(&mut self) {
        let process = self.process.take().unwrap();
        self.all.balancer.lead(self.place, None);
        self.keep_log(&process.log());
        process.kill().await;
    }

    /// Starts the replica, with new attempts while the database is unreachable.
    pub(super) async fn start(&mut self) {
        let clock = self.all.places[self.place].clock.as_ref();
        let environment = clock.map(FakeClock::environment);
        let environment: Vec<_> = environment
            .iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (process, channel) =
            eventually("a replica starts", async || match Process::try_serve_with(
                &self.all.toml,
                &environment,
            )
            .await
            {
                Ok((process, channel, _)) => Some((process, channel)),
                Err(log) => {
                    self.keep_log(&log);
                    None
                }
            })
            .await;
        let address = Some(channel.address());
        self.all.balancer.lead(self.place, address);
        *self.process = Some(process);
    }

    /// Freezes the process; its connections stay open.
    pub(super) async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Resumes the process where it was.
    pub(super) async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name).await;
    }

    fn keep_log(&self, log: &str) {
        let mut logs = self.all.logs.lock().unwrap();
        let log = format!("replica {}, which is gone\n{log}", self.place);
        logs.bytes += log.len();
        logs.kept.push_back(log);
        while logs.bytes > LOG_CAPACITY
            && let Some(oldest) = logs.kept.pop_front()
        {
            logs.bytes -= oldest.len();
        }
    }
}
