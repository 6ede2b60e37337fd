//! The embedded database on a disk that fails, or with files that another program changes. The API
//! answers 503 meanwhile, and nothing that was answered 2xx is lost.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use liveperson_bridge::sandbox::Operation;
use liveperson_bridge::store::Location;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{Cloud, agent_text, send_notification};
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::process::{PROGRAM, Process, command_of};

/// The reason that `/readyz` gives when the database files are not those that were opened.
const FILES: &str = "the file of the embedded database was deleted, replaced or damaged";

/// The reason that `/readyz` gives when a write was refused.
const UNWRITABLE: &str = "the storage cannot be written";

/// Returns the folder of an embedded database.
fn folder(database: &Database) -> PathBuf {
    let Location::Embedded { data_dir } = &database.location else {
        panic!("not the embedded database");
    };
    data_dir.clone()
}

/// Asserts that a reply reports the storage as unavailable.
#[track_caller]
fn expect_storage_unavailable(reply: Reply) {
    let problem = reply.expect_problem(503, "storage-unavailable");
    assert_eq!(problem["retryable"], true);
}

/// The service in its own process, with a conversation of the user `ada`.
struct Bed {
    process: Process,
    sms: Channel,
    admin: Channel,
    cloud: Cloud,
    database: Database,
    conversation: String,
}

impl Bed {
    async fn start() -> Self {
        let cloud = Cloud::start_on_system_time().await;
        let database = Database::create(Engine::Sqlite).await;
        let toml = bridge_toml(&database.location, &cloud.url);
        let (process, sms, admin) = Process::serve(&toml).await;
        Self::with(process, sms, admin, cloud, database).await
    }

    async fn with(
        process: Process,
        sms: Channel,
        admin: Channel,
        cloud: Cloud,
        database: Database,
    ) -> Self {
        let opened = sms.say("ada", "hello").await.expect(201);
        let conversation = opened["conversation_id"].as_str().unwrap().to_owned();
        let bed = Self {
            process,
            sms,
            admin,
            cloud,
            database,
            conversation,
        };
        bed.admin.get("/readyz").await.expect(200);
        bed
    }

    fn file(&self, name: &str) -> PathBuf {
        folder(&self.database).join(name)
    }

    /// Sends the Cloud's notification of an agent's message.
    async fn notify(&self, sequence: u32) -> Reply {
        let notification = agent_text(&self.conversation, sequence, "from the agent");
        send_notification(&self.sms, &notification).await
    }

    /// Sends a message that the bridge queues.
    async fn queue(&self, text: &str) -> Reply {
        queue(&self.sms, "ada", text).await
    }

    async fn wait_for_recovery(&self) {
        eventually("the service is ready", async || {
            (self.admin.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        self.notify(90).await.expect(200);
        self.queue("at last").await.expect(202);
        eventually("the queued text is sent", async || {
            let texts = self.cloud.texts(&self.conversation);
            texts.contains(&"at last".to_owned()).then_some(())
        })
        .await;
    }

    /// Asserts that nothing is accepted, and that `/readyz` gives this reason.
    async fn expect_nothing_accepted(&self, reason: &str) {
        expect_storage_unavailable(self.notify(1).await);
        expect_storage_unavailable(self.queue("unheard").await);
        let unready: Value = self.admin.get("/readyz").await.expect(503);
        assert_eq!(unready["reasons"], json!([reason]));
    }

    /// Returns the log lines that report the start or the end of an outage.
    fn outages(&self) -> Vec<String> {
        let log = self.process.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("store::engine::health: "));
        lines.map(str::to_owned).collect()
    }
}

async fn queue(channel: &Channel, user: &str, text: &str) -> Reply {
    let queued = channel
        .request(Method::POST, &format!("/v1/users/{user}/messages"))
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .body(json!({"text": text}).to_string());
    send(queued).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_sqlite_rolled_back_does_not_block_the_next() {
    let app = TestApp::start(Engine::Sqlite).await;
    let opened = app.sms.say("ada", "hello").await.expect(201);
    let conversation = opened["conversation_id"].as_str().unwrap();

    // The trigger makes SQLite end the transaction before the bridge does. A full disk, a failed
    // read or a lack of memory may have the same effect.
    let end =
        "CREATE TRIGGER ended BEFORE INSERT ON events BEGIN SELECT RAISE(ROLLBACK, 'over'); END";
    app.database.execute(end).await;
    let lost = send_notification(&app.sms, &agent_text(conversation, 1, "lost")).await;
    app.database.execute("DROP TRIGGER ended").await;

    lost.expect(500);
    for (sequence, text) in [(2, "heard"), (3, "heard again")] {
        let reply = send_notification(&app.sms, &agent_text(conversation, sequence, text)).await;
        reply.expect(200);
    }
    queue(&app.sms, "ada", "queued").await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_recovers_when_the_disk_accepts_writes_again() {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    // The shell ignores the signal XFSZ, so that a write beyond the file size limit fails instead
    // of killing the process.
    let arguments = ["-c", "trap '' XFSZ; exec \"$0\" serve", PROGRAM];
    let command = command_of(Path::new("/bin/sh"), &arguments);
    let (process, sms, admin) = Process::serve_command(command, &toml).await;
    let bed = Bed::with(process, sms, admin, cloud, database).await;
    let before = bed.outages().len();

    limit_files(&bed.process, "1").await;
    for _ in 0..3 {
        bed.expect_nothing_accepted(UNWRITABLE).await;
        // Reads still succeed.
        bed.sms.get("/v1/users/ada").await.expect(200);
    }
    limit_files(&bed.process, "unlimited").await;

    bed.wait_for_recovery().await;
    bed.process
        .log_line("the database is available again")
        .await;
    let outages = bed.outages();
    assert_eq!(outages[before..].len(), 2, "{outages:#?}");
    let sent = bed.cloud.texts(&bed.conversation);
    assert_eq!(sent, ["hello", "at last"]);
}

/// Limits the size of the files that a process may write, in bytes.
async fn limit_files(process: &Process, bytes: &str) {
    let id = process.id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &id, &format!("--fsize={bytes}:")])
        .status();
    assert!(status.await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_while_a_database_file_is_missing() {
    let bed = Bed::start().await;

    for name in ["bridge.db", "bridge.db-wal"] {
        let (file, aside) = (bed.file(name), bed.file("aside"));
        fs::rename(&file, &aside).unwrap();
        bed.expect_nothing_accepted(FILES).await;
        bed.expect_nothing_accepted(FILES).await;
        assert!(!file.exists(), "{name} was made anew");

        fs::rename(&aside, &file).unwrap();
        bed.wait_for_recovery().await;
    }

    bed.process.log_line("was deleted or moved").await;
    let sent = bed.cloud.bodies(Operation::Send);
    assert!(!sent.iter().any(|body| body.to_string().contains("unheard")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_database_file_is_used_only_after_a_restart() {
    let bed = Bed::start().await;
    let (file, copy) = (bed.file("bridge.db"), bed.file("copy"));
    fs::copy(&file, &copy).unwrap();
    fs::rename(&copy, &file).unwrap();

    bed.expect_nothing_accepted(FILES).await;
    bed.expect_nothing_accepted(FILES).await;

    bed.process.log_line("restart the service").await;
    bed.process.kill().await;
    let toml = bridge_toml(&bed.database.location, &bed.cloud.url);
    let (_process, sms, admin) = Process::serve(&toml).await;
    admin.get("/readyz").await.expect(200);
    queue(&sms, "ada", "after the restart").await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_after_the_database_file_is_overwritten() {
    let bed = Bed::start().await;
    let mut file = OpenOptions::new()
        .write(true)
        .open(bed.file("bridge.db"))
        .unwrap();
    file.write_all(&[0x55; 4096]).unwrap();

    bed.expect_nothing_accepted(FILES).await;

    bed.process.log_line("restore a backup").await;
}

/// Returns the name and the permissions of each file in a folder, sorted by name.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut modes: Vec<_> = entries
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().into_string().unwrap(), mode)
        })
        .collect();
    modes.sort();
    modes
}

/// All files of the database while the service runs.
const ITS_FILES: [&str; 4] = ["bridge.db", "bridge.db-shm", "bridge.db-wal", "bridge.lock"];

#[tokio::test(flavor = "multi_thread")]
async fn database_files_are_private_to_their_owner_in_an_existing_folder() {
    let cloud = Cloud::start_on_system_time().await;
    let database = Database::create(Engine::Sqlite).await;
    let folder = folder(&database);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let toml = bridge_toml(&database.location, &cloud.url);
    let expected = ITS_FILES.map(|name| (name.to_owned(), 0o600));

    let (process, sms, _) = Process::serve(&toml).await;
    sms.say("ada", "hello").await.expect(201);
    assert_eq!(modes(&folder), expected);

    process.kill().await;
    for name in ITS_FILES {
        let readable = Permissions::from_mode(0o644);
        fs::set_permissions(folder.join(name), readable).unwrap();
    }
    let (process, sms, _) = Process::serve(&toml).await;
    sms.say("ada", "hello again").await.expect(201);
    assert_eq!(modes(&folder), expected);
    for name in ["bridge.db", "bridge.db-wal"] {
        process.log_line(&format!("{name} mode=0644")).await;
    }
}
