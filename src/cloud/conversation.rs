//! The request that opens a conversation: the CONVERSATION endpoint, with a batch of the profile
//! and the conversation.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::Subject;
use super::host::Endpoint;
use super::retry::RetryPolicy;
use super::transport::{Body, Call, client_properties};
use super::wire::conversation::{RequestConversation, SharkContext, Target, urgency};
use super::wire::profile::SetUserProfile;
use super::wire::request::Request;
use super::{Client, Consumer, Error, answer};
use crate::http::Answer;
use crate::types::conversation::{Context, Features, Routing, Urgency};
use crate::types::ids::ConversationId;
use crate::types::profile::Profile;
use crate::types::trace::Trace;

/// The properties of a new conversation.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The consumer's profile, which the agent sees.
    pub profile: Option<&'a Profile>,
    /// The campaign or skill that the conversation goes to.
    pub routing: Option<&'a Routing>,
    /// The consumer's visit: its ids at the Monitoring API, and the language.
    pub context: Option<&'a Context>,
    /// The priority of the conversation.
    pub urgency: Option<Urgency>,
    /// Client features. Every later request of the conversation must name the same ones.
    pub features: &'a Features,
}

impl Client {
    /// Opens a conversation.
    ///
    /// # Errors
    ///
    /// See [`Error`]. [`Error::AlreadyOpen`] if the consumer has an open conversation, even if an
    /// earlier call of this kind opened it and its outcome is unknown.
    pub async fn open(
        &self,
        consumer: &Consumer<'_>,
        opening: &Opening<'_>,
        trace: &Trace,
    ) -> Result<ConversationId, Error> {
        let client = self.client_of(consumer.account)?;
        let profile_id = client.request_id();
        let conversation_id = client.request_id();
        let call = Call {
            operation: "cloud.open",
            endpoint: Endpoint::Conversation,
            retry: RetryPolicy::Unsent,
            limit: client.transport.limits.conversation,
            // A tuple is a JSON array. The profile comes first, and is mandatory even if it is
            // empty.
            body: Body::json(&(
                Request::new(
                    &profile_id,
                    "userprofile.SetUserProfile",
                    SetUserProfile::new(opening.profile),
                ),
                Request::new(
                    &conversation_id,
                    "cm.ConsumerRequestConversation",
                    RequestConversation {
                        brand_id: consumer.account.as_str(),
                        channel_type: "MESSAGING",
                        ttr_def_name: opening.urgency.map(urgency),
                        target: opening.routing.map(Target::from),
                        conversation_context: opening.context.and_then(SharkContext::of),
                    },
                ),
            )),
            on_behalf: Some(consumer.token.header()),
            client_properties: client_properties(opening.features),
        };
        client
            .call(&call, trace, |answer, now| {
                read(answer, &profile_id, &conversation_id, now)
            })
            .await
    }
}

fn read(
    answer: &Answer,
    profile_id: &str,
    conversation_id: &str,
    now: DateTime<Utc>,
) -> Result<ConversationId, Error> {
    let subject = Subject::Opening;
    let body: Value = match answer::outcome(answer, conversation_id, Some(profile_id), subject, now)
    {
        Ok(body) => body,
        Err(error) => return answer::conversation_without_request_id(answer).ok_or(error),
    };
    if let Some(error) = answer::refusal_of(answer, profile_id, now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the Cloud opened a conversation but refused its profile"
        );
    }
    answer::conversation_in(&body).ok_or_else(|| answer::undecodable(answer))
}
