//! Opening, showing and closing a user's conversation.

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::types::conversation::{CloseReason, Conversation, Opening};
use crate::types::ids::{UserId, UserKey};
use crate::types::trace::Trace;

/// What became of a request to open.
#[derive(Debug, Clone)]
pub enum OpenOutcome {
    /// This request opened it.
    Opened(Conversation),
    /// It was open already.
    AlreadyOpen(Conversation),
}

impl Bridge {
    /// Opens a conversation for a user, unless one is open.
    ///
    /// # Errors
    ///
    /// When the Cloud refuses or is away, or the storage is.
    pub async fn open_conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
        opening: &Opening,
    ) -> Result<OpenOutcome, Error> {
        let key = caller.key(user_id);
        let opened = if self.session(&caller.trace, &key).await?.is_some() {
            false
        } else {
            let joined = self.join_opening(caller, &key, opening).await?;
            joined.opened && joined.first
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

    /// The user's latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationNotFound`] where there never was one.
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

    /// Closes the user's conversation; one that is closed stays so.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationNotFound`] where there never was one; when the Cloud refuses or is away.
    pub async fn close_conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
    ) -> Result<Conversation, Error> {
        self.close_open(&caller.trace, &caller.key(user_id.clone()))
            .await?;
        self.conversation(caller, user_id).await
    }

    /// Closes the user's open conversation, if there is one.
    pub(super) async fn close_open(&self, trace: &Trace, key: &UserKey) -> Result<(), Error> {
        let Some(mut session) = self.session(trace, key).await? else {
            return Ok(());
        };
        match self.signal(trace, &mut session, Signal::Close).await {
            Ok(()) => {
                let now = self.parts.clock.now();
                let reason = CloseReason::consumer();
                self.parts
                    .store
                    .close_conversation(&session.conversation.id, now, Some(&reason))
                    .await?;
                Ok(())
            }
            // The agent or the Cloud was faster: closed is closed.
            Err(Error::Cloud(cloud::Error::ConversationClosed)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
