//! Erasures of users, and the pending closes that they leave behind.
//!
//! A user is erased in one transaction, without any request to the Cloud. It leaves a row for each
//! conversation that is still to be closed at the Cloud, with the least data that this needs. To
//! process a pending close, a replica claims its row first. The claim increments `attempts`, which
//! serves as a fencing token: a holder that was overtaken settles nothing. Closing a conversation
//! twice does no harm.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::audit::record;
use super::changes::{erase_changes, erase_conversation, erased_key};
use super::engine::tx::{Tx, on};
use super::locks::lock_for_deletion;
use super::openings::pending;
use super::rows::batch;
use super::user_state::parse_open_conversation;
use super::{
    Engine, Error, OpenConversation, PendingOpening, Store, StoredToken, UserRef, claiming, run,
};
use crate::crypto::Sealed;
use crate::types::audit::Entry;
use crate::types::ids::{AccountId, ConversationId};
use crate::types::status::CloseBacklog;

/// 100,000: counting ends at this number.
const MAX_COUNT: i64 = 100_000;

/// The columns of a pending close.
macro_rules! columns {
    () => {
        "id, account_id, conversation_id, owner, secret, key_id, attempts, due_at"
    };
}

/// The data of a user that an erasure needs.
#[derive(Debug, Clone)]
pub struct ErasureData {
    /// The user's row.
    pub user: UserRef,
    /// The user's ConsumerJWS.
    pub token: Option<StoredToken>,
    /// The open conversation.
    pub open: Option<OpenConversation>,
    /// The opening, if its outcome is unknown.
    pub opening: Option<PendingOpening>,
    /// The time until which a replica may still be processing that opening.
    pub opening_until: Option<DateTime<Utc>>,
    /// The columns as they were read, to detect changes.
    open_text: Option<String>,
    opening_text: Option<String>,
}

/// The outcome of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// The user is erased.
    Done,
    /// Another caller has erased the user.
    AlreadyErased,
    /// A conversation was opened or has ended meanwhile. Nothing is removed.
    Changed,
}

/// A conversation of an erased user that is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClose {
    /// The account.
    pub account_id: AccountId,
    /// The conversation; `None` for the one that an opening with unknown outcome may have created.
    pub conversation_id: Option<ConversationId>,
    /// The sealed secret, and the hash that identifies the user.
    pub sealed: SealedClose,
    /// The time of the first attempt in the background.
    pub due_at: DateTime<Utc>,
}

/// The sealed data for a close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedClose {
    /// A keyed hash of the user.
    pub owner: String,
    /// The sealed secret.
    pub secret: Sealed,
    /// The public name of the key that sealed the secret and keyed the hash.
    pub key_id: String,
}

/// A pending close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingClose {
    /// Its row.
    pub id: CloseRef,
    /// The number of claims.
    pub attempts: u32,
    /// The account.
    pub account_id: AccountId,
    /// The conversation; `None` until it is found.
    pub conversation_id: Option<ConversationId>,
    /// The sealed secret, and the hash that identifies the user.
    pub sealed: SealedClose,
    /// The time of the next attempt.
    pub due_at: DateTime<Utc>,
}

/// A reference to the row of a pending close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRef(i64);

#[derive(sqlx::FromRow)]
struct ErasureRow {
    token: Option<Vec<u8>>,
    token_key_id: Option<String>,
    consumer_id: Option<String>,
    open_conversation: Option<String>,
    opening: Option<String>,
    opening_until: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct CloseRow {
    id: i64,
    account_id: String,
    conversation_id: Option<String>,
    owner: String,
    secret: Vec<u8>,
    key_id: String,
    attempts: i64,
    due_at: i64,
}

impl Store {
    /// Reads the data of a user for an erasure; `None` if the user does not exist any more.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn erasure_data(&self, user: UserRef) -> Result<Option<ErasureData>, Error> {
        let row: Option<ErasureRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT token, token_key_id, consumer_id, open_conversation, opening, opening_until
                 FROM users WHERE id = $1",
            )
            .bind(user.0)
            .fetch_optional(db)
            .await?
        });
        row.map(|row| row.into_data(user)).transpose()
    }

    /// Removes a user, everything that references the row, and the stored changes of the user's
    /// conversations. Later changes of these conversations are not stored either. The same
    /// transaction stores the pending closes and writes the audit log.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is removed then.
    pub async fn delete_user(
        &self,
        data: &ErasureData,
        closes: &[NewClose],
        now: DateTime<Utc>,
        entry: &Entry,
    ) -> Result<Erasure, Error> {
        let user = data.user;
        let mut tx = self.begin().await?;
        lock_for_deletion(&mut tx, user).await?;
        let is_unchanged: Option<(bool,)> = on!(tx, |db| {
            sqlx::query_as(
                "SELECT open_conversation IS NOT DISTINCT FROM $2 AND opening IS NOT DISTINCT FROM $3
                 FROM users WHERE id = $1",
            )
            .bind(user.0)
            .bind(&data.open_text)
            .bind(&data.opening_text)
            .fetch_optional(db)
            .await?
        });
        match is_unchanged {
            None => return Ok(Erasure::AlreadyErased),
            Some((false,)) => return Ok(Erasure::Changed),
            Some((true,)) => {}
        }
        let dialogs: Vec<(String,)> = on!(tx, |db| {
            sqlx::query_as(
                "SELECT d.id FROM dialogs d JOIN conversations c ON c.id = d.conversation_id WHERE c.user_ref = $1
                 UNION
                 SELECT s.id FROM side_dialogs s JOIN conversations c ON c.id = s.conversation_id WHERE c.user_ref = $1",
            )
            .bind(user.0)
            .fetch_all(db)
            .await?
        });
        let dialogs: Vec<_> = dialogs.into_iter().map(|(id,)| id).collect();
        erase_changes(&mut tx, user, &dialogs, now).await?;
        // Lanes are locked before their events, and in the order in which settling locks them. The
        // cascade from the user's row would lock them in another order.
        let delete_lanes = claiming!(
            self,
            "DELETE FROM delivery_lanes WHERE id",
            "SELECT id FROM delivery_lanes WHERE user_ref = $1 ORDER BY channel_id",
            // Settling compares channel ids by their bytes, whatever the collation of the database.
            " COLLATE \"C\" FOR UPDATE",
            ""
        );
        let delete_events = claiming!(
            self,
            "DELETE FROM events WHERE id",
            "SELECT id FROM events WHERE user_ref = $1 ORDER BY channel_id, position",
            " FOR UPDATE",
            ""
        );
        for delete in [delete_lanes, delete_events] {
            on!(tx, |db| {
                sqlx::query(delete)
                    .bind(user.0)
                    .execute(db)
                    .await?
                    .rows_affected()
            });
        }
        on!(tx, |db| {
            sqlx::query("DELETE FROM conversations WHERE user_ref = $1")
                .bind(user.0)
                .execute(db)
                .await?
                .rows_affected()
        });
        on!(tx, |db| {
            sqlx::query("DELETE FROM users WHERE id = $1")
                .bind(user.0)
                .execute(db)
                .await?
                .rows_affected()
        });
        for close in closes {
            insert(&mut tx, close, now).await?;
        }
        record(&mut tx, entry).await?;
        tx.commit().await?;
        if let Engine::Sqlite(sqlite) = &self.engine {
            sqlite.record_erasure();
        }
        Ok(Erasure::Done)
    }

    /// Stores a pending close for a conversation that was opened while its user was erased. Changes
    /// of it are not stored from then on. A conversation that belongs to a user by now is not
    /// closed.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn add_close(&self, close: &NewClose, now: DateTime<Utc>) -> Result<(), Error> {
        let Some(id) = &close.conversation_id else {
            return Ok(());
        };
        let mut tx = self.begin().await?;
        if !is_known(&mut tx, id).await? {
            insert(&mut tx, close, now).await?;
            erase_conversation(&mut tx, id.as_str(), now).await?;
        }
        tx.commit().await
    }

    /// True if the conversation belonged to an erased user, for as long as that is stored.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn is_erased(&self, id: &ConversationId) -> Result<bool, Error> {
        let row: Option<(i64,)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT erased_at FROM erased_conversations WHERE key = $1")
                .bind(erased_key(id.as_str()))
                .fetch_optional(db)
                .await?
        });
        Ok(row.is_some())
    }

    /// Lists the pending closes of a user, oldest first. A user may have several keyed hashes.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn closes_of(&self, owners: &[String]) -> Result<Vec<PendingClose>, Error> {
        let owners = batch(owners.iter().map(|owner| json!({"owner": owner})));
        let rows: Vec<CloseRow> = run!(self, readers, |db| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM pending_closes
                  WHERE owner IN (SELECT value ->> 'owner' FROM json_each($1)) ORDER BY id"
            ))
            .bind(owners)
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(PendingClose::try_from).collect()
    }

    /// Claims a pending close, even from a replica that is processing it. Background work leaves
    /// the close alone until `again_at`. Returns `None` if the close is finished.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_close(
        &self,
        id: CloseRef,
        again_at: DateTime<Utc>,
    ) -> Result<Option<PendingClose>, Error> {
        let row: Option<CloseRow> = run!(self, writer, |db| {
            sqlx::query_as(concat!(
                "UPDATE pending_closes SET attempts = attempts + 1, due_at = $2 WHERE id = $1 RETURNING ",
                columns!()
            ))
            .bind(id.0)
            .bind(again_at.timestamp_millis())
            .fetch_optional(db)
            .await?
        });
        row.map(PendingClose::try_from).transpose()
    }

    /// Claims pending closes that are due and were created after `created_after`, at most `limit`.
    /// No other claim returns them before `again_at`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_due_closes(
        &self,
        now: DateTime<Utc>,
        again_at: DateTime<Utc>,
        created_after: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<PendingClose>, Error> {
        let claim = claiming!(
            self,
            "UPDATE pending_closes SET attempts = attempts + 1, due_at = $2 WHERE id",
            "SELECT id FROM pending_closes WHERE due_at <= $1 AND created_at > $3 ORDER BY due_at LIMIT $4",
            " RETURNING id, account_id, conversation_id, owner, secret, key_id, attempts, due_at"
        );
        let rows: Vec<CloseRow> = run!(self, writer, |db| {
            sqlx::query_as(claim)
                .bind(now.timestamp_millis())
                .bind(again_at.timestamp_millis())
                .bind(created_after.timestamp_millis())
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        rows.into_iter().map(PendingClose::try_from).collect()
    }

    /// Stores the conversation of a pending close that had none. Changes of that conversation are
    /// not stored from then on.
    ///
    /// Returns true if the conversation is to be closed. It is not if it belongs to a user, if
    /// another pending close has it, or if the claim was lost.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn set_close_conversation(
        &self,
        close: &PendingClose,
        id: &ConversationId,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let is_set = !is_known(&mut tx, id).await?
            && on!(tx, |db| {
                sqlx::query(
                    "UPDATE pending_closes SET conversation_id = $3 WHERE id = $1 AND attempts = $2
                       AND NOT EXISTS (SELECT 1 FROM pending_closes WHERE conversation_id = $3)",
                )
                .bind(close.id.0)
                .bind(i64::from(close.attempts))
                .bind(id.as_str())
                .execute(db)
                .await?
                .rows_affected()
            }) == 1;
        if is_set {
            erase_conversation(&mut tx, id.as_str(), now).await?;
        }
        tx.commit().await?;
        Ok(is_set)
    }

    /// Removes a finished close. Returns true if the claim was still valid.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn finish_close(&self, close: &PendingClose) -> Result<bool, Error> {
        let rows = run!(self, writer, |db| {
            sqlx::query("DELETE FROM pending_closes WHERE id = $1 AND attempts = $2")
                .bind(close.id.0)
                .bind(i64::from(close.attempts))
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(rows == 1)
    }

    /// Postpones a close, unless the claim was lost.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn postpone_close(
        &self,
        close: &PendingClose,
        due_at: DateTime<Utc>,
        reason: &str,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
                "UPDATE pending_closes SET due_at = $3, why = $4 WHERE id = $1 AND attempts = $2",
            )
            .bind(close.id.0)
            .bind(i64::from(close.attempts))
            .bind(due_at.timestamp_millis())
            .bind(reason)
            .execute(db)
            .await?
            .rows_affected()
        });
        Ok(())
    }

    /// Makes pending closes of an account due now if they wait because of one of these reasons, at
    /// most `limit`. Returns their number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn make_closes_due(
        &self,
        account_id: &AccountId,
        reasons: &[&str],
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let make_due = claiming!(
            self,
            "UPDATE pending_closes SET due_at = $2 WHERE id",
            "SELECT id FROM pending_closes
             WHERE due_at > $2 AND account_id = $1 AND why IN (SELECT value ->> 'reason' FROM json_each($4))
             ORDER BY due_at LIMIT $3",
            ""
        );
        let reasons = batch(reasons.iter().map(|reason| json!({"reason": reason})));
        Ok(run!(self, writer, |db| {
            sqlx::query(make_due)
                .bind(account_id.as_str())
                .bind(now.timestamp_millis())
                .bind(i64::from(limit))
                .bind(reasons)
                .execute(db)
                .await?
                .rows_affected()
        }))
    }

    /// Gives up closes of users who were erased at `before` or earlier, at most `limit`. Returns
    /// their accounts and conversations.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn give_up_closes(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<(AccountId, Option<ConversationId>)>, Error> {
        let give_up = claiming!(
            self,
            "DELETE FROM pending_closes WHERE id",
            "SELECT id FROM pending_closes WHERE created_at <= $1 ORDER BY created_at LIMIT $2",
            " RETURNING account_id, conversation_id"
        );
        let rows: Vec<(String, Option<String>)> = run!(self, writer, |db| {
            sqlx::query_as(give_up)
                .bind(before.timestamp_millis())
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        });
        let rows = rows.into_iter().map(|(account_id, id)| {
            let id = id.map(|id| id.parse().map_err(|_| unreadable()));
            Ok((
                account_id.parse().map_err(|_| unreadable())?,
                id.transpose()?,
            ))
        });
        rows.collect()
    }

    /// Counts the pending closes of each account.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn close_backlogs(&self) -> Result<Vec<CloseBacklog>, Error> {
        let rows: Vec<(String, i64, i64)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT account_id, COUNT(*), MIN(created_at)
                 FROM (SELECT account_id, created_at FROM pending_closes ORDER BY created_at LIMIT $1) AS waiting
                 GROUP BY account_id ORDER BY account_id",
            )
            .bind(MAX_COUNT)
            .fetch_all(db)
            .await?
        });
        let rows = rows.into_iter().map(|(account_id, waiting, oldest)| {
            Ok(CloseBacklog {
                account_id: account_id.parse().map_err(|_| unreadable())?,
                waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
                oldest: DateTime::from_timestamp_millis(oldest).ok_or_else(unreadable)?,
            })
        });
        rows.collect()
    }

    /// Lists pending closes that are sealed with another key than this one, at most `limit`, in the
    /// order of their rows. The list starts after the row `after`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn closes_not_sealed_by(
        &self,
        key_id: &str,
        after: Option<CloseRef>,
        limit: u32,
    ) -> Result<Vec<PendingClose>, Error> {
        let rows: Vec<CloseRow> = run!(self, readers, |db| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM pending_closes WHERE id > $1 AND key_id <> $2 ORDER BY id LIMIT $3"
            ))
            .bind(after.map_or(i64::MIN, |after| after.0))
            .bind(key_id)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        rows.into_iter().map(PendingClose::try_from).collect()
    }

    /// Stores the re-encrypted secret of a close. Returns true if the close is still pending, and
    /// then also writes `entry` to the audit log.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is changed then.
    pub async fn reseal_close(
        &self,
        id: CloseRef,
        resealed: &SealedClose,
        entry: &Entry,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let rows = on!(tx, |db| {
            sqlx::query(
                "UPDATE pending_closes SET owner = $2, secret = $3, key_id = $4 WHERE id = $1",
            )
            .bind(id.0)
            .bind(&resealed.owner)
            .bind(&resealed.secret.0[..])
            .bind(&resealed.key_id)
            .execute(db)
            .await?
            .rows_affected()
        });
        if rows == 1 {
            record(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(rows == 1)
    }
}

/// Stores a pending close, unless it is stored already.
async fn insert(tx: &mut Tx, close: &NewClose, now: DateTime<Utc>) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO pending_closes (account_id, conversation_id, owner, secret, key_id, due_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(close.account_id.as_str())
        .bind(close.conversation_id.as_ref().map(ConversationId::as_str))
        .bind(&close.sealed.owner)
        .bind(&close.sealed.secret.0[..])
        .bind(&close.sealed.key_id)
        .bind(close.due_at.timestamp_millis())
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// True if the conversation belongs to a user.
async fn is_known(tx: &mut Tx, id: &ConversationId) -> Result<bool, Error> {
    let known: Option<(i64,)> = on!(tx, |db| {
        sqlx::query_as("SELECT user_ref FROM conversations WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(db)
            .await?
    });
    Ok(known.is_some())
}

fn unreadable() -> Error {
    Error::Unreadable {
        what: "pending close",
    }
}

impl ErasureRow {
    fn into_data(self, user: UserRef) -> Result<ErasureData, Error> {
        let token = self.token.zip(self.token_key_id).zip(self.consumer_id);
        let until = self.opening_until.map(|ms| {
            DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
                what: "time of an opening",
            })
        });
        Ok(ErasureData {
            user,
            token: token.map(|((sealed, key_id), consumer_id)| StoredToken {
                sealed: Sealed(sealed),
                key_id,
                consumer_id,
            }),
            open: self
                .open_conversation
                .as_deref()
                .map(parse_open_conversation)
                .transpose()?,
            opening: self.opening.as_deref().and_then(pending),
            opening_until: until.transpose()?,
            open_text: self.open_conversation,
            opening_text: self.opening,
        })
    }
}

impl TryFrom<CloseRow> for PendingClose {
    type Error = Error;

    fn try_from(row: CloseRow) -> Result<Self, Error> {
        let id = row
            .conversation_id
            .map(|id| id.parse().map_err(|_| unreadable()));
        Ok(Self {
            id: CloseRef(row.id),
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            account_id: row.account_id.parse().map_err(|_| unreadable())?,
            conversation_id: id.transpose()?,
            sealed: SealedClose {
                owner: row.owner,
                secret: Sealed(row.secret),
                key_id: row.key_id,
            },
            due_at: DateTime::from_timestamp_millis(row.due_at).ok_or_else(unreadable)?,
        })
    }
}
