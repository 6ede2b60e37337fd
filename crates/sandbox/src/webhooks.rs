//! Webhooks: the subscriptions to notifications, the deliveries, and the disturbances that tests
//! inject.
//!
//! Each subscription has a queue, which decides what is sent when, and a courier, a task that sends
//! it. Everything is in memory. A notification without a subscriber is dropped at once.

mod altered;
pub(super) mod control;
pub(super) mod courier;
mod delivery;
mod disturbance;
mod queue;
mod signature;
mod subscription;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

pub(super) use courier::Client;
pub use delivery::Delivery;
pub use disturbance::{Disturbance, DisturbanceKind};
pub use subscription::{Algorithm, Retry, Webhook, read_endpoint};

use super::notification::{BodyForm, Notification};
use delivery::Deliveries;
use disturbance::Disturbances;
use queue::{HeldUntil, Next, OutgoingNotification, Queue};

/// All subscriptions, and the outcomes of the notifications so far.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    /// The subscriptions. A subscription is never moved or removed, because its index identifies
    /// it.
    subscriptions: Vec<Subscription>,
    pub(super) disturbances: Disturbances,
    pub(super) deliveries: Deliveries,
}

#[derive(Debug)]
struct Subscription {
    webhook: Arc<Webhook>,
    queue: Queue,
    /// The wake-up for the courier: there may be something to send.
    wakeup: Arc<Notify>,
    /// True if the courier is running.
    has_courier: bool,
    /// True if the latest attempt failed.
    failing: bool,
}

impl Webhooks {
    /// Adds a subscription, or replaces the one of the same app installation.
    pub(super) fn subscribe(&mut self, webhook: Webhook) {
        let existing = self.subscriptions.iter_mut().find(|s| {
            s.webhook.account_id == webhook.account_id && s.webhook.client_id == webhook.client_id
        });
        match existing {
            Some(subscription) => {
                subscription.queue.retry = webhook.retry;
                subscription.webhook = Arc::new(webhook);
            }
            None => self.subscriptions.push(Subscription {
                queue: Queue::new(webhook.retry),
                webhook: Arc::new(webhook),
                wakeup: Arc::default(),
                has_courier: false,
                failing: false,
            }),
        }
    }

    /// Queues a notification for the subscribers of its account. Returns the number of subscribers.
    pub(super) fn push(&mut self, notification: &Notification, now: DateTime<Utc>) -> usize {
        let of_account = |s: &&mut Subscription| s.webhook.account_id == notification.account;
        let mut subscribed: Vec<_> = self.subscriptions.iter_mut().filter(of_account).collect();
        if subscribed.is_empty() {
            return 0;
        }
        let disturbance = self.disturbances.take(notification);
        for subscription in &mut subscribed {
            let queue = &mut subscription.queue;
            let notification = Notification {
                disturbed: disturbance.is_some(),
                ..notification.clone()
            };
            match disturbance.map(|it| it.kind) {
                None => queue.push(notification, now),
                Some(DisturbanceKind::Drop) => {}
                Some(DisturbanceKind::Duplicate) => {
                    queue.push(notification.clone(), now);
                    queue.push(notification, now);
                }
                Some(DisturbanceKind::Reorder) => {
                    queue.push_held(notification, HeldUntil::Follower, now);
                }
                Some(DisturbanceKind::Delay) => {
                    queue.push_held(notification, HeldUntil::Release, now);
                }
                Some(DisturbanceKind::BadSignature) => queue.push_forged(notification, now),
                Some(DisturbanceKind::OldForm) => queue.push(notification.in_old_form(), now),
                Some(DisturbanceKind::Batch) => queue.gather(notification, now),
                Some(DisturbanceKind::Mask) => {
                    queue.push(notification.with_text(altered::masked), now);
                }
                Some(DisturbanceKind::Trim) => {
                    queue.push(notification.with_text(altered::trimmed), now);
                }
                Some(DisturbanceKind::Escape) => {
                    queue.push(notification.with_text(altered::escaped), now);
                }
                Some(DisturbanceKind::LineBreaks) => {
                    queue.push(notification.with_text(altered::with_other_line_breaks), now);
                }
                Some(DisturbanceKind::SlowClock) => {
                    queue.push(notification.earlier(altered::SLOW_BY), now);
                }
                Some(DisturbanceKind::Old) => {
                    queue.push(notification.earlier(altered::OLD_BY), now);
                }
                Some(DisturbanceKind::Empty) => {
                    queue.push(notification.emptied(), now);
                    queue.push(notification, now);
                }
                Some(DisturbanceKind::ByteOrderMark) => {
                    queue.push(notification.with_body_form(BodyForm::ByteOrderMark), now);
                }
                Some(DisturbanceKind::Untyped) => {
                    queue.push(notification.with_body_form(BodyForm::Untyped), now);
                }
                Some(DisturbanceKind::AudienceInEvent) => {
                    queue.push(notification.with_audience_in_event(), now);
                }
                Some(DisturbanceKind::NumbersAsText) => {
                    queue.push(notification.with_numbers_as_text(), now);
                }
                Some(DisturbanceKind::TwoStates) => {
                    if let Some(other) = notification.other_state() {
                        queue.push(other, now);
                    }
                    queue.push(notification, now);
                }
            }
            if disturbance.is_some_and(|it| it.kind == DisturbanceKind::Batch && it.last) {
                queue.close_batches();
            }
            subscription.wakeup.notify_one();
        }
        subscribed.len()
    }

    /// Returns the number of notifications still to be delivered, including those that are held
    /// back.
    pub(super) fn pending(&self) -> usize {
        self.subscriptions.iter().map(|s| s.queue.len()).sum()
    }

    /// Withdraws the pending disturbances.
    pub(super) fn clear_disturbances(&mut self) {
        self.disturbances = Disturbances::default();
        self.for_each_queue(Queue::close_batches);
    }

    /// Releases all notifications that are held back.
    pub(super) fn release(&mut self) {
        self.for_each_queue(Queue::release);
    }

    /// Makes all notifications that wait for another attempt due now.
    pub(super) fn retry_now(&mut self) {
        self.for_each_queue(Queue::retry_now);
    }

    /// Forgets everything except the subscriptions.
    pub(super) fn reset(&mut self) {
        self.for_each_queue(Queue::clear);
        self.disturbances = Disturbances::default();
        self.deliveries.clear();
    }

    fn for_each_queue(&mut self, change: impl Fn(&mut Queue)) {
        for subscription in &mut self.subscriptions {
            change(&mut subscription.queue);
            subscription.wakeup.notify_one();
        }
    }

    /// Returns the next work for the courier of a subscription. On `None` nothing is left and the
    /// courier ends.
    fn next(&mut self, index: usize, now: DateTime<Utc>) -> Option<CourierWork> {
        let subscription = self.subscriptions.get_mut(index)?;
        let notifications = match subscription.queue.next(now) {
            Next::Send(notifications) => notifications,
            Next::Wait => Vec::new(),
            Next::Idle => {
                subscription.has_courier = false;
                return None;
            }
        };
        Some(CourierWork {
            notifications,
            webhook: Arc::clone(&subscription.webhook),
            wakeup: Arc::clone(&subscription.wakeup),
        })
    }

    /// Stores the outcome of an attempt.
    fn settle(
        &mut self,
        index: usize,
        notification: &OutgoingNotification,
        status: Option<u16>,
        now: DateTime<Utc>,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return;
        };
        // Every status but these is a failure. Source: vendor's Webhooks documentation, "Retry
        // policy".
        let accepted = matches!(status, Some(200 | 201));
        subscription.queue.settle(notification.id, accepted, now);
        if accepted == subscription.failing {
            subscription.failing = !accepted;
            let account = &subscription.webhook.account_id;
            if accepted {
                tracing::info!(
                    account,
                    "the bridge accepts the sandbox's notifications again"
                );
            } else {
                // Logged once, since failures may continue for as long as the retry policy allows.
                tracing::warn!(
                    account,
                    status,
                    "the bridge did not accept a notification of the sandbox"
                );
            }
        }
        self.deliveries.push(Delivery {
            id: 0,
            at: now,
            account_id: subscription.webhook.account_id.clone(),
            client_id: subscription.webhook.client_id.clone(),
            kind: notification.kind,
            conversation_id: notification.conversation.clone(),
            attempt: notification.attempt,
            status,
            body: String::from_utf8_lossy(&notification.body).into_owned(),
        });
    }
}

/// One round of a courier's work.
#[derive(Debug)]
struct CourierWork {
    notifications: Vec<OutgoingNotification>,
    webhook: Arc<Webhook>,
    wakeup: Arc<Notify>,
}
