//! Conversations and how they are opened.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::ids::{ConversationId, DialogId, Invalid};
use super::profile::Profile;

/// How to open a conversation; every member may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// What the agent is told about the user; merged into what is stored of them.
    pub profile: Option<Profile>,
    /// Where the conversation goes.
    pub routing: Option<Routing>,
    /// What the user was doing.
    pub context: Option<Context>,
    /// How soon an agent should answer.
    pub urgency: Option<Urgency>,
    /// Client features: the `Client-Properties` of the opening and of every later request of the conversation.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(value_type = Option<Features>)]
    pub features: Features,
}

/// Reads a member that may be null, which means the same as to leave it out.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Where a conversation goes: to a campaign's engagement, or straight to a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "RoutingMembers", untagged)]
pub enum Routing {
    /// By campaign, which the vendor recommends: reports need it.
    Campaign {
        /// The campaign's id.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "880524023")]
        campaign_id: RouteId,
        /// The engagement's id within the campaign.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "880524123")]
        engagement_id: RouteId,
    },
    /// Directly to a skill; `-1` means all skills.
    Skill {
        /// The skill's id.
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[\x21-\x7e]*$", example = "2736637412")]
        skill_id: RouteId,
    },
}

/// The members that a routing may have, before it is known which of them go together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of the facade")]
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

/// The id of a campaign, an engagement or a skill: text, since these ids exceed 32 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteId(String);

impl RouteId {
    /// The id as text.
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

/// What the user was doing; the ids come from the Cloud's Monitoring API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The visitor's id.
    pub visitor_id: Option<String>,
    /// The session's id.
    pub session_id: Option<String>,
    /// The Monitoring API's `contextId`.
    pub interaction_context_id: Option<String>,
    /// The conversation's language, an IETF tag such as `en-US`.
    #[schema(example = "en-US")]
    pub language: Option<String>,
}

/// How soon an agent should answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// In the account's normal time.
    Normal,
    /// Before normal ones.
    Urgent,
    /// Before normal ones, by the account's own rule.
    Prioritized,
}

/// The feature without which a conversation has a main dialog and no other. Source: vendor's page on post-conversation
/// surveys.
const MULTI_DIALOG: &str = "MULTI_DIALOG";

/// The client features of a conversation, in the order given; at most 16.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schema(value_type = Vec<DescribedFeature>, max_items = 16, example = json!(["AUTO_MESSAGES"]))]
pub struct Features(Vec<String>);

// It stands for the name in the document alone.
/// The name of a client feature.
#[derive(Debug, ToSchema)]
#[schema(as = Feature, value_type = String, min_length = 1, max_length = 64, pattern = "^[A-Z0-9_]*$")]
pub struct DescribedFeature(pub String);

impl Features {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The features' names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether a survey can follow the main dialog of a conversation that was opened with these.
    #[must_use]
    pub fn allow_survey(&self) -> bool {
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

/// A conversation that the bridge opened for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The Cloud's id.
    pub id: ConversationId,
    /// When the Cloud opened it.
    pub opened_at: DateTime<Utc>,
    /// Whether it is still open.
    pub state: State,
    /// What its `Client-Properties` name.
    pub features: Features,
    /// How many of the user's requests wait to be sent.
    pub queued: u32,
}

/// Whether a conversation is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Messages go there.
    Open,
    /// It has ended.
    Closed {
        /// When, as far as the bridge knows.
        at: DateTime<Utc>,
        /// Who or what ended it; unknown where only a later request showed it.
        reason: Option<CloseReason>,
    },
}

/// Who or what ended a conversation: the Cloud's `closeReason` in lower case.
///
/// Any word, since the Cloud's list is open: `CONSUMER` and `AGENT` were seen, others exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason(pub String);

impl CloseReason {
    /// The user's channel asked for it.
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
    /// An agent, who opened or resumed it with a user who is known.
    Agent,
}

/// What a channel was told last of a conversation's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// That it is open.
    Opened,
    /// That it has ended, which is the last that the channel hears but for a rating.
    Closed,
}

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// When.
    pub at: DateTime<Utc>,
    /// Who or what ended it, if the Cloud says so.
    pub reason: Option<CloseReason>,
}

/// What is learnt of a conversation from a newer state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationChange {
    /// When that state was made; absent where the Cloud does not say.
    pub updated_at: Option<DateTime<Utc>>,
    /// What the channel has been told with it.
    pub announced: Announced,
    /// That it has ended, with all of its dialogs, also those that are not listed.
    pub closed: Option<Closed>,
    /// The dialogs that messages can go to.
    pub dialogs: Vec<Dialog>,
    /// All other dialogs.
    pub side_dialogs: Vec<SideDialog>,
    /// What tells this state from another one of the same time.
    pub fingerprint: String,
}

/// A dialog of a conversation that the user does not write in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideDialog {
    /// The Cloud's id.
    pub id: DialogId,
    /// True if it is among agents: what is said in it is not for the user.
    pub is_private: bool,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// The Cloud's id.
    pub id: DialogId,
    /// What it is for.
    pub kind: DialogKind,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// When it ended; absent while it goes on.
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a dialog is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogKind {
    /// The conversation itself, with agents.
    Main,
    /// The survey after it, held by a bot.
    PostSurvey,
}

impl DialogKind {
    /// The kind as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::PostSurvey => "post_survey",
        }
    }
}

/// The dialog of an open conversation that what its user says goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrentDialog {
    /// The main one, which bears the conversation's id.
    Main,
    /// The survey after it.
    Survey(DialogId),
    /// None: the main one has ended, and no survey is known to be open.
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
        assert!(parse(json!(["MULTI_DIALOG"])).unwrap().allow_survey());
        assert!(!parse(json!(["AUTO_MESSAGES"])).unwrap().allow_survey());
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
