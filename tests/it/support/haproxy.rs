//! The real `HAProxy` in front of two databases, one of which serves. It fails over without notice
//! to its callers.

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
    /// Returns the reason why this machine cannot have one, if there is one.
    pub(crate) fn lacks() -> Option<String> {
        let lacks = "HAProxy is not installed: scripts/install haproxy";
        program().is_none().then(|| lacks.to_owned())
    }

    /// Starts it in front of these ports of this machine; only the first server is in use.
    pub(crate) async fn start(ports: &[u16]) -> Self {
        // To find a free port and then bind it would be a race, so it tries to bind random ports.
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

    /// Takes the server with this index out of use, and breaks its connections.
    pub(crate) async fn take_away(&self, place: usize) {
        self.order(&format!("set server databases/{place} state maint"))
            .await;
        self.order(&format!("shutdown sessions server databases/{place}"))
            .await;
    }

    /// Puts the server with this index into use.
    pub(crate) async fn lead_to(&self, place: usize) {
        self.order(&format!("set server databases/{place} state ready"))
            .await;
    }

    /// Sends a command; an answer is an error.
    async fn order(&self, order: &str) {
        let control = self.folder.path().join("control");
        let mut control = UnixStream::connect(control).await.unwrap();
        let line = format!("{order}\n");
        control.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.trim(), "", "{order}");
    }
}

/// Debian's path is not in an ordinary user's `PATH`.
fn program() -> Option<&'static str> {
    const PLACES: [&str; 3] = [
        "/usr/sbin/haproxy",
        "/usr/local/sbin/haproxy",
        "/opt/homebrew/bin/haproxy",
    ];
    let mut places = PLACES.into_iter();
    places.find(|place| Path::new(place).exists())
}

fn configuration(ports: &[u16], port: u16, folder: &Path) -> String {
    let folder = folder.display();
    let servers = ports.iter().enumerate().map(|(place, port)| {
        let disabled = if place == 0 { "" } else { " disabled" };
        format!("    server {place} 127.0.0.1:{port}{disabled}\n")
    });
    let servers: String = servers.collect();
    format!(
        "global\n    stats socket {folder}/control mode 600 level admin\n\
         defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n\
         listen databases\n    bind 127.0.0.1:{port}\n{servers}"
    )
}
