//! Files that users and agents send each other.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::Invalid;

/// The bridge's own name for a file: `file_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId(Uuid);

impl FileId {
    /// The id for a file that comes now, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file_{}", self.0.simple())
    }
}

impl FromStr for FileId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let uuid = text
            .strip_prefix("file_")
            .and_then(|uuid| uuid.parse().ok());
        // Read back, since a UUID can be written in several ways and an id cannot.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "file_ and 32 hexadecimal digits",
            })
    }
}

/// A kind of image that users may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageType {
    /// JPEG.
    Jpg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
}

impl ImageType {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Jpg, Self::Png, Self::Gif];

    /// The Cloud's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpg => "JPG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
        }
    }

    /// The kind that a file's first bytes show; neither its name nor its declared type is proof of anything.
    ///
    /// ```
    /// use liveperson_bridge::types::file::ImageType;
    ///
    /// assert_eq!(ImageType::of(b"GIF89a..."), Some(ImageType::Gif));
    /// assert_eq!(ImageType::of(b"<html>"), None);
    /// ```
    #[must_use]
    pub fn of(content: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let signatures: &[&[u8]] = match kind {
                Self::Jpg => &[b"\xff\xd8\xff"],
                Self::Png => &[b"\x89PNG\r\n\x1a\n"],
                Self::Gif => &[b"GIF87a", b"GIF89a"],
            };
            signatures.iter().any(|start| content.starts_with(start))
        })
    }
}

impl FromStr for ImageType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(Invalid {
                expected: "one of JPG, PNG, GIF",
            })
    }
}

/// The Cloud's word for the kind of a file, such as `JPG` or `PDF`: agents send kinds that users may not send, and new
/// ones come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(value_type = String, example = "JPG")]
pub struct FileType(String);

impl FileType {
    /// The word itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The media type under which a file of this kind can be passed on; one that is not known is bytes and no more.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.known()
            .map_or("application/octet-stream", |(media_type, _)| media_type)
    }

    /// What the name of such a file ends with, without the dot.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        self.known().map_or("bin", |(_, extension)| extension)
    }

    fn known(&self) -> Option<(&'static str, &'static str)> {
        Some(match self.0.to_ascii_uppercase().as_str() {
            "JPG" | "JPEG" => ("image/jpeg", "jpg"),
            "PNG" => ("image/png", "png"),
            "GIF" => ("image/gif", "gif"),
            "PDF" => ("application/pdf", "pdf"),
            "TXT" => ("text/plain", "txt"),
            _ => return None,
        })
    }
}

impl From<ImageType> for FileType {
    fn from(kind: ImageType) -> Self {
        Self(kind.as_str().to_owned())
    }
}

impl From<String> for FileType {
    fn from(word: String) -> Self {
        Self(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_is_read_back_as_it_was_shown_and_no_other_way() {
        let id = FileId::new(Uuid::from_u128(0x0193_540a_7c2b_7c3e_9d1f_2a3b_4c5d_6e7f));
        let shown = id.to_string();

        assert_eq!(shown, "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f");
        assert_eq!(shown.parse(), Ok(id));
        for other in [
            "",
            "file_",
            "0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
            "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
            "file_0193540A7C2B7C3E9D1F2A3B4C5D6E7F",
            "file_0193540a-7c2b-7c3e-9d1f-2a3b4c5d6e7f",
        ] {
            assert!(other.parse::<FileId>().is_err(), "{other}");
        }
    }

    #[test]
    fn the_first_bytes_tell_the_kind() {
        for (content, kind) in [
            (&b"\xff\xd8\xff\xe0\x00\x10JFIF"[..], Some(ImageType::Jpg)),
            (b"\xff\xd8\xff", Some(ImageType::Jpg)),
            (b"\x89PNG\r\n\x1a\n\x00", Some(ImageType::Png)),
            (b"GIF87a", Some(ImageType::Gif)),
            (b"GIF89a\x01", Some(ImageType::Gif)),
            (b"", None),
            (b"\xff\xd8", None),
            (b"\x89PNG\n\x1a\n", None),
            (b"GIF88a", None),
            (b" GIF89a", None),
            (b"%PDF-1.7", None),
            (b"RIFF\x00\x00\x00\x00WEBP", None),
            (b"<svg xmlns=", None),
        ] {
            assert_eq!(ImageType::of(content), kind, "{content:?}");
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_passed_on_as_bytes() {
        for (word, media_type, extension) in [
            ("JPG", "image/jpeg", "jpg"),
            ("jpeg", "image/jpeg", "jpg"),
            ("PDF", "application/pdf", "pdf"),
            ("HTML", "application/octet-stream", "bin"),
            ("../../x", "application/octet-stream", "bin"),
        ] {
            let kind = FileType::from(word.to_owned());
            assert_eq!(
                (kind.media_type(), kind.extension()),
                (media_type, extension)
            );
        }
    }
}
