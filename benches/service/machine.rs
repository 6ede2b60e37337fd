//! The machine: the use of its cores, and the system's counters of processes.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// The clock ticks per second in the CPU times of `/proc`. Source: proc(5), `sysconf(_SC_CLK_TCK)`
/// on Linux.
const TICKS: u64 = 100;

/// A use of the machine's cores.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The processor and the use of its cores.
    pub(crate) title: String,
    /// The cores of the measured processes, as taskset expects them.
    pub(crate) server_cores: String,
    /// The cores of the load and of the upstream servers.
    pub(crate) load_cores: String,
    /// The number of worker processes of nginx.
    pub(crate) workers: usize,
}

/// A process with its children.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
}

impl Machine {
    /// Returns the uses of this machine's cores that a run measures: of `all` and `one`, those that
    /// `selects` accepts.
    pub(crate) fn layouts(selects: impl Fn(&str) -> bool) -> Vec<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut layouts = Vec::new();
        if selects("all") && cores > 1 {
            let all = format!("0-{}", cores - 1);
            layouts.push(Self {
                title: format!("{model}, {cores} cores, shared by all processes"),
                server_cores: all.clone(),
                load_cores: all,
                workers: cores,
            });
        }
        if selects("one") || cores == 1 {
            // One core for the servers and one for the load, so that the load takes no CPU time
            // from the measured processes.
            let load_cores = if cores > 1 { "1" } else { "0" };
            layouts.push(Self {
                title: format!("{model}, {cores} cores, one of them for the servers"),
                server_cores: "0".to_owned(),
                load_cores: load_cores.to_owned(),
                workers: 1,
            });
        }
        layouts
    }

    /// True if the servers share their cores with the load.
    pub(crate) fn is_shared(&self) -> bool {
        self.server_cores == self.load_cores
    }

    /// Creates a command that runs on a core.
    pub(crate) fn command_on(core: &str, program: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", core, program]);
        command
    }

    /// Moves a running process, and all processes that it starts from now on, to a core.
    pub(crate) fn pin(core: &str, id: u32) {
        for id in with_children(id) {
            let mut command = Command::new("taskset");
            let status = command
                .args(["-a", "-c", "-p", core, &id.to_string()])
                .output()
                .unwrap();
            assert!(status.status.success(), "taskset: {status:?}");
        }
    }
}

/// The CPU time that processes use from a moment on.
pub(crate) struct Meter<'a>(Vec<(&'a Measured, Duration)>);

impl<'a> Meter<'a> {
    /// Begins to measure these processes.
    pub(crate) fn start(processes: &'a [Measured]) -> Self {
        let processes = processes.iter();
        Self(processes.map(|it| (it, it.cpu())).collect())
    }

    /// Returns the CPU time of each process so far, divided by `count`.
    pub(crate) fn share(&self, count: f64) -> Vec<(&'static str, Duration)> {
        let shares = self.0.iter().map(|(process, before)| {
            let cpu = process.cpu().saturating_sub(*before);
            (process.name, cpu.div_f64(count))
        });
        shares.collect()
    }
}

impl Measured {
    /// Returns the CPU time of the process and its children so far.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = with_children(self.id)
            .into_iter()
            .map(|id| {
                let stat = stat(id);
                // utime and stime; for the parent also cutime and cstime, those of its terminated
                // children.
                let own = stat[11] + stat[12];
                if id == self.id {
                    own + stat[13] + stat[14]
                } else {
                    own
                }
            })
            .sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }

    /// Returns the peak memory of the process, in KiB.
    pub(crate) fn memory(&self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_default()
    }
}

/// Reads the numbers of `/proc/ID/stat` from the fourth field on, `ppid`; zeros if the process has
/// ended.
fn stat(id: u32) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The process name, in brackets, may contain any character. The state follows it and is not a
    // number.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut numbers: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    numbers.resize(50, 0);
    numbers
}

fn with_children(id: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut ids: Vec<u32> = numbers
        .filter(|process| stat(*process)[1] == u64::from(id))
        .collect();
    ids.push(id);
    ids
}

/// Runs a command and returns its output.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
