//! The inbox: stores changes before the webhook is answered, many in one transaction.
//!
//! Commits limit the rate, and a notification is answered only after its own commit. So a single
//! task writes. While it writes, notifications queue up, and the next transaction takes all of
//! them. The same task matches unmatched changes in four cases: after an opening, after a new
//! dialog, after it has stored an unmatched change (the mapping may have been created meanwhile),
//! and every few seconds for changes that a failed replica left behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::error::Error;
use super::interpreter::{BatchTranslator, Interpreter};
use super::notification_lag::LagTracker;
use super::wire::Change;
use crate::clock::SharedClock;
use crate::store::{self, Admission, Arrival, ArrivalOutcome, ChangesTx, Store, gather};
use crate::telemetry::metrics::{
    MATCHED_LATER, Metrics, WEBHOOK_BATCHES, WEBHOOK_CHANGES, WEBHOOK_COMMITS,
};
use crate::types::ids::{AccountId, ConversationId};

/// 4,096: the limit of notifications that wait for the writer. Beyond it, the Cloud is asked to
/// send them again.
const MAX_QUEUED: usize = 4096;

/// 64 MiB: the limit of their bytes. They count even after their request was cancelled.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// 256: the limit of changes in one transaction. A larger one gains little and holds its locks
/// longer.
const MAX_BATCH: usize = 256;

/// 1 MiB: the limit of bytes of the changes in one transaction.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// 500 ms: a transaction that fails within this time is attempted again at once. The Cloud waits
/// for 2.5 s.
const RETRY_WITHIN: Duration = Duration::from_millis(500);

/// 5 s: the interval at which a replica looks for stored changes that can be matched by now.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// 30 s: the age up to which a sweep finds changes. It spans several sweeps, so that a failed one
/// misses nothing.
const SWEEP_WINDOW: TimeDelta = TimeDelta::seconds(30);

/// 2 minutes: the longest time that a message waits for the Cloud to report the kind of its dialog.
/// The Cloud reports the kind when it creates the dialog, and repeats a lost notification within a
/// minute.
const WITHHOLD_FOR: TimeDelta = TimeDelta::minutes(2);

/// 500: the limit of conversations and dialogs that one sweep handles.
const SWEEP_LIMIT: u32 = 500;

/// A change with the data that the store needs.
#[derive(Debug)]
pub(super) struct IncomingChange {
    pub(super) arrival: Arrival,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) struct QueuedNotification {
    changes: Vec<IncomingChange>,
    /// The permit for its part of the queue's bytes.
    permit: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// The sending side of the inbox. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Inbox {
    queue: mpsc::Sender<QueuedNotification>,
    byte_permits: Arc<Semaphore>,
}

/// The task that writes changes to the store.
pub struct Writer {
    store: Store,
    clock: SharedClock,
    metrics: Metrics,
    interpreter: Interpreter,
    queue: mpsc::Receiver<QueuedNotification>,
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
        let (inbox, queue) = Self::channel();
        let writer = Writer {
            store,
            clock,
            metrics,
            interpreter,
            queue,
            opened,
            lags: HashMap::new(),
        };
        (inbox, writer)
    }

    pub(super) fn channel() -> (Self, mpsc::Receiver<QueuedNotification>) {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let byte_permits = Arc::new(Semaphore::new(MAX_QUEUED_BYTES));
        let inbox = Self {
            queue,
            byte_permits,
        };
        (inbox, queued)
    }

    /// Queues changes, and returns once they are stored.
    pub(super) async fn submit(&self, changes: Vec<IncomingChange>) -> Result<(), Error> {
        let bytes: usize = changes.iter().map(|it| it.arrival.body.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.byte_permits).try_acquire_many_owned(bytes);
        let permit = permit.map_err(|_| Error::Full)?;
        let (reply, stored) = oneshot::channel();
        let notification = QueuedNotification {
            changes,
            permit,
            reply,
        };
        let queued = self.queue.try_send(notification);
        queued.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        stored.await.map_err(|_| Error::Stopping)?
    }
}

impl Writer {
    /// Writes until all senders are dropped.
    pub async fn run(mut self) {
        let mut sweeps = interval(SWEEP_INTERVAL.mul_f64(rand::random_range(0.8..1.2)));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Conversations and dialogs that may have stored changes to match.
        let mut subjects = BTreeSet::new();
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                biased;
                _ = sweeps.tick() => {
                    // The latest lag is not stored yet if it came less than a second after the
                    // previous one.
                    self.save_lags().await;
                    // This work depends on the time, so it waits while the clock is ahead.
                    if !self.clock.is_ahead() {
                        subjects.extend(self.sweep().await);
                        subjects.extend(self.retry_postponed().await);
                    }
                }
                notification = self.queue.recv() => match notification {
                    Some(notification) => batch.push(notification),
                    None => return,
                },
                Some(conversation_id) = self.opened.recv() => {
                    subjects.insert(conversation_id.as_str().to_owned());
                }
                // Nothing new has arrived, but some subjects must be matched again.
                () = std::future::ready(()), if !subjects.is_empty() => {}
            }
            gather(MAX_BATCH, || self.queue.len()).await;
            while !batch.is_full() {
                match self.queue.try_recv() {
                    Ok(notification) => batch.push(notification),
                    Err(_) => break,
                }
            }
            while let Ok(conversation_id) = self.opened.try_recv() {
                subjects.insert(conversation_id.as_str().to_owned());
            }
            let to_match: Vec<_> = std::mem::take(&mut subjects).into_iter().collect();
            subjects.extend(self.write(batch, &to_match).await);
        }
    }

    /// Stores a batch, answers the requests that wait for it, and returns the subjects to match
    /// again.
    async fn write(&mut self, batch: Batch, subjects: &[String]) -> Vec<String> {
        if batch.arrivals.is_empty() && subjects.is_empty() {
            batch.reply(&Ok(()));
            return Vec::new();
        }
        let translator = self
            .interpreter
            .batch_translator(&batch.arrivals, &batch.changes);
        // A second attempt at once: two replicas may have been in conflict, a user may have been
        // erased meanwhile, or the database may have restarted. An attempt that took long is not
        // repeated.
        let begun = Instant::now();
        let mut outcome = self.admit(&batch, subjects, &translator).await;
        if outcome.is_err() && begun.elapsed() < RETRY_WITHIN {
            outcome = self.admit(&batch, subjects, &translator).await;
        }
        self.count(&batch, begun, outcome.as_ref().ok());
        match outcome {
            Ok(admission) => {
                log(&admission);
                self.record(&batch);
                batch.reply(&Ok(()));
                self.save_lags().await;
                admission.recheck
            }
            Err(error) => {
                // Each request is answered with an error, which is logged with its cause.
                if !error.is_outage() {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        notifications = batch.replies.len(),
                        "notifications could not be stored; the Cloud is asked to send them again"
                    );
                }
                batch.reply(&Err(Arc::new(error)));
                // A later sweep finds the subjects.
                Vec::new()
            }
        }
    }

    async fn admit(
        &self,
        batch: &Batch,
        subjects: &[String],
        translator: &BatchTranslator<'_>,
    ) -> Result<Admission, store::Error> {
        let now = self.clock.now();
        let changes = self.store.begin_changes(&batch.arrivals, subjects, now);
        Box::pin(admit(changes.await?, translator)).await
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
        for (arrival, outcome) in batch.arrivals.iter().zip(&admission.outcomes) {
            let labels = (arrival.account_id.as_str(), label(*outcome));
            *counts.entry(labels).or_default() += 1;
        }
        for ((account, outcome), count) in counts {
            self.metrics
                .count(&WEBHOOK_CHANGES, [account, outcome], count);
        }
    }

    /// Records the notification lag of the accounts in a batch.
    fn record(&mut self, batch: &Batch) {
        let now = self.clock.now();
        for (arrival, change) in batch.arrivals.iter().zip(&batch.changes) {
            let tracker = self.lags.entry(arrival.account_id.clone()).or_default();
            tracker.record(change.occurred_at(), now);
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
    /// conversations. Returns the subjects to match again.
    async fn retry_postponed(&self) -> Vec<String> {
        let retry = async {
            let subjects = self.store.postponed_subjects(SWEEP_LIMIT).await?;
            if subjects.is_empty() {
                return Ok(Admission::default());
            }
            let translator = self.interpreter.batch_translator(&[], &[]);
            let now = self.clock.now();
            let changes = self.store.begin_postponed(&subjects, now).await?;
            Box::pin(admit(changes, &translator)).await
        };
        match retry.await {
            Ok(admission) => {
                let matched = u64::try_from(admission.matched).unwrap_or_default();
                self.metrics.count(&MATCHED_LATER, [], matched);
                admission.recheck
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
            .matchable_subjects(now - SWEEP_WINDOW, now, SWEEP_LIMIT)
            .await;
        let released = self.store.release_withheld(now - WITHHOLD_FOR).await;
        let subjects = subjects.and_then(|subjects| Ok([subjects, released?].concat()));
        subjects.unwrap_or_else(|error| {
            log_error(&error);
            Vec::new()
        })
    }
}

/// Translates and applies changes, one lookup after another.
async fn admit(
    mut changes: ChangesTx<'_>,
    translator: &BatchTranslator<'_>,
) -> Result<Admission, store::Error> {
    while let Some(found) = changes.look_up().await? {
        // Most changes need no further query. The thread's other tasks must not wait until all of
        // a large notification are translated.
        consume_budget().await;
        let translated = translator.translate(&found);
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
    replies: Vec<oneshot::Sender<Result<(), Error>>>,
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, notification: QueuedNotification) {
        for IncomingChange { arrival, change } in notification.changes {
            self.bytes += arrival.body.len();
            self.arrivals.push(arrival);
            self.changes.push(change);
        }
        self.permits.push(notification.permit);
        self.replies.push(notification.reply);
    }

    fn is_full(&self) -> bool {
        self.arrivals.len() >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES
    }

    fn reply(self, outcome: &Result<(), Arc<store::Error>>) {
        for reply in self.replies {
            let outcome = outcome
                .as_ref()
                .map_err(|error| Error::Store(Arc::clone(error)));
            // The request may have been cancelled; its changes are stored all the same.
            let _unsent = reply.send(outcome.copied());
        }
    }
}

/// Returns the outcome as one word, for a metric's label.
const fn label(outcome: ArrivalOutcome) -> &'static str {
    match outcome {
        ArrivalOutcome::Duplicate => "duplicate",
        ArrivalOutcome::Matched(_) => "taken",
        ArrivalOutcome::Adopted(_) => "adopted",
        ArrivalOutcome::Unmatched => "unmatched",
        ArrivalOutcome::OfOtherConnector => "other_connector",
        ArrivalOutcome::Withheld => "withheld",
        ArrivalOutcome::Erased => "erased",
    }
}

fn log(admission: &Admission) {
    let count = |is_counted: fn(&ArrivalOutcome) -> bool| {
        let outcomes = admission.outcomes.iter();
        outcomes.filter(|outcome| is_counted(outcome)).count()
    };
    tracing::debug!(
        taken = count(|outcome| matches!(outcome, ArrivalOutcome::Matched(_))),
        adopted = count(|outcome| matches!(outcome, ArrivalOutcome::Adopted(_))),
        duplicates = count(|outcome| matches!(outcome, ArrivalOutcome::Duplicate)),
        kept = count(|outcome| {
            matches!(
                outcome,
                ArrivalOutcome::Unmatched | ArrivalOutcome::OfOtherConnector
            )
        }),
        withheld = count(|outcome| matches!(outcome, ArrivalOutcome::Withheld)),
        of_erased_users = count(|outcome| matches!(outcome, ArrivalOutcome::Erased)),
        matched = admission.matched,
        "notifications stored"
    );
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::webhooks::wire::Notification;

    /// Returns the changes of a notification, with a body of `bytes` bytes.
    fn incoming(bytes: usize) -> Vec<IncomingChange> {
        let text = "x".repeat(bytes);
        let body = format!(
            r#"{{"kind":"notification","type":"ms.MessagingEventNotification","body":{{"changes":[{{"text":"{text}"}}]}}}}"#
        );
        let notification = Notification::parse(body.as_bytes()).unwrap();
        let changes = notification
            .changes
            .into_iter()
            .map(|change| IncomingChange {
                arrival: Arrival {
                    account_id: "1".parse().unwrap(),
                    key: None,
                    subject: "c1".to_owned(),
                    consumer_id: None,
                    named_dialog: None,
                    position: None,
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
        let (inbox, mut queue) = Inbox::channel();
        let mebibyte = 1024 * 1024;

        for _ in 0..MAX_QUEUED_BYTES / mebibyte {
            // It is queued, and then its request is cancelled.
            assert!(inbox.submit(incoming(mebibyte)).now_or_never().is_none());
        }

        let refused = inbox.submit(incoming(1)).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Full))));
        drop(queue.recv().await);
        assert!(inbox.submit(incoming(mebibyte)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_number_of_waiting_notifications_is_bounded() {
        let (inbox, mut queue) = Inbox::channel();

        for _ in 0..MAX_QUEUED {
            assert!(inbox.submit(incoming(1)).now_or_never().is_none());
        }

        let refused = inbox.submit(incoming(1)).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Full))));
        drop(queue.recv().await);
        assert!(inbox.submit(incoming(1)).now_or_never().is_none());
    }
}
