//! The Monitoring API, which finds a consumer's conversation that the bridge does not know.

use super::host::Endpoint;
use super::retry::RetryPolicy;
use super::transport::{Body, Call};
use super::wire::monitoring::{Engagement, Engagements};
use super::{Client, Error, answer};
use crate::types::ids::{AccountId, ConversationId};
use crate::types::trace::Trace;

impl Client {
    /// Returns the open conversation of the consumer with this external id, if the Cloud knows one.
    ///
    /// # Errors
    ///
    /// See [`Error`]. The outcome is never unknown, since the call can be repeated without harm.
    pub async fn find_open_conversation(
        &self,
        account: &AccountId,
        external_id: &str,
        trace: &Trace,
    ) -> Result<Option<ConversationId>, Error> {
        let client = self.client_of(account)?;
        let call = Call {
            operation: "cloud.find_open_conversation",
            endpoint: Endpoint::Engagement,
            retry: RetryPolicy::Freely,
            limit: client.transport.limits.lookup,
            body: Body::json(&Engagement::of(external_id)),
            on_behalf: None,
            client_properties: None,
        };
        // Without a token, since the vendor's pages require none.
        client
            .transport
            .call(&call, None, trace, |answer, now| {
                // A refusal says nothing about the conversation, which a later call may find. So it
                // counts as an outage.
                let engagements: Engagements =
                    answer::decode(answer, now).map_err(Error::into_outage)?;
                engagements
                    .conversation()
                    .map(|id| id.parse().map_err(|_| answer::undecodable(answer)))
                    .transpose()
            })
            .await
    }
}
