//! The verdict: it compares the state of the Cloud and the channel's events with the promises, and
//! counts the results.
//!
//! `at_cloud` compares the users' actions with the state of the Cloud. `told` compares the agents'
//! messages and the queued requests with the callback's events and the event log.

mod at_cloud;
mod told;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::agents::Written;
use super::deeds::{Deed, Life, What};
use super::scene::Scene;
use super::tally::Tally;

/// The names of results that must not occur.
const LOST: &str = "lost";
const NOT_ALLOWED: &str = "doubled, not allowed";
const INVERTED: &str = "out of order";
const FAILED: &str = "reported failed";
const LEFT_OPEN: &str = "conversations that bridge and Cloud do not agree on";
const AFTER_ERASURE: &str = "told of erased users";

/// The figures of a run, and each promise that was broken.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The faults that were made.
    done: Vec<(&'static str, usize)>,
    counted: Tally,
    drained: Option<Duration>,
    pub(super) complaints: Vec<String>,
}

impl Verdict {
    /// Judges a run after everything is drained.
    pub(super) async fn of(
        scene: &Scene,
        lives: Vec<Life>,
        written: Vec<Written>,
        drained: Option<Duration>,
    ) -> Self {
        let mut verdict = Self {
            done: scene.tally.list(),
            drained,
            ..Self::default()
        };
        for name in [
            LOST,
            NOT_ALLOWED,
            INVERTED,
            FAILED,
            LEFT_OPEN,
            AFTER_ERASURE,
        ] {
            verdict.counted.add(name, 0);
        }
        if drained.is_none() {
            verdict.complain("it did not drain");
        }
        for life in &lives {
            verdict.complaints.extend(life.complaints.iter().cloned());
        }
        verdict.count(&lives, &written);
        verdict.judge_cloud(scene, &lives).await;
        verdict.judge_told(scene, &lives, &written).await;
        verdict
    }

    fn count(&mut self, lives: &[Life], written: &[Written]) {
        let counted = &self.counted;
        counted.add("users", lives.len());
        let erased = lives.iter().filter(|life| life.erased_at.is_some());
        counted.add("users erased", erased.count());
        for deed in lives.iter().flat_map(|life| &life.deeds) {
            counted.note(kind(&deed.what));
            counted.add("requests", deed.requests);
            if deed.key.is_some() {
                counted.add("repeats under a key", deed.requests - 1);
            }
            for taken in &deed.taken {
                counted.note(match taken.status {
                    202 => "answered 202",
                    _ => "answered 200, 201, 204",
                });
            }
        }
        for written in written {
            counted.note(if written.is_file {
                "agents' files"
            } else {
                "agents' texts"
            });
        }
    }

    /// Records a broken promise, and counts it under this name.
    fn breach(&mut self, name: &'static str, complaint: impl Into<String>) {
        self.counted.note(name);
        self.complain(complaint);
    }

    fn complain(&mut self, complaint: impl Into<String>) {
        self.complaints.push(complaint.into());
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |f: &mut fmt::Formatter<'_>, title, rows: &[(&str, usize)]| {
            writeln!(f, "{title}")?;
            for (name, count) in rows {
                writeln!(f, "{name:>54}  {count}")?;
            }
            Ok(())
        };
        table(f, "what was done", &self.done)?;
        table(f, "what was counted", &self.counted.list())?;
        match self.drained {
            Some(drained) => writeln!(f, "drained in {:.1} s", drained.as_secs_f64()),
            None => writeln!(f, "not drained"),
        }
    }
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Text(_) => "users' texts",
        What::File(_) => "users' files",
        What::Receipt(_) => "receipts",
        What::Close { .. } => "closes",
        What::Rating(_) => "ratings",
    }
}

/// Returns the requests that were answered 202, by message id, with their users.
fn queued(lives: &[Life]) -> HashMap<&str, (&Life, &Deed)> {
    let deeds = lives
        .iter()
        .flat_map(|life| life.deeds.iter().map(move |deed| (life, deed)));
    deeds
        .filter_map(|(life, deed)| Some((deed.queued()?, (life, deed))))
        .collect()
}
