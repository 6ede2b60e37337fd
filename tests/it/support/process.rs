//! The real command in a process of its own, which can be signalled and killed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::channel::Channel;
use super::configuration::SMS_KEY;
use super::patience::{PATIENCE, eventually};

/// The program of this version.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_liveperson-bridge");

/// Returns the command, with an empty environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    command_of(Path::new(PROGRAM), arguments)
}

/// Returns the command of another program, with an empty environment.
pub(crate) fn command_of(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Returns a command with a configuration, and the folder of the configuration.
pub(crate) fn configured(name: &str, toml: &str) -> (TempDir, Command) {
    configured_of(Path::new(PROGRAM), name, toml)
}

fn configured_of(program: &Path, name: &str, toml: &str) -> (TempDir, Command) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bridge.toml"), toml).unwrap();
    let mut command = command_of(program, &[name]);
    command.current_dir(folder.path());
    (folder, command)
}

/// Runs a command with a configuration to its end.
pub(crate) async fn run_configured(name: &str, toml: &str) -> Ended {
    let (_folder, command) = configured(name, toml);
    run(command).await
}

/// A running command and its output so far.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: Lines,
    log: Lines,
    /// The tasks that collect the output and the log.
    collecting: Vec<JoinHandle<()>>,
    /// The folder of the process's configuration, kept until the process ends.
    folder: Option<TempDir>,
}

/// The message of the log line with the addresses at which the service listens.
const SERVING: &str = "serving";

/// Lines that another task collects.
type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a command.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (output, output_task) = collect(child.stdout.take().unwrap());
        let (log, log_task) = collect(child.stderr.take().unwrap());
        Self {
            child,
            output,
            log,
            collecting: vec![output_task, log_task],
            folder: None,
        }
    }

    /// Starts `serve` with this configuration and waits until it listens. Also returns the channel
    /// `sms` and a client of the admin address.
    pub(crate) async fn serve(toml: &str) -> (Self, Channel, Channel) {
        Self::serve_with(toml, &[]).await
    }

    /// Starts `serve` with these environment variables.
    pub(crate) async fn serve_with(
        toml: &str,
        environment: &[(&str, &str)],
    ) -> (Self, Channel, Channel) {
        Self::start_serving(Path::new(PROGRAM), toml, environment)
            .listening()
            .await
    }

    /// Starts `serve` of another version of the program.
    pub(crate) async fn serve_program(program: &Path, toml: &str) -> (Self, Channel, Channel) {
        Self::start_serving(program, toml, &[]).listening().await
    }

    /// Starts a command that runs `serve`.
    pub(crate) async fn serve_command(
        mut command: Command,
        toml: &str,
    ) -> (Self, Channel, Channel) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bridge.toml"), toml).unwrap();
        command.current_dir(folder.path()).env("RUST_LOG", "info");
        let mut process = Self::start(command);
        process.folder = Some(folder);
        process.listening().await
    }

    async fn listening(self) -> (Self, Channel, Channel) {
        let serving = self.log_line(SERVING).await;
        let (sms, admin) = addresses(&serving);
        (self, sms, admin)
    }

    /// Starts `serve`, and returns its log if it ends instead, as without a database.
    pub(crate) async fn try_serve(toml: &str) -> Result<(Self, Channel, Channel), String> {
        Self::try_serve_with(toml, &[]).await
    }

    /// Starts `serve` with these environment variables, and returns its log if it ends instead.
    pub(crate) async fn try_serve_with(
        toml: &str,
        environment: &[(&str, &str)],
    ) -> Result<(Self, Channel, Channel), String> {
        let mut process = Self::start_serving(Path::new(PROGRAM), toml, environment);
        let ended = eventually("it serves or ends", async || {
            let serving = find(&process.log, SERVING).map(Ok);
            serving.or_else(|| process.child.try_wait().unwrap().map(Err))
        })
        .await;
        let Ok(serving) = ended else {
            process.wait().await;
            return Err(process.log());
        };
        let (sms, admin) = addresses(&serving);
        Ok((process, sms, admin))
    }

    fn start_serving(program: &Path, toml: &str, environment: &[(&str, &str)]) -> Self {
        let (folder, mut command) = configured_of(program, "serve", toml);
        command
            .env("RUST_LOG", "info")
            .envs(environment.iter().copied());
        let mut process = Self::start(command);
        process.folder = Some(folder);
        process
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) async fn log_line(&self, text: &str) -> String {
        self.line(&self.log, text).await
    }

    /// Waits for a line of the output that contains `text`.
    pub(crate) async fn output_line(&self, text: &str) -> String {
        self.line(&self.output, text).await
    }

    async fn line(&self, lines: &Lines, text: &str) -> String {
        eventually(text, async || {
            // Checked before the search: once the tasks have ended, all lines are collected.
            let ended = self.collecting.iter().all(JoinHandle::is_finished);
            let found = find(lines, text);
            assert!(
                found.is_some() || !ended,
                "the process ended without a line that contains {text:?}:\n{}",
                self.log()
            );
            found
        })
        .await
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Returns the output so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().join("\n")
    }

    /// True if the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills the process like `kill -9`, and waits until it has ended.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id)
            .status();
        assert!(status.await.unwrap().success());
    }

    /// Waits until the process has ended by itself and all its output is collected.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = async {
            let status = self.child.wait().await.unwrap();
            for task in self.collecting.drain(..) {
                task.await.unwrap();
            }
            status
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("the process does not end")
    }
}

impl Drop for Process {
    /// Kills the process and waits until it has ended, because the next one may use the same files
    /// and addresses.
    fn drop(&mut self) {
        let _killed = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
    }
}

/// The output of a command that has ended by itself.
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
        .expect("the command does not end")
        .unwrap();
    Ended {
        code: output.status.code().expect("the command was killed"),
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

fn find(lines: &Lines, text: &str) -> Option<String> {
    let lines = lines.lock().unwrap();
    lines.iter().find(|line| line.contains(text)).cloned()
}

/// Returns the channel `sms` and a client of the admin address, from the log line about serving.
fn addresses(serving: &str) -> (Channel, Channel) {
    let address = |key: &str| {
        let json: Option<Value> = serde_json::from_str(serving).ok();
        let value = match &json {
            Some(line) => line[key].as_str().unwrap(),
            None => serving.split(&format!(" {key}=")).nth(1).unwrap(),
        };
        format!("http://{}", value.split_whitespace().next().unwrap())
    };
    let sms = Channel::new(&address("listen"), SMS_KEY);
    (sms, Channel::new(&address("admin_listen"), "none"))
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    let task = tokio::task::spawn(async move {
        let mut stream = BufReader::new(stream).lines();
        while let Ok(Some(line)) = stream.next_line().await {
            collected.lock().unwrap().push(line);
        }
    });
    (lines, task)
}
