//! The parts of a run: actions of users and agents, and faults. Each part can be left out, and a
//! run can be limited to some parts.
//!
//! To add a part, add a variant and its row in the table, and for a fault a module of `faults`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;

use super::faults::{
    answers, clocks, cuts, database_crashes, disks, echoes, failovers, freezes, half_open, kills,
    notifications,
};
use super::scene::Scene;
use super::settings::DATABASE_URL;
use crate::support::database::Engine;
use crate::support::disk::Disk;
use crate::support::fake_clock::FakeClock;
use crate::support::haproxy::Haproxy;

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Keys,
    Async,
    HangUps,
    Files,
    Receipts,
    Closes,
    Ratings,
    Surveys,
    Erasures,
    Callbacks,
    Kills,
    Freezes,
    Crashes,
    Failovers,
    Disks,
    Clocks,
    Answers,
    Cuts,
    HalfOpen,
    Notifications,
    AlteredEchoes,
    LateEchoes,
    MissingEchoes,
}

/// A function that makes faults until the end, and then restores everything.
pub(super) type Injector = fn(Arc<Scene>, Instant) -> LocalBoxFuture<'static, ()>;

/// A row of the table.
struct Row {
    part: Part,
    /// The name by which it is chosen.
    name: &'static str,
    /// Returns the reason to skip it unless it is chosen by name, if there is one.
    skip_reason: fn(Engine, Duration) -> Option<String>,
    /// Returns the reason why this machine or this engine cannot have it, if there is one.
    missing_requirement: fn(Engine) -> Option<String>,
    /// `None` for actions of users, agents or the channel.
    inject: Option<Injector>,
}

const fn action_row(part: Part, name: &'static str) -> Row {
    Row {
        part,
        name,
        skip_reason: |_, _| None,
        missing_requirement: |_| None,
        inject: None,
    }
}

const fn fault_row(part: Part, name: &'static str, inject: Injector) -> Row {
    Row {
        inject: Some(inject),
        ..action_row(part, name)
    }
}

/// The table of all parts.
const TABLE: [Row; 23] = [
    action_row(Part::Keys, "keys"),
    action_row(Part::Async, "async"),
    action_row(Part::HangUps, "hang-ups"),
    action_row(Part::Files, "files"),
    action_row(Part::Receipts, "receipts"),
    action_row(Part::Closes, "closes"),
    action_row(Part::Ratings, "ratings"),
    action_row(Part::Surveys, "surveys"),
    action_row(Part::Erasures, "erasures"),
    action_row(Part::Callbacks, "callbacks"),
    fault_row(Part::Kills, "kills", |scene, end| {
        Box::pin(kills::until(scene, end))
    }),
    Row {
        skip_reason: too_short,
        ..fault_row(Part::Freezes, "freezes", |scene, end| {
            Box::pin(freezes::until(scene, end))
        })
    },
    Row {
        missing_requirement: no_own_server,
        ..fault_row(Part::Crashes, "crashes", |scene, end| {
            Box::pin(database_crashes::until(scene, end))
        })
    },
    Row {
        skip_reason: too_short,
        missing_requirement: |engine| no_own_server(engine).or_else(Haproxy::missing_requirement),
        ..fault_row(Part::Failovers, "failovers", |scene, end| {
            Box::pin(failovers::until(scene, end))
        })
    },
    Row {
        skip_reason: too_short,
        missing_requirement: |_| existing_server().or_else(Disk::missing_requirement),
        ..fault_row(Part::Disks, "disks", |scene, end| {
            Box::pin(disks::until(scene, end))
        })
    },
    Row {
        skip_reason: too_short,
        // The stepped clock must not be the database's, as it would be with the embedded database.
        missing_requirement: |engine| no_postgres(engine).or_else(FakeClock::missing_requirement),
        ..fault_row(Part::Clocks, "clocks", |scene, end| {
            Box::pin(clocks::until(scene, end))
        })
    },
    fault_row(Part::Answers, "answers", |scene, end| {
        Box::pin(answers::until(scene, end))
    }),
    fault_row(Part::Cuts, "cuts", |scene, end| {
        Box::pin(cuts::until(scene, end))
    }),
    fault_row(Part::HalfOpen, "half-open", |scene, end| {
        Box::pin(half_open::until(scene, end))
    }),
    fault_row(Part::Notifications, "notifications", |scene, end| {
        Box::pin(notifications::until(scene, end))
    }),
    fault_row(Part::AlteredEchoes, "altered", |scene, end| {
        Box::pin(echoes::alter_until(scene, end))
    }),
    fault_row(Part::LateEchoes, "late", |scene, end| {
        Box::pin(echoes::delay_until(scene, end))
    }),
    fault_row(Part::MissingEchoes, "missing", |scene, end| {
        Box::pin(echoes::drop_until(scene, end))
    }),
];

/// 2 min: the shortest run that has time for all parts.
const FULL_RUN: Duration = Duration::from_mins(2);

fn too_short(_: Engine, duration: Duration) -> Option<String> {
    let reason = || format!("only in runs of {} s and more", FULL_RUN.as_secs());
    (duration < FULL_RUN).then(reason)
}

fn no_postgres(engine: Engine) -> Option<String> {
    (engine != Engine::Postgres).then(|| "SQLite has no server".to_owned())
}

fn no_own_server(engine: Engine) -> Option<String> {
    no_postgres(engine).or_else(existing_server)
}

fn existing_server() -> Option<String> {
    let is_set = std::env::var_os(DATABASE_URL).is_some();
    is_set.then(|| format!("the test must not break the server of {DATABASE_URL}"))
}

/// The parts of one run.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    parts: BTreeSet<Part>,
    /// The names of unavailable parts, with the reasons.
    skipped: Vec<(&'static str, String)>,
}

impl Mix {
    /// Returns the parts in `CRASH_WITH`, or all parts for which a run of this length has time,
    /// without those in `CRASH_WITHOUT`. Both variables hold names separated by commas.
    pub(super) fn from_environment(engine: Engine, duration: Duration) -> Self {
        let (with, without) = (read("CRASH_WITH"), read("CRASH_WITHOUT"));
        let mut mix = Self {
            parts: BTreeSet::new(),
            skipped: Vec::new(),
        };
        for row in &TABLE {
            let named = with.as_ref().map(|with| with.contains(&row.part));
            if named == Some(false) || without.iter().flatten().any(|part| *part == row.part) {
                continue;
            }
            let missing_requirement = (row.missing_requirement)(engine);
            let skip_reason = || named.is_none().then(|| (row.skip_reason)(engine, duration));
            match missing_requirement.or_else(|| skip_reason().flatten()) {
                Some(reason) => mix.skipped.push((row.name, reason)),
                None => mix.parts.extend([row.part]),
            }
        }
        if mix.has(Part::Failovers) && mix.parts.remove(&Part::Disks) {
            let reason = "a failover needs a second machine, which has another disk";
            mix.skipped.push(("disks", reason.to_owned()));
        }
        mix
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Returns the functions that make the faults among them.
    pub(super) fn faults(&self) -> impl Iterator<Item = Injector> {
        let chosen = TABLE.iter().filter(|row| self.has(row.part));
        chosen.filter_map(|row| row.inject)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = TABLE.iter().filter(|row| self.has(row.part));
        let names: Vec<_> = chosen.map(|row| row.name).collect();
        write!(f, "with {}", names.join(", "))?;
        for (name, reason) in &self.skipped {
            write!(f, "\nskipped: {name}, {reason}")?;
        }
        Ok(())
    }
}

/// Returns the parts named by a variable; `None` if it is not set.
fn read(variable: &str) -> Option<Vec<Part>> {
    let names = std::env::var(variable).ok()?;
    let names = names.split([',', ' ']).filter(|name| !name.is_empty());
    let parts = names.map(|name| {
        let row = TABLE.iter().find(|row| row.name == name);
        let known: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        let row = row.unwrap_or_else(|| {
            panic!("{variable}: `{name}`, expected {}", known.join(", "));
        });
        row.part
    });
    Some(parts.collect())
}
