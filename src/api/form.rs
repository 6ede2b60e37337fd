//! The form in which a file is sent: read part by part, within bounds on memory and time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request};
use axum::http::StatusCode;
use tokio::time::timeout;
use tokio_util::bytes::BytesMut;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::extract::pointer_to;
use super::problem::{Code, Problem};
use crate::bridge::{Bridge, Caller, Place};
use crate::types::message::Text;

/// 20 s: 3 MB at 1.2 Mbit/s. A file holds one of few places, and what follows its arrival takes time as well.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// 5000 bytes: the Cloud takes as much of a request with a text.
const MAX_CAPTION_BYTES: usize = 5000;

/// 64 KiB: room for the caption, boundaries and the headers of parts.
const AROUND_THE_FILE: usize = 64 * 1024;

/// A file that has arrived, in its place.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) form: FileForm,
    /// Held to the end: it bounds the memory that files take.
    _place: Arc<Place>,
}

impl Upload {
    /// Takes a place and reads the form, unless that has been done for this request.
    pub(super) async fn receive(
        mut request: Request,
        bridge: &Bridge,
        caller: &Caller,
    ) -> Result<Self, Problem> {
        if let Some(received) = request.extensions_mut().remove() {
            return Ok(received);
        }
        let place = bridge.place_for_file()?;
        Ok(Self {
            form: FileForm::read(request, caller.channel.max_file_bytes).await?,
            _place: Arc::new(place),
        })
    }
}

/// A file to be sent.
#[derive(Debug, Clone, ToSchema)]
// For the document alone: no serde reads it.
#[serde(deny_unknown_fields)]
#[schema(as = NewFile)]
pub(super) struct FileForm {
    /// The file. Its first bytes tell its kind, neither its name nor its declared type.
    #[schema(value_type = String, format = Binary)]
    pub(super) file: Bytes,
    /// What the user says about it, at most 5000 bytes.
    #[schema(value_type = Option<String>)]
    pub(super) caption: Option<Text>,
}

/// Bytes as they are, in the document.
pub(super) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .into()
    }
}

impl ToSchema for Binary {}

impl FileForm {
    /// Reads the form from the body of a request; never holds more of the file than it may have.
    async fn read(mut request: Request, max_file_bytes: usize) -> Result<Self, Problem> {
        DefaultBodyLimit::max(max_file_bytes + AROUND_THE_FILE).apply(&mut request);
        let parts = Multipart::from_request(request, &()).await.map_err(|_| {
            Problem::new(
                Code::UnsupportedMediaType,
                "Expected Content-Type: multipart/form-data with its boundary.",
            )
        })?;
        timeout(ARRIVAL_LIMIT, Self::assemble(parts, max_file_bytes))
            .await
            .unwrap_or_else(|_| {
                Err(Problem::new(
                    Code::RequestTimeout,
                    "The file did not arrive within 20 s; nothing was sent.",
                ))
            })
    }

    async fn assemble(mut parts: Multipart, max_file_bytes: usize) -> Result<Self, Problem> {
        let (mut file, mut caption) = (None, None);
        while let Some(mut part) = parts.next_field().await.map_err(|e| unreadable(&e))? {
            let name = part.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" if file.is_none() => {
                    let content = content(&mut part, max_file_bytes).await?;
                    file = Some(content.ok_or_else(|| too_large(max_file_bytes))?);
                }
                "caption" if caption.is_none() => {
                    let content = content(&mut part, MAX_CAPTION_BYTES).await?;
                    let text = content.ok_or("expected at most 5000 bytes").and_then(text);
                    caption = Some(text.map_err(|expected| violation("caption", expected))?);
                }
                "file" | "caption" => return Err(violation(&name, "expected once")),
                _ => return Err(violation(&name, "unknown part, expected file or caption")),
            }
        }
        let file = file.ok_or_else(|| violation("file", "missing part"))?;
        if file.is_empty() {
            return Err(violation("file", "expected a file that is not empty"));
        }
        Ok(Self {
            file,
            caption: caption.flatten(),
        })
    }
}

/// The content of a part; none where it is longer than `limit`.
async fn content(part: &mut Field<'_>, limit: usize) -> Result<Option<Bytes>, Problem> {
    // All at once: growing would need the old room and the new one side by side.
    let mut content = BytesMut::with_capacity(limit);
    while let Some(chunk) = part.chunk().await.map_err(|e| unreadable(&e))? {
        if content.len() + chunk.len() > limit {
            return Ok(None);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(Some(content.freeze()))
}

/// A caption; a blank one counts as none, since forms send empty parts.
fn text(content: Bytes) -> Result<Option<Text>, &'static str> {
    let text = String::from_utf8(content.into()).map_err(|_| "expected UTF-8")?;
    if Text::is_blank(&text) {
        return Ok(None);
    }
    let text = Text::try_from(text).map_err(|error| error.expected)?;
    Ok(Some(text))
}

fn violation(part: &str, detail: &str) -> Problem {
    Problem::violation(pointer_to(part), detail.to_owned())
}

fn too_large(max_file_bytes: usize) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("A file may have {max_file_bytes} bytes at most."),
    )
}

fn unreadable(error: &MultipartError) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            Code::BodyTooLarge,
            "The form is larger than any that is taken.",
        );
    }
    Problem::new(
        Code::MalformedRequest,
        "The body is not the multipart/form-data that it says to be, or it broke off.",
    )
}
