//! The bodies that open a conversation, publish in it, and close it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::HostedFile;
use crate::types::conversation::{Context, Routing, Urgency};
use crate::types::message::{ChatState, ReceiptStatus, Sequence};
use crate::types::rating::{Rating, RatingStatus};

/// The body of `cm.ConsumerRequestConversation`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct RequestConversation<'a> {
    pub(in crate::cloud) brand_id: &'a str,
    /// Always sent: the vendor's pages disagree on whether it is mandatory.
    pub(in crate::cloud) channel_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) ttr_def_name: Option<&'static str>,
    #[serde(flatten)]
    pub(in crate::cloud) target: Option<Target<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) conversation_context: Option<SharkContext<'a>>,
}

/// The campaign or skill that the conversation goes to. The ids are strings, since they exceed 32
/// bits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) enum Target<'a> {
    #[serde(rename_all = "camelCase")]
    CampaignInfo {
        campaign_id: &'a str,
        engagement_id: &'a str,
    },
    SkillId(&'a str),
}

impl<'a> From<&'a Routing> for Target<'a> {
    fn from(routing: &'a Routing) -> Self {
        match routing {
            Routing::Campaign {
                campaign_id,
                engagement_id,
            } => Self::CampaignInfo {
                campaign_id: campaign_id.as_str(),
                engagement_id: engagement_id.as_str(),
            },
            Routing::Skill { skill_id } => Self::SkillId(skill_id.as_str()),
        }
    }
}

/// The consumer's visit: its ids at the Monitoring API, and the language.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct SharkContext<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    visitor_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction_context_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<&'a str>,
}

impl<'a> SharkContext<'a> {
    /// Returns the context; `None` if it is empty.
    pub(in crate::cloud) fn of(context: &'a Context) -> Option<Self> {
        (*context != Context::default()).then_some(Self {
            kind: "SharkContext",
            visitor_id: context.visitor_id.as_deref(),
            session_id: context.session_id.as_deref(),
            interaction_context_id: context.interaction_context_id.as_deref(),
            lang: context.language.as_deref(),
        })
    }
}

pub(in crate::cloud) fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Normal => "NORMAL",
        Urgency::Urgent => "URGENT",
        Urgency::Prioritized => "PRIORITIZED",
    }
}

/// The body of `ms.PublishEvent`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct PublishEvent<'a> {
    pub(in crate::cloud) dialog_id: &'a str,
    pub(in crate::cloud) conversation_id: &'a str,
    pub(in crate::cloud) event: Event<'a>,
}

/// The answer to a publish request, in any form. The Cloud's code alone says that the event was
/// accepted.
#[derive(Deserialize)]
#[serde(from = "Value")]
pub(in crate::cloud) struct Published(Option<u64>);

impl From<Value> for Published {
    fn from(body: Value) -> Self {
        Self(match body.get("sequence") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        })
    }
}

impl Published {
    /// Returns the sequence of the event within its dialog, if the answer has one.
    pub(in crate::cloud) fn sequence(&self) -> Option<Sequence> {
        Sequence::try_from(self.0?).ok()
    }
}

/// The event that is published.
#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(in crate::cloud) enum Event<'a> {
    #[serde(rename = "ContentEvent")]
    Content {
        content_type: &'static str,
        message: Message<'a>,
    },
    #[serde(rename = "ChatStateEvent")]
    ChatState { chat_state: &'static str },
    #[serde(rename = "AcceptStatusEvent")]
    AcceptStatus {
        status: &'static str,
        sequence_list: &'a [Sequence],
    },
}

/// The message of a content event: the text itself, or an object for a file.
#[derive(Serialize)]
#[serde(untagged)]
pub(in crate::cloud) enum Message<'a> {
    Text(&'a str),
    File(HostedFile<'a>),
}

pub(in crate::cloud) fn chat_state(state: ChatState) -> &'static str {
    match state {
        ChatState::Composing => "COMPOSING",
        ChatState::Pause => "PAUSE",
        ChatState::Active => "ACTIVE",
        ChatState::Inactive => "INACTIVE",
        ChatState::Gone => "GONE",
    }
}

pub(in crate::cloud) fn receipt_status(status: ReceiptStatus) -> &'static str {
    match status {
        ReceiptStatus::Accept => "ACCEPT",
        ReceiptStatus::Read => "READ",
        ReceiptStatus::Access => "ACCESS",
        ReceiptStatus::Nack => "NACK",
        ReceiptStatus::Action => "ACTION",
    }
}

/// The body of `cm.UpdateConversationField`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct UpdateConversationField<'a> {
    pub(in crate::cloud) conversation_id: &'a str,
    pub(in crate::cloud) conversation_field: Field<'a>,
}

/// The field that is changed.
#[derive(Serialize)]
#[serde(tag = "field", rename_all_fields = "camelCase")]
pub(in crate::cloud) enum Field<'a> {
    #[serde(rename = "ConversationStateField")]
    ConversationState { conversation_state: &'static str },
    /// The whole conversation. Source: vendor's page on post-conversation surveys, which closes a
    /// conversation in this way if no survey is to follow.
    Stage { conversation_state: &'static str },
    /// One dialog. Source: the same page, which lets a survey begin in this way.
    DialogChange {
        #[serde(rename = "type")]
        change: &'static str,
        dialog: ClosedDialog<'a>,
    },
    #[serde(rename = "CSATRate")]
    Rating {
        #[serde(skip_serializing_if = "Option::is_none")]
        csat_rate: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        csat_resolution_confirmation: Option<bool>,
        status: &'static str,
    },
}

/// The end of a dialog.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct ClosedDialog<'a> {
    pub(in crate::cloud) dialog_id: &'a str,
    pub(in crate::cloud) state: &'static str,
    pub(in crate::cloud) closed_cause: &'static str,
}

impl From<Rating> for Field<'_> {
    fn from(rating: Rating) -> Self {
        Self::Rating {
            csat_rate: rating.csat,
            csat_resolution_confirmation: rating.first_call_resolution,
            status: match rating.status {
                RatingStatus::Filled => "FILLED",
                RatingStatus::PartiallyFilled => "PARTIALLY_FILLED",
                RatingStatus::Skipped => "SKIPPED",
            },
        }
    }
}
