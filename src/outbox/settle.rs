//! Storage of the outcome of a queued request, with the event that reports it to its channel.

use super::Outbox;
use super::job::Progress;
use super::send::{Attempted, SendResult};
use super::step::{Lane, Next};
use crate::bridge::Error;
use crate::bridge::retry;
use crate::store::{AttemptOutcome, InFlight, LaneHolder, NewEvent, SettledAttempt};
use crate::types::event::data::{Data, Failure, Outcome, OutcomeStatus};
use crate::types::event::{EventId, EventType, UnaddressedEvent};
use crate::types::problem::BLOCKED;

/// 6: a request fails after this many attempts that a gateway answered, which take about two
/// minutes. If other messages get through by then, the gateway rejects this particular message.
const MAX_BLOCKED_ATTEMPTS: u32 = 6;

impl Outbox {
    /// Settles an attempt of a queued request.
    pub(super) async fn settle_attempt(
        &self,
        lane: &Lane<'_>,
        attempted: Attempted,
    ) -> Result<Next, Error> {
        let Attempted { job, result } = attempted;
        let progress = &job.progress;
        let key = &lane.due.key;
        match result {
            SendResult::Sent { in_flight } => {
                let sent = AttemptOutcome::Sent;
                self.settle(lane, progress, sent, in_flight.as_ref()).await
            }
            SendResult::Refused {
                error: Error::LaneLost,
                ..
            } => Ok(Next::Lost),
            SendResult::Refused { error, in_flight } => {
                self.settle_refused(lane, progress, &error, in_flight.as_ref())
                    .await
            }
            SendResult::NotSent {
                error,
                pause,
                in_flight,
            } => {
                if pause.is_blocked && self.is_blocked_for_good(lane).await? {
                    return self
                        .settle_refused(lane, progress, &error, in_flight.as_ref())
                        .await;
                }
                tracing::info!(
                    account.id = %key.account_id,
                    why = pause.why,
                    error = &error as &dyn std::error::Error,
                    "a queued request was not sent; it is postponed"
                );
                let postponed = AttemptOutcome::Postponed { why: pause.why };
                let settled = self.settle(lane, progress, postponed, in_flight.as_ref());
                let settled = settled.await?;
                let attempts = lane.request.attempts.saturating_add(1);
                let due_at = self.bridge.parts.clock.now() + pause.after(attempts);
                Ok(match settled {
                    Next::Lost => Next::Lost,
                    _ => Next::Pause(due_at),
                })
            }
            SendResult::Unknown {
                error,
                why,
                in_flight,
            } => {
                tracing::info!(
                    account.id = %key.account_id,
                    why,
                    error = &error as &dyn std::error::Error,
                    "the outcome of a queued request is unknown; it is retried unless its echo arrives"
                );
                let unknown = AttemptOutcome::Unknown { why };
                self.settle(lane, progress, unknown, Some(&in_flight)).await
            }
        }
    }

    /// True if a gateway has repeatedly answered this request in place of the Cloud, while other
    /// requests get through.
    async fn is_blocked_for_good(&self, lane: &Lane<'_>) -> Result<bool, Error> {
        let parts = &self.bridge.parts;
        if !parts.cloud.is_messaging_serving(&lane.due.key.account_id) {
            return Ok(false);
        }
        let before = parts.store.count_reason(lane.request.id, BLOCKED).await?;
        Ok(before + 1 >= MAX_BLOCKED_ATTEMPTS)
    }

    async fn settle_refused(
        &self,
        lane: &Lane<'_>,
        progress: &Progress,
        error: &Error,
        in_flight: Option<&InFlight>,
    ) -> Result<Next, Error> {
        tracing::warn!(
            account.id = %lane.due.key.account_id,
            channel.id = %lane.request.channel_id,
            error = error as &dyn std::error::Error,
            "a queued request was refused"
        );
        let failure = retry::failure(error);
        self.settle(lane, progress, AttemptOutcome::Failed(&failure), in_flight)
            .await
    }

    /// Fails a request that will not reach the Cloud.
    pub(super) async fn give_up(
        &self,
        lane: &Lane<'_>,
        progress: &Progress,
        code: &str,
    ) -> Result<Next, Error> {
        tracing::warn!(
            account.id = %lane.due.key.account_id,
            channel.id = %lane.request.channel_id,
            code,
            "a queued request was given up"
        );
        let failure = Failure {
            code: code.to_owned(),
            upstream: None,
        };
        self.settle(lane, progress, AttemptOutcome::Failed(&failure), None)
            .await
    }

    /// Stores the outcome of a request, with the event that reports it.
    pub(super) async fn settle(
        &self,
        lane: &Lane<'_>,
        progress: &Progress,
        outcome: AttemptOutcome<'_>,
        in_flight: Option<&InFlight>,
    ) -> Result<Next, Error> {
        let event = match outcome {
            AttemptOutcome::Sent => self.event(lane, progress, None),
            AttemptOutcome::Failed(failure) => self.event(lane, progress, Some(failure)),
            _ => None,
        };
        let file = progress.file.as_ref();
        let settled = SettledAttempt {
            user: lane.due.user,
            id: lane.request.id,
            outcome,
            conversation_id: progress.conversation_id.as_ref(),
            sequences: &progress.sent,
            in_flight,
            file: file.map(|file| (file.id, &file.file_type)),
            event: event.as_ref(),
        };
        let lease = self.bridge.renewed(lane.lease);
        let parts = &self.bridge.parts;
        let now = parts.clock.now();
        let holder = parts.store.settle_request(&lease, &settled, now).await?;
        Ok(match holder {
            LaneHolder::Kept => Next::Step,
            LaneHolder::Released => Next::Released,
            LaneHolder::Lost => Next::Lost,
        })
    }

    /// Returns the event that reports the outcome of a request that was answered 202; `None` if the
    /// channel does not subscribe to it.
    fn event(
        &self,
        lane: &Lane<'_>,
        progress: &Progress,
        failure: Option<&Failure>,
    ) -> Option<NewEvent> {
        let (kind, status) = match failure {
            None => (EventType::MessageSent, OutcomeStatus::Sent),
            Some(_) => (EventType::MessageFailed, OutcomeStatus::Failed),
        };
        let parts = &self.bridge.parts;
        let channel_id = &lane.request.channel_id;
        let subscription = parts.subscriptions.get(channel_id)?;
        if !subscription.events.contains(&kind) {
            return None;
        }
        let now = parts.clock.now();
        let id = EventId::new(parts.clock.uuid());
        let user_id = &lane.due.key.user_id;
        let conversation_id = &progress.conversation_id;
        let draft = UnaddressedEvent {
            kind,
            occurred_at: now,
            data: Data::Outcome(Outcome {
                id: progress.id,
                user_id: user_id.clone(),
                conversation_id: conversation_id.clone(),
                sequence: progress.sent.first().copied(),
                status,
                failure: failure.cloned(),
                created_at: progress.created_at,
            }),
        };
        let event = draft.into_event(
            id,
            channel_id.clone(),
            user_id.clone(),
            conversation_id.clone(),
        );
        Some(NewEvent {
            id,
            channel_id: channel_id.clone(),
            user: Some(lane.due.user),
            kind,
            body: event.to_json(),
            parent: lane.request.parent.clone(),
            deliver_until: subscription.max_age.map(|max_age| now + max_age),
        })
    }
}
