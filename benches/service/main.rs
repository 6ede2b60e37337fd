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
        if !engine.name().contains(&settings.only) {
            continue;
        }
        for users in [FEW, settings.users] {
            let bed = Bed::make(&machine, engine, users, &cloud);
            let about = |what: &str| format!("{what}, {} users, {}", bed.users, engine.name());
            bed.warm_up(&load);
            let processes = bed.processes();
            let plain = load.run(bed.address(), MANY, &Call::Message(bed.users), &processes);
            report.line(&about("message"), MANY, &plain);
            if users != FEW {
                report.memory(&about("messages alone"), &bed);
                continue;
            }
            let alone = load.run(bed.address(), 1, &Call::Message(bed.users), &processes);
            report.line(&about("message"), 1, &alone);
            let keyed = load.run(bed.address(), MANY, &Call::Keyed(bed.users), &processes);
            report.line(&about("keyed message"), MANY, &keyed);
            let signed = notifications::write(bed.folder(), settings.duration);
            let webhooks = Call::Webhook(signed);
            let webhooks = load.run(bed.address(), MANY, &webhooks, &processes);
            report.line(&about("webhook"), MANY, &webhooks);
            let queued = load.run(bed.address(), MANY, &Call::Queued(bed.users), &processes);
            report.line(&about("queued message"), MANY, &queued);
            report.memory(&about("all of the above"), &bed);
            if let Some(server) = bed.server() {
                report.inserts(pgbench::inserts(server, MANY, settings.duration));
            }
        }
    }
    report.end();
}
