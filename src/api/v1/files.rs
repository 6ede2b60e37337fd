//! A user's files.

use std::sync::Arc;

use axum::Json as Body;
use axum::body::Body as Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::api::accepted::{Accepted, Message, respond};
use crate::api::auth::{AuthChannel, LinkedFile};
use crate::api::extract::{File, User};
use crate::api::form::{Binary, FileForm, Upload};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::bridge::{Bridge, FetchedFile};
use crate::outbox::{NewFile, Outbox};
use crate::types::file::FileId;
use crate::types::trace::Trace;

/// Sends a user's file. Opens a conversation if none is open.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/files",
    tag = "messages",
    operation_id = "sendFile",
    params(User, Prefer),
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "The Cloud has accepted the file", body = Message, example = json!({
            "id": "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
            "user_id": "alice",
            "conversation_id": "5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21",
            "sequence": 4,
            "status": "sent",
            "created_at": "2026-11-22T08:00:00.123Z",
            "file": {"id": "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f", "file_type": "JPG"},
        })),
        Accepted,
    ),
)]
pub(super) async fn send(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    State(outbox): State<Outbox>,
    User(user_id): User,
    prefer: Prefer,
    request: Request,
) -> Result<Response, Problem> {
    let upload = Upload::receive(request, &bridge, &caller).await?;
    let file = NewFile {
        content: upload.form.file.clone(),
        caption: upload.form.caption.clone(),
        permit: upload.permit.clone(),
    };
    let wait = prefer.wait_preference();
    let sent = outbox.send_file(&caller, user_id, file, wait).await?;
    let view = |sent| (StatusCode::CREATED, Body(Message::from(sent)));
    Ok(respond(&prefer, sent.map(view)))
}

/// Downloads a file that a user has sent or received, even after the conversation has ended.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}/files/{file_id}",
    tag = "messages",
    operation_id = "getFile",
    params(User, File),
    responses((
        status = 200,
        description = "The bytes, as they arrive from the Cloud. The media type is that of the file's type, such as \
                       `image/jpeg` or `video/mp4`, or `application/octet-stream` if the type is unknown",
        body = inline(Binary),
        content_type = "*/*",
        headers(
            ("Content-Disposition" = String, description = "`attachment`, with a name such as `file_….jpg`"),
            ("Content-Length" = u64, description = "Present if the Cloud states the length"),
            ("X-Content-Type-Options" = String, description = "`nosniff`"),
            ("Cache-Control" = String, description = "`private, no-store`"),
        ),
    )),
)]
pub(super) async fn show(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    User(user_id): User,
    File(id): File,
) -> Result<Response, Problem> {
    let fetched = bridge.fetch_file(&caller, user_id, id).await?;
    Ok(content(id, fetched))
}

/// Downloads a file by its signed link, without a key.
///
/// `file.url` of an event is such a link if the channel has `signed_file_links`. It works for
/// everyone who has it, until it expires. Use the link as it is; query parameters are ignored.
#[utoipa::path(
    get,
    path = "/files/{token}",
    tag = "messages",
    operation_id = "getLinkedFile",
    params((
        "token" = String,
        Path,
        description = "The token of the link: 54 characters",
        example = "X6PJHmsGlYABk1QKfCt8Pp0fKjtMXW5_wE59EparOPXZC2Qj6HH6XA",
    )),
    responses((
        status = 200,
        description = "The bytes, as they arrive from the Cloud. The media type is that of the file's type, such as \
                       `image/jpeg` or `video/mp4`, or `application/octet-stream` if the type is unknown",
        body = inline(Binary),
        content_type = "*/*",
        headers(
            ("Content-Disposition" = String, description = "`attachment`, with a name such as `file_….jpg`"),
            ("Content-Length" = u64, description = "Present if the Cloud states the length"),
            ("X-Content-Type-Options" = String, description = "`nosniff`"),
            ("Cache-Control" = String, description = "`private, no-store`"),
        ),
    )),
    security(()),
)]
pub(super) async fn show_linked(
    Extension(link): Extension<LinkedFile>,
    Extension(trace): Extension<Arc<Trace>>,
    State(bridge): State<Bridge>,
) -> Result<Response, Problem> {
    let LinkedFile { channel, id, .. } = link;
    let fetched = bridge.fetch_linked_file(&channel, id, &trace).await?;
    Ok(content(id, fetched))
}

/// Makes the response with the content of a file.
fn content(id: FileId, fetched: FetchedFile) -> Response {
    let extension = fetched.file_type.extension();
    let headers = [
        (CONTENT_TYPE, fetched.file_type.media_type().to_owned()),
        // Neither half of the name comes from outside. A browser that follows a link to the file
        // saves it and does not show it.
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{id}.{extension}\""),
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    let mut response = (headers, Bytes::new(fetched.download.body)).into_response();
    if let Some(length) = fetched.download.length {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}
