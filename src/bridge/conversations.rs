//! Use cases to open, show and close a user's conversation.

use super::openings::OpeningRequest;
use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::types::conversation::{CloseReason, Conversation, CurrentDialog, Opening};
use crate::types::ids::{UserId, UserKey};
use crate::types::trace::Trace;

/// The outcome of a request to open a conversation.
#[derive(Debug, Clone)]
pub enum OpenOutcome {
    /// A conversation that this request opened.
    Opened(Conversation),
    /// A conversation that was open already.
    AlreadyOpen(Conversation),
}

impl Bridge {
    /// Opens a conversation for a user unless one is open.
    ///
    /// # Errors
    ///
    /// If the Cloud refuses, or the Cloud or the storage is unavailable.
    pub async fn open_conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
        opening: &Opening,
    ) -> Result<OpenOutcome, Error> {
        let key = caller.key(user_id);
        let session = self.session(&caller.trace, &key).await?;
        let opened = if session.is_some_and(|session| session.accepts_messages()) {
            false
        } else {
            let request = OpeningRequest {
                caller,
                key: &key,
                opening,
                instead_of: None,
                lane: None,
            };
            match self.open(request).await {
                Ok(joined) => joined.opened && joined.first,
                // The conversation is open, if only for a survey.
                Err(Error::SurveyPending) => false,
                Err(error) => return Err(error),
            }
        };
        let conversation = self
            .parts
            .store
            .latest_conversation(&key)
            .await?
            .ok_or(Error::ConversationNotFound)?;
        Ok(if opened {
            OpenOutcome::Opened(conversation)
        } else {
            OpenOutcome::AlreadyOpen(conversation)
        })
    }

    /// Returns the user's latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationNotFound`] if there never was one.
    pub async fn conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
    ) -> Result<Conversation, Error> {
        self.parts
            .store
            .latest_conversation(&caller.key(user_id))
            .await?
            .ok_or(Error::ConversationNotFound)
    }

    /// Closes the user's conversation, including a survey in it. Does nothing if none is open.
    pub(crate) async fn close_now(&self, trace: &Trace, key: &UserKey) -> Result<(), Error> {
        self.close_open(trace, key, |session| {
            if session.may_outlive_dialog() {
                Signal::CloseEverything
            } else {
                Signal::Close
            }
        })
        .await
    }

    /// Closes only the main dialog of the user's conversation, so that a survey can follow.
    pub(crate) async fn close_main_dialog(
        &self,
        trace: &Trace,
        key: &UserKey,
    ) -> Result<(), Error> {
        let session = self.session(trace, key).await?;
        if let Some(mut session) = session
            && session.conversation.dialog == CurrentDialog::Main
        {
            let closing = Signal::CloseMainDialog;
            match self.signal(trace, &mut session, closing).await {
                Ok(()) => {
                    let now = self.parts.clock.now();
                    let main = session.conversation.dialog_id();
                    self.parts.store.close_dialog(main, now).await?;
                }
                // The agent or the Cloud was faster, and `signal` has recorded the consequences.
                Err(Error::Cloud(cloud::Error::ConversationClosed)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes the user's open conversation, if there is one, with the signal that fits it.
    async fn close_open(
        &self,
        trace: &Trace,
        key: &UserKey,
        signal: fn(&Session) -> Signal<'static>,
    ) -> Result<(), Error> {
        let Some(mut session) = self.session(trace, key).await? else {
            return Ok(());
        };
        let signal = signal(&session);
        let reason = match self.signal(trace, &mut session, signal).await {
            Ok(()) => Some(CloseReason::consumer()),
            // The agent or the Cloud was faster. The conversation is closed either way.
            Err(Error::Cloud(cloud::Error::ConversationClosed)) => None,
            Err(error) => return Err(error),
        };
        let now = self.parts.clock.now();
        let id = &session.conversation.id;
        let store = &self.parts.store;
        store.close_conversation(id, now, reason.as_ref()).await?;
        Ok(())
    }
}
