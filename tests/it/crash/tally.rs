//! Counts of faults and of results, by name.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, usize>>);

impl Tally {
    /// Adds one to a count.
    pub(super) fn increment(&self, name: &'static str) {
        self.add(name, 1);
    }

    /// Adds a number to a count.
    pub(super) fn add(&self, name: &'static str, count: usize) {
        *self.0.lock().unwrap().entry(name).or_default() += count;
    }

    /// Returns all counts, by name.
    pub(super) fn list(&self) -> Vec<(&'static str, usize)> {
        let counts = self.0.lock().unwrap();
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }
}
