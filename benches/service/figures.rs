//! The figures of a measurement.

use std::time::Duration;

/// The result of a load.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Requests answered, or events delivered, in a second.
    pub(crate) per_second: f64,
    /// Half the range of `per_second` over several rounds, relative to the median; `None` after a
    /// single round.
    pub(crate) spread: Option<f64>,
    /// The median of the times.
    pub(crate) p50: Duration,
    /// The 99th percentile of the times.
    pub(crate) p99: Duration,
    /// The 99.9th percentile of the times; `None` if it was not measured.
    pub(crate) p999: Option<Duration>,
    /// The number of missing answers and of answers other than 2xx.
    pub(crate) failed: u64,
    /// The CPU time of each process per request or event.
    pub(crate) cpu: Vec<(&'static str, Duration)>,
    /// The time from the end of the load until no work was left; `None` if the load leaves no work.
    pub(crate) backlog: Option<Duration>,
}

impl Figures {
    /// Returns the CPU time of all processes per request or event.
    pub(crate) fn cpu_of_all(&self) -> Duration {
        self.cpu.iter().map(|(_, cpu)| *cpu).sum()
    }

    /// Returns the CPU time of the service itself.
    pub(crate) fn cpu_of_bridge(&self) -> Duration {
        let bridge = self.cpu.iter().find(|(name, _)| *name == "bridge");
        bridge.map(|(_, cpu)| *cpu).unwrap_or_default()
    }

    /// Combines measurements of the same processes: the median of each figure, and the sum of all
    /// failures.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let time = |figure: &dyn Fn(&Self) -> Duration| {
            Duration::from_secs_f64(of(&|it| figure(it).as_secs_f64()))
        };
        let backlog = |it: &Self| it.backlog.unwrap_or_default();
        let rates = || rounds.iter().map(|it| it.per_second);
        let (lowest, highest) = (
            rates().fold(f64::MAX, f64::min),
            rates().fold(0.0, f64::max),
        );
        let per_second = of(&|it| it.per_second);
        let first = &rounds[0];
        Self {
            per_second,
            spread: (rounds.len() > 1).then_some((highest - lowest) / 2.0 / per_second),
            p50: time(&|it| it.p50),
            p99: time(&|it| it.p99),
            p999: first.p999.map(|_| time(&|it| it.p999.unwrap_or_default())),
            failed: rounds.iter().map(|it| it.failed).sum(),
            cpu: (0..first.cpu.len())
                .map(|index| (first.cpu[index].0, time(&|it| it.cpu[index].1)))
                .collect(),
            backlog: first.backlog.map(|_| time(&backlog)),
        }
    }
}

/// Returns a percentile, in thousandths, of times in ascending order.
pub(crate) fn percentile(times: &[Duration], thousandths: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    let time = times
        .get(times.len() * thousandths / 1000)
        .or(times.get(last));
    time.copied().unwrap_or_default()
}
