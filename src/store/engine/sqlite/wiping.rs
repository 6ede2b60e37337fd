//! Taking from the disk what was removed from the tables.
//!
//! `secure_delete` has SQLite overwrite what it removes. Two things stay nevertheless: the log holds what was written before, until
//! it is copied into the database and cut off, and where SQLite spreads the rows of a page over its neighbours it leaves copies
//! in the unused part of the pages, which only `VACUUM` takes away.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::files::Files;
use super::side::Side;
use crate::store::Error;

/// 10 s: how often the log is cut off at most.
const ROUND: Duration = Duration::from_secs(10);

/// 100 ms: how long is waited for others who read the log; those who write wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

/// 1 minute: after how long without a free moment the log is told of it.
const BLOCKED: Duration = Duration::from_mins(1);

/// 1 h: how often a database is made anew from which retention alone has removed something.
const AGAIN: Duration = Duration::from_hours(1);

/// 1 s for each MiB: how long a database that is made anew once more stays as it is, so that the disk is not worn out where
/// somebody is erased all the time.
const REST_PER_MIB: Duration = Duration::from_secs(1);

/// 128 MiB: a larger database is not made anew while the service runs. That takes about a second, and those who write wait.
const LARGEST: u64 = 128 * MIB;

const MIB: u64 = 1024 * 1024;

/// What is due.
#[derive(Debug)]
pub(super) struct Wiping {
    options: SqliteConnectOptions,
    /// True if somebody was erased since the database was last made anew.
    has_erased: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was last tried to cut off the log.
    tried_at: Option<Instant>,
    /// When the database was last made anew, or that was tried.
    renewed_at: Option<Instant>,
    /// Since when others read what is to be cut off.
    blocked_since: Option<Instant>,
    /// True if that was told.
    has_told: bool,
    /// True if the database could not be made anew the last time.
    has_failed: bool,
}

impl Wiping {
    /// By connections made like this, to the database in this folder.
    pub(super) fn new(options: SqliteConnectOptions, folder: &Path) -> Self {
        let folder = folder.display().to_string().replace('\'', "''");
        Self {
            options: options
                // One that waits for others is not to make all wait who write.
                .busy_timeout(PATIENCE)
                // What does not fit into memory goes beside the database: a container may have no other place to write to. This
                // is one setting for the process, which has no other database.
                .pragma("temp_store_directory", format!("'{folder}'")),
            has_erased: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(super) fn has_erased(&self) {
        self.has_erased.store(true, Ordering::Relaxed);
    }

    /// Does what is due.
    pub(super) async fn run(&self, writer: &Side, files: &Files) -> Result<(), Error> {
        let Ok(mut state) = self.state.try_lock() else {
            return Ok(());
        };
        let now = Instant::now();
        if state.tried_at.is_some_and(|at| now < at + ROUND) {
            return Ok(());
        }
        writer.note(writer.check())?;
        let (size, log) = writer.note(files.sizes().map_err(sqlx::Error::from))?;
        let renew = self.is_to_renew(&state, size, now);
        if log == 0 && !renew {
            return Ok(());
        }
        state.tried_at = Some(now);
        // In the turn of those who write, since none of them can meanwhile.
        let outcome = writer
            .run(async |_: &mut SqliteConnection| self.wipe(&mut state, renew).await)
            .await?;
        state.note(outcome, now);
        Ok(())
    }

    /// True if the database is to be made anew: soon after an erasure, else now and then.
    fn is_to_renew(&self, state: &State, size: u64, now: Instant) -> bool {
        let Some(at) = state.renewed_at else {
            // The last process may have erased somebody just before its end.
            return size <= LARGEST;
        };
        let mib = u32::try_from(size.div_ceil(MIB)).unwrap_or(u32::MAX);
        let rest = if self.has_erased.load(Ordering::Relaxed) {
            REST_PER_MIB * mib
        } else {
            AGAIN
        };
        size <= LARGEST && now >= at + rest
    }

    /// Makes the database anew, if it is to be, and cuts the log off; true if nobody stood in the way.
    async fn wipe(&self, state: &mut State, renew: bool) -> Result<bool, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        if renew {
            state.renewed_at = Some(Instant::now());
            self.has_erased.store(false, Ordering::Relaxed);
            let renewed = sqlx::query("VACUUM").execute(&mut connection).await;
            if let Err(error) = &renewed {
                self.has_erased.store(true, Ordering::Relaxed);
                if !state.has_failed {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the embedded database could not be made anew: copies of what was erased may be left in it; tried \
                         again and again, which needs twice the room that it has"
                    );
                }
            }
            state.has_failed = renewed.is_err();
        }
        let (busy,): (i64,) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(busy == 0)
    }
}

impl State {
    fn note(&mut self, is_done: bool, now: Instant) {
        if is_done {
            self.blocked_since = None;
            self.has_told = false;
            return;
        }
        let since = *self.blocked_since.get_or_insert(now);
        if now >= since + BLOCKED && !self.has_told {
            self.has_told = true;
            tracing::warn!(
                "another process has been reading the embedded database for a minute, such as a backup: what was erased \
                 meanwhile stays in bridge.db-wal until it ends"
            );
        }
    }
}
