//! The threads that serve connections.
//!
//! Each thread has a runtime of its own, and a connection stays on one thread, together with the
//! connections to the Cloud that its requests use (`http`). So no thread takes work from another
//! one. The main thread is one of them. It also sends the batches to the database
//! (`store::engine::batching`) and does all background work.
//!
//! Compared with a runtime whose threads share all work, a message costs the service about a tenth
//! less, on two cores that all processes share (docs/performance.md).

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads that serve connections. The default is the calling thread alone. Dropping this value
/// ends the other threads, and everything that still runs on them.
#[derive(Debug, Default)]
pub struct Threads {
    /// The connections of the main thread: each holds a clone.
    main: Arc<()>,
    others: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    /// Its connections: each holds a clone.
    connections: Arc<()>,
    end: CancellationToken,
    ended: JoinHandle<()>,
}

impl Threads {
    /// Starts the threads: `count`, the calling one included.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread or what its runtime needs.
    pub fn start(count: NonZero<usize>) -> io::Result<Self> {
        let others = (1..count.get()).map(Thread::start);
        Ok(Self {
            main: Arc::default(),
            others: others.collect::<Result<_, _>>()?,
        })
    }

    /// Runs the work of a connection on the thread that serves the fewest connections.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut fewest = (&self.main, None);
        for thread in self.others.iter().filter(|thread| thread.is_running()) {
            if Arc::strong_count(&thread.connections) < Arc::strong_count(fewest.0) {
                fewest = (&thread.connections, Some(&thread.runtime));
            }
        }
        let (connections, runtime) = fewest;
        let connection = Arc::clone(connections);
        let work = async move {
            work.await;
            drop(connection);
        };
        let runtime = runtime.cloned().unwrap_or_else(Handle::current);
        runtime.spawn(work);
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let until = end.clone();
        let ended = thread::Builder::new()
            .name(format!("serving-{number}"))
            .spawn(move || {
                runtime.block_on(until.cancelled());
                // Blocking tasks that still run are not awaited: the stop has a time limit.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            end,
            ended,
        })
    }

    /// False after a panic of its runtime. Then no connection may go there.
    fn is_running(&self) -> bool {
        !self.ended.is_finished()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &self.others {
            thread.end.cancel();
        }
        for thread in self.others.drain(..) {
            // A panic has already been logged.
            let _ended = thread.ended.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread::ThreadId;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Spawns work that lasts until the returned sender is dropped; returns its thread as well.
    async fn spawn(threads: &Threads) -> (ThreadId, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let (started, mut starts) = mpsc::channel(1);
        threads.spawn(async move {
            started.send(thread::current().id()).await.unwrap();
            let _dropped = ended.await;
        });
        (starts.recv().await.unwrap(), end)
    }

    fn start(count: usize) -> Threads {
        Threads::start(NonZero::new(count).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn connections_are_spread_over_all_threads() {
        let threads = start(3);
        let mut connections = Vec::new();
        let mut count_by_thread = HashMap::new();

        for _ in 0..12 {
            let (thread, end) = spawn(&threads).await;
            *count_by_thread.entry(thread).or_insert(0) += 1;
            connections.push(end);
        }

        let counts: Vec<_> = count_by_thread.values().copied().collect();
        assert_eq!(counts, [4, 4, 4]);
        assert!(count_by_thread.contains_key(&thread::current().id()));
    }

    #[tokio::test]
    async fn a_new_connection_goes_to_the_thread_with_the_fewest() {
        let threads = start(2);
        let (main, _first) = spawn(&threads).await;
        let (other, second) = spawn(&threads).await;
        assert_ne!(main, other);
        let (_, _third) = spawn(&threads).await;

        drop(second);
        while Arc::strong_count(&threads.others[0].connections) > 1 {
            tokio::task::yield_now().await;
        }

        let (fourth, _end) = spawn(&threads).await;
        assert_eq!(fourth, other);
        let (fifth, _end) = spawn(&threads).await;
        assert_eq!(fifth, other);
    }

    #[tokio::test]
    async fn dropping_the_threads_ends_the_work_on_them() {
        let threads = start(2);
        let (_, _first) = spawn(&threads).await;
        let (_, mut second) = spawn(&threads).await;

        drop(threads);

        second.closed().await;
    }
}
