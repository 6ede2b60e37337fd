//! The choices that the Cloud's documents leave open, or that its services may change one day. A
//! client that works with all of them need not know which one is true.
//!
//! To add a choice, add a member to [`Behaviour`], use it in the code that builds the answer, and
//! add a line to `docs/sandbox.md`.

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Sandbox;
use super::control_request::JsonBody;
use super::faults::{read_status, write_status};

/// The forms of the Cloud's answers for which its documents conflict or are silent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// The form of the answer to the lookup of one domain.
    pub lookup_form: LookupForm,
    /// The status of "already has open conversation". The vendor's how-to says 400; 200 cannot be
    /// ruled out.
    #[serde(serialize_with = "write_status", deserialize_with = "read_status")]
    pub already_open_status: StatusCode,
    /// The status of "Conversation is close", which no source states.
    #[serde(serialize_with = "write_status", deserialize_with = "read_status")]
    pub closed_status: StatusCode,
    /// The message for a closed conversation, which only one source shows.
    pub closed_words: String,
    /// True if every skill has a survey.
    pub surveys: bool,
    /// The form in which an AppJWT states its lifetime.
    pub app_token: TokenForm,
    /// White space after each token.
    pub token_end: String,
    /// The form of the sequence in the answer to a publish.
    pub sequence: SequenceForm,
    /// True if an answer contains the id of its request.
    pub request_ids: bool,
    /// The member that holds the id of a new conversation.
    pub conversation_member: ConversationMember,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lookup_form: LookupForm::default(),
            already_open_status: StatusCode::BAD_REQUEST,
            closed_status: StatusCode::BAD_REQUEST,
            closed_words: "Conversation is close".to_owned(),
            surveys: true,
            app_token: TokenForm::default(),
            token_end: String::new(),
            sequence: SequenceForm::default(),
            request_ids: true,
            conversation_member: ConversationMember::default(),
        }
    }
}

/// The two forms in which sources show the lookup of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupForm {
    /// One object with `baseURI` at its top level.
    #[default]
    Flat,
    /// The array `baseURIs` with one entry, as in the lookup of all domains.
    Array,
}

/// The forms in which an AppJWT states its lifetime. Samples have whole seconds; RFC 7519 allows
/// fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenForm {
    /// `exp` in whole seconds.
    #[default]
    Seconds,
    /// `exp` with a fraction.
    Fraction,
    /// `exp` as text.
    Text,
    /// No `exp`, and `expires_in` beside the token.
    ExpiresIn,
    /// No lifetime.
    Untold,
}

impl TokenForm {
    /// Returns the claim `exp` for an expiry in seconds since the epoch, or `None` if the form has
    /// no such claim.
    pub(super) fn claim(self, end: i64) -> Option<Value> {
        match self {
            Self::Seconds => Some(json!(end)),
            Self::Fraction => Some(json!(format!("{end}.5").parse::<f64>().ok())),
            Self::Text => Some(json!(end.to_string())),
            Self::ExpiresIn | Self::Untold => None,
        }
    }
}

/// The forms of the sequence in the answer to a publish. All samples have a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceForm {
    /// A number.
    #[default]
    Number,
    /// A number as text.
    Text,
    /// No sequence: the status alone says that the event was accepted.
    Missing,
}

impl SequenceForm {
    /// Returns the body of the answer.
    pub(super) fn body(self, sequence: usize) -> Value {
        match self {
            Self::Number => json!({"sequence": sequence}),
            Self::Text => json!({"sequence": sequence.to_string()}),
            Self::Missing => json!({}),
        }
    }
}

/// The members that can hold the id of a new conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConversationMember {
    /// The documented member.
    #[default]
    ConversationId,
    /// The member that notifications use.
    ConvId,
}

impl ConversationMember {
    /// Returns the body of the answer to an opening.
    pub(super) fn body(self, id: &str) -> Value {
        match self {
            Self::ConversationId => json!({"conversationId": id}),
            Self::ConvId => json!({"convId": id}),
        }
    }
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/behaviour", get(show).put(choose))
}

async fn show(State(sandbox): State<Sandbox>) -> Json<Behaviour> {
    Json(sandbox.state().behaviour.clone())
}

async fn choose(
    State(sandbox): State<Sandbox>,
    JsonBody(behaviour): JsonBody<Behaviour>,
) -> Json<Behaviour> {
    sandbox.set_behaviour(behaviour.clone());
    Json(behaviour)
}
