//! Negative acknowledgements to agents, for messages that a channel refused or that became too old.
//!
//! An agent who sees a message as sent believes that it was read. So a failed delivery is stored as
//! due for a `NACK`, and every replica polls for it. The Cloud gets a `NACK` for the message's
//! sequence, in the dialog of the message.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::POLL_INTERVAL;
use crate::bridge::{Bridge, Error};
use crate::cloud::Signal;
use crate::store::DueNack;
use crate::types::ids::{ConversationId, DialogId};
use crate::types::message::{ReceiptStatus, Sequence};
use crate::types::trace::Trace;
use crate::worker::{Claimed, Pace, Source};

/// 30 s: the pause before an agent is notified again, after the Cloud failed or the replica died.
const RETRY: TimeDelta = TimeDelta::seconds(30);

/// 32: the number of agents that are notified at once.
const CONCURRENCY: u32 = 32;

/// The background work on messages that did not arrive.
#[derive(Debug)]
pub struct DueNacks(pub Bridge);

impl Source for DueNacks {
    type Item = (DueNack, DateTime<Utc>);
    type Error = Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, CONCURRENCY);
    const FAILED: &'static str = "undelivered messages could not be looked up";

    fn is_paused(&self) -> bool {
        self.0.is_ahead()
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, Error> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let retry_at = now + RETRY;
        let due = parts.store.claim_due_nacks(now, retry_at, limit).await?;
        let due: Vec<_> = due.into_iter().map(|due| (due, retry_at)).collect();
        Ok(due.into())
    }

    fn handle(&self, (due, retry_at): Self::Item) -> impl Future<Output = ()> + Send + 'static {
        let bridge = self.0.clone();
        async move { bridge.send_due_nack(due, retry_at).await }
    }
}

/// The part of an event that identifies its message.
#[derive(Debug, Deserialize)]
struct FailedMessageEvent {
    conversation_id: Option<ConversationId>,
    data: FailedMessageData,
}

#[derive(Debug, Deserialize)]
struct FailedMessageData {
    dialog_id: Option<DialogId>,
    sequence: Option<Sequence>,
}

impl Bridge {
    async fn send_due_nack(&self, due: DueNack, claimed_until: DateTime<Utc>) {
        if let Err(error) = self.send_nack(&due).await {
            tracing::warn!(
                account.id = %due.key.account_id,
                event.id = due.event_id,
                error = &error as &dyn std::error::Error,
                "an agent could not be notified of an undelivered message; the notice is retried"
            );
            return;
        }
        let store = &self.parts.store;
        if let Err(error) = store.clear_nack(&due.event_id, claimed_until).await {
            tracing::warn!(
                event.id = due.event_id,
                error = &error as &dyn std::error::Error,
                "an agent was notified of an undelivered message, but this could not be stored; the agent is notified again"
            );
        }
    }

    /// Notifies the agent that a message did not arrive. Does nothing if the conversation has
    /// ended. A refusal that no retry can change counts as done.
    async fn send_nack(&self, due: &DueNack) -> Result<(), Error> {
        let Ok(FailedMessageEvent {
            conversation_id: Some(conversation_id),
            data:
                FailedMessageData {
                    dialog_id,
                    sequence: Some(sequence),
                },
        }) = serde_json::from_str(&due.body)
        else {
            return Ok(());
        };
        let trace = Trace::continue_from(None, None, self.parts.clock.uuid());
        let Some(mut session) = self.session(&trace, &due.key).await? else {
            return Ok(());
        };
        if session.conversation.id != conversation_id {
            return Ok(());
        }
        let sequences = [sequence];
        let nack = Signal::Receipts(ReceiptStatus::Nack, &sequences);
        let sent = self.signal_in_dialog(dialog_id.as_ref(), &trace, &mut session, nack);
        match sent.await {
            Err(Error::Cloud(error)) if !error.is_transient() => Ok(()),
            outcome => outcome,
        }
    }
}
