//! The figures of a run, each beside that of nginx, as a table for the documentation.

use std::fmt;
use std::time::Duration;

use crate::MANY;
use crate::bed::{Bed, Site};
use crate::figures::Figures;
use crate::goals;
use crate::machine::Machine;

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) site: Site,
    pub(crate) connections: u32,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.name, self.site)
    }
}

/// The results of a run so far.
#[derive(Default)]
pub(crate) struct Report {
    /// The figures of nginx, by number of connections.
    pub(crate) references: Vec<(u32, Figures)>,
    /// The figures of the measured program.
    pub(crate) lines: Vec<(Line, Figures)>,
    /// The peak memory of the program in KiB, and the time until it was ready.
    pub(crate) beds: Vec<(Site, u32, Duration)>,
    /// PostgreSQL's own commits in a second, for each measurement of them.
    inserts: Vec<f64>,
    notes: Vec<String>,
    /// True if the servers share their cores with the load.
    pub(crate) is_shared: bool,
}

impl Report {
    pub(crate) fn begin(machine: &Machine) -> Self {
        println!("## {}\n", machine.title);
        println!(
            "| what | connections | a second | of nginx | p50 | p99 | CPU a request | of nginx | not 2xx |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        Self {
            is_shared: machine.is_shared(),
            ..Self::default()
        }
    }

    /// Records the figures of nginx, with which all others are compared.
    pub(crate) fn reference(&mut self, connections: u32, figures: &Figures) {
        self.references.push((connections, figures.clone()));
        self.show("nginx", connections, figures);
    }

    /// Shows the cost of the libraries alone.
    pub(crate) fn libraries(&mut self, figures: &Figures) {
        self.show("axum and hyper alone", MANY, figures);
    }

    /// Records a measurement.
    pub(crate) fn line(&mut self, line: Line, figures: Figures) {
        self.show(&line.to_string(), line.connections, &figures);
        self.lines.push((line, figures));
    }

    /// Shows a measurement of the base program.
    pub(crate) fn base_line(&mut self, line: Line, figures: &Figures) {
        self.show(&format!("base: {line}"), line.connections, figures);
    }

    fn show(&mut self, name: &str, connections: u32, figures: &Figures) {
        let nginx = self.nginx(connections);
        let of_nginx = |ratio: &dyn Fn(&Figures) -> f64| {
            nginx
                .as_ref()
                .map_or_else(|| "-".to_owned(), |nginx| format!("{:.2}", ratio(nginx)))
        };
        let cpu: Vec<String> = figures
            .cpu
            .iter()
            .map(|(name, cpu)| format!("{name} {} µs", micros(*cpu)))
            .collect();
        println!(
            "| {name} | {connections} | {:.0}{} | {} | {} | {} | {} | {} | {} |",
            figures.per_second,
            figures
                .spread
                .map_or_else(String::new, |spread| format!(" ±{:.0} %", spread * 100.0)),
            of_nginx(&|nginx| figures.per_second / nginx.per_second),
            millis(figures.p50),
            millis(figures.p99),
            cpu.join(", "),
            of_nginx(&|nginx| ratio(figures.cpu_of_all(), nginx.cpu_of_all())),
            figures.failed,
        );
        let added = nginx.filter(|_| connections == 1 && name != "nginx");
        let added = added.map(|nginx| figures.p50.saturating_sub(nginx.p50));
        if let Some(added) = added {
            self.notes
                .push(format!("{name}: adds {} at one connection", millis(added)));
        }
        if let Some(p999) = figures.p999 {
            self.notes.push(format!(
                "{name}: p99.9 is {}, {:.1} times p50",
                millis(p999),
                ratio(p999, figures.p50)
            ));
        }
        if let Some(backlog) = figures.backlog {
            self.notes.push(format!(
                "{name}: all was delivered {} after the load had ended",
                millis(backlog)
            ));
        }
    }

    /// Records the service's peak memory, and the time until it was ready.
    pub(crate) fn memory(&mut self, bed: &Bed) {
        let memory = bed.bridge().memory();
        self.notes.push(format!(
            "all with {} so far: {} at most, ready after {}",
            bed.site,
            mebibytes(memory),
            millis(bed.ready_after)
        ));
        self.beds.push((bed.site, memory, bed.ready_after));
    }

    /// Records PostgreSQL's own speed.
    pub(crate) fn record_inserts(&mut self, per_second: f64) {
        self.notes.push(format!(
            "pgbench commits {per_second:.0} single inserts a second"
        ));
        self.inserts.push(per_second);
    }

    /// Returns the mean of PostgreSQL's own commits in a second.
    pub(crate) fn inserts(&self) -> Option<f64> {
        let count = u32::try_from(self.inserts.len()).ok()?;
        (count > 0).then(|| self.inserts.iter().sum::<f64>() / f64::from(count))
    }

    /// Returns the median of nginx's figures so far with this number of connections. It is a
    /// median, since a machine's speed is not constant.
    pub(crate) fn nginx(&self, connections: u32) -> Option<Figures> {
        let references = self.references.iter();
        let measured: Vec<_> = references
            .filter(|(of, _)| *of == connections)
            .map(|(_, figures)| figures.clone())
            .collect();
        (!measured.is_empty()).then(|| Figures::median(&measured))
    }

    pub(crate) fn end(self) {
        println!();
        for note in &self.notes {
            println!("* {note}");
        }
        goals::show(&self);
    }
}

/// Returns the ratio of two durations.
pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn micros(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e6)
}

/// Formats memory in KiB.
pub(crate) fn mebibytes(kibibytes: u32) -> String {
    format!("{:.1} MiB", f64::from(kibibytes) / 1024.0)
}

/// Formats a duration.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
