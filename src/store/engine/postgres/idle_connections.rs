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

use super::pooled_connection::{close, return_to_pool};
use crate::store::Error;
use crate::store::engine::health::{Health, Moment};

/// 1 s: the time after which an unused connection goes back to the pool.
const IDLE_LIMIT: Duration = Duration::from_secs(1);

/// 1 min: the time after which a connection in constant use goes through the pool, which replaces
/// old ones.
const MAX_USE: Duration = Duration::from_mins(1);

/// The idle connections of one pool that are kept here. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct IdleConnections(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The idle connections, least recently used first.
    idle_connections: VecDeque<IdleConnection>,
    /// The number of callers that wait for a connection from the pool.
    waiting: usize,
    /// True if a task returns unused connections to the pool.
    has_watcher: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct IdleConnection {
    connection: PoolConnection<Database>,
    /// The moment at which it was taken from the pool.
    acquired_at: Moment,
    unused_since: Instant,
}

/// Counts a caller that waits for a connection from the pool, until it is dropped.
struct Waiting<'a>(&'a IdleConnections);

impl IdleConnections {
    /// Takes a kept idle connection, or else one from the pool. Also returns the moment at which it
    /// was taken from the pool.
    pub(super) async fn acquire(
        &self,
        pool: &PgPool,
        runtime: &Handle,
        health: &Health,
    ) -> Result<(PoolConnection<Database>, Moment), Error> {
        while let Some(IdleConnection {
            connection,
            acquired_at,
            ..
        }) = self.pop_or_wait()
        {
            if health.still_trusts(acquired_at) {
                return Ok((connection, acquired_at));
            }
            close(connection);
        }
        let _waiting = Waiting(self);
        // A connection is served by the runtime that makes it. Batches, which need most of them,
        // run on this one. A task of its own also keeps the future of every operation small.
        let pool = pool.clone();
        let acquired = runtime.spawn(async move { pool.acquire().await }).await;
        let connection = health.record(acquired.unwrap_or(Err(sqlx::Error::PoolClosed)))?;
        Ok((connection, health.now()))
    }

    /// Keeps a connection that has answered every statement, unless it should go back to the pool.
    pub(super) fn put(
        &self,
        connection: PoolConnection<Database>,
        acquired_at: Moment,
        health: &Health,
    ) {
        let mut state = lock(&self.0);
        // Callers that already wait at the pool come before later ones.
        let is_reusable =
            state.waiting == 0 && !state.is_closed && health.elapsed_since(acquired_at) < MAX_USE;
        let (true, Ok(runtime)) = (is_reusable, Handle::try_current()) else {
            drop(state);
            return return_to_pool(connection, false);
        };
        state.idle_connections.push_back(IdleConnection {
            connection,
            acquired_at,
            unused_since: Instant::now(),
        });
        if !mem::replace(&mut state.has_watcher, true) {
            // The task ends when no idle connection is left.
            runtime.spawn(watch(Arc::downgrade(&self.0)));
        }
    }

    /// Returns the number of kept idle connections.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).idle_connections.len()
    }

    /// Closes all kept idle connections and accepts no more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.0);
        state.is_closed = true;
        state.clear();
    }

    /// Takes the most recently used connection. If there is none, counts the caller as waiting for
    /// the pool.
    fn pop_or_wait(&self) -> Option<IdleConnection> {
        let mut state = lock(&self.0);
        let idle_connection = state.idle_connections.pop_back();
        state.waiting += usize::from(idle_connection.is_none());
        idle_connection
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).waiting -= 1;
    }
}

impl State {
    fn clear(&mut self) {
        for idle_connection in self.idle_connections.drain(..) {
            close(idle_connection.connection);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns unused connections to the pool, until no idle connection is left here.
async fn watch(state: Weak<Mutex<State>>) {
    loop {
        sleep(IDLE_LIMIT).await;
        let Some(state) = state.upgrade() else {
            return;
        };
        let mut state = lock(&state);
        let is_unused = |idle_connection: &mut IdleConnection| {
            idle_connection.unused_since.elapsed() >= IDLE_LIMIT
        };
        while let Some(idle_connection) = state.idle_connections.pop_front_if(is_unused) {
            return_to_pool(idle_connection.connection, false);
        }
        if state.idle_connections.is_empty() {
            state.has_watcher = false;
            return;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
