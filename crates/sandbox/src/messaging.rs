//! The Send API: CONVERSATION ([`opening`]) and SEND ([`sending`]).

mod opening;
mod sending;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::conversations::{Consumer, Conversation};
use super::recording::RecordedRequest;
use super::refusal::Refusal;
use super::schema::client_properties::ClientProperties;
use super::schema::{self, Mismatch};
use super::{Sandbox, authorization};

pub(super) use opening::open;
pub(super) use sending::send;

/// The refusal of a request that was understood, in the envelope that holds the request's id.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    msg: String,
}

impl Failure {
    fn bad_request(complaint: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "BAD_REQUEST",
            msg: format!("Bad Request, {complaint}"),
        }
    }

    fn answer(&self, req_id: &str) -> Value {
        json!({"code": self.code, "body": {"msg": self.msg}, "reqId": req_id})
    }

    fn refuse(self, req_id: &str) -> Refusal {
        Refusal {
            status: self.status,
            body: self.answer(req_id),
            complaint: self.msg,
        }
    }
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Self {
        Self::bad_request(&mismatch.to_string())
    }
}

fn success(body: &Value, req_id: &str, behaviour: &Behaviour) -> Value {
    if behaviour.request_ids {
        json!({"code": "OK", "body": body, "reqId": req_id})
    } else {
        json!({"code": "OK", "body": body})
    }
}

/// Returns the answer to `userprofile.SetUserProfile`.
fn profile_set() -> Value {
    json!({"msg": "OK User Profile set successfully"})
}

/// Checks the parts that both requests have in common.
fn admit(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<(Consumer, Option<ClientProperties>), Refusal> {
    // Source: vendor's release notes of the Send API (LE-94525): a version other than 3 is answered
    // 404.
    if request.parameter("v").as_deref() != Some("3") {
        return Err(Refusal::plain(StatusCode::NOT_FOUND, "query: expected v=3"));
    }
    let consumer = authorization::consumer(sandbox, account, request)?;
    schema::expect_json(request)?;
    let properties = ClientProperties::of(request)?;
    Ok((consumer, properties))
}

/// Checks the features. A feature works only if the opening and every SEND of the conversation name
/// it.
fn check_features(
    conversation: &Conversation,
    properties: Option<&ClientProperties>,
) -> Result<(), Failure> {
    let expected = &conversation.features;
    match properties {
        _ if expected.is_empty() => Ok(()),
        Some(properties) if properties.features == *expected => Ok(()),
        Some(properties) => Err(Failure::bad_request(&format!(
            "Client-Properties: features {:?}, expected {expected:?} as with CONVERSATION",
            properties.features
        ))),
        None => Err(Failure::bad_request(&format!(
            "Client-Properties: missing, expected features {expected:?} as with CONVERSATION"
        ))),
    }
}
