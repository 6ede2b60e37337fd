//! What is known of a user.

use crate::bridge::{Bridge, Caller, Error};
use crate::store::User;
use crate::types::ids::UserId;

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

    /// Asks the storage for a sign of life.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it gives none.
    pub async fn check_storage(&self) -> Result<(), Error> {
        Ok(self.parts.store.ping().await?)
    }
}
