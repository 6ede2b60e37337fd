//! The figures of a run, each beside that of nginx, as a table that documentation can take over.

use std::time::Duration;

use crate::bed::Bed;
use crate::load::Figures;
use crate::machine::Machine;

/// A run so far.
pub(crate) struct Report {
    /// What nginx had, by connections.
    references: Vec<(u32, Figures)>,
    webhooks_per_second: f64,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn begin(machine: &Machine) -> Self {
        println!("{}\n", machine.model);
        println!(
            "| what | connections | a second | of nginx | p50 | p99 | CPU a request | of nginx | not 2xx |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        Self {
            references: Vec::new(),
            webhooks_per_second: 0.0,
            notes: Vec::new(),
        }
    }

    /// What everything is measured by.
    pub(crate) fn reference(&mut self, connections: u32, figures: &Figures) {
        self.references.push((connections, figures.clone()));
        self.line("nginx", connections, figures);
    }

    /// Takes down what was measured.
    pub(crate) fn line(&mut self, what: &str, connections: u32, figures: &Figures) {
        let nginx = self.references.iter().find(|(of, _)| *of == connections);
        let nginx = &nginx.expect("nginx is measured first").1;
        let cpu: Vec<String> = figures
            .cpu
            .iter()
            .map(|(name, cpu)| format!("{name} {} µs", micros(*cpu)))
            .collect();
        println!(
            "| {what} | {connections} | {:.0} | {:.2} | {} | {} | {} | {:.2} | {} |",
            figures.per_second,
            figures.per_second / nginx.per_second,
            millis(figures.p50),
            millis(figures.p99),
            cpu.join(", "),
            figures.cpu_of_all().as_secs_f64() / nginx.cpu_of_all().as_secs_f64(),
            figures.failed,
        );
        if what.starts_with("webhook") {
            self.webhooks_per_second = figures.per_second;
        }
        if connections == 1 && what != "nginx" {
            let added = figures.p50.saturating_sub(nginx.p50);
            self.notes
                .push(format!("{what}: adds {} at one connection", millis(added)));
        }
    }

    /// Takes down what the service has held, and how soon it was ready.
    pub(crate) fn memory(&mut self, what: &str, bed: &Bed) {
        let mebibytes = bed.bridge().memory() / 1024;
        let ready = millis(bed.ready_after);
        self.notes.push(format!(
            "{what}: {mebibytes} MiB at most, ready after {ready}"
        ));
    }

    /// Takes down what PostgreSQL does without us.
    pub(crate) fn inserts(&mut self, per_second: f64) {
        let ratio = self.webhooks_per_second / per_second;
        self.notes.push(format!(
            "pgbench commits {per_second:.0} single inserts a second; webhooks are stored {ratio:.2} times as fast"
        ));
    }

    pub(crate) fn end(self) {
        println!();
        for note in self.notes {
            println!("* {note}");
        }
    }
}

fn micros(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e6)
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
