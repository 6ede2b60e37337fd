//! `demo` in a process of its own.

use tempfile::TempDir;

use super::process::{Process, command};

/// A running demo.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) process: Process,
    /// What it takes for temporary files.
    pub(crate) folder: TempDir,
    /// Where the bridge listens, as a URL.
    pub(crate) facade: String,
}

impl Demo {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&["demo"]);
        command.env("TMPDIR", folder.path());
        let process = Process::start(command);
        process.output_line("Ctrl-C stops it").await;
        Self {
            facade: address(&process, "Facade").await,
            process,
            folder,
        }
    }

    /// The URL after a name in what it prints.
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
