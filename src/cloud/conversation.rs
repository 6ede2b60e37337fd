//! Opening a conversation: the CONVERSATION endpoint, a batch of the profile and the request.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::Subject;
use super::host::Endpoint;
use super::retry::Repeat;
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

/// How to open a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// What the agent is told about the consumer.
    pub profile: Option<&'a Profile>,
    /// Where the conversation goes.
    pub routing: Option<&'a Routing>,
    /// What the consumer was doing.
    pub context: Option<&'a Context>,
    /// How soon an agent should answer.
    pub urgency: Option<Urgency>,
    /// Client features; every later request of the conversation has to name the same.
    pub features: &'a Features,
}

impl Client {
    /// Opens a conversation.
    ///
    /// # Errors
    ///
    /// See [`Error`]; [`Error::AlreadyOpen`] where the consumer has an open conversation, also where it was opened by
    /// an earlier call of this kind whose outcome is unknown.
    pub async fn open(
        &self,
        consumer: &Consumer<'_>,
        opening: &Opening<'_>,
        trace: &Trace,
    ) -> Result<ConversationId, Error> {
        let site = self.site(consumer.account)?;
        let profile_id = site.request_id();
        let conversation_id = site.request_id();
        let call = Call {
            operation: "cloud.open",
            endpoint: Endpoint::Conversation,
            repeat: Repeat::Unsent,
            limit: site.transport.limits.conversation,
            // A tuple is a JSON array. The profile comes first, and is mandatory even where it says nothing.
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
        site.call(&call, trace, |answer, now| {
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
        Err(error) => return answer::unnamed_conversation(answer).ok_or(error),
    };
    if let Some(error) = answer::refusal_of(answer, profile_id, now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the Cloud opened a conversation and refused the profile that came with it"
        );
    }
    answer::conversation_in(&body).ok_or_else(|| answer::undecodable(answer))
}
