//! Closes of users' conversations.

use super::Outbox;
use super::accepted::{Accepted, WaitPreference};
use super::job::Work;
use crate::bridge::{Caller, Error};
use crate::types::conversation::Conversation;
use crate::types::ids::UserId;

impl Outbox {
    /// Closes the user's conversation, including a survey in it. With `survey`, closes only the
    /// main dialog, so that a survey can follow. Does nothing if it is closed already.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationNotFound`] if there never was one; if the Cloud refuses, or the storage
    /// is unavailable.
    pub async fn close_conversation(
        &self,
        caller: &Caller,
        user_id: UserId,
        survey: bool,
        preference: WaitPreference,
    ) -> Result<Accepted<Conversation>, Error> {
        let key = caller.key(user_id.clone());
        let user_state = self.bridge.parts.store.user_state(&key).await?;
        // A queued request may open one.
        if user_state
            .as_ref()
            .is_none_or(|user_state| user_state.waiting == 0)
        {
            self.bridge.conversation(caller, user_id.clone()).await?;
        }
        let work = Work::Close { survey };
        Ok(
            match self
                .submit(caller, &key, user_state, work, preference)
                .await?
            {
                Accepted::Done(_) => {
                    Accepted::Done(self.bridge.conversation(caller, user_id).await?)
                }
                Accepted::Queued(queued) => Accepted::Queued(queued),
            },
        )
    }
}
