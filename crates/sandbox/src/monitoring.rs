//! The part of the Monitoring API that a connector needs: the session, and the open conversation of
//! a consumer.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::conversations::{Consumer, Conversation};
use super::operation::PathParameters;
use super::recording::RecordedRequest;
use super::refusal::Refusal;
use super::schema::engagement::EngagementRequest;
use super::{Sandbox, idp, schema};

/// Answers with a visitor's session and open conversation. No token is needed.
pub(super) fn engagement(
    sandbox: &Sandbox,
    parameters: &PathParameters,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let bad_request = |complaint: &str| Refusal::plain(StatusCode::BAD_REQUEST, complaint);
    if !matches!(request.parameter("v").as_deref(), Some("1.0" | "1.1")) {
        return Err(bad_request("query: expected v=1.0 or v=1.1"));
    }
    let options = &sandbox.0.options;
    if !options.has_client(&parameters.account, &parameters.app) {
        let complaint = format!(
            "account `{}` has no app installation `{}`",
            parameters.account, parameters.app
        );
        return Err(Refusal::plain(StatusCode::NOT_FOUND, complaint));
    }
    schema::expect_json(request)?;
    let body: EngagementRequest = schema::read("", &schema::parse(request)?)?;

    let clock = &sandbox.0.clock;
    let session = request.parameter("sid");
    let status = match session {
        Some(_) => StatusCode::OK,
        None => StatusCode::CREATED,
    };
    let new_id = || clock.uuid().simple().to_string();
    let mut answer = json!({
        "sessionId": session.unwrap_or_else(new_id),
        "visitorId": request.parameter("vid").unwrap_or_else(new_id),
        "pageId": new_id(),
    });
    let mut state = sandbox.state();
    let details = body.identities.into_iter().find_map(|identity| {
        let consumer = Consumer {
            lp_consumer_id: idp::lp_consumer_id(&parameters.account, &identity.sub),
            account: parameters.account.clone(),
            ext_consumer_id: identity.sub,
        };
        state.conversations.open_of(&consumer).map(|c| details(c))
    });
    if let (Some(details), Some(answer)) = (details, answer.as_object_mut()) {
        answer.insert("engagementDetails".to_owned(), json!([details]));
    }
    Ok((status, Json(answer)).into_response())
}

/// Returns the details of a conversation. The campaign is the one that the opening names, or a
/// made-up one. The made-up ids exceed 32 bits, as real ones do.
fn details(conversation: &Conversation) -> Value {
    let campaign = |name: &str, fallback: u64| {
        let requested = conversation
            .request
            .pointer(&format!("/campaignInfo/{name}"));
        requested.cloned().unwrap_or_else(|| json!(fallback))
    };
    json!({
        "campaignId": campaign("campaignId", 5_000_000_001),
        "engagementId": campaign("engagementId", 5_000_000_002),
        "engagementRevision": 1,
        "contextId": "1",
        "status": "conversation",
        "conversationId": conversation.id,
    })
}
