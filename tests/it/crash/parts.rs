//! The parts of a run: actions of users and agents, and faults. Each part can be left out, and a
//! run can be limited to some parts.
//!
//! To add a part, add a variant and its line in the table, and for a fault a module of `troubles`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;

use super::scene::Scene;
use super::settings::DATABASE_URL;
use super::troubles::{
    answers, clocks, cuts, database_crashes, disks, echoes, failovers, freezes, half_open, kills,
    notifications,
};
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
    Altered,
    Late,
    Missing,
}

/// A function that makes faults until the end, and then restores everything.
pub(super) type Make = fn(Arc<Scene>, Instant) -> LocalBoxFuture<'static, ()>;

/// A line of the table.
struct Line {
    part: Part,
    /// The name by which it is chosen.
    name: &'static str,
    /// Returns the reason to skip it unless it is chosen by name, if there is one.
    spared: fn(Engine, Duration) -> Option<String>,
    /// Returns the reason why this machine or this engine cannot have it, if there is one.
    lacks: fn(Engine) -> Option<String>,
    /// `None` for actions of users, agents or the channel.
    make: Option<Make>,
}

const fn deed(part: Part, name: &'static str) -> Line {
    Line {
        part,
        name,
        spared: |_, _| None,
        lacks: |_| None,
        make: None,
    }
}

const fn trouble(part: Part, name: &'static str, make: Make) -> Line {
    Line {
        make: Some(make),
        ..deed(part, name)
    }
}

/// The table of all parts.
const TABLE: [Line; 23] = [
    deed(Part::Keys, "keys"),
    deed(Part::Async, "async"),
    deed(Part::HangUps, "hang-ups"),
    deed(Part::Files, "files"),
    deed(Part::Receipts, "receipts"),
    deed(Part::Closes, "closes"),
    deed(Part::Ratings, "ratings"),
    deed(Part::Surveys, "surveys"),
    deed(Part::Erasures, "erasures"),
    deed(Part::Callbacks, "callbacks"),
    trouble(Part::Kills, "kills", |scene, end| {
        Box::pin(kills::until(scene, end))
    }),
    Line {
        spared: short_runs,
        ..trouble(Part::Freezes, "freezes", |scene, end| {
            Box::pin(freezes::until(scene, end))
        })
    },
    Line {
        lacks: own_server,
        ..trouble(Part::Crashes, "crashes", |scene, end| {
            Box::pin(database_crashes::until(scene, end))
        })
    },
    Line {
        spared: short_runs,
        lacks: |engine| own_server(engine).or_else(Haproxy::lacks),
        ..trouble(Part::Failovers, "failovers", |scene, end| {
            Box::pin(failovers::until(scene, end))
        })
    },
    Line {
        spared: short_runs,
        lacks: |_| not_own().or_else(Disk::lacks),
        ..trouble(Part::Disks, "disks", |scene, end| {
            Box::pin(disks::until(scene, end))
        })
    },
    Line {
        spared: short_runs,
        // The stepped clock must not be the database's, as it would be with the embedded database.
        lacks: |engine| postgres(engine).or_else(FakeClock::lacks),
        ..trouble(Part::Clocks, "clocks", |scene, end| {
            Box::pin(clocks::until(scene, end))
        })
    },
    trouble(Part::Answers, "answers", |scene, end| {
        Box::pin(answers::until(scene, end))
    }),
    trouble(Part::Cuts, "cuts", |scene, end| {
        Box::pin(cuts::until(scene, end))
    }),
    trouble(Part::HalfOpen, "half-open", |scene, end| {
        Box::pin(half_open::until(scene, end))
    }),
    trouble(Part::Notifications, "notifications", |scene, end| {
        Box::pin(notifications::until(scene, end))
    }),
    trouble(Part::Altered, "altered", |scene, end| {
        Box::pin(echoes::alter_until(scene, end))
    }),
    trouble(Part::Late, "late", |scene, end| {
        Box::pin(echoes::hold_back_until(scene, end))
    }),
    trouble(Part::Missing, "missing", |scene, end| {
        Box::pin(echoes::drop_until(scene, end))
    }),
];

/// 2 min: the shortest run that has time for all parts.
const LONG: Duration = Duration::from_mins(2);

fn short_runs(_: Engine, duration: Duration) -> Option<String> {
    let why = || format!("only in runs of {} s and more", LONG.as_secs());
    (duration < LONG).then(why)
}

fn postgres(engine: Engine) -> Option<String> {
    (engine != Engine::Postgres).then(|| "SQLite has no server".to_owned())
}

fn own_server(engine: Engine) -> Option<String> {
    postgres(engine).or_else(not_own)
}

fn not_own() -> Option<String> {
    let is_given = std::env::var_os(DATABASE_URL).is_some();
    is_given.then(|| format!("the server of {DATABASE_URL} is not the test's to break"))
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
        for line in &TABLE {
            let named = with.as_ref().map(|with| with.contains(&line.part));
            if named == Some(false) || without.iter().flatten().any(|part| *part == line.part) {
                continue;
            }
            let lacks = (line.lacks)(engine);
            let spared = || named.is_none().then(|| (line.spared)(engine, duration));
            match lacks.or_else(|| spared().flatten()) {
                Some(why) => mix.skipped.push((line.name, why)),
                None => mix.parts.extend([line.part]),
            }
        }
        if mix.has(Part::Failovers) && mix.parts.remove(&Part::Disks) {
            let why = "what fails over is on two machines";
            mix.skipped.push(("disks", why.to_owned()));
        }
        mix
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Returns the faults among them.
    pub(super) fn troubles(&self) -> impl Iterator<Item = Make> {
        let chosen = TABLE.iter().filter(|line| self.has(line.part));
        chosen.filter_map(|line| line.make)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = TABLE.iter().filter(|line| self.has(line.part));
        let names: Vec<_> = chosen.map(|line| line.name).collect();
        write!(f, "with {}", names.join(", "))?;
        for (name, why) in &self.skipped {
            write!(f, "\nskipped: {name}, {why}")?;
        }
        Ok(())
    }
}

/// Returns the parts named by a variable; `None` if it is not set.
fn read(variable: &str) -> Option<Vec<Part>> {
    let names = std::env::var(variable).ok()?;
    let names = names.split([',', ' ']).filter(|name| !name.is_empty());
    let parts = names.map(|name| {
        let line = TABLE.iter().find(|line| line.name == name);
        let known: Vec<_> = TABLE.iter().map(|line| line.name).collect();
        let line = line.unwrap_or_else(|| {
            panic!("{variable}: `{name}`, expected {}", known.join(", "));
        });
        line.part
    });
    Some(parts.collect())
}
