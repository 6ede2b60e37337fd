//! Files that users and agents send to each other.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::Invalid;

/// The bridge's id of a file: `file_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(Uuid);

impl FileId {
    /// Creates the id of a new file, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the id as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Returns the id with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
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
        // Compared with its text, since a UUID has several spellings and an id has only one.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "file_ and 32 hexadecimal digits",
            })
    }
}

/// A type of image that users may send.
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
    /// All types.
    pub const ALL: [Self; 3] = [Self::Jpg, Self::Png, Self::Gif];

    /// Returns the Cloud's name for the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpg => "JPG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
        }
    }

    /// Detects the type from the first bytes of a file. Neither a file's name nor its declared type
    /// is reliable.
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

/// The Cloud's name for the type of a file, such as `JPG` or `PDF`. Agents can send types that
/// users may not send, and the Cloud may add new ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(value_type = String, example = "JPG")]
pub struct FileType(String);

impl FileType {
    /// Returns the name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the media type with which a file of this type can be passed on. For an unknown type
    /// it is `application/octet-stream`.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.kind()
            .map_or("application/octet-stream", |kind| kind.media_type)
    }

    /// Returns the file name extension of this type, without the dot.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        self.kind().map_or("bin", |kind| kind.extension)
    }

    fn kind(&self) -> Option<&'static Kind> {
        let is_this = |name: &&str| name.eq_ignore_ascii_case(&self.0);
        KINDS.iter().find(|kind| kind.names.iter().any(is_this))
    }
}

/// A file type that is passed on with its own media type.
struct Kind {
    /// The Cloud's names for it, in capitals.
    names: &'static [&'static str],
    media_type: &'static str,
    /// The file name extension, without the dot.
    extension: &'static str,
}

const fn kind(
    names: &'static [&'static str],
    media_type: &'static str,
    extension: &'static str,
) -> Kind {
    Kind {
        names,
        media_type,
        extension,
    }
}

/// The allow-list of file types that agents send and phones open. It must not contain anything that
/// a browser would run, such as HTML, SVG, XML or scripts. Source of the media types: IANA's
/// registry, and for BMP and WAV the practice of browsers and messengers.
const KINDS: &[Kind] = &[
    kind(&["JPG", "JPEG"], "image/jpeg", "jpg"),
    kind(&["PNG"], "image/png", "png"),
    kind(&["GIF"], "image/gif", "gif"),
    kind(&["WEBP"], "image/webp", "webp"),
    kind(&["HEIC"], "image/heic", "heic"),
    kind(&["HEIF"], "image/heif", "heif"),
    kind(&["BMP"], "image/bmp", "bmp"),
    kind(&["TIF", "TIFF"], "image/tiff", "tiff"),
    kind(&["PDF"], "application/pdf", "pdf"),
    kind(&["DOC"], "application/msword", "doc"),
    kind(
        &["DOCX"],
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    kind(&["XLS"], "application/vnd.ms-excel", "xls"),
    kind(
        &["XLSX"],
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    kind(&["PPT"], "application/vnd.ms-powerpoint", "ppt"),
    kind(
        &["PPTX"],
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "pptx",
    ),
    kind(&["ODT"], "application/vnd.oasis.opendocument.text", "odt"),
    kind(
        &["ODS"],
        "application/vnd.oasis.opendocument.spreadsheet",
        "ods",
    ),
    kind(
        &["ODP"],
        "application/vnd.oasis.opendocument.presentation",
        "odp",
    ),
    kind(&["RTF"], "application/rtf", "rtf"),
    kind(&["TXT"], "text/plain", "txt"),
    kind(&["CSV"], "text/csv", "csv"),
    kind(&["VCF"], "text/vcard", "vcf"),
    kind(&["ICS"], "text/calendar", "ics"),
    kind(&["ZIP"], "application/zip", "zip"),
    kind(&["MP4"], "video/mp4", "mp4"),
    kind(&["MOV"], "video/quicktime", "mov"),
    kind(&["3GP", "3GPP"], "video/3gpp", "3gp"),
    kind(&["WEBM"], "video/webm", "webm"),
    kind(&["MP3"], "audio/mpeg", "mp3"),
    kind(&["M4A"], "audio/mp4", "m4a"),
    kind(&["AAC"], "audio/aac", "aac"),
    kind(&["OGG"], "audio/ogg", "ogg"),
    kind(&["OPUS"], "audio/ogg", "opus"),
    kind(&["WAV"], "audio/wav", "wav"),
    kind(&["AMR"], "audio/amr", "amr"),
];

impl From<ImageType> for FileType {
    fn from(kind: ImageType) -> Self {
        Self(kind.as_str().to_owned())
    }
}

impl From<String> for FileType {
    fn from(name: String) -> Self {
        Self(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_is_accepted_only_in_its_canonical_form() {
        let id = FileId::new(Uuid::from_u128(0x0193_540a_7c2b_7c3e_9d1f_2a3b_4c5d_6e7f));
        let shown = id.to_string();

        assert_eq!(shown, "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f");
        assert_eq!(shown.parse(), Ok(id));
        assert_eq!(FileId::from_bytes(id.to_bytes()), id);
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
    fn the_first_bytes_decide_the_image_type() {
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
    fn an_unknown_file_type_is_served_as_octet_stream() {
        for (name, media_type, extension) in [
            ("JPG", "image/jpeg", "jpg"),
            ("jpeg", "image/jpeg", "jpg"),
            ("PDF", "application/pdf", "pdf"),
            ("Csv", "text/csv", "csv"),
            ("mp4", "video/mp4", "mp4"),
            ("HTML", "application/octet-stream", "bin"),
            ("", "application/octet-stream", "bin"),
            (" PDF", "application/octet-stream", "bin"),
            ("PDF\r\nX: y", "application/octet-stream", "bin"),
            ("../../x", "application/octet-stream", "bin"),
        ] {
            let kind = FileType::from(name.to_owned());
            assert_eq!(
                (kind.media_type(), kind.extension()),
                (media_type, extension)
            );
        }
    }

    #[test]
    fn file_types_that_browsers_run_are_served_as_octet_stream() {
        for name in [
            "HTML", "HTM", "XHTML", "XHT", "SHTML", "MHTML", "MHT", "SVG", "SVGZ", "XML", "XSL",
            "XSLT", "JS", "MJS", "JSON", "CSS", "WASM", "SWF", "HTA", "EXE", "BAT", "SH", "PHP",
            "EML", "DOCM", "XLSM", "PPTM",
        ] {
            for name in [name.to_owned(), name.to_lowercase()] {
                let kind = FileType::from(name);
                assert_eq!(kind.media_type(), "application/octet-stream", "{kind:?}");
                assert_eq!(kind.extension(), "bin", "{kind:?}");
            }
        }
    }

    #[test]
    fn the_documentation_lists_every_file_type() {
        let manual = include_str!("../../docs/files.md");

        for kind in KINDS {
            let names = kind.names.join("`, `");
            let Kind {
                media_type,
                extension,
                ..
            } = kind;
            let row = format!("| `{names}` | `{media_type}` | `.{extension}` |\n");
            assert!(manual.contains(&row), "{row}");
        }
        let rows = manual.lines().filter(|line| line.starts_with("| `"));
        assert_eq!(rows.count(), KINDS.len());
    }
}
