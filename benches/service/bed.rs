//! The service with a database of its own, in which users have conversations open.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::cloud::{ACCOUNT, Cloud};
use crate::load::{Call, Load};
use crate::machine::{Machine, Measured, quiet};
use crate::postgres::Server;

/// The program that is measured: the one built with this, unless `BENCH_PROGRAM` names another to compare it with.
fn program() -> String {
    env::var("BENCH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_liveperson-bridge").to_owned())
}

/// Where the mapping is.
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

/// A running service.
pub(crate) struct Bed {
    pub(crate) users: u32,
    /// From its start until it was ready.
    pub(crate) ready_after: Duration,
    bridge: Child,
    address: String,
    server: Option<Server>,
    /// The process that all others of PostgreSQL come from.
    postmaster: Option<u32>,
    _folder: TempDir,
}

impl Bed {
    /// Makes a database with so many users, and starts the service on it.
    pub(crate) fn make(machine: &Machine, engine: Engine, users: u32, cloud: &Cloud) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = (engine == Engine::Postgres).then(Server::start);
        let database = server.as_ref().map_or_else(
            || "data_dir = \"data\"".to_owned(),
            |server| format!("url = \"{}\"", server.url()),
        );
        let toml = format!(
            r#"
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
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
"#,
            cloud = cloud.url()
        );
        fs::write(folder.path().join("bridge.toml"), toml).unwrap();
        quiet(command(&program(), folder.path()).arg("migrate"));
        let runtime = Runtime::new().unwrap();
        runtime.block_on(fill(users, server.as_ref(), folder.path()));
        let postmaster = server
            .as_ref()
            .map(|server| runtime.block_on(postmaster(server)));
        if let Some(id) = postmaster {
            Machine::bring(&machine.servers, id);
        }
        let started = Instant::now();
        let mut bridge = Machine::on(&machine.servers, &program());
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
        // Read on, or it would wait for that one day.
        std::thread::spawn(move || log.for_each(drop));
        let address = serving.split(" listen=").nth(1).unwrap();
        Self {
            users,
            ready_after,
            bridge,
            address: address.split_whitespace().next().unwrap().to_owned(),
            server,
            postmaster,
            _folder: folder,
        }
    }

    /// Has all who write do so once: each gets a token with that.
    pub(crate) fn warm_up(&self, load: &Load) {
        let seconds = if self.users > 1_000 { 30 } else { 3 };
        let call = Call::Message(self.users);
        load.run_for(Duration::from_secs(seconds), &self.address, 64, &call, &[]);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The PostgreSQL behind it.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The service itself.
    pub(crate) fn bridge(&self) -> Measured {
        Measured {
            name: "bridge",
            id: self.bridge.id(),
        }
    }

    /// The service and its database's server.
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
        let _may_be_gone = self.bridge.kill();
        let _may_be_gone = self.bridge.wait();
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("DATABASE_URL");
    command
}

/// Users, each with a conversation open.
const FILL: [&str; 3] = [
    "INSERT INTO users (account_id, namespace, user_id, created_at)
     WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)
     SELECT '12345678', 'bench', 'user-' || n, 1700000000000 FROM numbers",
    "INSERT INTO conversations (id, user_ref, ordinal, channel_id, features, opened_at)
     SELECT 'c-' || substr(user_id, 6), id, 1, 'bench', '[]', 1700000000000 FROM users WHERE id <= $1",
    "INSERT INTO dialogs (id, conversation_id, kind, opened_at)
     SELECT c.id, c.id, 'main', 1700000000000 FROM conversations c JOIN users u ON u.id = c.user_ref WHERE u.id <= $1",
];

async fn postmaster(server: &Server) -> u32 {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let read = sqlx::query_as("SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)");
    let (id,): (String,) = read.fetch_one(&mut connection).await.unwrap();
    id.parse().unwrap()
}

async fn fill(users: u32, server: Option<&Server>, folder: &Path) {
    let users = i64::from(users);
    if let Some(server) = server {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        for statement in FILL {
            let filled = sqlx::query(statement).bind(users).execute(&mut connection);
            filled.await.unwrap();
        }
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            sqlx::raw_sql(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        return;
    }
    let file = folder.join("data/bridge.db");
    let mut connection = SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap();
    for statement in FILL {
        let filled = sqlx::query(statement).bind(users).execute(&mut connection);
        filled.await.unwrap();
    }
    sqlx::raw_sql("ANALYZE")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
