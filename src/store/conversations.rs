//! Conversations. The schema enforces that a user has at most one open conversation.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::dialogs::CLOSE_DIALOGS;
use super::engine::tx::{Tx, on};
use super::locks::{lock_user_of, lock_users};
use super::open_conversation;
use super::{Error, Lease, Store, UserRef, run};
use crate::types::conversation::{
    CloseReason, Conversation, CurrentDialog, Features, OpenedBy, State,
};
use crate::types::ids::{ChannelId, ConversationId, UserKey};
use crate::types::profile::Profile;

/// An open conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenConversation {
    /// The Cloud's id; also the id of the main dialog.
    pub id: ConversationId,
    /// The features that requests of the conversation name in `Client-Properties`.
    pub features: Features,
    /// The dialog that the user writes in.
    pub dialog: CurrentDialog,
}

impl OpenConversation {
    /// Returns the id of the dialog that the user writes in, or of the main dialog if none is open.
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
    /// The user of the conversation.
    pub user: UserRef,
    /// The channel that requested it.
    pub channel_id: &'a ChannelId,
    /// The Cloud's id and the features it was opened with.
    pub conversation: &'a OpenConversation,
    /// The side that opened it.
    pub opened_by: OpenedBy,
    /// The conversation that this one replaces. The Cloud has ended it without a notification;
    /// otherwise it would not have opened a new one.
    pub replaced: Option<&'a ConversationId>,
    /// The profile to store; `None` keeps the stored one.
    pub profile: Option<&'a Profile>,
    /// The time of the opening.
    pub at: DateTime<Utc>,
}

/// A conversation to insert.
pub(super) struct NewConversation<'a> {
    pub(super) id: &'a str,
    pub(super) user: UserRef,
    pub(super) channel_id: &'a ChannelId,
    pub(super) features: &'a Features,
    /// Milliseconds since the epoch.
    pub(super) opened_at: i64,
    pub(super) opened_by: OpenedBy,
}

/// The value of `opened_by` for an agent.
const BY_AGENT: &str = "agent";

/// Deletes the opening of user $1, stores the profile $2 unless it is NULL, and releases the lane
/// unless the lease $3 was lost.
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
    /// Stores a conversation that the Cloud has opened, with its main dialog.
    ///
    /// Releases the lane if `lease` is given; `None` keeps the lane, for a caller that still has
    /// work to do on it. Returns true if this is now the user's open conversation. It is not if the
    /// user was erased, or if another conversation was opened meanwhile, which only happens after a
    /// lost lease.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is stored then.
    pub async fn insert_opened(
        &self,
        opened: &Opened<'_>,
        lease: Option<&Lease>,
    ) -> Result<bool, Error> {
        let id = opened.conversation.id.as_str();
        let at = opened.at.timestamp_millis();
        let mut tx = self.begin().await?;
        lock_users(&mut tx, std::iter::once(opened.user)).await?;
        if let Some(replaced) = opened.replaced {
            close(&mut tx, replaced, at, None).await?;
        }
        let conversation = NewConversation {
            id,
            user: opened.user,
            channel_id: opened.channel_id,
            features: &opened.conversation.features,
            opened_at: at,
            opened_by: opened.opened_by,
        };
        let inserted = insert(&mut tx, &conversation).await?;
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

    /// Reads the conversation that was opened last for a user.
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

    /// Closes a conversation and its dialogs. Returns true if it was open until now.
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
        lock_user_of(&mut tx, id.as_str()).await?;
        let was_open = close(&mut tx, id, at.timestamp_millis(), reason).await?;
        tx.commit().await?;
        Ok(was_open)
    }

    /// Reopens a conversation that is open at the Cloud although it is stored as closed. Its
    /// dialogs stay closed.
    ///
    /// Returns true if it was reopened. It is not if it belongs to another user, or if the user has
    /// another open conversation.
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
        lock_users(&mut tx, std::iter::once(user)).await?;
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
        open_conversation::update_copy(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        Ok(rows == 1)
    }
}

/// Inserts a conversation as the user's latest and open one, with its main dialog.
///
/// Returns false if it is known already, if another one is open, or if the user was erased. The
/// caller has locked the user's row.
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
             -- a conflict on the id, the ordinal, or the index conversations_open
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
    open_conversation::update_copy(tx, new.id).await?;
    Ok(true)
}

/// Reads the side that opened a conversation from its column.
pub(super) fn opened_by(column: Option<&str>) -> OpenedBy {
    match column {
        Some(BY_AGENT) => OpenedBy::Agent,
        _ => OpenedBy::User,
    }
}

impl Store {
    /// Reopens the main dialog of an open conversation if it is stored as closed.
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
        lock_users(&mut tx, std::iter::once(user)).await?;
        on!(tx, |db| {
            sqlx::query(
                // The main dialog has the id of its conversation.
                "UPDATE dialogs SET closed_at = NULL WHERE id = $1 AND conversation_id =
                     (SELECT id FROM conversations WHERE id = $1 AND user_ref = $2 AND closed_at IS NULL)",
            )
            .bind(id.as_str())
            .bind(user.0)
            .execute(db)
            .await?
            .rows_affected()
        });
        open_conversation::update_copy(&mut tx, id.as_str()).await?;
        tx.commit().await
    }
}

/// Closes a conversation and its dialogs at `at`, in milliseconds since the epoch. Returns true if
/// it was open until now. The caller has locked the user's row.
pub(super) async fn close(
    tx: &mut Tx,
    id: &ConversationId,
    at: i64,
    reason: Option<&CloseReason>,
) -> Result<bool, Error> {
    let rows = on!(tx, |db| {
        sqlx::query(
            "UPDATE conversations SET closed_at = $2, close_reason = $3, offer = NULL
             WHERE id = $1 AND closed_at IS NULL",
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
    open_conversation::update_copy(tx, id.as_str()).await?;
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
