//! Use cases for users and their profiles, and checks of the storage and the clock.

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::store::User;
use crate::types::ids::UserId;
use crate::types::profile::Profile;
use crate::types::status::Outage;

impl Bridge {
    /// Returns a user with profile, consumer id and latest conversation.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] if the user was never seen in the channel's namespace.
    pub async fn user(&self, caller: &Caller, user_id: UserId) -> Result<User, Error> {
        self.parts
            .store
            .user(&caller.key(user_id))
            .await?
            .ok_or(Error::UserNotFound)
    }

    /// Replaces a user's profile. The agent gets it at once if a conversation is open, else with
    /// the next opening.
    ///
    /// # Errors
    ///
    /// If the Cloud refuses, or the Cloud or the storage is unavailable. Then nothing is stored.
    pub async fn set_profile(
        &self,
        caller: &Caller,
        user_id: UserId,
        profile: Profile,
    ) -> Result<Profile, Error> {
        let key = caller.key(user_id);
        if let Some(mut session) = self.session(&caller.trace, &key).await? {
            let outcome = self
                .signal(&caller.trace, &mut session, Signal::Profile(&profile))
                .await;
            match outcome {
                Ok(()) | Err(Error::Cloud(cloud::Error::ConversationClosed)) => {}
                Err(error) => return Err(error),
            }
        }
        let store = &self.parts.store;
        let user = store.ensure_user(&key, self.parts.clock.now()).await?;
        store.set_profile(user, &profile).await?;
        Ok(profile)
    }

    /// Checks that the storage can be read and written.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub async fn check_storage(&self) -> Result<(), Outage> {
        self.parts.store.check(self.parts.clock.now()).await
    }

    /// True if this replica's clock is so far ahead of the server time that other replicas must do
    /// the due work.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.parts.clock.is_ahead()
    }
}
