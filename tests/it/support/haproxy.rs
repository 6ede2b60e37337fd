//! The real `HAProxy` in front of two databases, one of which is in use. It fails over without
//! notice to its clients.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use super::patience::eventually;
use super::process::Process;

/// A running `HAProxy`.
#[derive(Debug)]
pub(crate) struct Haproxy {
    address: String,
    _process: Process,
    folder: TempDir,
}

impl Haproxy {
    /// Returns the reason if `HAProxy` cannot run on this machine.
    pub(crate) fn missing_requirement() -> Option<String> {
        let reason = "HAProxy is not installed: scripts/install haproxy";
        program().is_none().then(|| reason.to_owned())
    }

    /// Starts it in front of these ports of this machine; only the first server is in use.
    pub(crate) async fn start(ports: &[u16]) -> Self {
        // Finding a free port before the bind would be a race, so random ports are tried.
        for _ in 0..5 {
            let port = rand::random_range(20_000..32_000);
            if let Some(haproxy) = Self::try_start(ports, port).await {
                return haproxy;
            }
        }
        panic!("HAProxy does not start");
    }

    async fn try_start(ports: &[u16], port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(ports, port, folder.path())).unwrap();
        let program = program().expect("HAProxy; scripts/install haproxy installs it");
        let mut command = Command::new(program);
        command
            .args(["-db", "-f"])
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = Process::start(command);
        let address = format!("127.0.0.1:{port}");
        let listens = eventually("HAProxy listens or ends", async || {
            if process.has_ended() {
                return Some(false);
            }
            TcpStream::connect(&address).await.ok().map(|_| true)
        })
        .await;
        listens.then(|| Self {
            address,
            _process: process,
            folder,
        })
    }

    /// Returns the host and port at which it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Takes the server with this index out of use, and closes its connections.
    pub(crate) async fn disable(&self, index: usize) {
        self.execute(&format!("set server databases/{index} state maint"))
            .await;
        self.execute(&format!("shutdown sessions server databases/{index}"))
            .await;
    }

    /// Puts the server with this index into use.
    pub(crate) async fn enable(&self, index: usize) {
        self.execute(&format!("set server databases/{index} state ready"))
            .await;
    }

    /// Sends a command to the control socket; any answer is an error.
    async fn execute(&self, command: &str) {
        let control = self.folder.path().join("control");
        let mut control = UnixStream::connect(control).await.unwrap();
        let line = format!("{command}\n");
        control.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.trim(), "", "{command}");
    }
}

/// Returns the path of the program, which Debian installs outside an ordinary user's `PATH`.
fn program() -> Option<&'static str> {
    const PATHS: [&str; 3] = [
        "/usr/sbin/haproxy",
        "/usr/local/sbin/haproxy",
        "/opt/homebrew/bin/haproxy",
    ];
    let mut paths = PATHS.into_iter();
    paths.find(|path| Path::new(path).exists())
}

fn configuration(ports: &[u16], port: u16, folder: &Path) -> String {
    let folder = folder.display();
    let servers = ports.iter().enumerate().map(|(index, port)| {
        let disabled = if index == 0 { "" } else { " disabled" };
        format!("    server {index} 127.0.0.1:{port}{disabled}\n")
    });
    let servers: String = servers.collect();
    format!(
        "global\n    stats socket {folder}/control mode 600 level admin\n\
         defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n\
         listen databases\n    bind 127.0.0.1:{port}\n{servers}"
    )
}
