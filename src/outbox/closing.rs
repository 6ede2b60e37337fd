//! Closing users' conversations.

use super::Outbox;
use super::accepted::{Accepted, Patience};
use super::job::Work;
use crate::bridge::{Caller, Error};
use crate::types::conversation::Conversation;
use crate::types::ids::UserId;

impl Outbox {
    /// Closes the user's conversation, also a survey in it, or with `survey` its main dialog alone, so that a survey can
    /// follow. What is closed stays so.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationNotFound`] where there never was one; when the Cloud refuses, or the storage is away.
    pub async fn close_conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
        survey: bool,
        patience: Patience,
    ) -> Result<Accepted<Conversation>, Error> {
        let key = caller.key(user_id.clone());
        let standing = self.bridge.parts.store.standing(&key).await?;
        // What waits may open one.
        if standing
            .as_ref()
            .is_none_or(|standing| standing.waiting == 0)
        {
            self.bridge.conversation(caller, user_id.clone()).await?;
        }
        let work = Work::Close { survey };
        Ok(
            match self.submit(caller, &key, standing, work, patience).await? {
                Accepted::Done(_) => {
                    Accepted::Done(self.bridge.conversation(caller, user_id).await?)
                }
                Accepted::Queued(queued) => Accepted::Queued(queued),
            },
        )
    }
}
