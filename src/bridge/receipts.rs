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
        let mut session = self.open_session(caller, user_id).await?;
        let receipts = Signal::Receipts(status, sequences);
        self.show(&caller.trace, &mut session, receipts).await
    }
}
