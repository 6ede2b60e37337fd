//! A cache of one value, which one request at a time renews before it expires.
//!
//! Reading a value that needs no renewal takes no lock. The renewal belongs to the cache and not to
//! the caller that began it: if that caller is cancelled, the next one continues to wait for the
//! same request. Callers that need its outcome share it, be it a value or a failure.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::Error;
use super::retry::RetryPolicy;
use crate::clock::Clock;

/// 5 s: the minimum time before the next renewal of a usable value after a renewal failed or the
/// value was replaced.
const PAUSE_MS: i64 = 5_000;

/// 30 s: longer than all attempts of a renewal together. A renewal that is older was abandoned by
/// its caller.
const ABANDONED_AFTER_MS: i64 = 30_000;

/// A value and its times, in milliseconds since the epoch.
#[derive(Debug)]
pub(super) struct Cached<T> {
    pub(super) value: T,
    /// The time at which it was requested.
    pub(super) obtained_at: i64,
    /// The time from which it is renewed, while it is still used.
    pub(super) renew_at: i64,
    /// The time from which it is no longer used.
    pub(super) expires_at: i64,
}

/// A request for a new value.
pub(super) type Request<T> = Pin<Box<dyn Future<Output = Result<Cached<T>, Error>> + Send>>;

/// The cached value, if there is one, and its renewal.
pub(super) struct Cache<T> {
    current: ArcSwapOption<Cached<T>>,
    renewal: Mutex<Renewal<T>>,
    /// The number of renewals that have ended. By it, a caller that has waited for the lock sees
    /// that one ended meanwhile.
    ended: AtomicU64,
    /// The time until which no early renewal and no replacement begins.
    paused_until: AtomicI64,
}

struct Renewal<T> {
    running: Option<Running<T>>,
    /// The failure of the last renewal, if it failed.
    failure: Option<Error>,
}

struct Running<T> {
    begun_at: i64,
    request: Request<T>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            renewal: Mutex::new(Renewal {
                running: None,
                failure: None,
            }),
            ended: AtomicU64::new(0),
            paused_until: AtomicI64::new(i64::MIN),
        }
    }
}

impl<T> Cache<T> {
    /// Returns the value. Renews it if that is due, and obtains one if there is none.
    pub(super) async fn get(
        &self,
        clock: &dyn Clock,
        request: impl FnOnce(RetryPolicy) -> Request<T>,
    ) -> Result<Arc<Cached<T>>, Error> {
        let now = clock.now_ms();
        match self.current.load_full() {
            Some(current) if now < current.renew_at => Ok(current),
            // Boxed, because it is rare and would make the future of every call larger.
            current => Box::pin(self.renew(now, current, clock, request)).await,
        }
    }

    /// Returns a value in place of one that is due for renewal or missing.
    async fn renew(
        &self,
        now: i64,
        current: Option<Arc<Cached<T>>>,
        clock: &dyn Clock,
        request: impl FnOnce(RetryPolicy) -> Request<T>,
    ) -> Result<Arc<Cached<T>>, Error> {
        match current {
            Some(current) if now < current.expires_at => {
                Ok(self.renew_early(clock, request).await.unwrap_or(current))
            }
            _ => self.obtain(clock, None, request).await,
        }
    }

    /// Returns a value in place of `stale`, which may be wrong. If none can be obtained, `stale`
    /// stays.
    ///
    /// A value that was replaced moments ago is returned as it is: a new one would hardly differ.
    pub(super) async fn replace(
        &self,
        clock: &dyn Clock,
        stale: &Arc<Cached<T>>,
        request: impl FnOnce(RetryPolicy) -> Request<T>,
    ) -> Result<Arc<Cached<T>>, Error> {
        self.obtain(clock, Some(stale), request).await
    }

    /// Returns the cached value, even if it has expired.
    pub(super) fn peek(&self) -> Option<Arc<Cached<T>>> {
        self.current.load_full()
    }

    /// Removes `refused`, unless it has been replaced already.
    pub(super) fn invalidate(&self, refused: &Arc<Cached<T>>) {
        self.current.compare_and_swap(Arc::as_ptr(refused), None);
    }

    /// Waits for a value that is not `stale`. Another caller may be requesting it already;
    /// otherwise this call requests it.
    async fn obtain(
        &self,
        clock: &dyn Clock,
        stale: Option<&Arc<Cached<T>>>,
        request: impl FnOnce(RetryPolicy) -> Request<T>,
    ) -> Result<Arc<Cached<T>>, Error> {
        let ended = self.ended.load(Ordering::Acquire);
        let mut renewal = self.renewal.lock().await;
        let now = clock.now_ms();
        let is_wanted = |current: &Arc<Cached<T>>| {
            now < current.expires_at && stale.is_none_or(|stale| !Arc::ptr_eq(stale, current))
        };
        if let Some(current) = self.current.load_full().filter(is_wanted) {
            return Ok(current);
        }
        if self.ended.load(Ordering::Acquire) != ended
            && let Some(failure) = &renewal.failure
        {
            return Err(failure.clone());
        }
        let Some(stale) = stale else {
            return self
                .run_renewal(clock, &mut renewal, || request(RetryPolicy::Freely))
                .await;
        };
        if self.is_paused(clock) {
            return Ok(Arc::clone(stale));
        }
        let outcome = self
            .run_renewal(clock, &mut renewal, || request(RetryPolicy::Freely))
            .await;
        self.pause(clock);
        outcome
    }

    /// Returns the renewed value; `None` if another caller is renewing it or it cannot be renewed
    /// at present.
    async fn renew_early(
        &self,
        clock: &dyn Clock,
        request: impl FnOnce(RetryPolicy) -> Request<T>,
    ) -> Option<Arc<Cached<T>>> {
        if self.is_paused(clock) {
            return None;
        }
        let mut renewal = self.renewal.try_lock().ok()?;
        let is_renewed = |current: &Arc<Cached<T>>| clock.now_ms() < current.renew_at;
        if let Some(current) = self.current.load_full().filter(is_renewed) {
            return Some(current);
        }
        let outcome = self
            .run_renewal(clock, &mut renewal, || request(RetryPolicy::Never))
            .await;
        match outcome {
            Ok(renewed) => Some(renewed),
            Err(error) => {
                self.pause(clock);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a domain or token could not be renewed ahead of time; the current one is still used"
                );
                None
            }
        }
    }

    fn pause(&self, clock: &dyn Clock) {
        self.paused_until
            .store(clock.now_ms() + PAUSE_MS, Ordering::Relaxed);
    }

    fn is_paused(&self, clock: &dyn Clock) -> bool {
        clock.now_ms() < self.paused_until.load(Ordering::Relaxed)
    }

    /// Continues the running request, or begins one. If it is cancelled, it leaves the request to
    /// the next caller.
    async fn run_renewal(
        &self,
        clock: &dyn Clock,
        renewal: &mut Renewal<T>,
        request: impl FnOnce() -> Request<T>,
    ) -> Result<Arc<Cached<T>>, Error> {
        let now = clock.now_ms();
        renewal
            .running
            .take_if(|running| now - running.begun_at >= ABANDONED_AFTER_MS);
        let running = renewal.running.get_or_insert_with(|| Running {
            begun_at: now,
            request: request(),
        });
        let outcome = running.request.as_mut().await;
        renewal.running = None;
        self.ended.fetch_add(1, Ordering::Release);
        match outcome {
            Ok(cached) => {
                let cached = Arc::new(cached);
                self.current.store(Some(Arc::clone(&cached)));
                renewal.failure = None;
                Ok(cached)
            }
            Err(error) => {
                renewal.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
