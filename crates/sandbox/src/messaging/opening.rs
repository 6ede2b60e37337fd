//! CONVERSATION: a batch that sets the consumer's profile and opens a conversation.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Failure, admit, profile_set, success};
use crate::Sandbox;
use crate::conversations::{Conversation, Opening};
use crate::recording::RecordedRequest;
use crate::refusal::{ErrorCode, Refusal};
use crate::schema::envelope::{Envelope, read_id};
use crate::schema::profile::Profile;
use crate::schema::{self, Mismatch, opening};

const SET_PROFILE: &str = "userprofile.SetUserProfile";
const REQUEST_CONVERSATION: &str = "cm.ConsumerRequestConversation";

/// Answers CONVERSATION. A batch with a malformed request has no effect at all.
pub(crate) fn open(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let (consumer, properties) = admit(sandbox, account, request)?;
    let batch = schema::parse(request)?;
    let Some([first, second]) = batch.as_array().map(Vec::as_slice) else {
        let complaint = format!(
            "body: expected an array of two requests, {SET_PROFILE}, {REQUEST_CONVERSATION}"
        );
        return Err(Refusal::plain(StatusCode::BAD_REQUEST, complaint));
    };
    if lacks_brand_id(second) {
        let reason = "[1].body.brandId: expected the account id";
        return Err(Refusal::numbered(ErrorCode::MissingParameter, reason));
    }
    let (profile, conversation) = match (read_profile(first), read_opening(second, account)) {
        (Ok(profile), Ok(conversation)) => (profile, conversation),
        (profile, conversation) => {
            return Err(refuse_batch(&[
                (first, profile.err()),
                (second, conversation.err()),
            ]));
        }
    };

    let mut state = sandbox.state();
    let behaviour = state.behaviour.clone();
    let profile_answer = success(&profile_set(), &profile.id, &behaviour);
    if let Some(open) = state.conversations.open_of(&consumer) {
        // The profile is set although no conversation is opened.
        open.profile = profile.body;
        let complaint = format!(
            "Consumer request conversation failed: User {} already has open conversation. Can't open another one.",
            consumer.lp_consumer_id
        );
        let failure = json!({
            "code": "BAD_REQUEST",
            "body": {"msg": complaint},
            "reqId": conversation.id,
        });
        return Err(Refusal {
            status: behaviour.already_open_status,
            body: json!([profile_answer, failure]),
            complaint,
        });
    }
    let clock = &sandbox.0.clock;
    let id = clock.uuid().to_string();
    let opening = Opening {
        consumer,
        profile: profile.body,
        request: conversation.body,
        client_properties: request.header("client-properties").map(ToOwned::to_owned),
        features: properties.map(|p| p.features).unwrap_or_default(),
    };
    let opened = Conversation::new(id.clone(), opening, clock.now());
    state.conversations.open(opened);
    let opened = behaviour.conversation_member.body(&id);
    let opened = success(&opened, &conversation.id, &behaviour);
    Ok(Json(json!([profile_answer, opened])).into_response())
}

fn lacks_brand_id(request: &Value) -> bool {
    request.get("type") == Some(&Value::from(REQUEST_CONVERSATION))
        && request.pointer("/body/brandId").is_none()
}

fn read_profile(request: &Value) -> Result<Envelope, Mismatch> {
    let envelope = read_named("[0]", request, SET_PROFILE)?;
    schema::read::<Profile>("[0].body", &envelope.body)?;
    Ok(envelope)
}

fn read_opening(request: &Value, account: &str) -> Result<Envelope, Mismatch> {
    let envelope = read_named("[1]", request, REQUEST_CONVERSATION)?;
    let opening: opening::Opening = schema::read("[1].body", &envelope.body)?;
    if opening.brand_id != account {
        return Err(Mismatch(format!(
            "[1].body.brandId: `{}`, expected the account id of the path, `{account}`",
            opening.brand_id
        )));
    }
    Ok(envelope)
}

fn read_named(path: &str, request: &Value, name: &str) -> Result<Envelope, Mismatch> {
    let envelope = Envelope::read(path, request)?;
    if envelope.name != name {
        return Err(Mismatch(format!(
            "{path}.type: `{}`, expected `{name}`",
            envelope.name
        )));
    }
    Ok(envelope)
}

/// Refuses a batch. Each request is answered with its own mistake, if it has one.
fn refuse_batch(requests: &[(&Value, Option<Mismatch>)]) -> Refusal {
    let mut complaints = Vec::new();
    let mut answers = Vec::new();
    for (request, mismatch) in requests {
        let complaint = match mismatch {
            Some(mismatch) => {
                complaints.push(mismatch.to_string());
                mismatch.to_string()
            }
            None => "not applied, since another request of the batch is malformed".to_owned(),
        };
        let req_id = read_id("", request).unwrap_or_default();
        answers.push(Failure::bad_request(&complaint).answer(&req_id));
    }
    Refusal {
        status: StatusCode::BAD_REQUEST,
        body: Value::Array(answers),
        complaint: complaints.join("; "),
    }
}
