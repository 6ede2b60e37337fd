//! `demo` in a process of its own.

use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use super::process::{PROGRAM, Process, command, command_of};

/// The arguments of a demo on free ports.
pub(crate) const ARGUMENTS: [&str; 4] = [
    "demo",
    "--listen=127.0.0.1:0",
    "--admin-listen=127.0.0.1:0",
    "--cloud-listen=127.0.0.1:0",
];

/// A running demo.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) process: Process,
    /// The demo's folder for temporary files.
    pub(crate) folder: TempDir,
    /// The URL at which the bridge listens.
    pub(crate) api: String,
}

impl Demo {
    /// Starts a demo and waits until it is ready.
    pub(crate) async fn start() -> Self {
        Self::start_command(command(&ARGUMENTS)).await
    }

    /// Starts a demo on one of the machine's cores.
    #[cfg(target_os = "linux")]
    pub(crate) async fn start_on_one_core() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let first = allowed.unwrap().trim().split([',', '-']).next().unwrap();
        let arguments = [&["-c", first, PROGRAM][..], &ARGUMENTS].concat();
        Self::start_command(command_of(Path::new("taskset"), &arguments)).await
    }

    /// Starts a command that runs a demo.
    pub(crate) async fn start_command(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        command.env("TMPDIR", folder.path());
        let process = Process::start(command);
        process.output_line("Ctrl-C stops the demo").await;
        Self {
            api: address(&process, "API").await,
            process,
            folder,
        }
    }

    /// Returns the URL after a name in the output.
    pub(crate) async fn address(&self, name: &str) -> String {
        address(&self.process, name).await
    }
}

async fn address(process: &Process, name: &str) -> String {
    let line = process.output_line(name).await;
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    url.unwrap().to_owned()
}
