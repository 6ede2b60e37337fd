//! The real command in a process of its own, which can be signalled and killed.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::channel::Channel;
use super::configuration::SMS_KEY;
use super::patience::{PATIENCE, eventually};

/// The command with nothing of the test's environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_liveperson-bridge"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A running command and what it has written so far.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: Lines,
    log: Lines,
    /// What the process reads, kept for as long as it may.
    folder: Option<TempDir>,
}

/// Lines that another task goes on collecting.
type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a command.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        Self {
            output: collect(child.stdout.take().unwrap()),
            log: collect(child.stderr.take().unwrap()),
            child,
            folder: None,
        }
    }

    /// Starts `serve` with this configuration and waits until it listens; the channel `sms` and the admin address.
    pub(crate) async fn serve(toml: &str) -> (Self, Channel, Channel) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bridge.toml");
        std::fs::write(&file, toml).unwrap();
        let mut process = Self::start(command(&["serve", "--config", file.to_str().unwrap()]));
        process.folder = Some(folder);
        let serving = process.log_line(" serving ").await;
        let address = |key: &str| {
            let value = serving.split(key).nth(1).unwrap();
            format!("http://{}", value.split_whitespace().next().unwrap())
        };
        let sms = Channel::new(&address(" listen="), SMS_KEY);
        let admin = Channel::new(&address("admin_listen="), "none");
        (process, sms, admin)
    }

    /// Waits for a line of the log that holds `text`.
    pub(crate) async fn log_line(&self, text: &str) -> String {
        self.line(&self.log, text).await
    }

    /// Waits for a line of the output that holds `text`.
    pub(crate) async fn output_line(&self, text: &str) -> String {
        self.line(&self.output, text).await
    }

    async fn line(&self, lines: &Lines, text: &str) -> String {
        eventually(text, async || {
            let lines = lines.lock().unwrap();
            lines.iter().find(|line| line.contains(text)).cloned()
        })
        .await
    }

    /// All that the log says so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Kills the process as `kill -9` does and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id)
            .status();
        assert!(status.await.unwrap().success());
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the process goes on")
            .unwrap()
    }
}

/// What a command that ends by itself has written.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("the command goes on")
        .unwrap();
    Ended {
        code: output.status.code().expect("the command was killed"),
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    tokio::task::spawn(async move {
        let mut stream = BufReader::new(stream).lines();
        while let Ok(Some(line)) = stream.next_line().await {
            collected.lock().unwrap().push(line);
        }
    });
    lines
}
