//! The body of `cm.ConsumerRequestConversation`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::TextOrInteger;

/// The body of the request. Source: vendor's Send API page "Conversation".
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Opening {
    pub(crate) brand_id: String,
    channel_type: Option<ChannelType>,
    ttr_def_name: Option<Urgency>,
    campaign_info: Option<CampaignInfo>,
    skill_id: Option<TextOrInteger>,
    conversation_context: Option<ConversationContext>,
}

#[derive(Debug, Deserialize)]
enum ChannelType {
    #[serde(rename = "MESSAGING")]
    Messaging,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Urgency {
    Normal,
    Urgent,
    Prioritized,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CampaignInfo {
    campaign_id: TextOrInteger,
    engagement_id: TextOrInteger,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ConversationContext {
    r#type: Option<ContextType>,
    visitor_id: Option<String>,
    session_id: Option<String>,
    interaction_context_id: Option<TextOrInteger>,
    lang: Option<String>,
    /// The client's features. This member and the next are undocumented, but two known clients send
    /// them.
    features: Option<Vec<String>>,
    client_properties: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
enum ContextType {
    SharkContext,
}
