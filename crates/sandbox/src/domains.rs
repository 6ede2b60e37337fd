//! The Domain API, which gives the address of each service of an account.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Sandbox;
use super::behaviour::LookupForm;
use super::recording::RecordedRequest;
use super::refusal::Refusal;

/// The simulated services, all at the sandbox's one address.
const SERVICES: [&str; 5] = ["asyncMessagingEnt", "sentinel", "idp", "swift", "smt"];

/// Answers the lookup of one service.
pub(super) fn look_up(
    sandbox: &Sandbox,
    account: &str,
    service: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let base_uri = base_uri(sandbox, account, request)?;
    if !SERVICES.contains(&service) {
        let complaint = format!(
            "service: `{service}` is not one of {}; names are case-sensitive",
            SERVICES.join(", ")
        );
        return Err(Refusal::plain(StatusCode::NOT_FOUND, complaint));
    }
    let entry = entry(account, service, &base_uri);
    let form = sandbox.state().behaviour.lookup_form;
    Ok(Json(match form {
        LookupForm::Flat => entry,
        LookupForm::Array => json!({"baseURIs": [entry]}),
    })
    .into_response())
}

/// Answers the lookup of all services.
pub(super) fn list(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<Response, Refusal> {
    let base_uri = base_uri(sandbox, account, request)?;
    let entries: Vec<_> = SERVICES
        .iter()
        .map(|service| entry(account, service, &base_uri))
        .collect();
    Ok(Json(json!({"baseURIs": entries})).into_response())
}

fn entry(account: &str, service: &str, base_uri: &str) -> Value {
    json!({"service": service, "account": account, "baseURI": base_uri})
}

/// Returns the address with its scheme. The real Cloud leaves out the scheme, which is always
/// https.
fn base_uri(
    sandbox: &Sandbox,
    account: &str,
    request: &RecordedRequest,
) -> Result<String, Refusal> {
    if request.parameter("version").as_deref() != Some("1.0") {
        return Err(Refusal::plain(
            StatusCode::BAD_REQUEST,
            "query: expected version=1.0",
        ));
    }
    let options = &sandbox.0.options;
    if !options.has_account(account) {
        let complaint =
            format!("bad authentication (invalid site or agent): no account `{account}`");
        return Err(Refusal::plain(StatusCode::UNAUTHORIZED, complaint));
    }
    if let Some(url) = &options.public_url {
        return Ok(url.clone());
    }
    let host = request.header("host").ok_or_else(|| {
        Refusal::plain(
            StatusCode::BAD_REQUEST,
            "Host: missing, expected since no public URL is set",
        )
    })?;
    Ok(format!("http://{host}"))
}
