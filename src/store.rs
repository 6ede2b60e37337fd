//! Everything that outlives the process: users, their tokens, their conversations, their files' names.
//!
//! The only module that knows SQL. Each function is one statement or one transaction, and what it promises holds when
//! it returns: PostgreSQL commits synchronously, SQLite runs with `synchronous=FULL`. One text of each statement serves
//! both engines, written once inside the macros of `engine`; what differs between the engines (how to connect, to begin a
//! write, to claim) is in files named `postgres.rs` and `sqlite.rs`. Times are milliseconds since the epoch.
//!
//! Imports go one way: files of nouns, then `rows.rs`, `parent.rs` and `locks.rs`, then `engine`, which knows no noun; and no two
//! files know each other. `tests/it/house.rs` holds them to it.
//!
//! To add a function: write it in the file of its noun, and call it in `tests/it/store`, which runs on both engines and fails
//! for a function that it never called.
//!
//! To add a table:
//!
//! 1. a migration in `migrations/postgres` and one of the same name in `migrations/sqlite` (`docs/development.md` has the rules);
//! 2. a file of its noun with its functions (each called in `tests/it/store`), its `mod` and `pub use` here, and in the migration
//!    a comment that says what a row is;
//! 3. how its rows go: with their user (`ON DELETE CASCADE`, or `erasures.rs`), and with time (a function that removes them, and
//!    its variant of `Old` in `bridge/retention.rs`);
//! 4. its row in the table "In the database, for all replicas" of `docs/deployment.md`.

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
mod locks;
mod log;
mod nacks;
mod newest;
mod open_conversation;
mod openings;
mod origins;
mod parent;
mod rejections;
mod requests;
mod retention;
mod rows;
mod standings;
mod survey;
mod typing;
mod users;

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::timeout;

use crate::types::ids::SchemaName;

pub use changes::{
    Admission, Arrival, Change, ChangesTx, Fate, KeptChange, Known, Stranger, ToTranslate,
    Translated, Translation, Turn,
};
pub use conversations::{OpenConversation, Opened};
pub use delivery_lanes::{DueEvent, Lane, LaneFate, Settlement, Tried};
pub use engine::batching::gather;
pub use engine::bells::Bell;
pub use engine::error::Error;
pub use engine::server_time::ServerTime;
use engine::{Engine, bells, checking, claiming, health, limits, postgres, run, sqlite};
pub use erasures::{CloseRef, Erasing, Erasure, NewClose, PendingClose, SealedClose};
pub use files::HostedFile;
pub use idempotency::{Begun, Claim, Holding, Intent, KeyedRequest};
pub use log::{NewEvent, Page, PageSize};
pub use nacks::DueNack;
pub use openings::PendingOpening;
pub use requests::{
    Conclusion, DueLane, Echo, Flight, Hearing, Hold, Keeping, NewRequest, Request, RequestKind,
    Settled,
};
pub use rows::{LEASE, Lease, UserRef};
pub use standings::Standing;
pub use survey::Survey;
pub use typing::{DueTyping, Typing};
pub use users::{StoredToken, User};

/// Where the store keeps its data.
#[derive(Debug, Clone)]
pub enum Location {
    /// A PostgreSQL that any number of replicas share.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: SecretString,
        /// Where the tables are; `None`: where the role's own search path leads.
        schema: Option<SchemaName>,
        /// Connections that this replica holds at most.
        max_connections: u32,
    },
    /// An SQLite file, for one process.
    Embedded {
        /// The folder that holds it; made when absent.
        data_dir: PathBuf,
    },
}

/// The database, whichever engine it is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Engine,
    bells: bells::Bells,
    health: health::Health,
    batchers: Arc<batchers::Batchers>,
    checks: Arc<checking::Checks>,
}

impl Store {
    /// Connects, without touching the schema.
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
                let known = health.clone();
                let postgres = postgres::connect(options, schema.clone(), *max_connections, known);
                Engine::Postgres(postgres.await?)
            }
            Location::Embedded { data_dir } => {
                Engine::Sqlite(sqlite::Sqlite::open(data_dir, health.clone()).await?)
            }
        };
        Ok(Self {
            engine,
            bells: bells::Bells::default(),
            health,
            batchers: Arc::default(),
            checks: Arc::default(),
        })
    }

    /// Connects to look on: the embedded database is only read, and may belong to another process.
    /// PostgreSQL is connected to as ever.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or when there is no embedded one.
    pub async fn connect_beside(location: &Location) -> Result<Self, Error> {
        let Location::Embedded { data_dir } = location else {
            return Self::connect(location).await;
        };
        let health = health::Health::default();
        Ok(Self {
            engine: Engine::Sqlite(sqlite::Sqlite::open_beside(data_dir, health.clone()).await?),
            bells: bells::Bells::default(),
            health,
            batchers: Arc::default(),
            checks: Arc::default(),
        })
    }

    /// Brings the schema up to date; safe while other replicas do the same or still run the version before.
    ///
    /// # Errors
    ///
    /// When a migration fails; those before it stay.
    pub async fn migrate(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Postgres(postgres) => postgres.migrate().await,
            Engine::Sqlite(sqlite) => sqlite.migrate().await,
        }
    }

    /// Asks the database for a sign of life.
    async fn ping(&self) -> Result<(), Error> {
        let answer = async {
            run!(self, readers, |db| sqlx::query("SELECT 1")
                .execute(db)
                .await?
                .rows_affected());
            Ok(())
        };
        match timeout(limits::PING, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(limits::no_answer(limits::PING).into()),
        }
    }

    /// Closes every connection; the embedded database is free for another process afterwards.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Postgres(postgres) => postgres.close().await,
            Engine::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}
