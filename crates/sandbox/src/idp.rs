//! IDP, which issues a ConsumerJWS for a consumer of a channel.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::recording::RecordedRequest;
use super::refusal::Refusal;
use super::tokens::ConsumerClaims;
use super::{Sandbox, authorization, hex, schema};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsumerRequest {
    ext_consumer_id: String,
}

/// Answers a token request.
pub(super) fn issue(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    // A known client leaves the version out, apparently with success.
    if request.parameter("v").is_some_and(|v| v != "1.0") {
        return Err(Refusal::plain(
            StatusCode::BAD_REQUEST,
            "query: expected v=1.0 or no v",
        ));
    }
    authorization::app(sandbox, account, request)?;
    schema::expect_json(request)?;
    let consumer: ConsumerRequest = schema::read("", &schema::parse(request)?)?;
    if consumer.ext_consumer_id.is_empty() {
        return Err(Refusal::plain(
            StatusCode::BAD_REQUEST,
            "ext_consumer_id: expected a string that is not empty",
        ));
    }
    let lp_consumer_id = lp_consumer_id(account, &consumer.ext_consumer_id);
    let token = sandbox.0.tokens.consumer.issue(&ConsumerClaims {
        account: account.to_owned(),
        ext_consumer_id: consumer.ext_consumer_id,
        lp_consumer_id,
    })?;
    let token = format!("{token}{}", sandbox.state().behaviour.token_end);
    Ok((StatusCode::CREATED, Json(json!({"token": token}))).into_response())
}

/// Returns the Cloud's id of a consumer: 64 hexadecimal characters, always the same for one
/// external id of an account.
pub(super) fn lp_consumer_id(account: &str, ext_consumer_id: &str) -> String {
    let digest = Sha256::new()
        .chain_update("sandbox consumer\0")
        .chain_update(account)
        .chain_update("\0")
        .chain_update(ext_consumer_id)
        .finalize();
    hex::encode(&digest)
}
