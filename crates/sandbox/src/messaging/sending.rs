//! SEND: one request about a conversation, or about its files.

mod files;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Failure, admit, check_features, profile_set, success};
use crate::conversations::{Consumer, Conversation, Conversations, DialogKind, NewEvent, Stage};
use crate::participant::{Audience, Participant};
use crate::recording::RecordedRequest;
use crate::refusal::Refusal;
use crate::schema;
use crate::schema::client_properties::ClientProperties;
use crate::schema::envelope::{Envelope, read_id};
use crate::schema::event::{self, Publication};
use crate::schema::field::{self, Change};
use crate::schema::profile::Profile;
use crate::{Sandbox, Shared, State};

/// The highest number of characters in the request's JSON. Source: vendor's how-to for connectors.
const SIZE_LIMIT: usize = 5000;

const PUBLISH: &str = "ms.PublishEvent";
const UPDATE: &str = "cm.UpdateConversationField";
const SET_PROFILE: &str = "userprofile.SetUserProfile";
const UPLOAD: &str = "ms.GenerateURLForUploadFile";
const DOWNLOAD: &str = "ms.GenerateURLForDownloadFile";

/// Answers SEND.
pub(crate) fn send(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let (consumer, properties) = admit(sandbox, account, request)?;
    let value = schema::parse(request)?;
    let req_id = read_id("", &value).unwrap_or_default();
    let envelope = Envelope::read("", &value).map_err(|e| Failure::from(e).refuse(&req_id))?;
    let length = request.body.chars().count();
    if length > SIZE_LIMIT && !event::is_file(&value) {
        return Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            body: json!({"code": "BAD_REQUEST", "body": {"msg": "Bad Request"}, "reqId": req_id}),
            complaint: format!("body: {length} characters, expected at most {SIZE_LIMIT}"),
        });
    }
    let mut sending = Sending {
        consumer,
        properties,
        shared: &sandbox.0,
        now: sandbox.0.clock.now(),
        state: &mut sandbox.state(),
    };
    let answer = match envelope.name.as_str() {
        PUBLISH => sending.publish(envelope),
        UPDATE => sending.update(&envelope.body),
        SET_PROFILE => sending.set_profile(envelope.body),
        UPLOAD => sending.announce_upload(&envelope.body),
        DOWNLOAD => sending.locate_download(&envelope.body),
        other => Err(Failure::bad_request(&format!(
            "type: `{other}`, expected `{PUBLISH}`, `{UPDATE}`, `{SET_PROFILE}`, `{UPLOAD}` or `{DOWNLOAD}`"
        ))),
    };
    match answer {
        Ok(body) => {
            let behaviour = &sending.state.behaviour;
            Ok(Json(success(&body, &req_id, behaviour)).into_response())
        }
        Err(failure) => Err(failure.refuse(&req_id)),
    }
}

/// A SEND in progress, with the state that it may change.
struct Sending<'a> {
    consumer: Consumer,
    properties: Option<ClientProperties>,
    shared: &'a Shared,
    now: DateTime<Utc>,
    state: &'a mut State,
}

impl Sending<'_> {
    fn publish(&mut self, envelope: Envelope) -> Result<Value, Failure> {
        let body: event::Body = schema::read("body", &envelope.body)?;
        let publication = event::classify(&body.event)?;
        let (now, closed) = (self.now, self.closed());
        let originator = Participant::consumer(&self.consumer.lp_consumer_id);
        let uploaded = match &publication {
            Publication::File(file) => self.check_upload(file),
            Publication::Sequenced | Publication::ChatState => Ok(()),
        };
        let conversation =
            self.find_conversation("body.dialogId", &body.dialog_id, Conversations::of_dialog)?;
        if let Some(id) = body.conversation_id.filter(|id| *id != conversation.id) {
            return Err(Failure::bad_request(&format!(
                "body.conversationId: `{id}`, expected `{}`, to which the dialog belongs",
                conversation.id
            )));
        }
        let Some(dialog) = conversation
            .dialog(&body.dialog_id)
            .filter(|dialog| dialog.state == Stage::Open)
        else {
            return Err(closed);
        };
        if matches!(publication, Publication::ChatState) && dialog.kind == DialogKind::PostSurvey {
            return Err(Failure::bad_request(
                "body.event.type: ChatStateEvent, a survey accepts no chat states",
            ));
        }
        uploaded?;
        let new_event = NewEvent {
            originator,
            audience: Audience::All,
            event: body.event,
            metadata: envelope.metadata,
            request_id: Some(envelope.id),
        };
        let sequence = match publication {
            Publication::Sequenced | Publication::File(_) => dialog.publish(new_event, now),
            Publication::ChatState => {
                dialog.publish_unsequenced(new_event, now);
                0
            }
        };
        Ok(self.state.behaviour.sequence.body(sequence))
    }

    fn update(&mut self, body: &Value) -> Result<Value, Failure> {
        let body: field::Body = schema::read("body", body)?;
        let field = field::single(&body.conversation_field)?;
        let change = field::classify(field)?;
        let closed = self.closed();
        let id = &body.conversation_id;
        let conversation = self.find_conversation("body.conversationId", id, Conversations::get)?;
        match (change, conversation.stage) {
            // During a survey the main dialog is closed already. Only the field `Stage` closes the
            // survey.
            (Change::Close, Stage::Open) if conversation.state == Stage::Close => Err(closed),
            (Change::Close | Change::CloseEverything, Stage::Open) => {
                conversation.close("CONSUMER");
                Ok(json!({"msg": "OK Conversation resolved successfully"}))
            }
            (Change::CloseDialog(dialog), Stage::Open) if dialog != *id => {
                Err(Failure::bad_request(&format!(
                    "body.conversationField.dialog.dialogId: `{dialog}`, expected the main dialog, `{id}`"
                )))
            }
            (Change::CloseDialog(_), Stage::Open) => {
                if self.shared.close_main_dialog(self.state, id, "CONSUMER") {
                    Ok(json!({"msg": "OK Conversation field updated successfully"}))
                } else {
                    Err(closed)
                }
            }
            (Change::Urgency, Stage::Open) => {
                conversation.ttr = Some(field.clone());
                Ok(json!({"msg": "OK Conversation field updated successfully"}))
            }
            (
                Change::Close | Change::CloseEverything | Change::CloseDialog(_) | Change::Urgency,
                Stage::Close,
            ) => Err(closed),
            (Change::Rating, Stage::Close) => {
                conversation.csat = Some(field.clone());
                Ok(json!({"msg": "OK Conversation field updated successfully"}))
            }
            (Change::Rating, Stage::Open) => Err(Failure::bad_request(
                "body.conversationField: CSATRate is accepted after the close, but the conversation is open",
            )),
        }
    }

    fn set_profile(&mut self, body: Value) -> Result<Value, Failure> {
        schema::read::<Profile>("body", &body)?;
        if let Some(conversation) = self.state.conversations.open_of(&self.consumer) {
            check_features(conversation, self.properties.as_ref())?;
            conversation.record_send(self.now);
            conversation.profile = body;
        }
        Ok(profile_set())
    }

    /// Returns the conversation that a request names. Checks its consumer and its features, and
    /// records the SEND.
    fn find_conversation(
        &mut self,
        member: &str,
        id: &str,
        look_up: for<'a> fn(&'a mut Conversations, &str) -> Option<&'a mut Conversation>,
    ) -> Result<&mut Conversation, Failure> {
        let Some(conversation) = look_up(&mut self.state.conversations, id) else {
            // The Cloud's own answer is not documented.
            return Err(Failure {
                status: StatusCode::NOT_FOUND,
                code: "NOT_FOUND",
                msg: format!("Not Found, {member}: there is no conversation `{id}`"),
            });
        };
        if conversation.consumer != self.consumer {
            // Source of the status: vendor's Send API overview, which names no error code.
            return Err(Failure {
                status: StatusCode::UNAUTHORIZED,
                code: "UNAUTHORIZED",
                msg: format!(
                    "Unauthorized, {member}: conversation `{id}` belongs to another consumer than the ConsumerJWS"
                ),
            });
        }
        check_features(conversation, self.properties.as_ref())?;
        conversation.record_send(self.now);
        Ok(conversation)
    }

    /// Returns the refusal of a request that needs an open conversation.
    fn closed(&self) -> Failure {
        Failure {
            status: self.state.behaviour.closed_status,
            ..Failure::bad_request(&self.state.behaviour.closed_words)
        }
    }
}
