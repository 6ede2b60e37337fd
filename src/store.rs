//! The persistent state: users, their tokens, their conversations, the names of their files, queues
//! and logs.
//!
//! This is the only module that contains SQL. Each function is one statement or one transaction,
//! and its effect is durable when it returns: PostgreSQL commits synchronously, SQLite runs with
//! `synchronous=FULL`. Each statement is written once for both engines, inside the macros of
//! `engine`. Code that differs between the engines (connecting, beginning a write, claiming) is in
//! files named `postgres.rs` and `sqlite.rs`. Times are milliseconds since the epoch.
//!
//! Imports go one way: from the files of the entities (users, conversations, requests and so on) to
//! `rows.rs`, `trace_context.rs` and `locks.rs`, and from these to `engine`, which depends on no
//! entity. No two files import each other. `tests/it/house.rs` checks this.
//!
//! To add a function, write it in the file of its entity and call it in `tests/it/store`. That test
//! runs on both engines, and fails for each function that it does not call.
//!
//! To add a table, add:
//!
//! 1. a migration in `migrations/postgres` and one of the same name in `migrations/sqlite` (the
//!    rules are in `docs/development.md`), with a comment that describes a row;
//! 2. a file for its entity, with its functions (each called in `tests/it/store`), and the `mod`
//!    and `pub use` of the file here;
//! 3. the removal of its rows: with their user (`ON DELETE CASCADE`, or `erasures.rs`), and by age
//!    (a function that removes them, and a variant of `Old` in `bridge/retention.rs`);
//! 4. a row in the table "In the database, for all replicas" of `docs/deployment.md`.

mod audit;
mod backlog;
mod batchers;
mod callbacks;
mod changes;
mod conversations;
mod deliveries;
mod delivery_lanes;
mod dialogs;
mod engine;
mod erasures;
mod files;
mod idempotency;
mod inspection;
mod locks;
mod log;
mod nacks;
mod new_event;
mod offers;
mod open_conversation;
mod openings;
mod ownership;
mod recent_deliveries;
mod rejections;
mod requests;
mod retention;
mod rows;
mod timeline;
mod trace_context;
mod typing;
mod user_state;
mod users;

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::types::ids::SchemaName;

pub use changes::{
    Admission, Arrival, ArrivalOutcome, Change, ChangesTx, DialogPosition, KnownConversation,
    ToTranslate, Translated, Translation, UnknownConversation, UnmatchedChange,
};
pub use conversations::{OpenConversation, Opened};
use delivery_lanes::direct::DirectClaims;
pub use delivery_lanes::{
    DeliveryAttempt, DeliveryOutcome, DirectLane, DirectLanes, DirectSwitch, DueEvent, Lane,
    LaneUpdate,
};
pub use engine::batching::gather;
pub use engine::error::{Cause, Error};
pub use engine::server_time::ServerTime;
pub use engine::wakeups::Wakeup;
use engine::{Engine, checking, claiming, health, limits, postgres, run, sqlite, wakeups};
pub use erasures::{CloseRef, Erasure, ErasureData, NewClose, PendingClose, SealedClose};
pub use files::HostedFile;
pub use idempotency::{Claim, HeldClaim, Intent, KeyedRequest, WriteAheadRecord};
pub use inspection::DatabaseInfo;
pub use log::{Page, PageSize};
pub use nacks::DueNack;
pub use new_event::NewEvent;
pub use offers::OfferChange;
pub use openings::PendingOpening;
pub use requests::{
    AttemptOutcome, DueLane, Echo, EnqueueOutcome, InFlight, LaneHolder, NewRequest,
    NotificationLag, Request, RequestKind, SettledAttempt,
};
pub use rows::{LEASE, Lease, UserRef};
pub use typing::{DueTyping, Typing};
pub use user_state::UserState;
pub use users::{StoredToken, User};

/// The location of the store's data.
#[derive(Debug, Clone)]
pub enum Location {
    /// A PostgreSQL database that any number of replicas share.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: SecretString,
        /// The schema of the tables; `None` for the first one on the role's own search path.
        schema: Option<SchemaName>,
        /// The maximum number of connections that this replica holds.
        max_connections: u32,
    },
    /// An SQLite file that one process uses.
    Embedded {
        /// The folder of the file; created if absent.
        data_dir: PathBuf,
    },
}

/// The database, on either engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Engine,
    wakeups: wakeups::Wakeups,
    direct_claims: DirectClaims,
    health: health::Health,
    batchers: Arc<batchers::Batchers>,
    /// The runtime that sends the batches.
    runtime: Handle,
    checks: Arc<checking::Checks>,
}

impl Store {
    /// Connects without touching the schema.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or when another process owns the embedded one.
    pub async fn connect(location: &Location) -> Result<Self, Error> {
        let health = health::Health::default();
        let engine = match location {
            Location::Postgres {
                url,
                schema,
                max_connections,
            } => {
                let options = postgres::options(url, schema.as_ref())?;
                let health = health.clone();
                let postgres = postgres::connect(options, schema.clone(), *max_connections, health);
                Engine::Postgres(postgres.await?)
            }
            Location::Embedded { data_dir } => {
                Engine::Sqlite(sqlite::Sqlite::open(data_dir, health.clone()).await?)
            }
        };
        Ok(Self {
            engine,
            wakeups: wakeups::Wakeups::default(),
            direct_claims: DirectClaims::default(),
            health,
            batchers: Arc::default(),
            runtime: Handle::current(),
            checks: Arc::default(),
        })
    }

    /// Connects as an observer. The embedded database is opened read-only, and another process may
    /// own it. For PostgreSQL this is the same as [`Self::connect`].
    ///
    /// # Errors
    ///
    /// When the database does not answer, or when there is no embedded database.
    pub async fn connect_read_only(location: &Location) -> Result<Self, Error> {
        let Location::Embedded { data_dir } = location else {
            return Self::connect(location).await;
        };
        let health = health::Health::default();
        Ok(Self {
            engine: Engine::Sqlite(sqlite::Sqlite::open_read_only(data_dir, health.clone()).await?),
            wakeups: wakeups::Wakeups::default(),
            direct_claims: DirectClaims::default(),
            health,
            batchers: Arc::default(),
            runtime: Handle::current(),
            checks: Arc::default(),
        })
    }

    /// Brings the schema up to date. Safe while other replicas do the same or still run the
    /// previous version.
    ///
    /// # Errors
    ///
    /// When a migration fails. The migrations before it stay applied.
    pub async fn migrate(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Postgres(postgres) => postgres.migrate().await,
            Engine::Sqlite(sqlite) => sqlite.migrate().await,
        }
    }

    /// Pings the database.
    async fn ping(&self) -> Result<(), Error> {
        let answer = async {
            run!(self, readers, |db| sqlx::query("SELECT 1")
                .execute(db)
                .await?
                .rows_affected());
            Ok(())
        };
        match timeout(limits::PING, answer).await {
            Ok(outcome) => outcome,
            Err(_) => Err(limits::no_answer(limits::PING).into()),
        }
    }

    /// Closes all connections. Another process can then open the embedded database.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Postgres(postgres) => postgres.close().await,
            Engine::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}
