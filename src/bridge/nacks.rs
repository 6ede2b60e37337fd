//! Telling agents of messages that did not arrive: refused by the channel, or too old before it took them.
//!
//! An agent who sees a message as sent believes that it was read. So what was given up is kept as due, and every replica
//! looks for it: the Cloud gets a `NACK` for the message's number, in the dialog that it was written in.

use chrono::TimeDelta;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::looks::Looks;
use crate::bridge::{Bridge, Error};
use crate::cloud::Signal;
use crate::store::DueNack;
use crate::types::ids::{ConversationId, DialogId};
use crate::types::message::{ReceiptStatus, Sequence};
use crate::types::trace::Trace;

/// 30 s: how soon an agent is told again whom the Cloud could not tell, or whose replica died over it.
const RETRY: TimeDelta = TimeDelta::seconds(30);

/// How many agents are told at once.
const BATCH: u32 = 32;

/// What an event says of the message that it tells of.
#[derive(Debug, Deserialize)]
struct Told {
    conversation_id: Option<ConversationId>,
    data: ToldMessage,
}

#[derive(Debug, Deserialize)]
struct ToldMessage {
    dialog_id: Option<DialogId>,
    sequence: Option<Sequence>,
}

impl Bridge {
    /// Tells agents what did not arrive, again and again, until the service stops.
    pub async fn send_due_nacks(self) {
        let mut looks = Looks::new();
        let never = Notify::new();
        while looks.next(&self, &never).await {
            if let Err(error) = self.take_and_send_nacks().await
                && !error.is_outage()
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "messages that did not arrive could not be looked for"
                );
            }
        }
    }

    async fn take_and_send_nacks(&self) -> Result<(), Error> {
        loop {
            let now = self.parts.clock.now();
            let again_at = now + RETRY;
            let store = &self.parts.store;
            let due = store.take_due_nacks(now, again_at, BATCH).await?;
            let count = due.len();
            let mut nacks = JoinSet::new();
            for due in due {
                let bridge = self.clone();
                nacks.spawn(async move {
                    if let Err(error) = bridge.send_nack(&due).await {
                        tracing::warn!(
                            account.id = %due.key.account_id,
                            event.id = due.event_id,
                            error = &error as &dyn std::error::Error,
                            "an agent could not be told that a message did not arrive; tried again"
                        );
                    } else if let Err(error) =
                        bridge.parts.store.clear_nack(&due.event_id, again_at).await
                    {
                        tracing::warn!(
                            event.id = due.event_id,
                            error = &error as &dyn std::error::Error,
                            "an agent was told that a message did not arrive, and is told again"
                        );
                    }
                });
            }
            while nacks.join_next().await.is_some() {}
            if count < BATCH as usize {
                return Ok(());
            }
        }
    }

    /// Tells the agent that a message did not arrive. Where the conversation has ended nobody waits for that, and a refusal
    /// that no repeat can mend is the end of it too.
    async fn send_nack(&self, due: &DueNack) -> Result<(), Error> {
        let Ok(Told {
            conversation_id: Some(conversation_id),
            data:
                ToldMessage {
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
        let told = self.signal_in(dialog_id.as_ref(), &trace, &mut session, nack);
        match told.await {
            Err(Error::Cloud(error)) if !error.is_transient() => Ok(()),
            outcome => outcome,
        }
    }
}
