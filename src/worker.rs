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
const FEW: usize = 4;

/// 5 ms: the time to wait for more free slots.
const GATHERING: Duration = Duration::from_millis(5);

/// A kind of background work.
pub trait Source: Send + 'static {
    /// A claimed item of work.
    type Item: Send;

    /// The error of a poll.
    type Error: Fault;

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
    pub every: Duration,
    /// The number of items that are handled at once.
    pub places: u32,
    /// True if each item that ends causes a poll, and polls go on while no slot is free.
    pub looks_always: bool,
}

impl Pace {
    /// Creates a pace with this interval and number of slots.
    #[must_use]
    pub const fn new(every: Duration, places: u32) -> Self {
        Self {
            every,
            places,
            looks_always: false,
        }
    }

    fn usual(&self) -> Duration {
        self.every.mul_f64(rand::random_range(0.8..=1.2))
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
    Usual,
    /// The time after this pause.
    After(Duration),
}

impl<I> Claimed<I> {
    /// Returns the outcome of a poll that found nothing due.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            items: Vec::new(),
            next: Next::Usual,
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
                Next::Usual
            },
        }
    }
}

impl<I> From<Vec<I>> for Claimed<I> {
    fn from(items: Vec<I>) -> Self {
        Self {
            items,
            next: Next::Usual,
        }
    }
}

/// The error of a poll.
pub trait Fault: std::error::Error + Send + 'static {
    /// True if the storage is unavailable, which is logged separately.
    fn is_outage(&self) -> bool;
}

impl Fault for store::Error {
    fn is_outage(&self) -> bool {
        self.is_outage()
    }
}

/// Runs the loop until the service stops, and then finishes the work in progress.
pub async fn run<S: Source>(mut source: S, stopping: CancellationToken) {
    let places = S::PACE.places as usize;
    let mut handling = JoinSet::new();
    let mut pause = Duration::ZERO;
    let (mut is_woken, mut looks_after_each) = (true, S::PACE.looks_always);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            () = sleep(pause) => {}
            () = source.woken(), if is_woken => {}
            Some(_) = handling.join_next(), if looks_after_each => {}
        }
        if source.is_paused() {
            pause = S::PACE.usual();
            continue;
        }
        reap(&mut handling);
        if places - handling.len().min(places) < places / FEW {
            // More slots are about to become free. One poll then claims items for all of them.
            sleep(GATHERING).await;
            reap(&mut handling);
        }
        let free = places - handling.len().min(places);
        if free == 0 && !S::PACE.looks_always {
            (looks_after_each, is_woken) = (true, false);
            pause = S::PACE.usual();
            continue;
        }
        match source.claim(u32::try_from(free).unwrap_or(u32::MAX)).await {
            Ok(Claimed { items, next }) => {
                // More items may be due, so the next free slot causes a poll.
                let is_full = items.len() >= free;
                looks_after_each = S::PACE.looks_always || is_full;
                is_woken = true;
                pause = match next {
                    Next::Usual => S::PACE.usual(),
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
                (is_woken, looks_after_each) = (false, false);
                pause = S::PACE.usual();
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

    impl Fault for Failed {
        fn is_outage(&self) -> bool {
            false
        }
    }

    /// The work that a test hands out, and the record of its handling.
    struct Bench {
        /// The outcomes of polls, in order; `None` fails. After them nothing is due.
        due: std::sync::Mutex<VecDeque<Option<Vec<u32>>>>,
        looks: std::sync::Mutex<Vec<(Instant, u32)>>,
        woken: Notify,
        /// The permits that handlers wait for.
        gate: Semaphore,
        handled: AtomicUsize,
        most: AtomicUsize,
        under_way: AtomicUsize,
    }

    impl Default for Bench {
        fn default() -> Self {
            Self {
                due: std::sync::Mutex::default(),
                looks: std::sync::Mutex::default(),
                woken: Notify::new(),
                gate: Semaphore::new(0),
                handled: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                under_way: AtomicUsize::new(0),
            }
        }
    }

    #[derive(Clone, Default)]
    struct Work(Arc<Bench>);

    impl Source for Work {
        type Item = u32;
        type Error = Failed;

        const PACE: Pace = Pace::new(Duration::from_secs(10), 2);
        const FAILED: &'static str = "the work could not be looked up";

        async fn woken(&mut self) {
            self.0.woken.notified().await;
        }

        async fn claim(&mut self, limit: u32) -> Result<Claimed<u32>, Failed> {
            self.0.looks.lock().unwrap().push((Instant::now(), limit));
            let due = self.0.due.lock().unwrap().pop_front();
            due.map_or(Ok(Claimed::nothing()), |due| {
                due.map(Claimed::from).ok_or(Failed)
            })
        }

        fn handle(&self, _: u32) -> impl Future<Output = ()> + Send + 'static {
            let bench = Arc::clone(&self.0);
            async move {
                let now = bench.under_way.fetch_add(1, Ordering::Relaxed) + 1;
                bench.most.fetch_max(now, Ordering::Relaxed);
                bench.gate.acquire().await.unwrap().forget();
                bench.under_way.fetch_sub(1, Ordering::Relaxed);
                bench.handled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Runs work with these outcomes of polls while `scene` is played.
    async fn play(due: &[Option<Vec<u32>>], scene: impl AsyncFnOnce(&Bench)) -> Work {
        let work = Work::default();
        work.0.due.lock().unwrap().extend(due.iter().cloned());
        let stopping = CancellationToken::new();
        let running = run(work.clone(), stopping.clone());
        let played = async {
            scene(&work.0).await;
            stopping.cancel();
        };
        tokio::join!(running, played);
        work
    }

    fn looks(work: &Work) -> Vec<(u64, u32)> {
        let looks = work.0.looks.lock().unwrap();
        let first = looks[0].0;
        let since = |at: Instant| (at - first).as_secs();
        looks
            .iter()
            .map(|(at, limit)| (since(*at), *limit))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_poll_is_immediate_and_the_next_after_the_interval() {
        let work = play(&[], async |_| sleep(Duration::from_secs(13)).await).await;

        let looks = looks(&work);
        assert_eq!(looks.len(), 2, "{looks:?}");
        assert!((8..=12).contains(&looks[1].0), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_triggers_the_next_poll_immediately() {
        let work = play(&[], async |bench| {
            sleep(Duration::from_secs(2)).await;
            bench.woken.notify_one();
            sleep(Duration::from_secs(2)).await;
        })
        .await;

        assert_eq!(looks(&work), [(0, 2), (2, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_after_a_failed_poll_waits_for_the_interval() {
        let work = play(&[None], async |bench| {
            sleep(Duration::from_secs(2)).await;
            bench.woken.notify_one();
            sleep(Duration::from_secs(11)).await;
        })
        .await;

        let looks = looks(&work);
        assert!(looks[1].0 >= 8, "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_work_is_bounded_and_a_free_slot_triggers_a_poll() {
        let due = [Some(vec![1, 2]), Some(vec![3])];
        let work = play(&due, async |bench| {
            sleep(Duration::from_secs(2)).await;
            bench.gate.add_permits(1);
            sleep(Duration::from_secs(2)).await;
            bench.gate.add_permits(2);
        })
        .await;

        let looks = looks(&work);
        assert_eq!(looks[..2], [(0, 2), (2, 1)], "{looks:?}");
        assert_eq!(work.0.most.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_work_in_progress() {
        let work = play(&[Some(vec![1])], async |bench| {
            sleep(Duration::from_secs(1)).await;
            bench.gate.add_permits(1);
        })
        .await;

        assert_eq!(work.0.handled.load(Ordering::Relaxed), 1);
    }
}
