//! Receipts for messages that a user has received.

use super::Outbox;
use super::accepted::{Accepted, WaitPreference};
use super::job::Work;
use crate::bridge::{Caller, Error};
use crate::types::ids::UserId;
use crate::types::message::{ReceiptStatus, Sequence};

impl Outbox {
    /// Sends the agent receipts for messages.
    ///
    /// # Errors
    ///
    /// [`Error::NoOpenConversation`]; if the Cloud refuses, or the storage is unavailable.
    pub async fn send_receipts(
        &self,
        caller: &Caller,
        user_id: UserId,
        status: ReceiptStatus,
        sequences: &[Sequence],
        preference: WaitPreference,
    ) -> Result<Accepted<()>, Error> {
        let key = caller.key(user_id);
        let user_state = self.bridge.parts.store.user_state(&key).await?;
        // Sequences belong to one dialog. Later there may be another, in which they mean nothing.
        let open = user_state.as_ref().and_then(|it| it.open.as_ref());
        let open = open.ok_or(Error::NoOpenConversation)?;
        let work = Work::Receipts {
            dialog_id: Some(open.dialog_id().to_owned()),
            status,
            sequences: sequences.to_vec(),
        };
        let accepted = self
            .submit(caller, &key, user_state, work, preference)
            .await?;
        Ok(accepted.map(|_| ()))
    }
}
