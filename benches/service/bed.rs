//! The test bed: the service with a database of its own, in which users have open conversations.

use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::cloud::{ACCOUNT, Cloud};
use crate::database::Database;
use crate::fill::{WRITERS, fill};
use crate::load::{Call, Load};
use crate::machine::{Machine, Measured, output_of};
use crate::postgres::Server;
use crate::statements;
use crate::streams;

/// Buffers for the pages of 20,000 active users among a million, some 500 MB. The default of 128 MB
/// is too small.
const SETTINGS: &str = "-c shared_buffers=1GB";

/// Returns the program to measure: the one built with this benchmark, unless `BENCH_PROGRAM` names
/// another.
pub(crate) fn program() -> String {
    program_from("BENCH_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_liveperson-bridge").to_owned())
}

/// Returns the program to compare it with in turns, if `BENCH_BASE` names one.
pub(crate) fn base() -> Option<String> {
    program_from("BENCH_BASE")
}

/// Returns the absolute path of the program that a variable names. Each program runs in a directory
/// of its own, so a relative path would be wrong.
fn program_from(variable: &str) -> Option<String> {
    let path = env::var(variable).ok()?;
    let program = fs::canonicalize(&path)
        .unwrap_or_else(|error| panic!("{variable}: there is no program {path}: {error}"));
    Some(program.to_str().unwrap().to_owned())
}

/// The engine of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// The size and kind of a service's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) users: u32,
    /// The number of users with a request and an event that are not due; `None` if the channel has
    /// no callback.
    pub(crate) waiting: Option<u32>,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users, ", self.users)?;
        if let Some(waiting) = self.waiting {
            write!(f, "{waiting} of them waiting, ")?;
        }
        f.write_str(self.engine.name())
    }
}

impl Site {
    /// Returns the number of users who write.
    pub(crate) fn writers(self) -> u32 {
        self.waiting.map_or(self.users, |_| WRITERS)
    }
}

/// A running service.
pub(crate) struct Bed {
    pub(crate) site: Site,
    /// The time from its start until it was ready.
    pub(crate) ready_after: Duration,
    bridge: Child,
    address: String,
    server: Option<Server>,
    /// The parent process of all others of PostgreSQL.
    postmaster: Option<u32>,
    folder: TempDir,
}

impl Bed {
    /// Creates a database for the site, and starts a program on it.
    pub(crate) fn start(machine: &Machine, program: &str, site: Site, cloud: &Cloud) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = if statements::are_wanted() {
            statements::SETTINGS
        } else {
            SETTINGS
        };
        let server = (site.engine == Engine::Postgres).then(|| Server::start_with(settings));
        let database = server.as_ref().map_or_else(
            || "data_dir = \"data\"".to_owned(),
            |server| format!("url = \"{}\"", server.url()),
        );
        let callback = site.waiting.map_or_else(String::new, |_| {
            let (url, secret) = (cloud.url(), STANDARD.encode([7; 32]));
            format!("callback_url = \"{url}/callback\"\ncallback_secret = \"whsec_{secret}\"")
        });
        let toml = format!(
            r#"
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
allow_private_callbacks = ["127.0.0.0/8"]
[database]
{database}
[encryption]
keys = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
[[accounts]]
account_id = "{ACCOUNT}"
client_id = "bench"
client_secret = "bench-secret"
domain_api = "{cloud}"
[[channels]]
id = "bench"
account_id = "{ACCOUNT}"
api_keys = ["bench-key"]
{callback}
[channels.jwt]
algorithm = "HS256"
key = "{key}"
"#,
            key = streams::KEY,
            cloud = cloud.url()
        );
        fs::write(folder.path().join("bridge.toml"), toml).unwrap();
        output_of(command(program, folder.path()).arg("migrate"));
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let mut database = Database::connect(server.as_ref(), folder.path()).await;
            fill(&mut database, site.users, site.waiting.unwrap_or_default()).await;
            database.close().await;
        });
        let postmaster = server
            .as_ref()
            .map(|server| runtime.block_on(postmaster(server)));
        if let Some(id) = postmaster {
            Machine::pin(&machine.server_cores, id);
        }
        let started = Instant::now();
        let mut bridge = Machine::command_on(&machine.server_cores, program);
        let mut bridge = bridge
            .arg("serve")
            .current_dir(folder.path())
            .env(
                "RUST_LOG",
                "warn,liveperson_bridge::cli=info,liveperson_bridge::app=info",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(bridge.stderr.take().unwrap()).lines();
        let serving = log
            .find_map(|line| line.ok().filter(|line| line.contains(" serving ")))
            .expect("a service that starts");
        let ready_after = started.elapsed();
        // Read to the end, since the service would block on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        let address = serving.split(" listen=").nth(1).unwrap();
        Self {
            site,
            ready_after,
            bridge,
            address: address.split_whitespace().next().unwrap().to_owned(),
            server,
            postmaster,
            folder,
        }
    }

    /// Lets each user who writes send one message, which obtains a token for them.
    pub(crate) fn warm_up(&self, load: &Load) {
        let writers = self.site.writers();
        let seconds = if writers > 1_000 { 30 } else { 3 };
        let call = Call::Message(writers);
        load.run_for(Duration::from_secs(seconds), &self.address, 64, &call, &[]);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Opens a connection to the database.
    pub(crate) async fn database(&self) -> Database {
        Database::connect(self.server.as_ref(), self.folder.path()).await
    }

    /// Returns the PostgreSQL server, if there is one.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Returns the service's own process.
    pub(crate) fn bridge(&self) -> Measured {
        Measured {
            name: "bridge",
            id: self.bridge.id(),
        }
    }

    /// Returns the processes of the service and of its database server.
    pub(crate) fn processes(&self) -> Vec<Measured> {
        let server = self.postmaster.map(|id| Measured {
            name: "PostgreSQL",
            id,
        });
        std::iter::once(self.bridge()).chain(server).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _may_have_ended = self.bridge.kill();
        let _may_have_ended = self.bridge.wait();
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("DATABASE_URL");
    command
}

async fn postmaster(server: &Server) -> u32 {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let read = sqlx::query_as("SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)");
    let (id,): (String,) = read.fetch_one(&mut connection).await.unwrap();
    id.parse().unwrap()
}
