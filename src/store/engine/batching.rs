//! Batching: concurrent operations of one kind share a statement or a transaction.
//!
//! The cost of a statement is mostly its round trip (on both sides a wake-up, a read and a write)
//! and, for a write, the commit. So an operation that arrives while a statement of its kind is in
//! flight waits for that statement, and is sent with the next one. An operation that finds no batch
//! in progress is sent at once. Nothing is answered from data that was read before the operation
//! was submitted. docs/performance.md has measurements.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::store::{Error, Store};

/// 256: the maximum number of operations in a batch. More would gain little, and the first one
/// waits until the last one is answered.
const MAX_BATCH: usize = 256;

/// 1 MiB: the maximum total size of the operations in a batch.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// 20 ms: the time after which a statement counts as slow, for example because of a lock or the
/// network. Later operations do not wait for it; they are sent beside it.
const SLOW: Duration = Duration::from_millis(20);

/// 4: the maximum number of statements of one kind in flight when some are slow. Each holds a
/// connection.
const MAX_IN_FLIGHT: usize = 4;

/// 16: the maximum number of polls of the sockets while further operations keep arriving. All 16
/// polls take about a millisecond with one core under load.
const MAX_POLLS: u32 = 16;

/// An operation that is batched with others of its kind.
pub(in crate::store) trait BatchedQuery:
    Debug + Send + Sync + Sized + 'static
{
    /// The result of one operation.
    type Answer: Debug + Send + 'static;

    /// Returns the approximate size in bytes, for kinds that can be large.
    fn bytes(&self) -> usize {
        0
    }

    /// Runs all operations; the answers are in the same order. An error applies to all of them: as
    /// for a single operation, none was done, or the outcome is unknown.
    fn run(
        store: &Store,
        queries: &[&Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Error>> + Send;
}

/// The waiting operations of one kind. The store has one batcher for each kind (`batchers.rs`).
#[derive(Debug)]
pub(in crate::store) struct Batcher<Q: BatchedQuery>(Mutex<Queue<Q>>);

#[derive(Debug)]
struct Queue<Q: BatchedQuery> {
    /// The waiting operations in the order of their arrival.
    waiting: VecDeque<Pending<Q>>,
    /// The number of tasks that send batches.
    tasks: usize,
    /// The time at which a task last took a batch.
    taken_at: Instant,
}

#[derive(Debug)]
struct Pending<Q: BatchedQuery> {
    query: Q,
    answer: oneshot::Sender<Result<Q::Answer, Error>>,
}

impl<Q: BatchedQuery> Default for Batcher<Q> {
    fn default() -> Self {
        Self(Mutex::new(Queue {
            waiting: VecDeque::new(),
            tasks: 0,
            taken_at: Instant::now(),
        }))
    }
}

impl Store {
    /// Runs an operation, batched with concurrent ones of its kind. Once submitted it is completed,
    /// even if the caller is cancelled.
    pub(in crate::store) async fn run_batched<Q: BatchedQuery>(
        &self,
        query: Q,
    ) -> Result<Q::Answer, Error>
    where
        Self: AsRef<Batcher<Q>>,
    {
        let (answer, receiver) = oneshot::channel();
        if self.as_ref().add(Pending { query, answer }) {
            let store = self.clone();
            // The task ends when nothing is waiting, and each of its waits has a limit.
            self.runtime
                .spawn(async move { store.as_ref().send_batches(&store).await });
        }
        // The answer is missing only if the runtime shuts down and drops the task.
        receiver
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::PoolClosed.into()))
    }
}

impl<Q: BatchedQuery> Batcher<Q> {
    /// Queues an operation. Returns true if another task is needed to send it.
    fn add(&self, operation: Pending<Q>) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(operation);
        let needs_task = match queue.tasks {
            0 => true,
            MAX_IN_FLIGHT.. => false,
            _ => queue.taken_at.elapsed() > SLOW,
        };
        if needs_task {
            queue.tasks += 1;
            queue.taken_at = Instant::now();
        }
        needs_task
    }

    /// Takes the next batch. If it is empty, the task that sends batches ends.
    fn take(&self) -> Vec<Pending<Q>> {
        let mut queue = self.lock();
        let mut bytes = 0;
        let fit = queue
            .waiting
            .iter()
            .take(MAX_BATCH)
            .take_while(|operation| {
                bytes += operation.query.bytes();
                bytes <= MAX_BATCH_BYTES
            });
        // One operation is always taken, whatever its size.
        let count = fit.count().max(1).min(queue.waiting.len());
        queue.tasks -= usize::from(count == 0);
        queue.taken_at = Instant::now();
        queue.waiting.drain(..count).collect()
    }

    /// Sends batches until nothing is waiting.
    async fn send_batches(&self, store: &Store) {
        loop {
            gather(MAX_BATCH, || self.lock().waiting.len()).await;
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            let queries: Vec<_> = batch.iter().map(|operation| &operation.query).collect();
            match Q::run(store, &queries).await {
                Ok(answers) => answer(batch, answers.into_iter().map(Ok)),
                // If the database is unavailable, the operations that wait fail together with this
                // batch.
                Err(error) if error.is_outage() => {
                    let waiting: Vec<_> = self.lock().waiting.drain(..).collect();
                    let all = batch.into_iter().chain(waiting).collect();
                    answer(all, std::iter::repeat_with(|| Err(error.clone())));
                }
                // An error that one operation causes must not fail the others.
                Err(_) if batch.len() > 1 => run_individually(store, batch).await,
                Err(error) => answer(batch, std::iter::once(Err(error))),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Q>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for operations that have already reached a socket but were not read yet. `count` returns
/// the number that have been read. The wait goes on while each poll of the sockets brings more of
/// them, up to `enough`.
///
/// The larger a batch, the less each operation in it costs. Compared with a single poll, a text
/// costs PostgreSQL 4 instead of 5 µs and the service 36 instead of 38 µs; a text with a key, 39
/// instead of 52 µs and 52 instead of 59 µs. A single operation waits no longer than before.
pub async fn gather(enough: usize, count: impl Fn() -> usize) {
    let mut before = 0;
    for _ in 0..MAX_POLLS {
        // Continues once the runtime has polled the sockets and the tasks woken by that have run.
        yield_now().await;
        let now = count();
        if now == before || now >= enough {
            return;
        }
        before = now;
    }
}

async fn run_individually<Q: BatchedQuery>(store: &Store, batch: Vec<Pending<Q>>) {
    for operation in batch {
        let answers = Q::run(store, &[&operation.query]).await;
        let result = answers.and_then(|answers| answers.into_iter().next().ok_or(Error::Contended));
        answer(vec![operation], std::iter::once(result));
    }
}

/// Sends each caller its answer.
fn answer<Q: BatchedQuery>(
    batch: Vec<Pending<Q>>,
    answers: impl Iterator<Item = Result<Q::Answer, Error>>,
) {
    for (operation, answer) in batch.into_iter().zip(answers) {
        // A caller that was cancelled takes no answer.
        let _sent = operation.answer.send(answer);
    }
}

/// Distributes rows to `count` answers. Each row has the index of the operation that it answers.
pub(in crate::store) fn by_index<R, A: Default>(
    count: usize,
    rows: impl IntoIterator<Item = (i64, R)>,
    add: impl Fn(&mut A, R),
) -> Vec<A> {
    let mut answers: Vec<A> = std::iter::repeat_with(A::default).take(count).collect();
    for (index, row) in rows {
        let index = usize::try_from(index).ok();
        if let Some(answer) = index.and_then(|index| answers.get_mut(index)) {
            add(answer, row);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{MAX_POLLS, gather};

    /// Returns the number of polls when `each` operations arrive per poll, until there are `until`.
    async fn polls(enough: usize, until: usize, each: usize) -> usize {
        let polls = AtomicUsize::new(0);
        let count = || until.min(each * (1 + polls.fetch_add(1, Ordering::Relaxed)));
        gather(enough, count).await;
        polls.into_inner()
    }

    #[tokio::test]
    async fn a_batch_waits_only_while_more_operations_arrive() {
        assert_eq!(polls(256, 0, 1).await, 1, "for no operation");
        assert_eq!(polls(256, 1, 1).await, 2, "for one");
        assert_eq!(polls(256, 4, 1).await, 5, "for four, one by one");
        assert_eq!(polls(256, 12, 8).await, 3, "for a dozen");
        assert_eq!(polls(3, 256, 1).await, 3, "until there are enough");
        let endless = polls(usize::MAX, usize::MAX, 1).await;
        assert_eq!(endless, usize::try_from(MAX_POLLS).unwrap(), "for a time");
    }
}
