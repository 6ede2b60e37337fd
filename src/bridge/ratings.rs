//! What a user thinks of a conversation; the Cloud takes it once the conversation has ended.

use super::requests::{Outcome, Patience, Work};
use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::store::OpenConversation;
use crate::types::conversation::{Conversation, CurrentDialog, State};
use crate::types::ids::{UserId, UserKey};
use crate::types::rating::Rating;
use crate::types::trace::Trace;

impl Bridge {
    /// Rates the user's latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::ConversationOpen`] where it has not ended, a survey after it included, [`Error::ConversationNotFound`] where there never was one;
    /// when the Cloud refuses or is away.
    pub async fn rate(
        &self,
        caller: &Caller,
        user_id: UserId,
        rating: Rating,
        patience: Patience,
    ) -> Result<Outcome<()>, Error> {
        let key = caller.key(user_id);
        let standing = self.parts.store.standing(&key).await?;
        // What waits may open a conversation, or close the one that is open.
        if standing
            .as_ref()
            .is_none_or(|standing| standing.waiting == 0)
        {
            self.rateable(&key).await?;
        }
        let work = Work::Rating(rating);
        let outcome = self.submit(caller, &key, standing, work, patience).await?;
        Ok(outcome.map(|_| ()))
    }

    /// The user's latest conversation, which has ended.
    async fn rateable(&self, key: &UserKey) -> Result<Conversation, Error> {
        let store = &self.parts.store;
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
        let standing = self.parts.store.standing(key).await?;
        let standing = standing.ok_or(Error::UserNotFound)?;
        let token = self
            .token(trace, key, standing.user, standing.token)
            .await?;
        let mut session = Session {
            key: key.clone(),
            user: standing.user,
            token,
            conversation: OpenConversation {
                id: latest.id,
                features: latest.features,
                dialog: CurrentDialog::Main,
            },
            typing: None,
            patience: None,
        };
        self.signal(trace, &mut session, Signal::Rating(rating))
            .await
    }
}
