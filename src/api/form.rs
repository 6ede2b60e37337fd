//! The form with which a file is sent. It is read part by part, within bounds on memory and time.

mod disposition;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::timeout;
use tokio_util::bytes::BytesMut;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{Code, Problem, pointer_to};
use crate::bridge::{Bridge, Caller, FilePermit};
use crate::types::message::Text;

/// 20 s: 3 MB at 1.2 Mbit/s. A file holds one of few permits, and the request also needs time after
/// the file has arrived.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// 5000 bytes: the Cloud's limit on a request with a text.
const MAX_CAPTION_BYTES: usize = 5000;

/// 64 KiB: room for the caption, the boundaries and the headers of the parts.
const FORM_OVERHEAD_BYTES: usize = 64 * 1024;

/// The characters that a header parameter may hold only in quotes: a space and the `tspecials` of
/// RFC 2045, section 5.1.
const NEEDS_QUOTES: &[char] = &[
    '(', ')', '<', '>', '@', ',', ';', ':', '\\', '"', '/', '[', ']', '?', '=', ' ',
];

/// A file that has arrived, with its permit.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) form: FileForm,
    /// The permit. It is held to the end, because it bounds the memory that files take.
    pub(super) permit: FilePermit,
}

impl Upload {
    /// Acquires a permit and reads the form, unless that was already done for this request.
    pub(super) async fn receive(
        mut request: Request,
        bridge: &Bridge,
        caller: &Caller,
    ) -> Result<Self, Problem> {
        if let Some(received) = request.extensions_mut().remove() {
            return Ok(received);
        }
        let permit = bridge.file_permit(caller)?;
        Ok(Self {
            form: FileForm::read(request, caller.channel.max_file_bytes).await?,
            permit,
        })
    }
}

/// A file to send.
#[derive(Debug, Clone, ToSchema)]
// Only the OpenAPI document reads this attribute; the form is not read by serde.
#[serde(deny_unknown_fields)]
#[schema(as = NewFile)]
pub(super) struct FileForm {
    /// The file. Its type is determined by its first bytes, not by its name or its declared type.
    #[schema(value_type = String, format = Binary)]
    pub(super) file: Bytes,
    /// The user's caption for the file, at most 5000 bytes.
    #[schema(value_type = Option<String>, example = "My receipt")]
    pub(super) caption: Option<Text>,
}

/// The schema of raw bytes in the OpenAPI document.
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
    /// Reads the form from the body. Never holds more of a file than the size limit.
    async fn read(mut request: Request, max_file_bytes: usize) -> Result<Self, Problem> {
        DefaultBodyLimit::max(max_file_bytes + FORM_OVERHEAD_BYTES).apply(&mut request);
        let refusal = if has_unquoted_boundary(request.headers()) {
            "Expected the boundary in quotes, as RFC 2045 requires for its characters: Content-Type: \
             multipart/form-data; boundary=\"...\"."
        } else {
            "Expected Content-Type: multipart/form-data with its boundary."
        };
        let parts = Multipart::from_request(request, &())
            .await
            .map_err(|_| Problem::new(Code::UnsupportedMediaType, refusal))?;
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
            let name = disposition::name(part.headers()).unwrap_or_default();
            match name.as_str() {
                "file" if file.is_none() => {
                    let content = content(&mut part, max_file_bytes).await?;
                    file = Some(content.ok_or_else(|| too_large(max_file_bytes))?);
                }
                "caption" if caption.is_none() => {
                    let content = content(&mut part, MAX_CAPTION_BYTES).await?;
                    let content = content.ok_or_else(|| "expected at most 5000 bytes".to_owned());
                    let text = content.and_then(text);
                    caption = Some(text.map_err(|expected| violation("caption", &expected))?);
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

/// Returns the content of a part, or `None` if it is longer than `limit`.
async fn content(part: &mut Field<'_>, limit: usize) -> Result<Option<Bytes>, Problem> {
    // The buffer is allocated at once: growing it would need the old and the new one side by side.
    let mut content = BytesMut::with_capacity(limit);
    while let Some(chunk) = part.chunk().await.map_err(|e| unreadable(&e))? {
        if content.len() + chunk.len() > limit {
            return Ok(None);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(Some(content.freeze()))
}

/// Parses a caption. A blank one counts as `None`, since forms send empty parts.
fn text(content: Bytes) -> Result<Option<Text>, String> {
    let text = String::from_utf8(content.into()).map_err(|_| "expected UTF-8".to_owned())?;
    if Text::is_blank(&text) {
        return Ok(None);
    }
    let text = Text::try_from(text).map_err(|error| error.to_string())?;
    Ok(Some(text))
}

/// True if the boundary of the form needs quotes and has none. Such a header is malformed, so the
/// end of the boundary is ambiguous. A widely copied piece of Java code writes
/// `boundary====1732860000000===`.
fn has_unquoted_boundary(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut parts = value.unwrap_or_default().split(';');
    let is_form = parts
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("multipart/form-data"));
    let mut parameters = parts.filter_map(|part| part.split_once('='));
    let boundary = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
    is_form
        && boundary.is_some_and(|(_, value)| {
            let value = value.trim();
            !value.starts_with('"') && value.contains(NEEDS_QUOTES)
        })
}

fn violation(part: &str, detail: &str) -> Problem {
    Problem::violation(pointer_to(part), detail.to_owned())
}

fn too_large(max_file_bytes: usize) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("A file may have at most {max_file_bytes} bytes."),
    )
}

fn unreadable(error: &MultipartError) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(Code::BodyTooLarge, "The form is too large.");
    }
    Problem::new(
        Code::MalformedRequest,
        "The body is not valid multipart/form-data, or it is incomplete.",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_boundary_that_lacks_required_quotes_is_recognized() {
        let is_unquoted = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            has_unquoted_boundary(&[(CONTENT_TYPE, value)].into_iter().collect())
        };

        for unquoted in [
            "multipart/form-data; boundary====1732860000000===",
            "Multipart/Form-Data;charset=utf-8 ; Boundary = a=b",
            "multipart/form-data; boundary=a b",
            "multipart/form-data; boundary=a:b; charset=utf-8",
        ] {
            assert!(is_unquoted(unquoted), "{unquoted}");
        }
        for other in [
            "multipart/form-data; boundary=\"===1732860000000===\"",
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "multipart/form-data; boundary=",
            "multipart/form-data; charset=a=b",
            "multipart/form-data",
            "multipart/mixed; boundary=a=b",
            "application/json; boundary=a=b",
            "",
        ] {
            assert!(!is_unquoted(other), "{other}");
        }
    }
}
