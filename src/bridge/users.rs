//! What is known of a user.

use super::audit;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::store::User;
use crate::types::audit::Action;
use crate::types::ids::UserId;
use crate::types::profile::Profile;

impl Bridge {
    /// A user with profile, consumer id and latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] where the user was never seen in the channel's namespace.
    pub async fn user(&self, caller: &Caller, user_id: UserId) -> Result<User, Error> {
        self.parts
            .store
            .user(&caller.key(user_id))
            .await?
            .ok_or(Error::UserNotFound)
    }

    /// Keeps what is known of a user in place of what was known before; tells the agent at once where a conversation is
    /// open, else with the next opening.
    ///
    /// # Errors
    ///
    /// When the Cloud refuses or is away, or the storage is; nothing is kept then.
    pub async fn set_profile(
        &self,
        caller: &Caller,
        user_id: UserId,
        profile: Profile,
    ) -> Result<Profile, Error> {
        let key = caller.key(user_id);
        if let Some(mut session) = self.session(&caller.trace, &key).await? {
            let told = self
                .signal(&caller.trace, &mut session, Signal::Profile(&profile))
                .await;
            match told {
                Ok(()) | Err(Error::Cloud(cloud::Error::ConversationClosed)) => {}
                Err(error) => return Err(error),
            }
        }
        let store = &self.parts.store;
        let user = store.ensure_user(&key, self.parts.clock.now()).await?;
        store.set_profile(user, &profile).await?;
        Ok(profile)
    }

    /// Forgets a user: closes the open conversation and removes all that is kept. One that is not known is forgotten.
    ///
    /// # Errors
    ///
    /// When the Cloud or the storage is away; nothing is removed then.
    pub async fn erase(&self, caller: &Caller, user_id: UserId) -> Result<(), Error> {
        let key = caller.key(user_id);
        let store = &self.parts.store;
        let Some(standing) = store.standing(&key).await? else {
            return Ok(());
        };
        // Nobody may open a conversation between the close and the removal. The lease goes with the row.
        let lease = self.hold_lane(standing.user).await?;
        let closed = self
            .close_open(&caller.trace, &key, |_| Signal::CloseEverything)
            .await;
        match closed {
            Ok(()) => {}
            // Nothing that the Cloud thinks of the close can keep a user from being erased.
            Err(Error::Cloud(error @ cloud::Error::Refused { .. })) => tracing::warn!(
                account.id = %key.account_id,
                channel.id = %caller.channel.id,
                error = &error as &dyn std::error::Error,
                "a conversation of a user who is erased could not be closed; it is left to the Cloud"
            ),
            Err(error) => {
                store.release_lane(standing.user, &lease).await?;
                return Err(error);
            }
        }
        let now = self.parts.clock.now();
        let action = Action::EraseUser {
            by_own_token: caller.user.is_some(),
        };
        let entry = self.entry(caller, now, action);
        match store.delete_user(standing.user, now, &entry).await {
            Ok(true) => audit::tell(&entry),
            Ok(false) => {}
            Err(error) => {
                store.release_lane(standing.user, &lease).await?;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Asks the storage for a sign of life.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it gives none.
    pub async fn check_storage(&self) -> Result<(), Error> {
        Ok(self.parts.store.ping().await?)
    }

    /// True if the time here is so far ahead of the database's that others have to do what is due.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.parts.clock.is_ahead()
    }
}
