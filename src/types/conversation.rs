//! Conversations, their dialogs, and the options for opening a conversation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::ids::{ConversationId, DialogId, Invalid};
use super::profile::Profile;

/// The options for opening a conversation. Every member is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The profile of the user for the agent. It is merged into the stored profile.
    pub profile: Option<Profile>,
    /// The campaign or skill to which the conversation is routed.
    pub routing: Option<Routing>,
    /// The user's visit and language.
    pub context: Option<Context>,
    /// The priority of the conversation.
    pub urgency: Option<Urgency>,
    /// The features of the channel's client. The bridge sends them as `Client-Properties` when it
    /// opens the conversation and with every later request of the conversation.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Option<Features>)]
    pub features: Features,
}

/// Reads a member that may be null. Null means the same as a missing member.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The destination of a conversation: an engagement of a campaign, or a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "RoutingMembers", untagged)]
pub enum Routing {
    /// Routing by campaign. The vendor recommends it, since reports need it.
    Campaign {
        /// The campaign's id.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "880524023")]
        campaign_id: RouteId,
        /// The engagement's id within the campaign.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "880524123")]
        engagement_id: RouteId,
    },
    /// Routing directly to a skill. The id `-1` stands for all skills.
    Skill {
        /// The skill's id.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "2736637412")]
        skill_id: RouteId,
    },
}

/// The members of a routing, before their combination is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct RoutingMembers {
    campaign_id: Option<RouteId>,
    engagement_id: Option<RouteId>,
    skill_id: Option<RouteId>,
}

impl TryFrom<RoutingMembers> for Routing {
    type Error = Invalid;

    fn try_from(members: RoutingMembers) -> Result<Self, Invalid> {
        match (members.campaign_id, members.engagement_id, members.skill_id) {
            (Some(campaign_id), Some(engagement_id), None) => Ok(Self::Campaign {
                campaign_id,
                engagement_id,
            }),
            (None, None, Some(skill_id)) => Ok(Self::Skill { skill_id }),
            _ => Err(Invalid {
                expected: "either campaign_id and engagement_id, or skill_id alone",
            }),
        }
    }
}

/// The id of a campaign, an engagement or a skill. It is text, since these ids exceed 32 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteId(String);

impl RouteId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RouteId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(Invalid {
                expected: "1 to 64 printable ASCII characters",
            })
        }
    }
}

impl From<RouteId> for String {
    fn from(id: RouteId) -> Self {
        id.0
    }
}

/// The user's visit and language. The ids are those of the Cloud's Monitoring API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The visitor's id.
    pub visitor_id: Option<String>,
    /// The session's id.
    pub session_id: Option<String>,
    /// The `contextId` of the Monitoring API.
    pub interaction_context_id: Option<String>,
    /// The language of the conversation, as an IETF tag such as `en-US`.
    #[schema(example = "en-US")]
    pub language: Option<String>,
}

/// The priority of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// An answer within the account's normal time.
    Normal,
    /// An answer before conversations of normal priority.
    Urgent,
    /// An answer before conversations of normal priority, by the account's own rule.
    Prioritized,
}

/// The feature that allows a conversation to have dialogs besides the main dialog. Source: vendor's
/// page on post-conversation surveys.
const MULTI_DIALOG: &str = "MULTI_DIALOG";

/// The client features of a conversation: at most 16, in the given order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schema(value_type = Vec<DescribedFeature>, max_items = 16, example = json!(["AUTO_MESSAGES"]))]
pub struct Features(Vec<String>);

// This type only describes the name in the OpenAPI document.
/// The name of a client feature.
#[derive(Debug, ToSchema)]
#[schema(as = Feature, value_type = String, min_length = 1, max_length = 64, pattern = "^[A-Z0-9_]*$")]
pub struct DescribedFeature(pub String);

impl Features {
    /// True if there are no features.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names of the features.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// True if a survey can follow the main dialog of a conversation that was opened with these
    /// features.
    #[must_use]
    pub fn allows_survey(&self) -> bool {
        self.0.iter().any(|name| name == MULTI_DIALOG)
    }
}

impl TryFrom<Vec<String>> for Features {
    type Error = Invalid;

    fn try_from(names: Vec<String>) -> Result<Self, Invalid> {
        let is_feature = |name: &String| {
            (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        if names.len() <= 16 && names.iter().all(is_feature) {
            Ok(Self(names))
        } else {
            Err(Invalid {
                expected: "at most 16 names of capital letters, digits and underscores, such as AUTO_MESSAGES",
            })
        }
    }
}

impl From<Features> for Vec<String> {
    fn from(features: Features) -> Self {
        features.0
    }
}

/// A conversation of a user, as the bridge has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The Cloud's id of the conversation.
    pub id: ConversationId,
    /// The time at which the Cloud opened it.
    pub opened_at: DateTime<Utc>,
    /// Its state.
    pub state: State,
    /// The client features that its `Client-Properties` name.
    pub features: Features,
    /// The number of the user's queued requests.
    pub queued: u32,
}

/// The state of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Open: messages go to it.
    Open,
    /// Ended.
    Closed {
        /// The time of the end, as far as the bridge knows.
        at: DateTime<Utc>,
        /// The cause of the end; `None` if the bridge learned of the end only from a later request.
        reason: Option<CloseReason>,
    },
}

/// The cause of the end of a conversation: the Cloud's `closeReason` in lower case.
///
/// It can be any text, since the Cloud's list is open-ended. `CONSUMER` and `AGENT` have been
/// observed, and others exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason(pub String);

impl CloseReason {
    /// Returns the cause of a close that the user's channel requested.
    #[must_use]
    pub fn consumer() -> Self {
        Self("consumer".to_owned())
    }
}

/// The side that opened a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenedBy {
    /// The user, through a channel.
    #[default]
    User,
    /// An agent, who opened or resumed it with a known user.
    Agent,
}

/// The latest state of a conversation that its channel was notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Open.
    Opened,
    /// Ended. After this notification, the channel receives at most a rating.
    Closed,
}

/// The end of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The time of the end.
    pub at: DateTime<Utc>,
    /// The cause of the end, if the Cloud reports it.
    pub reason: Option<CloseReason>,
}

/// The changes to a conversation that a newer state brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationChange {
    /// The Cloud's time of that state; `None` if the Cloud does not report it.
    pub updated_at: Option<DateTime<Utc>>,
    /// The state that the channel is notified of with this change.
    pub announced: Announced,
    /// The end of the conversation with all of its dialogs, including those that are not listed.
    pub closed: Option<Closed>,
    /// The dialogs that messages can go to.
    pub dialogs: Vec<Dialog>,
    /// All other dialogs.
    pub side_dialogs: Vec<SideDialog>,
    /// A fingerprint that distinguishes this state from another state of the same time.
    pub fingerprint: String,
}

/// A dialog of a conversation in which the user does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideDialog {
    /// The Cloud's id of the dialog.
    pub id: DialogId,
    /// True if it is among agents. Its messages are not for the user.
    pub is_private: bool,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// The Cloud's id of the dialog.
    pub id: DialogId,
    /// Its purpose.
    pub kind: DialogKind,
    /// The time at which it began.
    pub opened_at: DateTime<Utc>,
    /// The time at which it ended; `None` while it is open.
    pub closed_at: Option<DateTime<Utc>>,
}

/// The purpose of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogKind {
    /// The main dialog, with agents.
    Main,
    /// The survey after it, which a bot conducts.
    PostSurvey,
}

impl DialogKind {
    /// Returns the kind as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::PostSurvey => "post_survey",
        }
    }
}

/// The dialog of an open conversation in which the user writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrentDialog {
    /// The main dialog, which has the id of the conversation.
    Main,
    /// The survey after it.
    Survey(DialogId),
    /// No dialog: the main dialog has ended, and no survey is known to be open.
    Ended,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routing(value: serde_json::Value) -> Result<Routing, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn a_routing_names_a_campaign_or_a_skill_but_not_both() {
        assert!(routing(json!({"campaign_id": "1", "engagement_id": "2"})).is_ok());
        assert!(routing(json!({"skill_id": "-1"})).is_ok());
        for bad in [
            json!({}),
            json!({"campaign_id": "1"}),
            json!({"engagement_id": "1"}),
            json!({"skill_id": "1", "campaign_id": "1", "engagement_id": "2"}),
            json!({"skill_id": ""}),
            json!({"skill_id": "1", "skil": "1"}),
        ] {
            assert!(routing(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn features_are_names_that_are_safe_in_a_header() {
        let parse = |value| serde_json::from_value::<Features>(value);

        assert_eq!(
            parse(json!(["AUTO_MESSAGES"])).unwrap().names(),
            ["AUTO_MESSAGES"]
        );
        assert!(parse(json!(["MULTI_DIALOG"])).unwrap().allows_survey());
        assert!(!parse(json!(["AUTO_MESSAGES"])).unwrap().allows_survey());
        for bad in [
            json!(["auto"]),
            json!([""]),
            json!(["A\r\nB"]),
            json!(vec!["A"; 17]),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
