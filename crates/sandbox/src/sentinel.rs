//! Sentinel, which issues an AppJWT for a client id and a client secret.
//!
//! Sources show three places for the parameters, and the sandbox accepts each: all in the form
//! body; `grant_type` in the query and the rest in the form body; all in the query with an empty
//! body.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Sandbox;
use super::behaviour::TokenForm;
use super::recording::{RecordedRequest, read_form};
use super::refusal::Refusal;
use super::tokens::AppClaims;

/// The lifetime of an AppJWT in seconds. Source: vendor's Send API page "Authorization and
/// Authentication".
pub(super) const LIFETIME: i64 = 3600;

/// Answers a token request.
pub(super) fn issue(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let malformed =
        |complaint: String| Refusal::oauth(StatusCode::BAD_REQUEST, "invalid_request", complaint);
    if request.parameter("v").as_deref() != Some("1.0") {
        return Err(malformed("query: expected v=1.0".to_owned()));
    }
    let media_type = request.media_type();
    if !request.body.is_empty() && media_type != "application/x-www-form-urlencoded" {
        return Err(Refusal::oauth(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request",
            format!("Content-Type: `{media_type}`, expected `application/x-www-form-urlencoded`"),
        ));
    }
    let query = read_form(&request.query);
    let form = match request.body.as_str() {
        "" => query.clone(),
        body => read_form(body),
    };
    let grant_type = form.get("grant_type").or_else(|| query.get("grant_type"));
    if grant_type.map(String::as_str) != Some("client_credentials") {
        return Err(Refusal::oauth(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "grant_type: expected `client_credentials`",
        ));
    }
    let credential = |name: &str| match form.get(name) {
        Some(value) if !value.is_empty() => Ok(value.as_str()),
        _ => Err(malformed(format!(
            "{name}: expected in the form body, or in the query of a request without a body"
        ))),
    };
    let client_id = credential("client_id")?;
    let client_secret = credential("client_secret")?;
    let shared = &sandbox.0;
    if !shared.options.accepts(account, client_id, client_secret) {
        return Err(Refusal::oauth(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            format!("account `{account}` has no client `{client_id}` with this client_secret"),
        ));
    }
    let now = shared.clock.now().timestamp();
    let behaviour = sandbox.state().behaviour.clone();
    let token = shared.tokens.app.issue(&AppClaims {
        aud: account.to_owned(),
        azp: client_id.to_owned(),
        scope: "msg.consumer".to_owned(),
        iss: "Sentinel".to_owned(),
        iat: now,
        exp: behaviour.app_token.claim(now + LIFETIME),
    })?;
    let token = format!("{token}{}", behaviour.token_end);
    let mut answer = json!({"access_token": token, "token_type": "Bearer"});
    if let (TokenForm::ExpiresIn, Some(members)) = (behaviour.app_token, answer.as_object_mut()) {
        members.insert("expires_in".to_owned(), LIFETIME.into());
    }
    Ok(Json(answer).into_response())
}
