//! What is known of a user.

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::store::User;
use crate::types::ids::UserId;
use crate::types::profile::Profile;
use crate::types::status::Outage;

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

    /// Looks whether the storage can be read and written.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn check_storage(&self) -> Result<(), Outage> {
        self.parts.store.check(self.parts.clock.now()).await
    }

    /// True if the time here is so far ahead of the database's that others have to do what is due.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.parts.clock.is_ahead()
    }
}
