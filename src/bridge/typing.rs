//! Typing: told to the agent, not too often, and ended when nothing follows.
//!
//! After the main dialog nobody looks: nothing is told while a survey is on.
//!
//! The Cloud shows a user as typing until it is told otherwise, also after a message. So what is told is kept first,
//! with the moment when it ends by itself, and every replica looks for what is due: the one that took it may be gone.

use chrono::{DateTime, TimeDelta, Utc};

use super::LOOK;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::store::{DueTyping, Typing, UserRef};
use crate::types::ids::UserId;
use crate::types::message::ChatState;
use crate::types::trace::Trace;
use crate::worker::{Claimed, Pace, Source};

/// 30 s: how long a user types who says nothing more.
const TYPING: TimeDelta = TimeDelta::seconds(30);

/// 5 s: how soon the Cloud is told again of one who goes on typing.
const REPEAT: TimeDelta = TimeDelta::seconds(5);

/// 10 s: how soon a pause is tried again that the Cloud could not take, or whose replica died over it.
const RETRY: TimeDelta = TimeDelta::seconds(10);

/// 32: pauses that are sent at once.
const PLACES: u32 = 32;

/// Work on the typing that ends by itself.
#[derive(Debug)]
pub struct DueTypingEnds(pub Bridge);

impl Source for DueTypingEnds {
    type Item = (DueTyping, DateTime<Utc>);
    type Error = Error;

    const PACE: Pace = Pace::new(LOOK, PLACES);
    const FAILED: &'static str = "typing that is due could not be looked for";

    fn is_paused(&self) -> bool {
        self.0.is_ahead()
    }

    async fn woken(&mut self) {
        self.0.typing_due.notified().await;
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, Error> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let again_at = now + RETRY;
        let due = parts.store.take_due_typing(now, again_at, limit).await?;
        let due: Vec<_> = due.into_iter().map(|due| (due, again_at)).collect();
        Ok(due.into())
    }

    fn handle(&self, (due, again_at): Self::Item) -> impl Future<Output = ()> + Send + 'static {
        let bridge = self.0.clone();
        async move { bridge.end_due(due, again_at).await }
    }
}

impl Bridge {
    /// Shows the agent what the user is doing; nobody where the agent is gone and a survey is on.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; when the Cloud refuses or is away.
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
        let (user, known) = (session.user, session.typing);
        let signal = Signal::ChatState(state);
        if state != ChatState::Composing {
            self.show(&caller.trace, &mut session, signal).await?;
            if known.is_some() {
                store.clear_typing(user, None).await?;
            }
            return Ok(());
        }
        let now = self.parts.clock.now();
        let until = now + TYPING;
        if let Some(Typing { sent_at, .. }) = known
            && now - sent_at < REPEAT
        {
            return Ok(store.set_typing(user, Typing { sent_at, until }).await?);
        }
        // Kept first: what the agent sees must end although this replica dies.
        let sent_at = now;
        store.set_typing(user, Typing { sent_at, until }).await?;
        let shown = self.show(&caller.trace, &mut session, signal).await;
        if shown.is_err() {
            // It may be seen all the same, so it still ends; but the next one is not held back.
            let sent_at = now - REPEAT;
            store.set_typing(user, Typing { sent_at, until }).await?;
        }
        shown
    }

    /// Lets the typing of one who has just written end now. The message is sent, so no failure of this is one of it: at
    /// the latest the typing ends by itself.
    pub(crate) async fn end_typing(&self, user: UserRef) {
        let now = self.parts.clock.now();
        match self.parts.store.end_typing(user, now).await {
            Ok(()) => self.typing_due.notify_one(),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the typing of a user who has written ends later than it should"
            ),
        }
    }

    async fn end_due(&self, due: DueTyping, taken_until: DateTime<Utc>) {
        if let Err(error) = self.send_pause(&due).await {
            tracing::warn!(
                account.id = %due.key.account_id,
                error = &error as &dyn std::error::Error,
                "a user's typing could not be ended; tried again"
            );
            return;
        }
        let store = &self.parts.store;
        if let Err(error) = store.clear_typing(due.user, Some(taken_until)).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a user's typing was ended and is still kept; it is ended again"
            );
        }
    }

    /// Tells the agent that the user stopped typing; a refusal that no repeat can mend is the end of it too.
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
