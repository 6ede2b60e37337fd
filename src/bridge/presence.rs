//! The smaller signs of a user: typing and receipts. They need an open conversation and never open one.

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::types::ids::UserId;
use crate::types::message::{ChatState, ReceiptStatus, Sequence};

impl Bridge {
    /// Shows the agent what the user is doing.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; when the Cloud refuses or is away.
    pub async fn set_typing(
        &self,
        caller: &Caller,
        user_id: UserId,
        state: ChatState,
    ) -> Result<(), Error> {
        self.show(caller, user_id, Signal::ChatState(state)).await
    }

    /// Tells the agent what became of messages.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; when the Cloud refuses or is away.
    pub async fn send_receipts(
        &self,
        caller: &Caller,
        user_id: UserId,
        status: ReceiptStatus,
        sequences: &[Sequence],
    ) -> Result<(), Error> {
        self.show(caller, user_id, Signal::Receipts(status, sequences))
            .await
    }

    async fn show(
        &self,
        caller: &Caller,
        user_id: UserId,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        let key = caller.key(user_id);
        let mut session = self
            .session(&caller.trace, &key)
            .await?
            .ok_or(Error::NoOpenConversation)?;
        match self.signal(&caller.trace, &mut session, signal).await {
            Ok(()) => Ok(()),
            Err(Error::Cloud(cloud::Error::ConversationClosed)) => Err(Error::NoOpenConversation),
            Err(error) => Err(error),
        }
    }
}
