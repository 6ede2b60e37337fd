//! The work that a channel requests of the Cloud, and its progress.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::bytes::Bytes;

use crate::bridge::Error;
use crate::store::{Request, RequestKind};
use crate::types::conversation::Opening;
use crate::types::file::{FileId, FileType, ImageType};
use crate::types::ids::ConversationId;
use crate::types::message::{MessageId, Metadata, Pieces, ReceiptStatus, Sequence};
use crate::types::offer::NamedChoice;
use crate::types::profile;
use crate::types::rating::Rating;

/// An element of structured content in an agent's message that the user has chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The sequence of the agent's message.
    pub sequence: Sequence,
    /// The metadata that the Cloud attached to the element.
    pub metadata: Metadata,
    /// The dialog of the message, if it is known. In another dialog, the text is sent without the
    /// choice, because the sequence belongs to another message there.
    pub dialog_id: Option<String>,
}

/// The choice that a text names, and the text as the user wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Match {
    pub(super) choice: NamedChoice,
    pub(super) written: Pieces,
}

/// A file that the Cloud has accepted with a message.
#[derive(Debug, Clone)]
pub struct SentFile {
    /// The bridge's id for it.
    pub id: FileId,
    /// The file type.
    pub file_type: FileType,
}

/// The work of a request. Its JSON form is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// A text, in the pieces in which it is sent.
    Text {
        pieces: Pieces,
        reply_to: Option<Choice>,
        open: Option<Box<Opening>>,
        /// Present if the text is sent as a choice that the user named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        matched: Option<Box<Match>>,
    },
    /// A file. Its content is stored beside the JSON.
    File(Attachment),
    /// Receipts for messages of a dialog.
    Receipts {
        dialog_id: Option<String>,
        status: ReceiptStatus,
        sequences: Vec<Sequence>,
    },
    /// The close of the conversation that is open when the request is done.
    Close { survey: bool },
    /// A rating of the latest conversation.
    Rating(Rating),
}

/// A request and its progress.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) progress: Progress,
}

/// The progress of a request.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) id: MessageId,
    pub(super) created_at: DateTime<Utc>,
    /// The sequences of the parts that were sent, in order.
    pub(super) sent: Vec<Sequence>,
    pub(super) conversation_id: Option<ConversationId>,
    pub(super) file: Option<SentFile>,
}

/// A file to be sent to the Cloud.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// The content, which is stored beside the JSON.
    #[serde(skip)]
    pub(super) content: Bytes,
    pub(super) caption: Option<String>,
    pub(super) preview: Option<String>,
    /// The uploaded file at the Cloud; `None` before the upload.
    pub(super) hosted: Option<UploadedFile>,
}

/// A file that was uploaded to the Cloud.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadedFile {
    pub(super) relative_path: String,
    #[serde(with = "file_id")]
    pub(super) id: FileId,
}

impl Work {
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::Text { .. } => RequestKind::Text,
            Self::File(_) => RequestKind::File,
            Self::Receipts { .. } => RequestKind::Receipts,
            Self::Close { .. } => RequestKind::Close,
            Self::Rating(_) => RequestKind::Rating,
        }
    }

    /// Renders the JSON form for storage.
    #[expect(
        clippy::expect_used,
        reason = "the members are strings, numbers and lists of these"
    )]
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("work is JSON")
    }

    /// Reads stored work; `None` if this version cannot read it.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().or_else(|| {
            let mut stored: Value = serde_json::from_str(text).ok()?;
            profile::remove_impossible_days(stored.pointer_mut("/text/open/profile")?);
            serde_json::from_value(stored).ok()
        })
    }

    /// Returns the content of a file; `None` for other work.
    pub(super) fn content(&self) -> Option<&Bytes> {
        match self {
            Self::File(file) => Some(&file.content),
            _ => None,
        }
    }

    /// Returns the choice as which a text is sent because the user named it.
    pub(super) fn choice(&self) -> Option<&NamedChoice> {
        match self {
            Self::Text { matched, .. } => matched.as_ref().map(|it| &it.choice),
            _ => None,
        }
    }

    /// Returns the text as the user wrote it, if it is to be sent as a choice. All other work stays
    /// as it is.
    pub(super) fn without_choice(self) -> Self {
        match self {
            Self::Text {
                open,
                matched: Some(matched),
                ..
            } => Self::Text {
                pieces: matched.written,
                reply_to: None,
                open,
                matched: None,
            },
            other => other,
        }
    }

    /// Returns the number of messages in which it is sent.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Text { pieces, .. } => pieces.as_slice().len(),
            Self::File(_) => 1,
            Self::Receipts { .. } | Self::Close { .. } | Self::Rating(_) => 0,
        }
    }
}

impl Job {
    /// Reads a stored request; `None` if this version cannot read it.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let mut work = Work::from_json(&request.body)?;
        if let Work::File(file) = &mut work {
            file.content = request.content.clone()?.into();
        }
        Some(Self {
            work,
            progress: Progress::of(request),
        })
    }

    /// Returns the text that is sent next; `None` for work that is not a text.
    pub(super) fn next_text(&self) -> Option<&str> {
        let Work::Text { pieces, .. } = &self.work else {
            return None;
        };
        let next = pieces.as_slice().get(self.progress.sent.len());
        next.map(String::as_str)
    }

    /// Wraps an error in [`Error::PartlySent`] if parts were sent before it.
    pub(super) fn partly_sent(&self, error: Error) -> Error {
        if self.progress.sent.is_empty() {
            return error;
        }
        Error::PartlySent {
            sent: self.progress.sent.clone(),
            total: self.work.parts(),
            cause: Box::new(error),
        }
    }
}

impl Progress {
    /// Returns the progress of a stored request.
    pub(super) fn of(request: &Request) -> Self {
        Self {
            id: request.id,
            created_at: request.created_at,
            sent: request.sequences.clone(),
            conversation_id: request.conversation_id.clone(),
            file: None,
        }
    }
}

impl Attachment {
    pub(super) fn kind(&self) -> Result<ImageType, Error> {
        // The type was checked when the file was received.
        ImageType::of(&self.content).ok_or(Error::Interrupted)
    }

    /// Returns the file as the Cloud has it; `None` before the upload.
    pub(super) fn sent(&self) -> Option<SentFile> {
        Some(SentFile {
            id: self.hosted.as_ref()?.id,
            file_type: self.kind().ok()?.into(),
        })
    }
}

impl fmt::Debug for Attachment {
    /// Leaves out the file's content, preview and caption.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("size_bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// The serialization of a file's id as text.
mod file_id {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::types::file::FileId;

    pub(super) fn serialize<S: Serializer>(id: &FileId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FileId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_text_with_an_impossible_birth_date_is_still_read() {
        let stored = |day| {
            let open = format!(r#"{{"profile":{{"birth_date":"{day}"}}}}"#);
            format!(r#"{{"text":{{"pieces":["Hello"],"reply_to":null,"open":{open}}}}}"#)
        };

        for (day, has_birth_date) in [("1815-12-10", true), ("+12345-01-01", false)] {
            let Some(Work::Text { pieces, open, .. }) = Work::from_json(&stored(day)) else {
                panic!("{day} cannot be read");
            };
            assert_eq!(pieces.as_slice(), ["Hello"]);
            let profile = open.unwrap().profile.unwrap();
            assert_eq!(profile.birth_date.is_some(), has_birth_date, "{day}");
        }
        assert!(Work::from_json(r#"{"unheard of":{}}"#).is_none());
    }
}
