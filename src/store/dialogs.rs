//! Dialogs: the parts of a conversation that messages are numbered in.

use chrono::{DateTime, Utc};

/// Keeps dialog $1 of conversation $2; one that is kept only ever closes.
pub(super) const KEEP_DIALOG: &str =
    "INSERT INTO dialogs (id, conversation_id, kind, opened_at, closed_at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (id) DO UPDATE SET closed_at = COALESCE(dialogs.closed_at, excluded.closed_at)";

/// Closes what is open of the dialogs of conversation $1.
pub(super) const CLOSE_DIALOGS: &str =
    "UPDATE dialogs SET closed_at = $2 WHERE conversation_id = $1 AND closed_at IS NULL";

/// A part of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// The Cloud's id; that of the main dialog is the conversation's.
    pub id: String,
    /// What it is for.
    pub kind: DialogKind,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// When it ended.
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a dialog is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogKind {
    /// Talking with agents.
    Main,
    /// The survey afterwards.
    PostSurvey,
}

impl DialogKind {
    /// The word that the store keeps.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::PostSurvey => "post_survey",
        }
    }
}
