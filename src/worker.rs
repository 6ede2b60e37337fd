//! Background work: a loop that polls for due work, claims it, has it handled, and polls again.
//!
//! The loop decides when to poll: at once, then at a regular interval with jitter, and sooner if
//! the source is woken or a slot becomes free. It limits the number of items that are handled at
//! once. After an error, it does not poll again before the regular time. It logs errors, except for
//! an outage of the storage, which is logged separately. On a stop, it claims nothing new and
//! finishes the work in progress. The source decides which work there is, which replica holds it,
//! and how it is settled.
//!
//! To add a kind of background work: implement [`Source`] beside its use case, export it from its
//! module's root, start it by `work` in `app.rs`, and name it in `docs/deployment.md`. If its work
//! is due by the clock, pause it while the bridge `is_ahead`.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store;

/// 4: while less than a quarter of the slots are free, a poll is not yet worth its cost.
const MIN_FREE_DIVISOR: usize = 4;

/// 5 ms: the time to wait for more free slots.
const SLOT_WAIT: Duration = Duration::from_millis(5);

/// A kind of background work.
pub trait Source: Send + 'static {
    /// A claimed item of work.
    type Item: Send;

    /// The error of a poll.
    type Error: PollError;

    /// The interval of polls, and the number of items that are handled at once.
    const PACE: Pace;

    /// The log message for a failed poll.
    const FAILED: &'static str;

    /// True while polling is paused, since work that seems due may not be.
    fn is_paused(&self) -> bool {
        false
    }

    /// Waits for a reason to poll before the regular time. The future may be dropped, and this
    /// called again, at any time.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Claims due items, at most `limit`.
    fn claim(
        &mut self,
        limit: u32,
    ) -> impl Future<Output = Result<Claimed<Self::Item>, Self::Error>> + Send;

    /// Handles an item and settles it, whatever the outcome.
    fn handle(&self, item: Self::Item) -> impl Future<Output = ()> + Send + 'static;
}

/// The interval of polls, and the number of items that are handled at once.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time between two polls, which is lengthened or shortened by up to a fifth.
    pub interval: Duration,
    /// The number of items that are handled at once.
    pub slots: u32,
    /// True if polls continue while no slot is free, and each finished item triggers one.
    pub polls_when_full: bool,
}

impl Pace {
    /// Creates a pace with this interval and number of slots.
    #[must_use]
    pub const fn new(interval: Duration, slots: u32) -> Self {
        Self {
            interval,
            slots,
            polls_when_full: false,
        }
    }

    fn jittered(&self) -> Duration {
        self.interval.mul_f64(rand::random_range(0.8..=1.2))
    }
}

/// The outcome of a poll.
#[derive(Debug)]
pub struct Claimed<I> {
    /// The claimed items.
    pub items: Vec<I>,
    /// The time of the next poll.
    pub next: Next,
}

/// The time of the next poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The regular time.
    Regular,
    /// The time after this pause.
    After(Duration),
}

impl<I> Claimed<I> {
    /// Returns the outcome of a poll that found nothing due.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            items: Vec::new(),
            next: Next::Regular,
        }
    }

    /// Returns the outcome of a poll that did the work itself. More of it may be due.
    #[must_use]
    pub const fn done(is_more_due: bool) -> Self {
        Self {
            items: Vec::new(),
            next: if is_more_due {
                Next::After(Duration::ZERO)
            } else {
                Next::Regular
            },
        }
    }
}

impl<I> From<Vec<I>> for Claimed<I> {
    fn from(items: Vec<I>) -> Self {
        Self {
            items,
            next: Next::Regular,
        }
    }
}

/// The error of a poll.
pub trait PollError: std::error::Error + Send + 'static {
    /// True if the storage is unavailable, which is logged separately.
    fn is_outage(&self) -> bool;
}

impl PollError for store::Error {
    fn is_outage(&self) -> bool {
        self.is_outage()
    }
}

/// Runs the loop until the service stops, and then finishes the work in progress.
pub async fn run<S: Source>(mut source: S, stopping: CancellationToken) {
    let slots = S::PACE.slots as usize;
    let mut handling = JoinSet::new();
    let mut pause = Duration::ZERO;
    let (mut may_wake, mut polls_after_each) = (true, S::PACE.polls_when_full);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            () = sleep(pause) => {}
            () = source.woken(), if may_wake => {}
            Some(_) = handling.join_next(), if polls_after_each => {}
        }
        if source.is_paused() {
            pause = S::PACE.jittered();
            continue;
        }
        reap(&mut handling);
        if slots - handling.len().min(slots) < slots / MIN_FREE_DIVISOR {
            // More slots are about to become free. One poll then claims items for all of them.
            sleep(SLOT_WAIT).await;
            reap(&mut handling);
        }
        let free = slots - handling.len().min(slots);
        if free == 0 && !S::PACE.polls_when_full {
            (polls_after_each, may_wake) = (true, false);
            pause = S::PACE.jittered();
            continue;
        }
        match source.claim(u32::try_from(free).unwrap_or(u32::MAX)).await {
            Ok(Claimed { items, next }) => {
                // More items may be due, so the next free slot causes a poll.
                let is_full = items.len() >= free;
                polls_after_each = S::PACE.polls_when_full || is_full;
                may_wake = true;
                pause = match next {
                    Next::Regular => S::PACE.jittered(),
                    Next::After(pause) => pause,
                };
                for item in items {
                    handling.spawn(source.handle(item));
                }
            }
            Err(error) => {
                if !error.is_outage() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "{}", S::FAILED);
                }
                // Neither a wake-up nor a finished item makes the storage answer sooner.
                (may_wake, polls_after_each) = (false, false);
                pause = S::PACE.jittered();
            }
        }
    }
    while handling.join_next().await.is_some() {}
}

/// Removes the handlers that have ended.
fn reap(handling: &mut JoinSet<()>) {
    while handling.try_join_next().is_some() {}
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, Semaphore};
    use tokio::time::Instant;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the lookup failed")]
    struct Failed;

    impl PollError for Failed {
        fn is_outage(&self) -> bool {
            false
        }
    }

    /// The work that a test hands out, and the record of its handling.
    struct TestState {
        /// The outcomes of polls, in order; `None` fails. After them nothing is due.
        due: std::sync::Mutex<VecDeque<Option<Vec<u32>>>>,
        polls: std::sync::Mutex<Vec<(Instant, u32)>>,
        woken: Notify,
        /// The permits that handlers wait for.
        gate: Semaphore,
        handled: AtomicUsize,
        max_in_progress: AtomicUsize,
        in_progress: AtomicUsize,
    }

    impl Default for TestState {
        fn default() -> Self {
            Self {
                due: std::sync::Mutex::default(),
                polls: std::sync::Mutex::default(),
                woken: Notify::new(),
                gate: Semaphore::new(0),
                handled: AtomicUsize::new(0),
                max_in_progress: AtomicUsize::new(0),
                in_progress: AtomicUsize::new(0),
            }
        }
    }

    #[derive(Clone, Default)]
    struct Work(Arc<TestState>);

    impl Source for Work {
        type Item = u32;
        type Error = Failed;

        const PACE: Pace = Pace::new(Duration::from_secs(10), 2);
        const FAILED: &'static str = "the work could not be looked up";

        async fn woken(&mut self) {
            self.0.woken.notified().await;
        }

        async fn claim(&mut self, limit: u32) -> Result<Claimed<u32>, Failed> {
            self.0.polls.lock().unwrap().push((Instant::now(), limit));
            let due = self.0.due.lock().unwrap().pop_front();
            due.map_or(Ok(Claimed::none()), |due| {
                due.map(Claimed::from).ok_or(Failed)
            })
        }

        fn handle(&self, _: u32) -> impl Future<Output = ()> + Send + 'static {
            let state = Arc::clone(&self.0);
            async move {
                let now = state.in_progress.fetch_add(1, Ordering::Relaxed) + 1;
                state.max_in_progress.fetch_max(now, Ordering::Relaxed);
                state.gate.acquire().await.unwrap().forget();
                state.in_progress.fetch_sub(1, Ordering::Relaxed);
                state.handled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Runs work with these outcomes of polls during `steps`.
    async fn run_during(due: &[Option<Vec<u32>>], steps: impl AsyncFnOnce(&TestState)) -> Work {
        let work = Work::default();
        work.0.due.lock().unwrap().extend(due.iter().cloned());
        let stopping = CancellationToken::new();
        let running = run(work.clone(), stopping.clone());
        let played = async {
            steps(&work.0).await;
            stopping.cancel();
        };
        tokio::join!(running, played);
        work
    }

    fn polls(work: &Work) -> Vec<(u64, u32)> {
        let polls = work.0.polls.lock().unwrap();
        let first = polls[0].0;
        let since = |at: Instant| (at - first).as_secs();
        polls
            .iter()
            .map(|(at, limit)| (since(*at), *limit))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_poll_is_immediate_and_the_next_after_the_interval() {
        let work = run_during(&[], async |_| sleep(Duration::from_secs(13)).await).await;

        let polls = polls(&work);
        assert_eq!(polls.len(), 2, "{polls:?}");
        assert!((8..=12).contains(&polls[1].0), "{polls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_triggers_the_next_poll_immediately() {
        let work = run_during(&[], async |state| {
            sleep(Duration::from_secs(2)).await;
            state.woken.notify_one();
            sleep(Duration::from_secs(2)).await;
        })
        .await;

        assert_eq!(polls(&work), [(0, 2), (2, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_after_a_failed_poll_waits_for_the_interval() {
        let work = run_during(&[None], async |state| {
            sleep(Duration::from_secs(2)).await;
            state.woken.notify_one();
            sleep(Duration::from_secs(11)).await;
        })
        .await;

        let polls = polls(&work);
        assert!(polls[1].0 >= 8, "{polls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_work_is_bounded_and_a_free_slot_triggers_a_poll() {
        let due = [Some(vec![1, 2]), Some(vec![3])];
        let work = run_during(&due, async |state| {
            sleep(Duration::from_secs(2)).await;
            state.gate.add_permits(1);
            sleep(Duration::from_secs(2)).await;
            state.gate.add_permits(2);
        })
        .await;

        let polls = polls(&work);
        assert_eq!(polls[..2], [(0, 2), (2, 1)], "{polls:?}");
        assert_eq!(work.0.max_in_progress.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_work_in_progress() {
        let work = run_during(&[Some(vec![1])], async |state| {
            sleep(Duration::from_secs(1)).await;
            state.gate.add_permits(1);
        })
        .await;

        assert_eq!(work.0.handled.load(Ordering::Relaxed), 1);
    }
}
