//! The database of a run: a PostgreSQL of its own, two of them behind `HAProxy`, or an SQLite file.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use liveperson_bridge::store::Location;
use liveperson_bridge::types::ids::SchemaName;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Error, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::block_in_place;
use url::Url;
use uuid::Uuid;

use super::parts::Part;
use super::settings::Settings;
use crate::support::database::Engine;
use crate::support::disk::Disk;
use crate::support::haproxy::Haproxy;
use crate::support::postgres::Server;

/// 2 GiB: more than a run of an hour fills.
const DISK_MEBIBYTES: u32 = 2048;

/// A small write-ahead log, so that a full disk is full of data.
const SETTINGS: &str = "-c max_wal_size=128MB";

/// The number of unsettled requests and pending closes.
const UNSETTLED: &str = "SELECT (SELECT count(*) FROM requests WHERE COALESCE(settled_at, 0) = 0)
                              + (SELECT count(*) FROM pending_closes)";

/// The database of the service.
pub(super) struct Storage {
    kind: Kind,
    /// The database's disk, in runs that fill disks.
    disk: Option<Disk>,
    /// Held by the fault that stops it, fails it over or fills its disk.
    fault_lock: Mutex<()>,
}

enum Kind {
    Postgres(Box<Postgres>),
    Existing(Existing),
    Sqlite(SqliteFile),
}

/// PostgreSQL, with a standby in runs with failovers.
pub(super) struct Postgres {
    servers: Vec<Server>,
    /// The index of the primary in `servers`.
    primary: AtomicUsize,
    haproxy: Option<Haproxy>,
}

/// An existing PostgreSQL, with a schema for this run.
struct Existing {
    url: Url,
    schema: SchemaName,
}

struct SqliteFile {
    data_dir: std::path::PathBuf,
    _folder: Option<TempDir>,
}

impl Storage {
    pub(super) async fn create(settings: &Settings) -> Self {
        let fails_over = settings.has(Part::Failovers);
        let has_disk = settings.has(Part::Disks);
        let disk = has_disk.then(|| Disk::mount(DISK_MEBIBYTES));
        let folder = disk.as_ref().map(Disk::folder);
        let kind = match (settings.engine, &settings.database_url) {
            (Engine::Postgres, Some(url)) => Kind::Existing(Existing {
                url: url.parse().unwrap(),
                schema: format!("crash_{}", Uuid::new_v4().simple())
                    .parse()
                    .unwrap(),
            }),
            (Engine::Postgres, None) => {
                Kind::Postgres(Box::new(Postgres::create(folder, fails_over).await))
            }
            (Engine::Sqlite, _) => Kind::Sqlite(SqliteFile::create(folder)),
        };
        Self {
            kind,
            disk,
            fault_lock: Mutex::new(()),
        }
    }

    /// Returns the host and port of the database; `None` if it is inside the service's process.
    pub(super) fn address(&self) -> Option<String> {
        let postgres = match &self.kind {
            Kind::Postgres(postgres) => postgres,
            Kind::Existing(Existing { url, .. }) => {
                let host = url.host_str().unwrap();
                return Some(format!("{host}:{}", url.port().unwrap_or(5432)));
            }
            Kind::Sqlite(_) => return None,
        };
        Some(match &postgres.haproxy {
            Some(haproxy) => haproxy.address().to_owned(),
            None => format!("127.0.0.1:{}", postgres.primary().port()),
        })
    }

    /// Returns the location for the service's configuration, with the server at this address.
    pub(super) fn location(&self, address: &str) -> Location {
        match &self.kind {
            Kind::Postgres(_) => Location::Postgres {
                url: format!("postgres://postgres@{address}/postgres").into(),
                schema: None,
                max_connections: 16,
            },
            Kind::Existing(Existing { url, schema }) => {
                let (host, port) = address.rsplit_once(':').unwrap();
                let mut url = url.clone();
                url.set_host(Some(host)).unwrap();
                url.set_port(port.parse().ok()).unwrap();
                Location::Postgres {
                    url: url.to_string().into(),
                    schema: Some(schema.clone()),
                    max_connections: 16,
                }
            }
            Kind::Sqlite(file) => Location::Embedded {
                data_dir: file.data_dir.clone(),
            },
        }
    }

    /// Locks the database for one fault.
    pub(super) async fn lock(&self) -> MutexGuard<'_, ()> {
        self.fault_lock.lock().await
    }

    /// Returns the PostgreSQL.
    pub(super) fn postgres(&self) -> &Postgres {
        let Kind::Postgres(postgres) = &self.kind else {
            panic!("SQLite has no server");
        };
        postgres
    }

    /// Returns the disk of the database.
    pub(super) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    /// Starts the database again if a full disk has ended it.
    pub(super) fn restart_if_ended(&self) {
        if let Kind::Postgres(postgres) = &self.kind
            && !block_in_place(|| postgres.primary().is_running())
        {
            block_in_place(|| postgres.primary().start_again());
        }
    }

    /// Returns the number of unsettled requests and pending closes.
    pub(super) async fn unsettled(&self) -> Result<i64, Error> {
        match &self.kind {
            Kind::Postgres(postgres) => {
                let mut connection = PgConnection::connect(&postgres.primary().url()).await?;
                let unsettled = sqlx::query_scalar(UNSETTLED);
                unsettled.fetch_one(&mut connection).await
            }
            Kind::Existing(Existing { url, schema }) => {
                let options: PgConnectOptions = url.as_str().parse()?;
                let options = options.options([("search_path", schema)]);
                let mut connection = PgConnection::connect_with(&options).await?;
                let unsettled = sqlx::query_scalar(UNSETTLED);
                unsettled.fetch_one(&mut connection).await
            }
            Kind::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file.data_dir.join("bridge.db"));
                let mut connection = SqliteConnection::connect_with(&options).await?;
                let unsettled = sqlx::query_scalar(UNSETTLED);
                unsettled.fetch_one(&mut connection).await
            }
        }
    }
}

impl Postgres {
    async fn create(folder: Option<&Path>, fails_over: bool) -> Self {
        let primary = block_in_place(|| match folder {
            Some(folder) => Server::start_on(folder, SETTINGS),
            None => Server::start_with(SETTINGS),
        });
        let mut postgres = Self {
            servers: vec![primary],
            primary: AtomicUsize::new(0),
            haproxy: None,
        };
        if fails_over {
            let standby = block_in_place(|| Server::start_standby(postgres.primary()));
            postgres.servers.push(standby);
            postgres.wait_for_standby(true).await;
            let ports: Vec<_> = postgres.servers.iter().map(Server::port).collect();
            postgres.haproxy = Some(Haproxy::start(&ports).await);
        }
        postgres
    }

    /// Returns the primary.
    pub(super) fn primary(&self) -> &Server {
        &self.servers[self.primary.load(Ordering::SeqCst)]
    }

    /// Makes `HAProxy` close the connections to the primary and accept no new ones.
    pub(super) async fn fence(&self) {
        let primary = self.primary.load(Ordering::SeqCst);
        self.haproxy.as_ref().unwrap().disable(primary).await;
    }

    /// Promotes the standby, and returns the former primary.
    pub(super) async fn promote_standby(&self) -> &Server {
        let former = self.primary.load(Ordering::SeqCst);
        let next = 1 - former;
        block_in_place(|| self.servers[next].promote());
        self.primary.store(next, Ordering::SeqCst);
        // There is no standby left that could confirm a commit.
        self.wait_for_standby(false).await;
        self.haproxy.as_ref().unwrap().enable(next).await;
        &self.servers[former]
    }

    /// Makes a stopped server the standby of the primary, which then waits for it.
    pub(super) async fn rejoin(&self, former: &Server) {
        block_in_place(|| former.follow(self.primary()));
        self.wait_for_standby(true).await;
    }

    /// Sets whether a commit of the primary has to wait for the standby.
    async fn wait_for_standby(&self, waits: bool) {
        let mut connection = PgConnection::connect(&self.primary().url()).await.unwrap();
        let set = if waits {
            "ALTER SYSTEM SET synchronous_standby_names = '*'"
        } else {
            "ALTER SYSTEM SET synchronous_standby_names = ''"
        };
        for statement in [set, "SELECT pg_reload_conf()"] {
            sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }
}

impl SqliteFile {
    fn create(disk: Option<&Path>) -> Self {
        let folder = disk.is_none().then(|| tempfile::tempdir().unwrap());
        let parent = disk.or(folder.as_ref().map(TempDir::path)).unwrap();
        Self {
            data_dir: parent.join("data"),
            _folder: folder,
        }
    }
}
