//! Typing indicators, which are sent to the agent at a limited rate and end when nothing follows.
//!
//! After the main dialog no agent is watching, so nothing is sent during a survey.
//!
//! The Cloud shows a user as typing until the next chat state, even after a message. So the state
//! is stored before it is sent, with the time of its automatic end. Every replica polls for typing
//! that is due to end, since the replica that stored it may be gone.

use chrono::{DateTime, TimeDelta, Utc};

use super::POLL_INTERVAL;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::store::{DueTyping, Typing, UserRef};
use crate::types::ids::UserId;
use crate::types::message::ChatState;
use crate::types::trace::Trace;
use crate::worker::{Claimed, Pace, Source};

/// 30 s: the time after which typing ends if the user sends nothing more.
const TYPING: TimeDelta = TimeDelta::seconds(30);

/// 5 s: the shortest time after which continued typing is sent to the Cloud again.
const REPEAT: TimeDelta = TimeDelta::seconds(5);

/// 10 s: the pause before the end of typing is sent again, after the Cloud failed or the replica
/// died.
const RETRY: TimeDelta = TimeDelta::seconds(10);

/// 32: the number of typing ends that are sent at once.
const CONCURRENCY: u32 = 32;

/// The background work on typing that ends automatically.
#[derive(Debug)]
pub struct DueTypingEnds(pub Bridge);

impl Source for DueTypingEnds {
    type Item = (DueTyping, DateTime<Utc>);
    type Error = Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, CONCURRENCY);
    const FAILED: &'static str = "typing indicators that are due could not be looked up";

    fn is_paused(&self) -> bool {
        self.0.is_ahead()
    }

    async fn woken(&mut self) {
        self.0.typing_due.notified().await;
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, Error> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let retry_at = now + RETRY;
        let due = parts.store.claim_due_typing(now, retry_at, limit).await?;
        let due: Vec<_> = due.into_iter().map(|due| (due, retry_at)).collect();
        Ok(due.into())
    }

    fn handle(&self, (due, retry_at): Self::Item) -> impl Future<Output = ()> + Send + 'static {
        let bridge = self.0.clone();
        async move { bridge.end_due(due, retry_at).await }
    }
}

impl Bridge {
    /// Shows the agent the user's typing state. Does nothing during a survey, when the agent is
    /// gone.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; if the Cloud refuses, or the Cloud or the storage is
    /// unavailable.
    pub async fn set_typing(
        &self,
        caller: &Caller,
        user_id: UserId,
        state: ChatState,
    ) -> Result<(), Error> {
        let session = self.session(&caller.trace, &caller.key(user_id)).await?;
        let mut session = session.ok_or(Error::NoOpenConversation)?;
        if !session.shows_typing() {
            return Ok(());
        }
        let store = &self.parts.store;
        let (user, stored) = (session.user, session.typing);
        let signal = Signal::ChatState(state);
        if state != ChatState::Composing {
            self.show(&caller.trace, &mut session, signal).await?;
            if stored.is_some() {
                store.clear_typing(user, None).await?;
            }
            return Ok(());
        }
        let now = self.parts.clock.now();
        let until = now + TYPING;
        if let Some(Typing { sent_at, .. }) = stored
            && now - sent_at < REPEAT
        {
            return Ok(store.set_typing(user, Typing { sent_at, until }).await?);
        }
        // Stored first: typing that the agent sees must end even if this replica dies.
        let sent_at = now;
        store.set_typing(user, Typing { sent_at, until }).await?;
        let shown = self.show(&caller.trace, &mut session, signal).await;
        if shown.is_err() {
            // The agent may see the typing all the same, so its end stays stored. With the earlier
            // time, the next signal is sent at once.
            let sent_at = now - REPEAT;
            store.set_typing(user, Typing { sent_at, until }).await?;
        }
        shown
    }

    /// Ends the typing of a user who has just written, by making its end due now. The message was
    /// sent, so a failure here does not fail it. The typing then ends automatically.
    pub(crate) async fn end_typing(&self, user: UserRef) {
        let now = self.parts.clock.now();
        match self.parts.store.end_typing(user, now).await {
            Ok(()) => self.typing_due.notify_one(),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the typing indicator of a user who has sent a message ends later than it should"
            ),
        }
    }

    async fn end_due(&self, due: DueTyping, claimed_until: DateTime<Utc>) {
        if let Err(error) = self.send_pause(&due).await {
            tracing::warn!(
                account.id = %due.key.account_id,
                error = &error as &dyn std::error::Error,
                "a user's typing indicator could not be ended; retried later"
            );
            return;
        }
        let store = &self.parts.store;
        if let Err(error) = store.clear_typing(due.user, Some(claimed_until)).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a user's typing indicator was ended, but this could not be stored; it is ended again"
            );
        }
    }

    /// Notifies the agent that the user has stopped typing. A refusal that no retry can change
    /// counts as done.
    async fn send_pause(&self, due: &DueTyping) -> Result<(), Error> {
        let trace = Trace::continue_from(None, None, self.parts.clock.uuid());
        let Some(mut session) = self.session(&trace, &due.key).await? else {
            return Ok(());
        };
        if !session.shows_typing() {
            return Ok(());
        }
        let pause = Signal::ChatState(ChatState::Pause);
        match self.signal(&trace, &mut session, pause).await {
            Err(Error::Cloud(error)) if !error.is_transient() => Ok(()),
            outcome => outcome,
        }
    }
}
