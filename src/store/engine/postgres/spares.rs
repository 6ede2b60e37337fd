//! Connections that were in use a moment ago, for whoever needs one next.
//!
//! To give a connection back to the pool costs a round trip, in which the pool finds out whether it is sound, and to take it out
//! again costs more than a lock. One that has answered all that it was asked is sound, so it is kept here for a second. What is needed
//! less often than that goes back to the pool, which decides how many are kept and for how long.
//!
//! Measured with 64 connections, together with one write for head and body (`http`): a message costs PostgreSQL 5 in place of 9 µs
//! and the service 28 in place of 32 µs; a message with a key 62 in place of 85 and 56 in place of 69 µs ("Where it comes from"
//! in docs/performance.md).

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

/// 1 s: how long a connection that nobody needs is kept from the pool.
const UNUSED: Duration = Duration::from_secs(1);

/// 1 min: after how long a connection that is used on and on goes through the pool, which replaces old ones.
const USED: Duration = Duration::from_mins(1);

/// Connections of one pool; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Spares(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which they were last used.
    spares: VecDeque<Spare>,
    /// How many wait for a connection of the pool's.
    waiting: usize,
    /// Whether somebody looks after those that nobody needs.
    is_watched: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Spare {
    connection: PoolConnection<Database>,
    /// When the pool lent it.
    lent_at: Moment,
    unused_since: Instant,
}

/// Counts somebody who waits for a connection of the pool's.
struct Waiting<'a>(&'a Spares);

impl Spares {
    /// Takes a connection, from the pool where there is none here, and says when the pool lent it.
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
        // In a box: it is rare, and all who ask anything would make 14 KB of room for it, and have them copied.
        let connection = health.note(Box::pin(pool.acquire()).await)?;
        Ok((connection, health.now()))
    }

    /// Keeps a connection that has answered all that it was asked, unless it should go back to the pool.
    pub(super) fn keep(
        &self,
        connection: PoolConnection<Database>,
        lent_at: Moment,
        health: &Health,
    ) {
        let mut kept = lock(&self.0);
        // Whoever waits at the pool was there before all who are still to come.
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
            // It ends by itself when there are none any more.
            runtime.spawn(watch(Arc::downgrade(&self.0)));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).spares.len()
    }

    /// Closes all that there are, and keeps no more.
    pub(super) fn close(&self) {
        let mut kept = lock(&self.0);
        kept.is_closed = true;
        kept.clear();
    }

    /// The one that was used last; who finds none is counted among those who wait for the pool.
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

/// Gives those back to the pool that nobody needs, until there are none.
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
