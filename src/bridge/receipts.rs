//! What became of the messages that a user was sent.

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::types::ids::UserId;
use crate::types::message::{ReceiptStatus, Sequence};

impl Bridge {
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
        let key = caller.key(user_id);
        let mut session = self
            .session(&caller.trace, &key)
            .await?
            .ok_or(Error::NoOpenConversation)?;
        let receipts = Signal::Receipts(status, sequences);
        self.show(&caller.trace, &mut session, receipts).await
    }
}
