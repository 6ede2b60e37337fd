//! The project's goals beside the figures of a run. docs/performance.md names the goals.

use std::time::Duration;

use crate::bed::{Engine, Site};
use crate::figures::Figures;
use crate::report::{Report, mebibytes, millis, ratio};
use crate::{FEW, FEW_WAITING, MANY, MANY_WAITING, TAIL};

/// Prints each goal that the run has a figure for.
pub(crate) fn show(report: &Report) {
    println!("\n| goal | figure | |\n| --- | --- | --- |");
    for engine in [Engine::Postgres, Engine::Sqlite] {
        for goal in goals(report, engine).into_iter().flatten() {
            let met = if goal.met { "met" } else { "not met" };
            println!(
                "| {}, {} | {} | {met} |",
                goal.name,
                engine.name(),
                goal.figure
            );
        }
    }
}

/// A goal that the run has a figure for.
struct Goal {
    name: String,
    figure: String,
    met: bool,
}

impl Goal {
    fn at_most(name: &str, most: f64, figure: f64) -> Self {
        Self {
            name: format!("{name}: at most {most}"),
            figure: format!("{figure:.2}"),
            met: figure <= most,
        }
    }

    fn at_least(name: &str, least: f64, figure: f64) -> Self {
        Self {
            name: format!("{name}: at least {least}"),
            figure: format!("{figure:.2}"),
            met: figure >= least,
        }
    }

    fn within(name: &str, limit: Duration, time: Duration) -> Self {
        Self {
            name: format!("{name}: at most {}", millis(limit)),
            figure: millis(time),
            met: time <= limit,
        }
    }
}

fn goals(report: &Report, engine: Engine) -> Vec<Option<Goal>> {
    let line = |name: &str, connections, waiting, is_small: bool| {
        let mut lines = report.lines.iter();
        let found = lines.find(|(line, _)| {
            line.name == name
                && line.connections == connections
                && line.site.engine == engine
                && line.site.waiting == waiting
                && (waiting.is_some() || is_small == (line.site.users == FEW))
        });
        found.map(|(_, figures)| figures)
    };
    let small = |name, connections| line(name, connections, None, true);
    // All of these are compared with nginx, which is measured first.
    let nginx = |connections| report.nginx(connections).expect("nginx is measured first");
    let cpu = |one: Duration| ratio(one, nginx(MANY).cpu_of_all());
    let growth = |one: Option<&Figures>, other: Option<&Figures>| {
        Some(ratio(other?.cpu_of_all(), one?.cpu_of_all()))
    };
    let waiting = |name| {
        growth(
            line(name, MANY, Some(FEW_WAITING), false),
            line(name, MANY, Some(MANY_WAITING), false),
        )
    };
    let alone = |it: Option<&Figures>, name, most| {
        let name = format!("{name}, the bridge alone, of nginx's");
        Some(Goal::at_most(&name, most, cpu(it?.cpu_of_bridge())))
    };
    // The embedded database's CPU time is part of the bridge's.
    let with_database = |it: Option<&Figures>, name, most| {
        let it = it.filter(|_| engine == Engine::Postgres)?;
        let name = format!("{name}, with the database's, of nginx's");
        Some(Goal::at_most(&name, most, cpu(it.cpu_of_all())))
    };
    let of_message = if report.is_shared { 1.6 } else { 1.5 };
    let (message, keyed) = (small("message", MANY), small("keyed message", MANY));
    let delivered = line("delivered event", MANY, Some(FEW_WAITING), false);
    let webhook = small("webhook", MANY).filter(|_| engine == Engine::Postgres);
    let beds = report.beds.iter();
    let beds = beds.filter(|(site, ..): &&(Site, _, _)| site.engine == engine);
    let memory = beds.clone().map(|(_, memory, _)| *memory).max();
    let ready = beds.map(|(.., ready)| *ready).max();
    vec![
        alone(message, "CPU of a message", of_message),
        with_database(message, "CPU of a message", of_message),
        message.map(|it| {
            Goal::at_least(
                "messages a second, of nginx's",
                0.6,
                it.per_second / nginx(MANY).per_second,
            )
        }),
        alone(keyed, "CPU of a message with a key", 3.0),
        with_database(keyed, "CPU of a message with a key", 3.0),
        small("message", 1).map(|it| {
            let added = it.p50.saturating_sub(nginx(1).p50);
            Goal::within("added at one connection", Duration::from_micros(500), added)
        }),
        webhook.zip(report.inserts()).map(|(it, inserts)| {
            Goal::at_least(
                "notifications stored, of pgbench's inserts",
                1.5,
                it.per_second / inserts,
            )
        }),
        small("webhook", MANY)
            .map(|it| Goal::within("p99 of a notification", Duration::from_millis(50), it.p99)),
        with_database(delivered, "CPU of a delivered event", 4.0),
        small(TAIL, MANY).and_then(|it| {
            let name = "p99.9 of a message beside streams, of its p50";
            Some(Goal::at_most(name, 10.0, ratio(it.p999?, it.p50)))
        }),
        memory.map(|kibibytes| Goal {
            name: "memory: below 48 MiB".to_owned(),
            figure: mebibytes(kibibytes),
            met: kibibytes < 48 * 1024,
        }),
        ready.map(|it| Goal::within("ready", Duration::from_millis(500), it)),
        growth(message, line("message", MANY, None, false)).map(|it| {
            Goal::at_most(
                "CPU of a message in the large database, of that in the small one",
                1.25,
                it,
            )
        }),
        waiting("message").map(|it| {
            let name = "CPU of a message beside 100000 who wait, of that beside 10";
            Goal::at_most(name, 1.25, it)
        }),
        waiting("delivered event").map(|it| {
            let name = "CPU of a delivered event beside 100000 who wait, of that beside 10";
            Goal::at_most(name, 1.25, it)
        }),
    ]
}
