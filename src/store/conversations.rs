//! Conversations; that a user has one open at a time is a constraint of the schema.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::dialogs::CLOSE_DIALOGS;
use super::engine::tx::{Tx, on};
use super::locks::{hold, hold_user_of};
use super::open_conversation;
use super::{Error, Lease, Store, UserRef, run};
use crate::types::conversation::{
    CloseReason, Conversation, CurrentDialog, Features, OpenedBy, State,
};
use crate::types::ids::{ChannelId, ConversationId, UserKey};
use crate::types::profile::Profile;

/// A conversation that messages go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenConversation {
    /// The Cloud's id; also the id of the main dialog.
    pub id: ConversationId,
    /// What its `Client-Properties` name.
    pub features: Features,
    /// The dialog that what the user says goes to.
    pub dialog: CurrentDialog,
}

impl OpenConversation {
    /// The id of the dialog that what the user says goes to; where none is open, the main one's.
    #[must_use]
    pub fn dialog_id(&self) -> &str {
        match &self.dialog {
            CurrentDialog::Survey(id) => id.as_str(),
            CurrentDialog::Main | CurrentDialog::Ended => self.id.as_str(),
        }
    }
}

/// A conversation that the Cloud has just opened.
#[derive(Debug, Clone)]
pub struct Opened<'a> {
    /// The user it is for.
    pub user: UserRef,
    /// The channel that asked for it.
    pub channel_id: &'a ChannelId,
    /// The Cloud's id and the features it was opened with.
    pub conversation: &'a OpenConversation,
    /// The side that opened it.
    pub opened_by: OpenedBy,
    /// The one whose place it takes: the Cloud has ended that without telling, or it would not have opened this.
    pub replaced: Option<&'a ConversationId>,
    /// What is known of the user from now on; left out, what is known stays.
    pub profile: Option<&'a Profile>,
    /// When.
    pub at: DateTime<Utc>,
}

/// A conversation that is to be kept.
pub(super) struct NewConversation<'a> {
    pub(super) id: &'a str,
    pub(super) user: UserRef,
    pub(super) channel_id: &'a ChannelId,
    pub(super) features: &'a Features,
    /// Milliseconds since the epoch.
    pub(super) opened_at: i64,
    pub(super) opened_by: OpenedBy,
}

/// The word in a conversation's row.
const BY_AGENT: &str = "agent";

/// Forgets what was to be opened for user $1, keeps the profile $2, where there is one, and gives the lane back unless the
/// lease $3 was lost.
pub(super) const END_OPENING: &str =
    "UPDATE users SET opening = NULL, opening_until = NULL, profile = COALESCE($2, profile),
            lease_until = CASE WHEN lease_id = $3 THEN NULL ELSE lease_until END,
            lease_id = CASE WHEN lease_id = $3 THEN NULL ELSE lease_id END
     WHERE id = $1";

#[derive(sqlx::FromRow)]
struct ConversationRow {
    id: String,
    features: Json<Features>,
    opened_at: i64,
    closed_at: Option<i64>,
    close_reason: Option<String>,
    waiting: i64,
}

impl Store {
    /// Keeps a conversation that the Cloud has opened, with its main dialog, and gives the lane back under this
    /// lease, unless more is to be done under it; says whether it
    /// became the user's open one. It does not where another became that meanwhile, which takes a lost lease, or where the user
    /// was erased.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is kept then.
    pub async fn insert_opened(
        &self,
        opened: &Opened<'_>,
        lease: Option<&Lease>,
    ) -> Result<bool, Error> {
        let id = opened.conversation.id.as_str();
        let at = opened.at.timestamp_millis();
        let mut tx = self.begin().await?;
        hold(&mut tx, std::iter::once(opened.user)).await?;
        if let Some(replaced) = opened.replaced {
            close(&mut tx, replaced, at, None).await?;
        }
        let beginning = NewConversation {
            id,
            user: opened.user,
            channel_id: opened.channel_id,
            features: &opened.conversation.features,
            opened_at: at,
            opened_by: opened.opened_by,
        };
        let inserted = insert(&mut tx, &beginning).await?;
        let profile = opened.profile.filter(|_| inserted);
        on!(tx, |db| {
            sqlx::query(END_OPENING)
                .bind(opened.user.0)
                .bind(profile.map(Json))
                .bind(lease.map(|lease| &lease.id[..]))
                .execute(db)
                .await?
                .rows_affected()
        });
        tx.commit().await?;
        Ok(inserted)
    }

    /// The conversation that was opened last for a user.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn latest_conversation(&self, key: &UserKey) -> Result<Option<Conversation>, Error> {
        let row: Option<ConversationRow> = run!(self, readers, |db| sqlx::query_as(
            "SELECT c.id, c.features, c.opened_at, c.closed_at, c.close_reason, u.waiting
             FROM users u JOIN conversations c ON c.user_ref = u.id
             WHERE u.account_id = $1 AND u.namespace = $2 AND u.user_id = $3
             ORDER BY c.ordinal DESC LIMIT 1",
        )
        .bind(key.account_id.as_str())
        .bind(key.namespace.as_str())
        .bind(key.user_id.as_str())
        .fetch_optional(db)
        .await?);
        row.map(Conversation::try_from).transpose()
    }

    /// Notes that a conversation has ended, with its dialogs; says whether it was open until now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn close_conversation(
        &self,
        id: &ConversationId,
        at: DateTime<Utc>,
        reason: Option<&CloseReason>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        hold_user_of(&mut tx, id.as_str()).await?;
        let was_open = close(&mut tx, id, at.timestamp_millis(), reason).await?;
        tx.commit().await?;
        Ok(was_open)
    }

    /// Notes that a conversation that was taken for closed is open at the Cloud, its dialogs closed as they are; says
    /// whether it was. It was not where it is another user's, or where the user has an open one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn reopen_conversation(
        &self,
        user: UserRef,
        id: &ConversationId,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        hold(&mut tx, std::iter::once(user)).await?;
        let rows = on!(tx, |db| {
            sqlx::query(
                "UPDATE conversations SET closed_at = NULL, close_reason = NULL
                 WHERE id = $1 AND user_ref = $2
                   AND NOT EXISTS (SELECT 1 FROM conversations WHERE user_ref = $2 AND closed_at IS NULL)",
            )
            .bind(id.as_str())
            .bind(user.0)
            .execute(db)
            .await?
            .rows_affected()
        });
        open_conversation::note(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        Ok(rows == 1)
    }
}

/// Keeps a conversation as the user's latest and open one, with its main dialog; says whether it is. It is not where it is known,
/// where another is open, or where the user was erased. The user is held.
pub(super) async fn insert(tx: &mut Tx, new: &NewConversation<'_>) -> Result<bool, Error> {
    let opened_by = match new.opened_by {
        OpenedBy::User => None,
        OpenedBy::Agent => Some(BY_AGENT),
    };
    let rows = on!(tx, |db| {
        sqlx::query(
            "INSERT INTO conversations (id, user_ref, ordinal, channel_id, features, opened_at, opened_by)
             SELECT $1, $2, COALESCE(MAX(ordinal), 0) + 1, $3, $4, $5, $6
             FROM conversations WHERE user_ref = $2
             HAVING EXISTS (SELECT 1 FROM users WHERE id = $2)
             -- its own id, its ordinal, or conversations_open
             ON CONFLICT DO NOTHING",
        )
        .bind(new.id)
        .bind(new.user.0)
        .bind(new.channel_id.as_str())
        .bind(Json(new.features))
        .bind(new.opened_at)
        .bind(opened_by)
        .execute(db)
        .await?
        .rows_affected()
    });
    if rows == 0 {
        return Ok(false);
    }
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO dialogs (id, conversation_id, kind, opened_at) VALUES ($1, $1, 'main', $2)",
        )
        .bind(new.id)
        .bind(new.opened_at)
        .execute(db)
        .await?
        .rows_affected()
    });
    open_conversation::note(tx, new.id).await?;
    Ok(true)
}

/// Reads the side that opened a conversation.
pub(super) fn opened_by(kept: Option<&str>) -> OpenedBy {
    match kept {
        Some(BY_AGENT) => OpenedBy::Agent,
        _ => OpenedBy::User,
    }
}

impl Store {
    /// Notes that the main dialog of an open conversation, which was taken for closed, is open.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn reopen_main_dialog(
        &self,
        user: UserRef,
        id: &ConversationId,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        hold(&mut tx, std::iter::once(user)).await?;
        on!(tx, |db| {
            sqlx::query(
                // The main dialog bears the conversation's id.
                "UPDATE dialogs SET closed_at = NULL WHERE id = $1 AND conversation_id =
                     (SELECT id FROM conversations WHERE id = $1 AND user_ref = $2 AND closed_at IS NULL)",
            )
            .bind(id.as_str())
            .bind(user.0)
            .execute(db)
            .await?
            .rows_affected()
        });
        open_conversation::note(&mut tx, id.as_str()).await?;
        tx.commit().await
    }
}

/// Notes that a conversation has ended at `at`, in milliseconds since the epoch, with its dialogs; says whether it was
/// open until now. The user is held.
pub(super) async fn close(
    tx: &mut Tx,
    id: &ConversationId,
    at: i64,
    reason: Option<&CloseReason>,
) -> Result<bool, Error> {
    let rows = on!(tx, |db| {
        sqlx::query(
            "UPDATE conversations SET closed_at = $2, close_reason = $3 WHERE id = $1 AND closed_at IS NULL",
        )
        .bind(id.as_str())
        .bind(at)
        .bind(reason.map(|reason| &reason.0[..]))
        .execute(db)
        .await?
        .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(CLOSE_DIALOGS)
            .bind(id.as_str())
            .bind(at)
            .execute(db)
            .await?
            .rows_affected()
    });
    open_conversation::note(tx, id.as_str()).await?;
    Ok(rows == 1)
}

impl TryFrom<ConversationRow> for Conversation {
    type Error = Error;

    fn try_from(row: ConversationRow) -> Result<Self, Error> {
        let time = |ms| {
            DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
                what: "conversation's time",
            })
        };
        Ok(Self {
            id: row.id.parse().map_err(|_| Error::Unreadable {
                what: "conversation id",
            })?,
            opened_at: time(row.opened_at)?,
            state: match row.closed_at {
                None => State::Open,
                Some(closed_at) => State::Closed {
                    at: time(closed_at)?,
                    reason: row.close_reason.map(CloseReason),
                },
            },
            features: row.features.0,
            queued: u32::try_from(row.waiting).unwrap_or_default(),
        })
    }
}
