//! The Monitoring API: which conversation a consumer is in, where the bridge does not know.

use super::host::Endpoint;
use super::retry::Repeat;
use super::transport::{Body, Call};
use super::wire::monitoring::{Engagement, Engagements};
use super::{Client, Error, answer};
use crate::types::ids::{AccountId, ConversationId};
use crate::types::trace::Trace;

impl Client {
    /// The open conversation of the consumer with this external id, if the Cloud knows of one.
    ///
    /// # Errors
    ///
    /// See [`Error`]; no outcome is unknown, since asking again does no harm.
    pub async fn find_open_conversation(
        &self,
        account: &AccountId,
        external_id: &str,
        trace: &Trace,
    ) -> Result<Option<ConversationId>, Error> {
        let site = self.site(account)?;
        let call = Call {
            operation: "cloud.find_open_conversation",
            endpoint: Endpoint::Engagement,
            repeat: Repeat::Freely,
            limit: site.transport.limits.look_up,
            body: Body::json(&Engagement::of(external_id)),
            on_behalf: None,
            client_properties: None,
        };
        // Without a token: the vendor's pages ask for none.
        site.transport
            .call(&call, None, trace, |answer, now| {
                // One that is not there for this account says nothing of the conversation, which may be told of later.
                let answered: Engagements =
                    answer::decode(answer, now).map_err(Error::into_outage)?;
                answered
                    .conversation()
                    .map(|id| id.parse().map_err(|_| answer::undecodable(answer)))
                    .transpose()
            })
            .await
    }
}
