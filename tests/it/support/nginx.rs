//! The real nginx with the configuration from `deploy/compose`, in front of bridges on this
//! machine.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::channel::Channel;
use super::configuration::SMS_KEY;
use super::patience::eventually;
use super::process::Process;

const SHIPPED: &str = include_str!("../../../deploy/compose/nginx.conf");

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Process,
    /// The channel `sms`, which calls through nginx.
    pub(crate) sms: Channel,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it in front of these addresses.
    pub(crate) async fn start(bridges: &[&str]) -> Self {
        // Finding a free port before the bind would be a race, so random ports are tried.
        for _ in 0..5 {
            let port = rand::random_range(20_000..32_000);
            if let Some(nginx) = Self::try_start(bridges, port).await {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    async fn try_start(bridges: &[&str], port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration(bridges, port, folder.path())).unwrap();
        let mut command = Command::new(program());
        command
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = Process::start(command);
        let address = format!("127.0.0.1:{port}");
        let listens = eventually("nginx listens or ends", async || {
            if process.has_ended() {
                return Some(false);
            }
            TcpStream::connect(&address).await.ok().map(|_| true)
        })
        .await;
        // Another program may listen there; nginx then ends only after some attempts.
        (listens && !process.log().contains("Address already in use")).then(|| Self {
            process,
            sms: Channel::new(&format!("http://{address}"), SMS_KEY),
            _folder: folder,
        })
    }

    /// Returns the number of requests that this bridge answered at the first attempt.
    pub(crate) fn answered_by(&self, bridge: &str) -> usize {
        let answered = format!(" {bridge} 20");
        let log = self.process.output();
        log.lines().filter(|line| line.contains(&answered)).count()
    }
}

/// Returns the path of the program, which Debian installs outside an ordinary user's `PATH`.
fn program() -> &'static str {
    const PATHS: [&str; 4] = [
        "/usr/sbin/nginx",
        "/usr/local/sbin/nginx",
        "/usr/local/bin/nginx",
        "/opt/homebrew/bin/nginx",
    ];
    let found = PATHS.into_iter().find(|path| Path::new(path).exists());
    found.expect("nginx is not installed; scripts/install installs it")
}

/// Returns the deployed configuration, with the addresses and folders of this machine.
fn configuration(bridges: &[&str], port: u16, folder: &Path) -> String {
    let of_compose = "server bridge:8080 resolve ";
    let parameters = SHIPPED.split(of_compose).nth(1).expect("a server line");
    let parameters = parameters.lines().next().unwrap();
    let servers = bridges
        .iter()
        .map(|bridge| format!("server {bridge} {parameters}\n"));
    let mut text = SHIPPED.to_owned();
    for (shipped, here) in [
        (
            format!("{of_compose}{parameters}"),
            servers.collect::<String>(),
        ),
        (
            "resolver 127.0.0.11 valid=5s ipv6=off;".to_owned(),
            String::new(),
        ),
        (
            "listen 8080;".to_owned(),
            format!("listen 127.0.0.1:{port};"),
        ),
        ("/tmp/".to_owned(), format!("{}/", folder.display())),
    ] {
        assert!(text.contains(&shipped), "{shipped} is not in nginx.conf");
        text = text.replace(&shipped, &here);
    }
    // One process, which ends with the test.
    format!("daemon off;\nmaster_process off;\n{text}")
}
