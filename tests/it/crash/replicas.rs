//! The replicas. Each is locked by at most one fault at a time.

use std::collections::VecDeque;
use std::sync::Mutex;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{Mutex as Lock, MutexGuard};

use crate::support::fake_clock::FakeClock;
use crate::support::patience::eventually;
use crate::support::process::Process;
use crate::support::wire::Wire;

/// 64 MiB: the limit on the stored logs of replicas that have ended.
const LOG_CAPACITY: usize = 64 * 1024 * 1024;

/// All replicas, behind a balancer.
pub(super) struct Replicas {
    toml: String,
    balancer: Wire,
    slots: Vec<Slot>,
    logs: Mutex<Logs>,
}

/// The slot of a replica.
struct Slot {
    process: Lock<Option<Process>>,
    /// The replica's clock, in runs that step clocks.
    clock: Option<FakeClock>,
}

/// The logs of replicas that have ended; the oldest are dropped.
#[derive(Debug, Default)]
struct Logs {
    entries: VecDeque<String>,
    bytes: usize,
}

/// A replica, locked by one fault.
pub(super) struct Replica<'a> {
    all: &'a Replicas,
    index: usize,
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
        let slots = (0..count).map(|_| Slot {
            process: Lock::default(),
            clock: with_clocks.then(|| FakeClock::new("+0")),
        });
        let replicas = Self {
            toml,
            balancer,
            slots: slots.collect(),
            logs: Mutex::default(),
        };
        for index in 0..count {
            replicas.lock(index).await.start().await;
        }
        replicas
    }

    /// Locks a random replica, or the next one that no fault has locked.
    pub(super) async fn choose(&self, rng: &mut StdRng) -> Replica<'_> {
        let first = rng.random_range(0..self.slots.len());
        for step in 0..self.slots.len() {
            let index = (first + step) % self.slots.len();
            if let Ok(process) = self.slots[index].process.try_lock() {
                return self.replica(index, process);
            }
        }
        self.lock(first).await
    }

    /// Returns the clock of a random replica.
    pub(super) fn choose_clock(&self, rng: &mut StdRng) -> &FakeClock {
        let index = rng.random_range(0..self.slots.len());
        self.slots[index].clock.as_ref().unwrap()
    }

    async fn lock(&self, index: usize) -> Replica<'_> {
        self.replica(index, self.slots[index].process.lock().await)
    }

    fn replica<'a>(
        &'a self,
        index: usize,
        process: MutexGuard<'a, Option<Process>>,
    ) -> Replica<'a> {
        Replica {
            all: self,
            index,
            process,
        }
    }

    /// Returns the logs of all replicas.
    pub(super) async fn logs(&self) -> Vec<String> {
        let mut logs: Vec<_> = self.logs.lock().unwrap().entries.iter().cloned().collect();
        for (index, replica) in self.slots.iter().enumerate() {
            if let Some(process) = &*replica.process.lock().await {
                logs.push(format!("replica {index} at the end\n{}", process.log()));
            }
        }
        logs
    }
}

impl Replica<'_> {
    /// Kills the replica in the middle of its work.
    pub(super) async fn kill(&mut self) {
        let process = self.process.take().unwrap();
        self.all.balancer.set_target(self.index, None);
        self.store_log(&process.log());
        process.kill().await;
    }

    /// Starts the replica, with new attempts while the database is unreachable.
    pub(super) async fn start(&mut self) {
        let clock = self.all.slots[self.index].clock.as_ref();
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
                    self.store_log(&log);
                    None
                }
            })
            .await;
        let address = Some(channel.address());
        self.all.balancer.set_target(self.index, address);
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

    fn store_log(&self, log: &str) {
        let mut logs = self.all.logs.lock().unwrap();
        let log = format!("replica {}, which has ended\n{log}", self.index);
        logs.bytes += log.len();
        logs.entries.push_back(log);
        while logs.bytes > LOG_CAPACITY
            && let Some(oldest) = logs.entries.pop_front()
        {
            logs.bytes -= oldest.len();
        }
    }
}
