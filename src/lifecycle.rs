//! The life of the service: start, signals, and an orderly stop with a time limit.
//!
//! The first SIGTERM or SIGINT starts the stop: work in progress is finished. A second one, or the
//! time limit, aborts the work that is still running. SIGHUP, SIGUSR1 and SIGUSR2 are only logged.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// 25 s: the limit for requests at a stop. The whole stop takes at most 30 s, and the process needs
/// some of it to end after the last request.
const FINISH_LIMIT: Duration = Duration::from_secs(25);

/// The life of the process, or of one service within it. Clones share one life.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    aborted: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Creates a life that ends on SIGTERM or SIGINT. Other signals that process managers send do
    /// not end it.
    ///
    /// # Errors
    ///
    /// If the operating system refuses a signal handler.
    pub fn until_signal() -> std::io::Result<Self> {
        let life = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        ignore_other_signals()?;
        let signalled = life.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "the task waits for signals as long as the process lives, so nothing may wait for it"
        )]
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first {
                    tracing::info!(
                        "stopping: finishing requests in flight; a second signal aborts them"
                    );
                    signalled.stop();
                } else {
                    tracing::warn!("aborted by a second signal");
                    signalled.aborted.cancel();
                }
            }
        });
        Ok(life)
    }

    /// Starts the stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until [`stop`](Self::stop) is called.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Returns a token that is cancelled at a stop, for code that does not know `Lifecycle`.
    #[must_use]
    pub fn stopping_token(&self) -> CancellationToken {
        self.stopping.child_token()
    }

    /// Returns the tracker of tasks that must finish before the process ends.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Spawns an endless task, which is dropped at a stop.
    pub fn spawn_until_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping_token();
        self.tasks.spawn(async move {
            stopping.run_until_cancelled(work).await;
        });
    }

    /// Runs `work`, which ends by itself soon after [`stop`](Self::stop), and then waits for the
    /// spawned tasks. Returns true if all of them finished in time, and false if any was aborted.
    pub async fn finish(&self, work: impl Future<Output = ()>) -> bool {
        let time_limit = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(FINISH_LIMIT).await;
        };
        let completion = async {
            work.await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        tokio::select! {
            () = completion => true,
            () = time_limit => {
                tracing::error!(limit_seconds = FINISH_LIMIT.as_secs(), "aborted: requests were still running at the time limit");
                false
            }
            () = self.aborted.cancelled() => false,
        }
    }
}

/// Handles and logs signals that would end the process by default although they ask for something
/// else.
///
/// SIGPIPE is not among them, since the standard library ignores it in every program.
fn ignore_other_signals() -> std::io::Result<()> {
    for (name, kind) in [
        ("SIGHUP", SignalKind::hangup()),
        ("SIGUSR1", SignalKind::user_defined1()),
        ("SIGUSR2", SignalKind::user_defined2()),
    ] {
        let mut signals = signal(kind)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the task waits for signals as long as the process lives, so nothing may wait for it"
        )]
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!(
                    signal = name,
                    "signal ignored: the configuration is read only at the start; to apply changes, restart one replica after the other"
                );
            }
        });
    }
    Ok(())
}

/// Runs `closing`, which should take no time, for at most 2 s.
pub(crate) async fn close_in_time(closing: impl Future<Output = ()>) {
    if timeout(Duration::from_secs(2), closing).await.is_err() {
        tracing::warn!("the database's connections did not close in time");
    }
}
