//! Recently used connections, kept for the next caller.
//!
//! Returning a connection to the pool costs a round trip, in which the pool checks that it works;
//! taking it out again costs more than a lock. A connection that has answered every statement
//! works, so it is kept here for a second. Connections that are needed less often go back to the
//! pool, which decides how many it keeps and for how long.
//!
//! Measured with 64 connections, together with another change: head and body are written at once
//! (`http`). A message costs PostgreSQL 5 instead of 9 µs and the service 28 instead of 32 µs; a
//! message with a key, 62 instead of 85 µs and 56 instead of 69 µs (docs/performance.md).

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres as Database};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::lent::{close, give_back};
use crate::store::Error;
use crate::store::engine::health::{Health, Moment};

/// 1 s: the time after which an unused connection goes back to the pool.
const UNUSED: Duration = Duration::from_secs(1);

/// 1 min: the time after which a connection in constant use goes through the pool, which replaces
/// old ones.
const USED: Duration = Duration::from_mins(1);

/// The spare connections of one pool. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Spares(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The spare connections, least recently used first.
    spares: VecDeque<Spare>,
    /// The number of callers that wait for a connection from the pool.
    waiting: usize,
    /// True if a task returns unused connections to the pool.
    is_watched: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Spare {
    connection: PoolConnection<Database>,
    /// The moment at which the pool lent it.
    lent_at: Moment,
    unused_since: Instant,
}

/// Counts a caller that waits for a connection from the pool, until it is dropped.
struct Waiting<'a>(&'a Spares);

impl Spares {
    /// Takes a spare connection, or else one from the pool. Also returns the moment at which the
    /// pool lent it.
    pub(super) async fn take(
        &self,
        pool: &PgPool,
        health: &Health,
    ) -> Result<(PoolConnection<Database>, Moment), Error> {
        while let Some(Spare {
            connection,
            lent_at,
            ..
        }) = self.pop_or_wait()
        {
            if health.trusts_since(lent_at) {
                return Ok((connection, lent_at));
            }
            close(connection);
        }
        let _waiting = Waiting(self);
        // Boxed, because it is rare: otherwise the future of every operation would have 14 KB of
        // space for it, and be copied with it.
        let connection = health.note(Box::pin(pool.acquire()).await)?;
        Ok((connection, health.now()))
    }

    /// Keeps a connection that has answered every statement, unless it should go back to the pool.
    pub(super) fn keep(
        &self,
        connection: PoolConnection<Database>,
        lent_at: Moment,
        health: &Health,
    ) {
        let mut kept = lock(&self.0);
        // Callers that already wait at the pool come before later ones.
        let is_wanted = kept.waiting == 0 && !kept.is_closed && health.since(lent_at) < USED;
        let (true, Ok(runtime)) = (is_wanted, Handle::try_current()) else {
            drop(kept);
            return give_back(connection, false);
        };
        kept.spares.push_back(Spare {
            connection,
            lent_at,
            unused_since: Instant::now(),
        });
        if !mem::replace(&mut kept.is_watched, true) {
            // The task ends when no spare connection is left.
            runtime.spawn(watch(Arc::downgrade(&self.0)));
        }
    }

    /// Returns the number of spare connections.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).spares.len()
    }

    /// Closes all spare connections and accepts no more.
    pub(super) fn close(&self) {
        let mut kept = lock(&self.0);
        kept.is_closed = true;
        kept.clear();
    }

    /// Takes the most recently used connection. If there is none, counts the caller as waiting for
    /// the pool.
    fn pop_or_wait(&self) -> Option<Spare> {
        let mut kept = lock(&self.0);
        let spare = kept.spares.pop_back();
        kept.waiting += usize::from(spare.is_none());
        spare
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).waiting -= 1;
    }
}

impl Kept {
    fn clear(&mut self) {
        for spare in self.spares.drain(..) {
            close(spare.connection);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns unused connections to the pool, until no spare is left.
async fn watch(kept: Weak<Mutex<Kept>>) {
    loop {
        sleep(UNUSED).await;
        let Some(kept) = kept.upgrade() else {
            return;
        };
        let mut kept = lock(&kept);
        let is_unused = |spare: &mut Spare| spare.unused_since.elapsed() >= UNUSED;
        while let Some(spare) = kept.spares.pop_front_if(is_unused) {
            give_back(spare.connection, false);
        }
        if kept.spares.is_empty() {
            kept.is_watched = false;
            return;
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
