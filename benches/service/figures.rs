//! What a measurement has found.

use std::time::Duration;

/// What came of a load.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Requests answered, or events told, in a second.
    pub(crate) per_second: f64,
    /// Half of them took no longer than this.
    pub(crate) p50: Duration,
    /// And all but one in a hundred.
    pub(crate) p99: Duration,
    /// Answers that were none, or not 2xx.
    pub(crate) failed: u64,
    /// What each process computed for one.
    pub(crate) cpu: Vec<(&'static str, Duration)>,
    /// How long it took after the load had ended until nothing waited; none where nothing does.
    pub(crate) backlog: Option<Duration>,
}

impl Figures {
    /// What all processes computed for one.
    pub(crate) fn cpu_of_all(&self) -> Duration {
        self.cpu.iter().map(|(_, cpu)| *cpu).sum()
    }

    /// What the service itself did.
    pub(crate) fn cpu_of_bridge(&self) -> Duration {
        let bridge = self.cpu.iter().find(|(name, _)| *name == "bridge");
        bridge.map(|(_, cpu)| *cpu).unwrap_or_default()
    }

    /// Each figure's median, and all failures, of measurements of the same processes.
    pub(crate) fn median(turns: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| {
            let mut figures: Vec<f64> = turns.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let time = |figure: &dyn Fn(&Self) -> Duration| {
            Duration::from_secs_f64(of(&|it| figure(it).as_secs_f64()))
        };
        let backlog = |it: &Self| it.backlog.unwrap_or_default();
        let first = &turns[0];
        Self {
            per_second: of(&|it| it.per_second),
            p50: time(&|it| it.p50),
            p99: time(&|it| it.p99),
            failed: turns.iter().map(|it| it.failed).sum(),
            cpu: (0..first.cpu.len())
                .map(|place| (first.cpu[place].0, time(&|it| it.cpu[place].1)))
                .collect(),
            backlog: first.backlog.map(|_| time(&backlog)),
        }
    }
}

/// The time that so many parts of a hundred do not exceed; times in their order.
pub(crate) fn percentile(times: &[Duration], hundredths: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    let time = times
        .get(times.len() * hundredths / 100)
        .or(times.get(last));
    time.copied().unwrap_or_default()
}
