//! A PostgreSQL server of a test's own, which can be stopped as by a power cut.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The script of the guard process. It cleans up when the test ends, no matter how.
const GUARD: &str = r#"
    read -r _
    cd "$1" && [ ! -e data/postmaster.pid ] || {
        # A frozen server cannot be stopped.
        server=$(head -n 1 data/postmaster.pid)
        kill -CONT "$server"
        pkill -CONT -P "$server"
        $2 "$3/pg_ctl" -D data -m immediate stop
    }
    cd / && rm -rf "$1"
"#;

/// A running server with full durability. It stops when this value is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    folder: String,
    programs: String,
    /// The command prefix that runs its programs as a user other than root; empty if not needed.
    run_as: Vec<String>,
    port: u16,
    /// Additional settings, as arguments of the server program.
    settings: &'static str,
    /// Additional environment variables.
    environment: Vec<(String, String)>,
    guard: Child,
}

impl Server {
    /// Creates a cluster and starts it.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with these settings, such as `-c work_mem=8MB`.
    pub(crate) fn start_with(settings: &'static str) -> Self {
        Self::start_in(settings, Vec::new())
    }

    /// Starts a server with these settings and environment variables.
    pub(crate) fn start_in(settings: &'static str, environment: Vec<(String, String)>) -> Self {
        // Below /tmp: the server's user must be able to enter it, and the path of a socket is
        // limited to about 100 bytes.
        let folder = TempDir::with_prefix_in("liveperson-bridge-crash.", "/tmp").unwrap();
        let server = Self::prepare(&folder.keep(), settings, environment);
        server.create_cluster().start_on_free_port()
    }

    /// Starts a server in an existing folder, such as a disk of its own.
    pub(crate) fn start_on(folder: &Path, settings: &'static str) -> Self {
        let server = Self::prepare(folder, settings, Vec::new());
        server.create_cluster().start_on_free_port()
    }

    /// Starts a standby that follows another server.
    pub(crate) fn start_standby(primary: &Self) -> Self {
        let folder = TempDir::with_prefix_in("liveperson-bridge-standby.", "/tmp").unwrap();
        let environment = primary.environment.clone();
        let standby = Self::prepare(&folder.keep(), primary.settings, environment);
        standby.copy(primary);
        standby.start_on_free_port()
    }

    /// Prepares everything but the data.
    fn prepare(folder: &Path, settings: &'static str, environment: Vec<(String, String)>) -> Self {
        let programs = output(
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
                .arg("--programs"),
        );
        let folder = folder.to_str().unwrap().to_owned();
        let run_as = give_to_server_user(&folder);
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &folder, &run_as.join(" "), &programs])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to the test's process group must not reach it.
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            folder,
            programs,
            run_as,
            port: 0,
            settings,
            environment,
            guard,
        }
    }

    /// Creates a new cluster.
    fn create_cluster(self) -> Self {
        let initdb = self.run(
            "initdb",
            "-U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync",
        );
        assert!(initdb, "initdb failed");
        self
    }

    /// Starts the server on a free port.
    fn start_on_free_port(mut self) -> Self {
        // Finding a free port before the bind would be a race, so random ports are tried.
        let started = (0..5).any(|_| {
            self.port = rand::random_range(20_000..32_000);
            self.try_start()
        });
        assert!(started, "{}", self.log());
        self
    }

    /// Copies another server's data; once started, this server follows the other one.
    fn copy(&self, primary: &Self) {
        let from = format!(
            "-h 127.0.0.1 -p {} -U postgres --write-recovery-conf --checkpoint=fast --no-sync",
            primary.port
        );
        assert!(self.run("pg_basebackup", &from), "{}", primary.log());
    }

    /// Turns a stopped server into a standby of another one. The server's own data are deleted.
    pub(crate) fn follow(&self, primary: &Self) {
        std::fs::remove_dir_all(format!("{}/data", self.folder)).unwrap();
        self.copy(primary);
        self.start_again();
    }

    /// Promotes a standby, which then accepts writes.
    pub(crate) fn promote(&self) {
        assert!(self.run("pg_ctl", "promote -w"), "{}", self.log());
    }

    /// Freezes all its processes, like a machine that hangs; connections stay open.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Resumes its processes.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Returns false if it has ended, which can happen on a full disk.
    pub(crate) fn is_running(&self) -> bool {
        self.run("pg_ctl", "status")
    }

    /// Returns its port on this machine.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns its URL for a superuser.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Returns the path of one of PostgreSQL's programs.
    pub(crate) fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.programs)
    }

    /// Stops it without a checkpoint, so that it has to recover at the next start.
    pub(crate) fn crash(&self) {
        assert!(self.run("pg_ctl", "-m immediate stop"), "{}", self.log());
    }

    /// Starts it again on the same port.
    pub(crate) fn start_again(&self) {
        assert!(self.try_start(), "{}", self.log());
    }

    /// Starts it if it has stopped by itself.
    pub(crate) fn start_if_stopped(&self) {
        if !self.run("pg_ctl", "status") {
            self.start_again();
        }
    }

    fn try_start(&self) -> bool {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=100 {}",
            self.port, self.folder, self.settings
        );
        self.command("pg_ctl")
            .args([
                "-l",
                "server.log",
                "-w",
                "-t",
                "60",
                "-o",
                &options,
                "start",
            ])
            .status()
            .unwrap()
            .success()
    }

    /// Sends a signal to its main process and then to that process's children.
    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(format!("{}/data/postmaster.pid", self.folder)).unwrap();
        let pid = pid.lines().next().unwrap();
        let signal = format!("-{name}");
        for (program, of) in [("kill", None), ("pkill", Some("-P"))] {
            let mut command = Command::new(program);
            command.arg(&signal).args(of).arg(pid);
            assert!(command.status().unwrap().success(), "{command:?}");
        }
    }

    fn run(&self, program: &str, arguments: &str) -> bool {
        let mut command = self.command(program);
        command.args(arguments.split(' '));
        command.status().unwrap().success()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.program(program);
        // Set through `env`, so that the program that switches the user does not see these
        // variables.
        let environment = self.environment.iter();
        let environment = environment.map(|(name, value)| format!("{name}={value}"));
        let environment: Vec<_> = std::iter::once("env".to_owned())
            .chain(environment)
            .collect();
        let mut arguments = self.run_as.iter().chain(&environment).chain([&program]);
        let mut command = Command::new(arguments.next().unwrap());
        command
            .args(arguments)
            .args(["-D", "data"])
            .current_dir(&self.folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The caller's variables may refer to other servers.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(format!("{}/server.log", self.folder)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard waits for the end of its input.
        if let Some(mut input) = self.guard.stdin.take() {
            let _may_be_gone = input.write_all(b"\n");
        }
        let _may_be_gone = self.guard.wait();
    }
}

/// Gives the folder to another user, because the server refuses to run as root. Returns the command
/// prefix that switches to that user.
fn give_to_server_user(folder: &str) -> Vec<String> {
    let id = |arguments: &[&str]| {
        let id = Command::new("id").args(arguments).output().unwrap();
        let text = String::from_utf8(id.stdout).unwrap().trim().to_owned();
        id.status.success().then_some(text)
    };
    if id(&["-u"]).unwrap() != "0" {
        return vec![];
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find(|user| id(&["-u", user]).is_some())
        .unwrap();
    let group = id(&["-g", user]).unwrap();
    output(Command::new("chown").args([user, folder]));
    let prefix = [
        "setpriv",
        &format!("--reuid={user}"),
        &format!("--regid={group}"),
        "--clear-groups",
    ];
    prefix.map(str::to_owned).into()
}

/// Runs a command that must succeed, and returns its output.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
