use std::sync::atomic::AtomicU32;

use chrono::{Duration, TimeDelta};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};

use super::*;
use crate::clock::ManualClock;

const LIFETIME_MS: i64 = 60_000;
const RENEWED_BEFORE_MS: i64 = 20_000;

type Answer = Result<u32, Error>;

/// A cache with its requests, which end when the test says so.
struct Setup {
    cache: Cache<u32>,
    clock: ManualClock,
    requests: std::sync::Mutex<Vec<Option<oneshot::Sender<Answer>>>>,
    policies: std::sync::Mutex<Vec<RetryPolicy>>,
}

impl Setup {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cache: Cache::default(),
            clock: ManualClock::new("2026-11-22T08:00:00Z".parse().unwrap()),
            requests: std::sync::Mutex::default(),
            policies: std::sync::Mutex::default(),
        })
    }

    /// Creates a cache that holds this value.
    async fn holding(value: u32) -> Arc<Self> {
        let setup = Self::new();
        let (got, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(value)));
        assert_eq!(got.unwrap(), value);
        setup
    }

    fn request(&self, retry: RetryPolicy) -> Request<u32> {
        let (sender, receiver) = oneshot::channel();
        self.requests.lock().unwrap().push(Some(sender));
        self.policies.lock().unwrap().push(retry);
        let now = self.clock.now_ms();
        Box::pin(async move {
            Ok(Cached {
                value: receiver.await.unwrap()?,
                obtained_at: now,
                renew_at: now + LIFETIME_MS - RENEWED_BEFORE_MS,
                expires_at: now + LIFETIME_MS,
            })
        })
    }

    async fn obtain(&self) -> Result<Arc<Cached<u32>>, Error> {
        let request = |retry| self.request(retry);
        self.cache.get(&self.clock, request).await
    }

    async fn get(&self) -> Answer {
        self.obtain().await.map(|cached| cached.value)
    }

    async fn replace(&self, stale: &Arc<Cached<u32>>) -> Answer {
        let request = |retry| self.request(retry);
        let replaced = self.cache.replace(&self.clock, stale, request).await;
        replaced.map(|cached| cached.value)
    }

    /// Lets all tasks run as far as they can, and answers the latest request.
    async fn answer_next(&self, answer: Answer) {
        yield_now().await;
        let sender = self.requests.lock().unwrap().last_mut().unwrap().take();
        sender.unwrap().send(answer).unwrap();
    }

    fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn advance(&self, milliseconds: i64) {
        self.clock.advance(TimeDelta::milliseconds(milliseconds));
    }
}

fn throttled() -> Error {
    Error::Throttled { retry_after: None }
}

async fn fifty_callers(setup: &Arc<Setup>, answer: Answer) -> Vec<Answer> {
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let setup = Arc::clone(setup);
        callers.spawn(async move { setup.get().await });
    }
    yield_now().await;
    setup.answer_next(answer).await;
    callers.join_all().await
}

#[tokio::test]
async fn fifty_callers_of_an_empty_cache_share_one_request_and_value() {
    let setup = Setup::new();

    let answers = fifty_callers(&setup, Ok(1)).await;

    assert!(answers.iter().all(|answer| matches!(answer, Ok(1))));
    assert_eq!(setup.request_count(), 1);
}

#[tokio::test]
async fn fifty_callers_of_an_empty_cache_share_one_request_and_failure() {
    let setup = Setup::new();

    let answers = fifty_callers(&setup, Err(throttled())).await;

    assert!(answers.iter().all(Result::is_err));
    assert_eq!(setup.request_count(), 1);
    let (later, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(2)));
    assert_eq!(later.unwrap(), 2, "a failure is not cached");
}

#[tokio::test]
async fn a_value_is_not_renewed_before_its_renewal_time() {
    let setup = Setup::holding(1).await;

    setup.advance(LIFETIME_MS - RENEWED_BEFORE_MS - 1);
    assert_eq!(setup.get().await.unwrap(), 1);
    assert_eq!(setup.request_count(), 1);
    setup.advance(1);
    let (renewed, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(2)));

    assert_eq!(renewed.unwrap(), 2);
    assert_eq!(
        *setup.policies.lock().unwrap(),
        [RetryPolicy::Freely, RetryPolicy::Never]
    );
}

#[tokio::test]
async fn other_callers_use_the_old_value_during_a_renewal() {
    let setup = Setup::holding(1).await;
    setup.advance(LIFETIME_MS - RENEWED_BEFORE_MS);

    let (renewed, meanwhile) = tokio::join!(setup.get(), async {
        let meanwhile = setup.get().await;
        setup.answer_next(Ok(2)).await;
        meanwhile
    });

    assert_eq!((renewed.unwrap(), meanwhile.unwrap()), (2, 1));
    assert_eq!(setup.request_count(), 2);
}

#[tokio::test]
async fn a_failed_early_renewal_is_repeated_only_after_a_pause() {
    let setup = Setup::holding(1).await;
    setup.advance(LIFETIME_MS - RENEWED_BEFORE_MS);
    let (current, ()) = tokio::join!(setup.get(), setup.answer_next(Err(throttled())));
    assert_eq!(current.unwrap(), 1);

    setup.advance(PAUSE_MS - 1);
    assert_eq!(setup.get().await.unwrap(), 1);
    assert_eq!(setup.request_count(), 2);
    setup.advance(1);
    let (renewed, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(2)));

    assert_eq!(renewed.unwrap(), 2);
}

#[tokio::test]
async fn an_expired_value_is_not_used() {
    let setup = Setup::holding(1).await;
    setup.advance(LIFETIME_MS);

    let (got, ()) = tokio::join!(setup.get(), setup.answer_next(Err(throttled())));

    assert!(got.is_err());
}

#[tokio::test]
async fn a_cancelled_caller_leaves_its_request_to_the_next_caller() {
    let setup = Setup::new();
    let cancelled = tokio::time::timeout(std::time::Duration::ZERO, setup.get());
    assert!(cancelled.await.is_err());

    let (got, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(1)));

    assert_eq!(got.unwrap(), 1);
    assert_eq!(setup.request_count(), 1);
}

#[tokio::test]
async fn a_request_abandoned_long_ago_is_replaced_by_a_new_one() {
    let setup = Setup::new();
    let cancelled = tokio::time::timeout(std::time::Duration::ZERO, setup.get());
    assert!(cancelled.await.is_err());
    setup.advance(ABANDONED_AFTER_MS);

    let (got, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(2)));

    assert_eq!(got.unwrap(), 2);
    assert_eq!(setup.request_count(), 2);
}

#[tokio::test]
async fn forgetting_an_old_value_keeps_the_renewed_one() {
    let setup = Setup::holding(1).await;
    let refused = setup.obtain().await.unwrap();

    setup.cache.invalidate(&refused);
    let (got, ()) = tokio::join!(setup.get(), setup.answer_next(Ok(2)));
    assert_eq!(got.unwrap(), 2);
    setup.cache.invalidate(&refused);

    assert_eq!(setup.get().await.unwrap(), 2);
}

#[tokio::test]
async fn concurrent_replacements_of_a_value_share_one_request() {
    let setup = Setup::holding(1).await;
    let stale = setup.obtain().await.unwrap();

    let (first, second, ()) = tokio::join!(
        setup.replace(&stale),
        setup.replace(&stale),
        setup.answer_next(Ok(2))
    );

    assert_eq!((first.unwrap(), second.unwrap()), (2, 2));
    assert_eq!(setup.request_count(), 2);
}

#[tokio::test]
async fn a_failed_replacement_keeps_the_value_and_delays_the_next_one() {
    let setup = Setup::holding(1).await;
    let stale = setup.obtain().await.unwrap();

    let (failed, ()) = tokio::join!(setup.replace(&stale), setup.answer_next(Err(throttled())));
    assert!(failed.is_err());
    assert_eq!(setup.replace(&stale).await.unwrap(), 1);
    assert_eq!(setup.request_count(), 2);
    setup.clock.advance(Duration::milliseconds(PAUSE_MS));
    let (replaced, ()) = tokio::join!(setup.replace(&stale), setup.answer_next(Ok(2)));

    assert_eq!(replaced.unwrap(), 2);
}

#[tokio::test]
async fn callers_on_many_threads_never_run_two_requests_concurrently() {
    let cache = Arc::new(Cache::default());
    let clock = Arc::new(ManualClock::new("2026-11-22T08:00:00Z".parse().unwrap()));
    let running = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();

    for _ in 0..200 {
        let (cache, clock, running) = (cache.clone(), clock.clone(), running.clone());
        callers.spawn(async move {
            let request = |_| -> Request<u32> {
                let running = running.clone();
                Box::pin(async move {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                    yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Err(throttled())
                })
            };
            cache.get(clock.as_ref(), request).await.is_err()
        });
    }

    assert!(callers.join_all().await.into_iter().all(|failed| failed));
}
