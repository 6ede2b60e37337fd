//! A user's files.

use axum::Json as Body;
use axum::body::Body as Bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::api::accepted::{Accepted, Message, respond};
use crate::api::auth::AuthChannel;
use crate::api::extract::{File, User};
use crate::api::form::{Binary, FileForm, Upload};
use crate::api::prefer::Prefer;
use crate::api::problem::Problem;
use crate::bridge::Bridge;
use crate::outbox::{NewFile, Outbox};

/// Sends a user's file. Opens a conversation if none is open.
#[utoipa::path(
    post,
    path = "/v1/users/{user_id}/files",
    tag = "messages",
    operation_id = "sendFile",
    params(User, Prefer),
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "The Cloud has accepted the file", body = Message),
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
    Ok(response)
}
