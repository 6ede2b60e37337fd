//! Surveys after a conversation: its main dialog is closed, a second dialog opens in which a bot asks, and the
//! conversation ends with that.
//!
//! Source: vendor's page on post-conversation surveys. What it does not say, and what is assumed here: nothing ends a
//! survey but the bot or the whole conversation.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::conversations::{Conversation, Dialog, DialogKind, Publishing, Stage};
use super::order::Order;
use super::participant::{Audience, Participant, Role};
use super::refusal::Refusal;
use super::{Sandbox, Shared, State as Everything};

/// The feature without which a conversation has one dialog alone.
const MULTI_DIALOG: &str = "MULTI_DIALOG";

/// What the Cloud calls a conversation without a skill.
const UNASSIGNED: &str = "-1";

impl Conversation {
    /// Whether a survey follows the main dialog. The account's surveys are assigned to skills, so there is none without.
    fn takes_survey(&self) -> bool {
        let has_skill = match self.request.get("skillId") {
            Some(Value::String(skill)) => skill != UNASSIGNED,
            Some(Value::Number(skill)) => skill.to_string() != UNASSIGNED,
            _ => self.request.get("campaignInfo").is_some(),
        };
        has_skill && self.features.contains(MULTI_DIALOG)
    }

    /// The survey that goes on.
    fn survey(&mut self) -> Option<&mut Dialog> {
        let is_survey = |dialog: &&mut Dialog| {
            dialog.kind == DialogKind::PostSurvey && dialog.state == Stage::Open
        };
        self.dialogs.iter_mut().find(is_survey)
    }
}

impl Shared {
    /// Closes the main dialog of a conversation; a survey follows where there can be one, else all is closed. Returns
    /// whether the main dialog was open.
    pub(super) fn close_main_dialog(&self, state: &mut Everything, id: &str, by: &str) -> bool {
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
    /// Closes the main dialog of a conversation from the Cloud's side, as an agent does: a survey follows where the
    /// conversation has a skill and the feature `MULTI_DIALOG` and surveys are on, else all is closed.
    ///
    /// Returns whether there was a conversation of that id with an open main dialog.
    #[must_use]
    pub fn close_main_dialog(&self, id: &str, by: &str) -> bool {
        self.0.close_main_dialog(&mut self.state(), id, by)
    }

    /// Publishes an event of the bot, whose role is `AGENT`, in the survey of a conversation; returns its sequence.
    ///
    /// `None` where no survey goes on.
    #[must_use]
    pub fn ask_survey(&self, id: &str, event: Value) -> Option<usize> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let conversation = state.conversations.get(id)?;
        let bot = Participant::of_brand(&conversation.consumer.account, Role::Agent, "");
        let publishing = Publishing {
            originator: bot,
            audience: Audience::All,
            event,
            metadata: None,
            request_id: None,
        };
        Some(conversation.survey()?.publish(publishing, now))
    }

    /// Ends the survey of a conversation, and with it the conversation, which shows who closed its main dialog.
    ///
    /// Returns whether a survey went on.
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
    /// Who closes it, such as `AGENT`.
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// What the bot publishes.
    event: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

/// The control of surveys over HTTP.
pub(super) fn control() -> Router<Sandbox> {
    Router::new()
        .route("/surveys", post(switch))
        .route("/conversations/{id}/close-main-dialog", post(close_main))
        .route("/conversations/{id}/survey", post(ask))
        .route("/conversations/{id}/survey/end", post(end))
}

async fn switch(State(sandbox): State<Sandbox>, Order(switch): Order<Switch>) -> StatusCode {
    sandbox.state().behaviour.surveys = switch.on;
    StatusCode::NO_CONTENT
}

async fn close_main(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    Order(closing): Order<Closing>,
) -> Result<StatusCode, Refusal> {
    done(sandbox.close_main_dialog(&id, &closing.by), &id)
}

async fn ask(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    Order(question): Order<Question>,
) -> Result<Json<Value>, Refusal> {
    let sequence = sandbox.ask_survey(&id, question.event);
    let sequence = sequence.ok_or_else(|| nothing_open(&id))?;
    Ok(Json(json!({"sequence": sequence})))
}

async fn end(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    done(sandbox.end_survey(&id), &id)
}

fn done(found: bool, id: &str) -> Result<StatusCode, Refusal> {
    if found {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(nothing_open(id))
    }
}

fn nothing_open(id: &str) -> Refusal {
    let complaint = format!("there is no such open dialog in a conversation `{id}`");
    Refusal::plain(StatusCode::NOT_FOUND, complaint)
}
