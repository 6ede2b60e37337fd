//! The inbox: stores changes before the webhook is answered, many in one transaction.
//!
//! Commits limit the rate, and a notification is answered only after its own commit. So a single
//! task writes. While it writes, notifications queue up, and the next transaction takes all of
//! them. The same task matches unmatched changes in four cases: after an opening, after a new
//! dialog, after it has stored an unmatched change (the mapping may have been created meanwhile),
//! and every few seconds for what a failed replica has left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::error::Error;
use super::interpreter::{BatchTranslator, Interpreter};
use super::notification_lag::LagTracker;
use super::wire::Change;
use crate::clock::SharedClock;
use crate::store::{self, Admission, Arrival, ChangesTx, Fate, Store, gather};
use crate::telemetry::metrics::{
    MATCHED_LATER, Metrics, WEBHOOK_BATCHES, WEBHOOK_CHANGES, WEBHOOK_COMMITS,
};
use crate::types::ids::{AccountId, ConversationId};

/// 4,096: the limit of notifications that wait for the writer. Beyond it the Cloud is asked to send
/// again.
const QUEUE: usize = 4096;

/// 64 MiB: the limit of their bytes. They count even if the request that waited for them is gone.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// 256: the limit of changes in one transaction. A larger one gains little and holds its locks
/// longer.
const BATCH: usize = 256;

/// 1 MiB: the limit of bytes of the changes in one transaction.
const BATCH_BYTES: usize = 1024 * 1024;

/// 500 ms: a transaction that fails within this time is attempted again at once. The Cloud waits
/// for 2.5 s.
const AT_ONCE: Duration = Duration::from_millis(500);

/// 5 s: the interval at which a replica looks for stored changes that can be matched by now.
const SWEEP: Duration = Duration::from_secs(5);

/// 30 s: the age up to which the sweep looks. It spans several sweeps, so that a failed one loses
/// nothing.
const SWEEP_WINDOW: TimeDelta = TimeDelta::seconds(30);

/// 2 minutes: the time that a message waits until the Cloud reports the kind of its dialog. The
/// Cloud reports the kind when it creates the dialog, and at first repeats a lost notification
/// within a minute.
const WITHHOLD_FOR: TimeDelta = TimeDelta::minutes(2);

/// 500: the limit of conversations and dialogs that one sweep handles.
const SWEEP_LIMIT: u32 = 500;

/// A change with the data that the store needs.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) arrival: Arrival,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) struct QueuedNotification {
    changes: Vec<Read>,
    /// The permit for its part of the queue's bytes.
    weight: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The sending side of the inbox. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Inbox {
    queue: mpsc::Sender<QueuedNotification>,
    room: Arc<Semaphore>,
}

/// The task that writes changes to the store.
pub struct Writer {
    store: Store,
    clock: SharedClock,
    metrics: Metrics,
    interpreter: Interpreter,
    waiting: mpsc::Receiver<QueuedNotification>,
    opened: mpsc::Receiver<ConversationId>,
    /// The notification lag of each account.
    lags: HashMap<AccountId, LagTracker>,
}

impl Inbox {
    /// Creates an inbox and its writer. The writer receives the ids of conversations that are
    /// `opened`.
    #[must_use]
    pub fn new(
        store: Store,
        clock: SharedClock,
        metrics: Metrics,
        interpreter: Interpreter,
        opened: mpsc::Receiver<ConversationId>,
    ) -> (Self, Writer) {
        let (inbox, waiting) = Self::queue();
        let writer = Writer {
            store,
            clock,
            metrics,
            interpreter,
            waiting,
            opened,
            lags: HashMap::new(),
        };
        (inbox, writer)
    }

    pub(super) fn queue() -> (Self, mpsc::Receiver<QueuedNotification>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        (Self { queue, room }, waiting)
    }

    /// Queues changes, and returns once they are stored.
    pub(super) async fn take(&self, changes: Vec<Read>) -> Result<(), Error> {
        let bytes: usize = changes.iter().map(|read| read.arrival.body.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let weight = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let weight = weight.map_err(|_| Error::Full)?;
        let (done, stored) = oneshot::channel();
        let waiting = QueuedNotification {
            changes,
            weight,
            done,
        };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        stored.await.map_err(|_| Error::Stopping)?
    }
}

impl Writer {
    /// Writes until all senders are gone.
    pub async fn run(mut self) {
        let mut sweeps = interval(SWEEP.mul_f64(rand::random_range(0.8..1.2)));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Conversations and dialogs that may have stored changes to match.
        let mut subjects = BTreeSet::new();
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                biased;
                _ = sweeps.tick() => {
                    // The latest lag may not be stored yet, if it came less than a second after the
                    // previous one.
                    self.save_lags().await;
                    // This work depends on the time, so it waits while the clock is ahead.
                    if !self.clock.is_ahead() {
                        subjects.extend(self.sweep().await);
                        subjects.extend(self.retry_postponed().await);
                    }
                }
                waiting = self.waiting.recv() => match waiting {
                    Some(waiting) => batch.push(waiting),
                    None => return,
                },
                Some(conversation_id) = self.opened.recv() => {
                    subjects.insert(conversation_id.as_str().to_owned());
                }
                // Nothing new has arrived, but there are conversations to look at again.
                () = std::future::ready(()), if !subjects.is_empty() => {}
            }
            gather(BATCH, || self.waiting.len()).await;
            while !batch.is_full() {
                match self.waiting.try_recv() {
                    Ok(waiting) => batch.push(waiting),
                    Err(_) => break,
                }
            }
            while let Ok(conversation_id) = self.opened.try_recv() {
                subjects.insert(conversation_id.as_str().to_owned());
            }
            let appeared: Vec<_> = std::mem::take(&mut subjects).into_iter().collect();
            subjects.extend(self.write(batch, &appeared).await);
        }
    }

    /// Stores a batch, answers the requests that wait, and returns the conversations to look at
    /// again.
    async fn write(&mut self, batch: Batch, appeared: &[String]) -> Vec<String> {
        if batch.arrivals.is_empty() && appeared.is_empty() {
            batch.done(&Ok(()));
            return Vec::new();
        }
        let reading = self.interpreter.reading(&batch.arrivals, &batch.changes);
        // A second attempt at once: two replicas may have been in conflict, a user may have been
        // erased meanwhile, or the database may have restarted. An attempt that took long is not
        // repeated.
        let begun = Instant::now();
        let mut outcome = self.admit(&batch, appeared, &reading).await;
        if outcome.is_err() && begun.elapsed() < AT_ONCE {
            outcome = self.admit(&batch, appeared, &reading).await;
        }
        self.count(&batch, begun, outcome.as_ref().ok());
        match outcome {
            Ok(admission) => {
                log(&admission);
                self.record(&batch);
                batch.done(&Ok(()));
                self.save_lags().await;
                admission.look_again
            }
            Err(error) => {
                // Each request is answered with an error, which is logged with its cause.
                if !error.is_outage() {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        notifications = batch.waiting.len(),
                        "notifications could not be stored; the Cloud is asked to send them again"
                    );
                }
                batch.done(&Err(Arc::new(error)));
                // A later sweep finds the conversations in `appeared`.
                Vec::new()
            }
        }
    }

    async fn admit(
        &self,
        batch: &Batch,
        appeared: &[String],
        reading: &BatchTranslator<'_>,
    ) -> Result<Admission, store::Error> {
        let now = self.clock.now();
        let changes = self.store.begin_changes(&batch.arrivals, appeared, now);
        Box::pin(admit(changes.await?, reading)).await
    }

    /// Counts a transaction and the outcome of each of its changes.
    fn count(&self, batch: &Batch, begun: Instant, admission: Option<&Admission>) {
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = admission.map_or("failed", |_| "stored");
        self.metrics.observe(&WEBHOOK_COMMITS, [outcome], seconds);
        let Some(admission) = admission else {
            return;
        };
        let matched = u64::try_from(admission.matched).unwrap_or_default();
        self.metrics.count(&MATCHED_LATER, [], matched);
        if batch.arrivals.is_empty() {
            return;
        }
        let size = u32::try_from(batch.arrivals.len()).unwrap_or(u32::MAX);
        self.metrics.observe(&WEBHOOK_BATCHES, [], size.into());
        let mut counts = BTreeMap::<_, u64>::new();
        for (arrival, fate) in batch.arrivals.iter().zip(&admission.fates) {
            let labels = (arrival.account_id.as_str(), word(*fate));
            *counts.entry(labels).or_default() += 1;
        }
        for ((account, fate), count) in counts {
            self.metrics.count(&WEBHOOK_CHANGES, [account, fate], count);
        }
    }

    /// Records the notification lag of the accounts in a batch.
    fn record(&mut self, batch: &Batch) {
        let now = self.clock.now();
        for (arrival, change) in batch.arrivals.iter().zip(&batch.changes) {
            let tracker = self.lags.entry(arrival.account_id.clone()).or_default();
            tracker.record(change.happened_at(), now);
        }
    }

    /// Stores the notification lag, at most once a second for each account.
    async fn save_lags(&mut self) {
        let now = self.clock.now();
        for (account, tracker) in &mut self.lags {
            let Some(lag) = tracker.due(now) else {
                continue;
            };
            match self.store.store_notification_lag(account, lag).await {
                Ok(()) => tracker.mark_saved(now),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the activity of an account could not be stored; it is stored with its next notification"
                ),
            }
        }
    }

    /// Retries changes that were postponed because this service might just have been opening their
    /// conversations. Returns the conversations to look at again.
    async fn retry_postponed(&self) -> Vec<String> {
        let looked = async {
            let subjects = self.store.postponed_subjects(SWEEP_LIMIT).await?;
            if subjects.is_empty() {
                return Ok(Admission::default());
            }
            let reading = self.interpreter.reading(&[], &[]);
            let now = self.clock.now();
            let changes = self.store.begin_postponed(&subjects, now).await?;
            Box::pin(admit(changes, &reading)).await
        };
        match looked.await {
            Ok(admission) => {
                let matched = u64::try_from(admission.matched).unwrap_or_default();
                self.metrics.count(&MATCHED_LATER, [], matched);
                admission.look_again
            }
            Err(error) => {
                log_error(&error);
                Vec::new()
            }
        }
    }

    /// Finds recent stored changes that can be matched by now, and releases messages that were
    /// withheld too long.
    async fn sweep(&self) -> Vec<String> {
        let now = self.clock.now();
        let subjects = self
            .store
            .matchable_places(now - SWEEP_WINDOW, now, SWEEP_LIMIT)
            .await;
        let released = self.store.release_withheld(now - WITHHOLD_FOR).await;
        let subjects = subjects.and_then(|subjects| Ok([subjects, released?].concat()));
        subjects.unwrap_or_else(|error| {
            log_error(&error);
            Vec::new()
        })
    }
}

/// Translates and applies changes, one lookup after the other.
async fn admit(
    mut changes: ChangesTx<'_>,
    reading: &BatchTranslator<'_>,
) -> Result<Admission, store::Error> {
    while let Some(found) = changes.look_up().await? {
        let translated = reading.translate(&found);
        changes = changes.apply(translated).await?;
    }
    changes.commit().await
}

fn log_error(error: &store::Error) {
    if !error.is_outage() {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "stored notifications could not be read; this is retried"
        );
    }
}

/// The notifications that share a transaction.
#[derive(Default)]
struct Batch {
    arrivals: Vec<Arrival>,
    changes: Vec<Change>,
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
    weights: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, waiting: QueuedNotification) {
        for Read { arrival, change } in waiting.changes {
            self.bytes += arrival.body.len();
            self.arrivals.push(arrival);
            self.changes.push(change);
        }
        self.weights.push(waiting.weight);
        self.waiting.push(waiting.done);
    }

    fn is_full(&self) -> bool {
        self.arrivals.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn done(self, outcome: &Result<(), Arc<store::Error>>) {
        for waiting in self.waiting {
            let outcome = outcome
                .as_ref()
                .map_err(|error| Error::Store(Arc::clone(error)));
            // The request may be gone; its changes are stored all the same.
            let _gone = waiting.send(outcome.copied());
        }
    }
}

/// Returns the fate as one word, for a metric's label.
const fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Duplicate => "duplicate",
        Fate::Taken(_) => "taken",
        Fate::Adopted(_) => "adopted",
        Fate::Early => "unmatched",
        Fate::OfOtherConnector => "other_connector",
        Fate::Withheld => "withheld",
        Fate::Erased => "erased",
    }
}

fn log(admission: &Admission) {
    let count = |fate: fn(&Fate) -> bool| admission.fates.iter().filter(|f| fate(f)).count();
    tracing::debug!(
        taken = count(|fate| matches!(fate, Fate::Taken(_))),
        adopted = count(|fate| matches!(fate, Fate::Adopted(_))),
        duplicates = count(|fate| matches!(fate, Fate::Duplicate)),
        kept = count(|fate| matches!(fate, Fate::Early | Fate::OfOtherConnector)),
        withheld = count(|fate| matches!(fate, Fate::Withheld)),
        of_erased_users = count(|fate| matches!(fate, Fate::Erased)),
        matched = admission.matched,
        "notifications stored"
    );
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::webhooks::wire::Notification;

    /// Returns a parsed notification with a body of `bytes` bytes.
    fn read(bytes: usize) -> Vec<Read> {
        let text = "x".repeat(bytes);
        let body = format!(
            r#"{{"kind":"notification","type":"ms.MessagingEventNotification","body":{{"changes":[{{"text":"{text}"}}]}}}}"#
        );
        let notification = Notification::parse(body.as_bytes()).unwrap();
        let changes = notification.changes.into_iter().map(|change| Read {
            arrival: Arrival {
                account_id: "1".parse().unwrap(),
                key: None,
                subject: "c1".to_owned(),
                consumer_id: None,
                side: None,
                turn: None,
                open: None,
                kind: change.kind().as_str(),
                body: text.clone(),
                parent: None,
                signed: None,
            },
            change,
        });
        changes.collect()
    }

    #[tokio::test]
    async fn abandoned_notifications_still_count_against_the_byte_bound() {
        let (inbox, mut waiting) = Inbox::queue();
        let mebibyte = 1024 * 1024;

        for _ in 0..QUEUE_BYTES / mebibyte {
            // It is queued, and then its request goes away.
            assert!(inbox.take(read(mebibyte)).now_or_never().is_none());
        }

        let refused = inbox.take(read(1)).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Full))));
        drop(waiting.recv().await);
        assert!(inbox.take(read(mebibyte)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_number_of_waiting_notifications_is_bounded() {
        let (inbox, mut waiting) = Inbox::queue();

        for _ in 0..QUEUE {
            assert!(inbox.take(read(1)).now_or_never().is_none());
        }

        let refused = inbox.take(read(1)).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Full))));
        drop(waiting.recv().await);
        assert!(inbox.take(read(1)).now_or_never().is_none());
    }
}
