//! The service under load, beside an nginx that carries the same bytes to the same upstream.
//!
//! `scripts/bench` runs it, docs/performance.md tells what it measures and how. Everything is a process of its own: `cloud`
//! is an nginx whose answers never change, `bed` the service with its database, `load` drives wrk, `machine` reads what
//! the system has counted for a process, and `report` sets each figure beside that of nginx in the same run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a run that cannot go on ends"
)]
#![expect(clippy::print_stdout, reason = "the figures are what is asked for")]

mod bed;
mod cloud;
mod load;
mod machine;
mod notifications;
mod pgbench;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "nothing is crashed here")]
mod postgres;
mod report;

use std::env;
use std::time::Duration;

use bed::{Bed, Engine};
use cloud::Cloud;
use load::{Call, Load};
use machine::Machine;
use report::Report;

/// Connections that are kept busy where many are.
const MANY: u32 = 64;

/// Users in a small database.
const FEW: u32 = 1_000;

/// What is asked of a run.
struct Settings {
    /// How long each measurement takes.
    duration: Duration,
    /// Users in a large database.
    users: u32,
    /// A word that the names of what is measured hold.
    only: String,
}

impl Settings {
    fn from_environment() -> Self {
        let number = |name: &str, usual: u32| {
            env::var(name).map_or(usual, |text| text.parse().expect("a number"))
        };
        Self {
            duration: Duration::from_secs(number("BENCH_SECONDS", 10).into()),
            users: number("BENCH_USERS", 1_000_000).max(FEW + 1),
            only: env::var("BENCH_ONLY").unwrap_or_default(),
        }
    }
}

fn main() {
    // What cargo bench hands on, such as --bench, says nothing here.
    let settings = Settings::from_environment();
    let machine = Machine::look();
    let cloud = Cloud::start(&machine);
    let mut report = Report::begin(&machine);
    let load = Load::new(&machine, settings.duration);

    for connections in [MANY, 1] {
        let nginx = load.run(
            cloud.proxy(),
            connections,
            &Call::Cloud,
            &[cloud.proxy_process()],
        );
        report.reference(connections, &nginx);
    }
    for engine in [Engine::Postgres, Engine::Sqlite] {
        for users in [FEW, settings.users] {
            measure(
                &settings,
                &machine,
                &cloud,
                &load,
                &mut report,
                engine,
                users,
            );
        }
    }
    report.end();
}

/// One database's part of a run.
fn measure(
    settings: &Settings,
    machine: &Machine,
    cloud: &Cloud,
    load: &Load,
    report: &mut Report,
    engine: Engine,
    users: u32,
) {
    let about = |what: &str| format!("{what}, {users} users, {}", engine.name());
    let mut lines = vec![("message", MANY, Call::Message(users))];
    if users == FEW {
        lines.push(("message", 1, Call::Message(users)));
        lines.push(("keyed message", MANY, Call::Keyed(users)));
        lines.push(("webhook", MANY, Call::Webhook));
        lines.push(("queued message", MANY, Call::Queued(users)));
    }
    lines.retain(|(what, connections, _)| {
        let line = format!("{}, {connections} connections", about(what));
        line.contains(&settings.only)
    });
    if lines.is_empty() {
        return;
    }
    let bed = Bed::make(machine, engine, users, cloud);
    bed.warm_up(load);
    for (what, connections, call) in &lines {
        let figures = load.run(bed.address(), *connections, call, &bed.processes());
        report.line(&about(what), *connections, &figures);
    }
    report.memory(&about("all of the above"), &bed);
    if let Some(server) = bed.server() {
        report.inserts(pgbench::inserts(server, MANY, settings.duration));
    }
}
