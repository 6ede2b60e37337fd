//! Receipts of the messages that a user was sent.

use super::Outbox;
use super::accepted::{Accepted, Patience};
use super::job::Work;
use crate::bridge::{Caller, Error};
use crate::types::ids::UserId;
use crate::types::message::{ReceiptStatus, Sequence};

impl Outbox {
    /// Sends the agent receipts of messages.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; when the Cloud refuses, or the storage is away.
    pub async fn send_receipts(
        &self,
        caller: &Caller,
        user_id: UserId,
        status: ReceiptStatus,
        sequences: &[Sequence],
        patience: Patience,
    ) -> Result<Accepted<()>, Error> {
        let key = caller.key(user_id);
        let looked_up = self.bridge.parts.store.standing(&key).await?;
        // Sequences are of one dialog: later there may be another, and these mean nothing there.
        let open = looked_up.as_ref().and_then(|it| it.open.as_ref());
        let open = open.ok_or(Error::NoOpenConversation)?;
        let work = Work::Receipts {
            dialog_id: Some(open.dialog_id().to_owned()),
            status,
            sequences: sequences.to_vec(),
        };
        let accepted = self.submit(caller, &key, looked_up, work, patience).await?;
        Ok(accepted.map(|_| ()))
    }
}
