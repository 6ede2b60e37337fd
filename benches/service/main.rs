//! A benchmark of the service under load, beside an nginx that forwards the same bytes to the same
//! upstream.
//!
//! `scripts/bench` runs it, and docs/performance.md describes the measurements. The Cloud, the
//! service, its database and the load are processes of their own. The modules:
//!
//! * `cloud` is an nginx whose answers never change.
//! * `bare` is a proxy made of the service's libraries alone.
//! * `bed` is the service with its database, which `fill` has filled.
//! * `load` drives wrk.
//! * `readers` waits for events, and `deliveries` waits until they are delivered.
//! * `tail` measures the slowest messages, beside `streams`.
//! * `statements` shows where PostgreSQL's time goes.
//! * `machine` reads the system's counters of a process.
//! * `report` compares each figure with that of nginx in the same run, and with the `goals`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a run that cannot go on ends"
)]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

mod bare;
mod bed;
mod cloud;
mod database;
mod deliveries;
mod figures;
mod fill;
mod goals;
mod load;
mod machine;
mod notifications;
mod pgbench;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "nothing is crashed here")]
mod postgres;
mod readers;
mod report;
mod statements;
mod streams;
mod tail;

use std::env;
use std::time::Duration;

use bare::Bare;
use bed::{Bed, Engine, Site};
use cloud::Cloud;
use figures::Figures;
use load::{Call, Load};
use machine::Machine;
use readers::Way;
use report::{Line, Report};

/// The number of busy connections, in measurements with many of them.
const MANY: u32 = 64;

/// The number of users in a small database.
const FEW: u32 = 1_000;

/// The number of users with waiting work, in a database with few of them.
const FEW_WAITING: u32 = 10;

/// The number of users with waiting work, in a database with many of them.
const MANY_WAITING: u32 = 100_000;

/// The number of times that each line is measured with each program, if two programs are compared.
const ROUNDS: usize = 3;

/// The line that measures the slowest messages.
const TAIL: &str = "message beside streams, half rate";

/// The duration of the measurement of the slowest messages, relative to other lines. Retention runs
/// about once a minute.
const TAIL_DURATIONS: u32 = 8;

/// The settings of a run.
struct Settings {
    /// The duration of each measurement.
    duration: Duration,
    /// The number of users in a large database.
    users: u32,
    /// A text that the names of the selected measurements contain.
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

    /// True if a line is selected.
    fn selects(&self, line: &Line) -> bool {
        let name = format!("{line}, {} connections", line.connections);
        name.contains(&self.only)
    }
}

fn main() {
    if let Ok(upstream) = env::var(bare::UPSTREAM) {
        return bare::serve(&upstream);
    }
    // The arguments of cargo bench, such as --bench, are ignored.
    let settings = Settings::from_environment();
    let layout = env::var("BENCH_CORES").ok();
    let layouts = Machine::layouts(|name| layout.as_deref().is_none_or(|layout| layout == name));
    assert!(!layouts.is_empty(), "BENCH_CORES: expected all or one");
    for machine in layouts {
        measure_on(&machine, &settings);
    }
}

/// Makes all selected measurements with one use of the cores.
fn measure_on(machine: &Machine, settings: &Settings) {
    // This process is part of the load.
    Machine::pin(&machine.load_cores, std::process::id());
    let cloud = Cloud::start(machine);
    let mut report = Report::begin(machine);
    let load = Load::new(machine, settings.duration);

    measure_nginx(&cloud, &load, &mut report);
    let bare = Bare::start(machine, &cloud);
    let figures = load.run(bare.address(), MANY, &Call::Message(FEW), &[bare.process()]);
    report.libraries(&figures);
    drop(bare);
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let plain = |users| (users, None);
        let beside = |waiting| (fill::WRITERS + MANY_WAITING, Some(waiting));
        for (users, waiting) in [
            plain(FEW),
            plain(settings.users),
            beside(FEW_WAITING),
            beside(MANY_WAITING),
        ] {
            let site = Site {
                engine,
                users,
                waiting,
            };
            let mut lines = lines(site);
            lines.retain(|line| settings.selects(line));
            if !lines.is_empty() {
                measure(settings, machine, &cloud, &load, &mut report, &lines);
            }
        }
    }
    report.end();
}

/// Measures nginx. It is measured again at each site, since a machine's speed changes within
/// minutes.
fn measure_nginx(cloud: &Cloud, load: &Load, report: &mut Report) {
    for connections in [MANY, 1] {
        let processes = [cloud.proxy_process()];
        let nginx = load.run(cloud.proxy(), connections, &Call::Cloud, &processes);
        report.reference(connections, &nginx);
    }
}

/// Returns the lines that are measured at a site, in this order.
fn lines(site: Site) -> Vec<Line> {
    let kinds: &[(&str, u32)] = match (site.users, site.waiting) {
        (_, Some(_)) => &[("message", MANY), ("delivered event", MANY)],
        (FEW, None) => &[
            ("message", MANY),
            ("message", 1),
            ("keyed message", MANY),
            ("webhook", MANY),
            ("event that is waited for", readers::READERS),
            ("event on a stream", readers::READERS),
            ("queued message", MANY),
            (TAIL, MANY),
        ],
        (_, None) => &[("message", MANY)],
    };
    let line = |(name, connections)| Line {
        name,
        site,
        connections,
    };
    kinds.iter().copied().map(line).collect()
}

/// Measures one site.
fn measure(
    settings: &Settings,
    machine: &Machine,
    cloud: &Cloud,
    load: &Load,
    report: &mut Report,
    lines: &[Line],
) {
    let site = lines[0].site;
    let start = |program: &String| {
        let bed = Bed::start(machine, program, site, cloud);
        bed.warm_up(load);
        bed
    };
    let bed = start(&bed::program());
    let base = bed::base().as_ref().map(start);
    measure_nginx(cloud, load, report);
    for line in lines {
        if line.name == TAIL {
            // Thousands of streams need memory that the goal does not allow for.
            report.memory(&bed);
        }
        let server = bed.server().filter(|_| line.name == "webhook");
        let insert = |report: &mut Report| {
            if let Some(server) = server {
                report.record_inserts(pgbench::inserts(server, MANY, settings.duration));
            }
        };
        // The speed of inserts varies within minutes more than any other figure. So it is measured
        // before and after the figure that is compared with it.
        insert(report);
        if let Some(base) = &base {
            let mut figures = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                figures.0.push(measure_once(settings, load, base, line));
                figures.1.push(measure_once(settings, load, &bed, line));
            }
            report.base_line(*line, &Figures::median(&figures.0));
            report.line(*line, Figures::median(&figures.1));
        } else {
            report.line(*line, measure_once(settings, load, &bed, line));
        }
        insert(report);
    }
    if lines.iter().all(|line| line.name != TAIL) {
        report.memory(&bed);
    }
}

/// Makes one measurement, and waits until its work is done.
fn measure_once(settings: &Settings, load: &Load, bed: &Bed, line: &Line) -> Figures {
    let counted = bed.server().filter(|_| statements::are_wanted());
    if let Some(server) = counted {
        statements::reset(server);
    }
    let figures = measure_line(settings, load, bed, line);
    if let Some(server) = counted {
        statements::print(server);
    }
    figures
}

fn measure_line(settings: &Settings, load: &Load, bed: &Bed, line: &Line) -> Figures {
    let writers = line.site.writers();
    let call = match line.name {
        "delivered event" => return deliveries::measure(load, bed, line.connections),
        "event that is waited for" => {
            return readers::measure(bed, settings.duration, Way::Polling);
        }
        "event on a stream" => return readers::measure(bed, settings.duration, Way::Stream),
        TAIL => {
            let message = Call::Message(writers);
            let fastest = load.run(bed.address(), line.connections, &message, &[]);
            let rate = fastest.per_second / 2.0;
            // The events that retention removes.
            load.run(bed.address(), line.connections, &Call::Webhook, &[]);
            return tail::measure(bed, writers, rate, settings.duration * TAIL_DURATIONS);
        }
        "message" => Call::Message(writers),
        "keyed message" => Call::Keyed(writers),
        "webhook" => Call::Webhook,
        "queued message" => Call::Queued(writers),
        other => panic!("there is no measurement `{other}`"),
    };
    let figures = load.run(bed.address(), line.connections, &call, &bed.processes());
    deliveries::wait_until_idle(bed);
    figures
}
