//! The verdict: it compares the state of the Cloud and the channel's events with the promises, and
//! counts the results.
//!
//! `at_cloud` compares the users' actions with the state of the Cloud. `told` compares the agents'
//! messages and the queued requests with the callback's events and the event log.

mod at_cloud;
mod deliveries;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::actions::{Action, Life, UserAction};
use super::agents::Written;
use super::scene::Scene;
use super::tally::Tally;

/// The names of results that must not occur.
const LOST: &str = "lost";
const NOT_ALLOWED: &str = "doubled, not allowed";
const INVERTED: &str = "out of order";
const FAILED: &str = "reported failed";
const STATE_MISMATCH: &str = "conversations that bridge and Cloud do not agree on";
const AFTER_ERASURE: &str = "events about erased users";

/// The figures of a run, and each promise that was broken.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The faults that were made.
    faults: Vec<(&'static str, usize)>,
    counts: Tally,
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
            faults: scene.tally.list(),
            drained,
            ..Self::default()
        };
        for name in [
            LOST,
            NOT_ALLOWED,
            INVERTED,
            FAILED,
            STATE_MISMATCH,
            AFTER_ERASURE,
        ] {
            verdict.counts.add(name, 0);
        }
        if drained.is_none() {
            verdict.complain("it did not drain");
        }
        for life in &lives {
            verdict.complaints.extend(life.complaints.iter().cloned());
        }
        verdict.count(&lives, &written);
        verdict.judge_cloud(scene, &lives).await;
        verdict.judge_deliveries(scene, &lives, &written).await;
        verdict
    }

    fn count(&mut self, lives: &[Life], written: &[Written]) {
        let counts = &self.counts;
        counts.add("users", lives.len());
        let erased = lives.iter().filter(|life| life.erased_at.is_some());
        counts.add("users erased", erased.count());
        for user_action in lives.iter().flat_map(|life| &life.user_actions) {
            counts.increment(kind(&user_action.action));
            counts.add("requests", user_action.requests);
            if user_action.key.is_some() {
                counts.add("repeats under a key", user_action.requests - 1);
            }
            for accepted in &user_action.accepted {
                counts.increment(match accepted.status {
                    202 => "answered 202",
                    _ => "answered 200, 201, 204",
                });
            }
        }
        for written in written {
            counts.increment(if written.is_file {
                "agents' files"
            } else {
                "agents' texts"
            });
        }
    }

    /// Records a broken promise, and counts it under this name.
    fn breach(&mut self, name: &'static str, complaint: impl Into<String>) {
        self.counts.increment(name);
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
        table(f, "faults", &self.faults)?;
        table(f, "counts", &self.counts.list())?;
        match self.drained {
            Some(drained) => writeln!(f, "drained in {:.1} s", drained.as_secs_f64()),
            None => writeln!(f, "not drained"),
        }
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Text(_) => "users' texts",
        Action::File(_) => "users' files",
        Action::Receipt(_) => "receipts",
        Action::Close { .. } => "closes",
        Action::Rating(_) => "ratings",
    }
}

/// Returns the requests that were answered 202, by message id, with their users.
fn queued(lives: &[Life]) -> HashMap<&str, (&Life, &UserAction)> {
    let user_actions = lives.iter().flat_map(|life| {
        life.user_actions
            .iter()
            .map(move |user_action| (life, user_action))
    });
    user_actions
        .filter_map(|(life, user_action)| Some((user_action.queued()?, (life, user_action))))
        .collect()
}
