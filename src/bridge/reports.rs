//! Reports on requests that were answered 202.

use crate::bridge::{Bridge, Caller, Error};
use crate::types::message::MessageId;
use crate::types::request::Report;

impl Bridge {
    /// Returns the report on a request that was answered 202.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`] if the channel has no such request.
    pub async fn request(&self, caller: &Caller, id: MessageId) -> Result<Report, Error> {
        let store = &self.parts.store;
        let report = store.request(&caller.channel.id, id).await?;
        report
            .filter(|report| caller.may_access(&report.user_id))
            .ok_or(Error::MessageNotFound)
    }
}
