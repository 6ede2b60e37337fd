//! Files: the requests for temporary URLs, and the message that publishes a file.
//!
//! Source: vendor's Send API examples, section on file sharing. It gives its limits as "3 MB" and
//! "30 KB". The code takes the smaller readings: powers of ten, and for the preview the whole data
//! URI.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Mismatch, TextOrInteger};

/// The highest number of bytes in a file.
const SIZE_LIMIT: usize = 3_000_000;

/// The number of characters that a preview must stay below.
const PREVIEW_LIMIT: usize = 30_000;

/// The body of `ms.GenerateURLForUploadFile`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Announcement {
    pub(crate) file_size: FileSize,
    pub(crate) file_type: FileType,
}

/// The body of `ms.GenerateURLForDownloadFile`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Reference {
    pub(crate) relative_path: String,
}

/// The `message` of an event whose content type is `hosted/file`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct HostedFile {
    pub(crate) relative_path: String,
    file_type: FileType,
    caption: Option<String>,
    preview: Option<Preview>,
}

/// The size of a file in bytes. It is documented as a string, but known clients send an integer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "TextOrInteger")]
pub(crate) struct FileSize(pub(crate) usize);

impl TryFrom<TextOrInteger> for FileSize {
    type Error = Mismatch;

    fn try_from(size: TextOrInteger) -> Result<Self, Mismatch> {
        let digits = match size {
            TextOrInteger::Text(text) => text,
            TextOrInteger::Integer(integer) => integer.to_string(),
        };
        match digits.parse() {
            Ok(size @ 1..=SIZE_LIMIT) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self(size))
            }
            _ => Err(Mismatch(format!(
                "`{digits}`, expected the number of bytes, 1 to {SIZE_LIMIT}"
            ))),
        }
    }
}

/// The type of a consumer's file, in any letter case.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum FileType {
    Jpg,
    Jpeg,
    Png,
    Gif,
}

impl TryFrom<String> for FileType {
    type Error = Mismatch;

    fn try_from(name: String) -> Result<Self, Mismatch> {
        match name.to_ascii_uppercase().as_str() {
            "JPG" => Ok(Self::Jpg),
            "JPEG" => Ok(Self::Jpeg),
            "PNG" => Ok(Self::Png),
            "GIF" => Ok(Self::Gif),
            _ => Err(Mismatch(format!(
                "`{name}`, expected `JPG`, `JPEG`, `PNG` or `GIF`"
            ))),
        }
    }
}

impl FileType {
    /// Returns the extension of a file's name, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Jpg => "JPG",
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
        }
    }
}

/// A small image as a data URI.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Preview(String);

impl TryFrom<String> for Preview {
    type Error = Mismatch;

    fn try_from(uri: String) -> Result<Self, Mismatch> {
        if uri.len() >= PREVIEW_LIMIT {
            return Err(Mismatch(format!(
                "{} characters, expected fewer than {PREVIEW_LIMIT}",
                uri.len()
            )));
        }
        let image = uri.strip_prefix("data:image/").and_then(|rest| {
            let (_, image) = rest.split_once(";base64,")?;
            BASE64_STANDARD.decode(image).ok()
        });
        match image {
            Some(image) if !image.is_empty() => Ok(Self(uri)),
            _ => Err(Mismatch(
                "expected `data:image/…;base64,` and an image in base64".to_owned(),
            )),
        }
    }
}
