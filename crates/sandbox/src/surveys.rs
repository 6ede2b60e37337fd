//! Surveys after a conversation. The main dialog closes, and a second dialog opens, in which a bot
//! asks the questions. The conversation ends with that dialog.
//!
//! Source: vendor's page on post-conversation surveys. It does not say how a survey ends. The
//! sandbox assumes that only the bot or the end of the whole conversation ends it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::control_request::JsonBody;
use super::conversations::{Conversation, Dialog, DialogKind, NewEvent, Stage};
use super::participant::{Audience, Participant, Role};
use super::refusal::Refusal;
use super::{Sandbox, Shared, State as SandboxState};

/// The feature that a conversation needs for more than one dialog.
const MULTI_DIALOG: &str = "MULTI_DIALOG";

/// The Cloud's skill id of a conversation without a skill.
const UNASSIGNED: &str = "-1";

impl Conversation {
    /// True if a survey follows the main dialog. The account assigns its surveys to skills, so a
    /// conversation without a skill has no survey.
    fn takes_survey(&self) -> bool {
        let has_skill = match self.request.get("skillId") {
            Some(Value::String(skill)) => skill != UNASSIGNED,
            Some(Value::Number(skill)) => skill.to_string() != UNASSIGNED,
            _ => self.request.get("campaignInfo").is_some(),
        };
        has_skill && self.features.contains(MULTI_DIALOG)
    }

    /// Returns the open survey.
    fn survey(&mut self) -> Option<&mut Dialog> {
        let is_survey = |dialog: &&mut Dialog| {
            dialog.kind == DialogKind::PostSurvey && dialog.state == Stage::Open
        };
        self.dialogs.iter_mut().find(is_survey)
    }
}

impl Shared {
    /// Closes the main dialog of a conversation. A survey follows if the conversation takes one;
    /// otherwise the whole conversation closes. Returns true if the main dialog was open.
    pub(super) fn close_main_dialog(&self, state: &mut SandboxState, id: &str, by: &str) -> bool {
        let conversation = state.conversations.get(id);
        let Some(conversation) = conversation.filter(|c| c.state == Stage::Open) else {
            return false;
        };
        if !(state.behaviour.surveys && conversation.takes_survey()) {
            return conversation.close(by);
        }
        conversation.state = Stage::Close;
        if let Some(main) = conversation.dialog(id) {
            main.close(by);
        }
        let survey = self.clock.uuid().to_string();
        state.conversations.begin_survey(id, survey);
        true
    }
}

impl Sandbox {
    /// Closes the main dialog of a conversation from the Cloud's side, as an agent does. A survey
    /// follows if the conversation has a skill and the feature `MULTI_DIALOG`, and surveys are on.
    /// Otherwise the whole conversation closes.
    ///
    /// Returns true if there was a conversation with that id and an open main dialog.
    #[must_use]
    pub fn close_main_dialog(&self, id: &str, by: &str) -> bool {
        self.0.close_main_dialog(&mut self.state(), id, by)
    }

    /// Publishes an event of the bot, with the role `AGENT`, in the survey of a conversation.
    /// Returns its sequence.
    ///
    /// `None` if no survey is open.
    #[must_use]
    pub fn publish_in_survey(&self, id: &str, event: Value) -> Option<usize> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let conversation = state.conversations.get(id)?;
        let bot = Participant::of_brand(&conversation.consumer.account, Role::Agent, "");
        let new_event = NewEvent {
            originator: bot,
            audience: Audience::All,
            event,
            metadata: None,
            request_id: None,
        };
        Some(conversation.survey()?.publish(new_event, now))
    }

    /// Ends the survey of a conversation and the conversation itself. Its close reason is the party
    /// that closed the main dialog.
    ///
    /// Returns true if a survey was open.
    #[must_use]
    pub fn end_survey(&self, id: &str) -> bool {
        let mut state = self.state();
        let Some(conversation) = state.conversations.get(id) else {
            return false;
        };
        let main = conversation
            .dialog(id)
            .and_then(|main| main.closed_by.clone());
        let Some(survey) = conversation.survey() else {
            return false;
        };
        survey.close("AGENT");
        conversation.close(main.as_deref().unwrap_or("AGENT"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// The party that closes it, such as `AGENT`.
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The event that the bot publishes.
    event: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

/// Returns the control routes of surveys.
pub(super) fn control() -> Router<Sandbox> {
    Router::new()
        .route("/surveys", post(switch))
        .route("/conversations/{id}/close-main-dialog", post(close_main))
        .route("/conversations/{id}/survey", post(publish_question))
        .route("/conversations/{id}/survey/end", post(end))
}

async fn switch(State(sandbox): State<Sandbox>, JsonBody(switch): JsonBody<Switch>) -> StatusCode {
    sandbox.state().behaviour.surveys = switch.on;
    StatusCode::NO_CONTENT
}

async fn close_main(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    JsonBody(closing): JsonBody<Closing>,
) -> Result<StatusCode, Refusal> {
    no_content_if(sandbox.close_main_dialog(&id, &closing.by), &id)
}

async fn publish_question(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    JsonBody(question): JsonBody<Question>,
) -> Result<Json<Value>, Refusal> {
    let sequence = sandbox.publish_in_survey(&id, question.event);
    let sequence = sequence.ok_or_else(|| no_open_dialog(&id))?;
    Ok(Json(json!({"sequence": sequence})))
}

async fn end(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    no_content_if(sandbox.end_survey(&id), &id)
}

fn no_content_if(found: bool, id: &str) -> Result<StatusCode, Refusal> {
    if found {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_open_dialog(id))
    }
}

fn no_open_dialog(id: &str) -> Refusal {
    let complaint = format!("conversation `{id}` has no such open dialog");
    Refusal::plain(StatusCode::NOT_FOUND, complaint)
}
