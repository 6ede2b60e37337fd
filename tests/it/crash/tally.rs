//! What was done and what was counted, each under a name of its own.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, usize>>);

impl Tally {
    /// Counts one more.
    pub(super) fn note(&self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts so many more.
    pub(super) fn add(&self, name: &'static str, count: usize) {
        *self.0.lock().unwrap().entry(name).or_default() += count;
    }

    /// All counts, by name.
    pub(super) fn list(&self) -> Vec<(&'static str, usize)> {
        let counts = self.0.lock().unwrap();
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }
}
