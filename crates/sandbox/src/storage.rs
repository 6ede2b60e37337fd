//! The file storage, service `swift`, with uploads and downloads at temporary URLs.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::files::File;
use super::recording::RecordedRequest;
use super::refusal::Refusal;
use super::{Sandbox, State};

/// Stores the bytes of an announced file.
pub(super) fn upload(
    sandbox: &Sandbox,
    request: &RecordedRequest,
    content: &Bytes,
) -> Result<Response, Refusal> {
    admit(sandbox, request)?;
    let mut state = sandbox.state();
    let announced = find(&state, request)?.size;
    if content.len() > announced {
        let complaint = format!(
            "body: {} bytes, {announced} were announced as fileSize",
            content.len()
        );
        return Err(Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE, complaint));
    }
    state.files.fill(&request.path, content.clone());
    Ok(StatusCode::CREATED.into_response())
}

/// Answers with the bytes of a file.
pub(super) fn download(sandbox: &Sandbox, request: &RecordedRequest) -> Result<Response, Refusal> {
    admit(sandbox, request)?;
    let state = sandbox.state();
    let file = find(&state, request)?;
    let content = file.content.clone().ok_or_else(|| {
        let complaint = format!("{}: nothing was uploaded there", request.path);
        Refusal::plain(StatusCode::NOT_FOUND, complaint)
    })?;
    Ok(([(header::CONTENT_TYPE, file.media_type)], content).into_response())
}

/// Returns the answer to a temporary URL whose path is not that of a file, such as one with an
/// extra slash.
pub(super) fn misplaced(request: &RecordedRequest) -> Refusal {
    unauthorized(&format!(
        "{}: not the path of a file; expected the base URI and then relativePath, with one slash between",
        request.path
    ))
}

/// Refuses requests with tokens, then those that the URL does not allow.
fn admit(sandbox: &Sandbox, request: &RecordedRequest) -> Result<(), Refusal> {
    for name in ["Authorization", "X-LP-ON-BEHALF"] {
        if request.header(&name.to_ascii_lowercase()).is_some() {
            let complaint = format!(
                "{name}: unexpected; the storage must not receive tokens, since the URL's signature is the credential"
            );
            return Err(Refusal::plain(StatusCode::BAD_REQUEST, complaint));
        }
    }
    let shared = &sandbox.0;
    let verified = shared.temp_urls.verify(request, shared.clock.now());
    verified.map_err(|reason| unauthorized(&reason))
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/files/{*path}", get(show))
}

/// Answers a test with the bytes of a file, found by its path or by the last part of the path.
async fn show(
    Shared(sandbox): Shared<Sandbox>,
    Path(path): Path<String>,
) -> Result<Response, Refusal> {
    let state = sandbox.state();
    let file = state
        .files
        .find(&path)
        .filter(|file| file.content.is_some());
    let missing = || {
        let complaint = format!("file `{path}` has no content");
        Refusal::plain(StatusCode::NOT_FOUND, complaint)
    };
    let file = file.ok_or_else(missing)?;
    let headers = [
        (header::CONTENT_TYPE, file.media_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, file.content.clone().unwrap_or_default()).into_response())
}

/// Finds the announced file. A URL can outlive the announcement if the sandbox is reset.
fn find<'a>(state: &'a State, request: &RecordedRequest) -> Result<&'a File, Refusal> {
    state.files.get(&request.path).ok_or_else(|| {
        let complaint = format!("{}: no such file was announced", request.path);
        Refusal::plain(StatusCode::NOT_FOUND, complaint)
    })
}

fn unauthorized(reason: &str) -> Refusal {
    Refusal::plain(
        StatusCode::UNAUTHORIZED,
        format!("Temp URL invalid: {reason}"),
    )
}
