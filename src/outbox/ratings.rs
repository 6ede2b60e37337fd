//! Ratings of conversations, which the Cloud accepts once the conversations have ended.

use super::Outbox;
use super::accepted::{Accepted, WaitPreference};
use super::job::Work;
use crate::bridge::{Caller, Error, Session};
use crate::cloud::Signal;
use crate::store::OpenConversation;
use crate::types::conversation::{Conversation, CurrentDialog, State};
use crate::types::ids::{UserId, UserKey};
use crate::types::rating::Rating;
use crate::types::trace::Trace;

impl Outbox {
    /// Rates the user's latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationOpen`] if it has not ended, including a survey after it;
    /// [`Error::ConversationNotFound`] if there never was one; if the Cloud refuses, or the storage
    /// is unavailable.
    pub async fn rate(
        &self,
        caller: &Caller,
        user_id: UserId,
        rating: Rating,
        preference: WaitPreference,
    ) -> Result<Accepted<()>, Error> {
        let key = caller.key(user_id);
        let user_state = self.bridge.parts.store.user_state(&key).await?;
        // A queued request may open a conversation, or close the open one.
        if user_state
            .as_ref()
            .is_none_or(|user_state| user_state.waiting == 0)
        {
            self.rateable(&key).await?;
        }
        let work = Work::Rating(rating);
        let outcome = self
            .submit(caller, &key, user_state, work, preference)
            .await?;
        Ok(outcome.map(|_| ()))
    }

    /// Returns the user's latest conversation if it has ended.
    async fn rateable(&self, key: &UserKey) -> Result<Conversation, Error> {
        let store = &self.bridge.parts.store;
        let latest = store
            .latest_conversation(key)
            .await?
            .ok_or(Error::ConversationNotFound)?;
        if latest.state == State::Open {
            return Err(Error::ConversationOpen);
        }
        Ok(latest)
    }

    pub(super) async fn rate_now(
        &self,
        trace: &Trace,
        key: &UserKey,
        rating: Rating,
    ) -> Result<(), Error> {
        let latest = self.rateable(key).await?;
        let user_state = self.bridge.parts.store.user_state(key).await?;
        let user_state = user_state.ok_or(Error::UserNotFound)?;
        let token = self
            .bridge
            .token(trace, key, user_state.user, user_state.token)
            .await?;
        let conversation = OpenConversation {
            id: latest.id,
            features: latest.features,
            dialog: CurrentDialog::Main,
        };
        let mut session = Session::new(key, user_state.user, token, conversation, None);
        let rating = Signal::Rating(rating);
        self.bridge.signal(trace, &mut session, rating).await
    }
}
