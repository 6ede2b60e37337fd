//! The real `HAProxy` in front of two databases, of which one serves: what fails over without its callers being told.

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
    /// Says what keeps this machine from having one; nothing where it can.
    pub(crate) fn lacks() -> Option<String> {
        let lacks = "HAProxy is not installed: scripts/install haproxy";
        program().is_none().then(|| lacks.to_owned())
    }

    /// Starts it in front of these ports of this machine; only the first one is served from.
    pub(crate) async fn start(ports: &[u16]) -> Self {
        // Asking for a free port and then binding it is a race; binding is the question.
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

    /// Where it listens: a host and a port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Serves from nobody, and breaks the connections to the server at this place.
    pub(crate) async fn take_away(&self, place: usize) {
        self.order(&format!("set server databases/{place} state maint"))
            .await;
        self.order(&format!("shutdown sessions server databases/{place}"))
            .await;
    }

    /// Serves from the server at this place.
    pub(crate) async fn lead_to(&self, place: usize) {
        self.order(&format!("set server databases/{place} state ready"))
            .await;
    }

    /// Gives it an order; it answers where it does not follow.
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

/// Debian's place is in no usual user's path.
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
