//! What a user thinks of a conversation; the Cloud takes it once the conversation has ended.

use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::store::OpenConversation;
use crate::types::conversation::{CurrentDialog, State};
use crate::types::ids::UserId;
use crate::types::rating::Rating;

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
    ) -> Result<(), Error> {
        let key = caller.key(user_id);
        let store = &self.parts.store;
        let latest = store
            .latest_conversation(&key)
            .await?
            .ok_or(Error::ConversationNotFound)?;
        if latest.state == State::Open {
            return Err(Error::ConversationOpen);
        }
        let standing = store.standing(&key).await?.ok_or(Error::UserNotFound)?;
        let token = self
            .token(&caller.trace, &key, standing.user, standing.token)
            .await?;
        let mut session = Session {
            key,
            user: standing.user,
            token,
            conversation: OpenConversation {
                id: latest.id,
                features: latest.features,
                dialog: CurrentDialog::Main,
            },
            typing: None,
        };
        self.signal(&caller.trace, &mut session, Signal::Rating(rating))
            .await
    }
}
