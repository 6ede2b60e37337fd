//! The server of the demo's channel: it issues tokens to its users, and receives the bridge's
//! events.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Demo;
use crate::Sandbox;
use crate::control_request::{BODY_LIMIT, JsonBody};
use crate::refusal::Refusal;
use crate::wire::{ExchangeRequest, Kind, Sample, SharedSample};

/// The lifetime of a token: an hour, as docs/access.md recommends for tokens that pages hold.
const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// The longest name of a user that the API accepts, in bytes.
const LONGEST_USER: usize = 256;

/// The callback of the demo's channel, which can be made to fail.
#[derive(Debug, Default)]
pub(crate) struct Callback {
    failing: AtomicBool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    user: String,
}

#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    user: &'a str,
    exp: i64,
}

#[derive(Debug, Serialize)]
struct Token {
    token: String,
    expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failing {
    failing: bool,
}

/// Returns the routes under `/_demo/`.
pub(crate) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/_demo/tokens", post(mint))
        .route("/_demo/callback", get(show).put(switch).post(receive))
        .route("/_demo/{*path}", any(path_not_found))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Issues a token for one user. It expires by the machine's clock, since the bridge checks it by
/// that clock.
async fn mint(
    State(sandbox): State<Sandbox>,
    JsonBody(TokenRequest { user }): JsonBody<TokenRequest>,
) -> Result<Json<Token>, Refusal> {
    let demo = demo(&sandbox)?;
    let is_too_long_or_empty = !(1..=LONGEST_USER).contains(&user.len());
    // URL parsers remove these two names from paths, so the bridge can have no user with such a
    // name.
    let is_dropped = matches!(&*user, "." | "..");
    if is_too_long_or_empty || is_dropped || user.chars().any(char::is_control) {
        let complaint = format!(
            "user: expected 1 to {LONGEST_USER} bytes without control characters, and neither '.' nor '..'"
        );
        return Err(Refusal::unprocessable(complaint));
    }
    let expires_at = sandbox.0.shift.base().now() + LIFETIME;
    let claims = Claims {
        iss: &demo.channel,
        user: &user,
        exp: expires_at.timestamp(),
    };
    let key = EncodingKey::from_secret(demo.token_key.expose_secret().as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key)?;
    Ok(Json(Token { token, expires_at }))
}

async fn show(State(sandbox): State<Sandbox>) -> Result<Json<Failing>, Refusal> {
    demo(&sandbox)?;
    let failing = sandbox.0.callback.failing.load(Ordering::SeqCst);
    Ok(Json(Failing { failing }))
}

async fn switch(
    State(sandbox): State<Sandbox>,
    JsonBody(Failing { failing }): JsonBody<Failing>,
) -> Result<StatusCode, Refusal> {
    let demo = demo(&sandbox)?;
    let was_failing = sandbox.0.callback.failing.swap(failing, Ordering::SeqCst);
    if was_failing && !failing {
        resume_deliveries(&sandbox, demo).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Has the bridge deliver all waiting events at once, as a channel's server does when its callback
/// works again. If that fails, the bridge delivers them later by itself.
async fn resume_deliveries(sandbox: &Sandbox, demo: &Demo) {
    let Some(bridge) = &sandbox.0.options.stage.bridge else {
        return;
    };
    let url = format!("{}/v1/deliveries/resume", bridge.base());
    match sandbox.0.client.post_with_key(&url, &demo.api_key).await {
        Ok(status) if status.is_success() => {}
        Ok(status) => tracing::warn!(
            status = status.as_u16(),
            "the bridge did not resume the demo's callbacks"
        ),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the bridge could not be asked to resume the demo's callbacks"
        ),
    }
}

/// Accepts any event. It is shown on the wire; the page itself reads events from the API.
async fn receive(State(sandbox): State<Sandbox>, request: Request) -> Result<Response, Refusal> {
    demo(&sandbox)?;
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .unwrap_or_default();
    let failing = sandbox.0.callback.failing.load(Ordering::SeqCst);
    let sample = SharedSample::new(Sample::of(&body).into());
    let exchange_request = ExchangeRequest::of(Kind::Event, &parts, sample);
    let exchange = sandbox.0.wire.begin(exchange_request, failing);
    let answer = if failing {
        let error: Value =
            json!({"error": "the callback is set to fail; PUT /_demo/callback changes that"});
        (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    };
    Ok(exchange.record_answer(answer))
}

async fn path_not_found(method: Method, uri: Uri) -> Refusal {
    let complaint = format!("{method} {}: there is nothing at this path", uri.path());
    Refusal::plain(StatusCode::NOT_FOUND, complaint)
}

fn demo(sandbox: &Sandbox) -> Result<&Demo, Refusal> {
    let demo = sandbox.0.options.stage.demo.as_ref();
    demo.ok_or_else(|| {
        let complaint = "this is a sandbox without a demo channel";
        Refusal::plain(StatusCode::NOT_FOUND, complaint)
    })
}
