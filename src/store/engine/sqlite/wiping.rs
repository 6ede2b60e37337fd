//! The removal of deleted data from the disk.
//!
//! `secure_delete` makes SQLite overwrite deleted data. Two kinds of copies remain nevertheless.
//! The write-ahead log holds earlier versions until it is copied into the database and truncated.
//! And when SQLite moves rows of a page to its neighbours, it leaves copies in the unused part of
//! the pages, which only `VACUUM` removes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::checked_pool::CheckedPool;
use super::files::Files;
use crate::store::{Cause, Error};

/// 10 s: the minimum time between two truncations of the log.
const TRUNCATE_INTERVAL: Duration = Duration::from_secs(10);

/// 100 ms: the longest wait for other readers of the log. Writers wait meanwhile.
const READER_WAIT: Duration = Duration::from_millis(100);

/// 1 minute: the time for which truncation may be blocked before that is logged.
const BLOCKED_LOG_DELAY: Duration = Duration::from_mins(1);

/// 1 h: the interval of rebuilds if only retention has deleted data.
const REBUILD_INTERVAL: Duration = Duration::from_hours(1);

/// 1 s per MiB of the database: the minimum time between two rebuilds after erasures, so that
/// frequent erasures do not wear out the disk.
const REBUILD_INTERVAL_PER_MIB: Duration = Duration::from_secs(1);

/// 128 MiB: a larger database is not rebuilt while the service runs. A rebuild of this size takes
/// about a second, during which writers wait.
const MAX_REBUILD_SIZE: u64 = 128 * MIB;

const MIB: u64 = 1024 * 1024;

/// The state of the wiping.
#[derive(Debug)]
pub(super) struct Wiping {
    options: SqliteConnectOptions,
    /// True if a user was erased after the last rebuild.
    has_erased: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The time of the last attempt to truncate the log.
    attempted_at: Option<Instant>,
    /// The time of the last rebuild or attempt at one.
    rebuilt_at: Option<Instant>,
    /// The time since which other readers have blocked truncation.
    blocked_since: Option<Instant>,
    /// True if that was logged.
    has_logged: bool,
    /// True if the last rebuild failed.
    has_failed: bool,
}

impl Wiping {
    /// Prepares wiping for the database in `folder`, over connections made with `options`.
    pub(super) fn new(options: SqliteConnectOptions, folder: &Path) -> Self {
        let folder = folder.display().to_string().replace('\'', "''");
        Self {
            options: options
                // A connection that waits for readers must not make all writers wait for long.
                .busy_timeout(READER_WAIT)
                // Temporary data that does not fit into memory is written beside the database: a
                // container may have no other writable folder. This setting applies to the whole
                // process, which has no other database.
                .pragma("temp_store_directory", format!("'{folder}'")),
            has_erased: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(super) fn record_erasure(&self) {
        self.has_erased.store(true, Ordering::Relaxed);
    }

    /// Does the wiping that is due.
    pub(super) async fn run(&self, writer: &CheckedPool, files: &Files) -> Result<(), Error> {
        let Ok(mut state) = self.state.try_lock() else {
            return Ok(());
        };
        let now = Instant::now();
        if state
            .attempted_at
            .is_some_and(|at| now < at + TRUNCATE_INTERVAL)
        {
            return Ok(());
        }
        writer.record(writer.check())?;
        let (size, log) = writer.record(files.sizes().map_err(sqlx::Error::from))?;
        let rebuild = self.is_rebuild_due(&state, size, now);
        if log == 0 && !rebuild {
            return Ok(());
        }
        state.attempted_at = Some(now);
        // Holds the writer's connection meanwhile, since nothing can be written anyway.
        let is_truncated = writer
            .run(async |_: &mut SqliteConnection| self.wipe(&mut state, rebuild).await)
            .await?;
        state.record_truncation(is_truncated, now);
        Ok(())
    }

    /// True if the database is to be rebuilt: soon after an erasure, otherwise once an hour.
    fn is_rebuild_due(&self, state: &State, size: u64, now: Instant) -> bool {
        let Some(at) = state.rebuilt_at else {
            // The previous process may have erased a user just before it ended.
            return size <= MAX_REBUILD_SIZE;
        };
        let mib = u32::try_from(size.div_ceil(MIB)).unwrap_or(u32::MAX);
        let interval = if self.has_erased.load(Ordering::Relaxed) {
            REBUILD_INTERVAL_PER_MIB * mib
        } else {
            REBUILD_INTERVAL
        };
        size <= MAX_REBUILD_SIZE && now >= at + interval
    }

    /// Rebuilds the database if `rebuild` is set, and truncates the log. Returns true if no reader
    /// blocked the truncation.
    async fn wipe(&self, state: &mut State, rebuild: bool) -> Result<bool, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        if rebuild {
            state.rebuilt_at = Some(Instant::now());
            self.has_erased.store(false, Ordering::Relaxed);
            let outcome = sqlx::query("VACUUM").execute(&mut connection).await;
            let outcome = outcome.map_err(Cause::new);
            if let Err(error) = &outcome {
                self.has_erased.store(true, Ordering::Relaxed);
                if !state.has_failed {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the embedded database could not be rebuilt, so it may still contain copies of erased data; this is retried, and needs free disk space of twice its size"
                    );
                }
            }
            state.has_failed = outcome.is_err();
        }
        let (busy,): (i64,) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(busy == 0)
    }
}

impl State {
    fn record_truncation(&mut self, is_truncated: bool, now: Instant) {
        if is_truncated {
            self.blocked_since = None;
            self.has_logged = false;
            return;
        }
        let since = *self.blocked_since.get_or_insert(now);
        if now >= since + BLOCKED_LOG_DELAY && !self.has_logged {
            self.has_logged = true;
            tracing::warn!(
                "another process, such as a backup, has been reading the embedded database for a minute; data erased meanwhile stays in bridge.db-wal until it ends"
            );
        }
    }
}
