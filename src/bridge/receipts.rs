//! What became of the messages that a user was sent.

use super::requests::{Outcome, Patience, Work};
use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::Signal;
use crate::types::ids::UserId;
use crate::types::message::{ReceiptStatus, Sequence};
use crate::types::trace::Trace;

impl Bridge {
    /// Tells the agent what became of messages.
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
    ) -> Result<Outcome<()>, Error> {
        let key = caller.key(user_id);
        let standing = self.parts.store.standing(&key).await?;
        // Sequences are of one dialog: later there may be another, and these mean nothing there.
        let open = standing
            .as_ref()
            .and_then(|standing| standing.open.as_ref());
        let open = open.ok_or(Error::NoOpenConversation)?;
        let work = Work::Receipts {
            dialog_id: Some(open.dialog_id().to_owned()),
            status,
            sequences: sequences.to_vec(),
        };
        let outcome = self.submit(caller, &key, standing, work, patience).await?;
        Ok(outcome.map(|_| ()))
    }

    pub(super) async fn send_receipts_now(
        &self,
        trace: &Trace,
        session: &mut Session,
        status: ReceiptStatus,
        sequences: &[Sequence],
    ) -> Result<(), Error> {
        let receipts = Signal::Receipts(status, sequences);
        self.show(trace, session, receipts).await
    }
}
