//! Users: their tokens, their consumer ids at the Cloud, and their profiles.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::Json;

use super::audit::record;
use super::engine::batching::BatchedQuery;
use super::engine::tx::on;
use super::rows::{UserRef, batch, key};
use super::{Error, Store, run};
use crate::crypto::Sealed;
use crate::types::audit::Entry;
use crate::types::conversation::Conversation;
use crate::types::ids::UserKey;
use crate::types::profile::{self, Profile};

/// Replaces token $2 of user $1 by token $3, sealed with key $4, unless the token was replaced
/// meanwhile.
const RESEAL_TOKEN: &str =
    "UPDATE users SET token = $3, token_key_id = $4 WHERE id = $1 AND token = $2";

/// A ConsumerJWS in its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The sealed token.
    pub sealed: Sealed,
    /// The public name of the key that sealed it.
    pub key_id: String,
    /// The Cloud's id of the consumer, from the token's claims.
    pub consumer_id: String,
}

/// A user as the channel sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// The Cloud's id of the consumer; `None` until a token was issued.
    pub consumer_id: Option<String>,
    /// The profile that agents see.
    pub profile: Profile,
    /// The conversation that was opened last.
    pub conversation: Option<Conversation>,
}

#[derive(sqlx::FromRow)]
struct UserRow {
    consumer_id: Option<String>,
    profile: Json<StoredProfile>,
}

/// A profile as stored, perhaps by an earlier version.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct StoredProfile(pub(super) Profile);

impl TryFrom<Value> for StoredProfile {
    type Error = serde_json::Error;

    fn try_from(mut stored: Value) -> Result<Self, serde_json::Error> {
        profile::remove_impossible_days(&mut stored);
        serde_json::from_value(stored).map(Self)
    }
}

#[derive(sqlx::FromRow)]
struct SealedRow {
    id: i64,
    account_id: String,
    namespace: String,
    user_id: String,
    token: Vec<u8>,
    token_key_id: String,
    consumer_id: String,
}

impl SealedRow {
    fn parts(self) -> Result<(UserRef, UserKey, StoredToken), Error> {
        let key = key(self.account_id, self.namespace, self.user_id)?;
        let stored = StoredToken {
            sealed: Sealed(self.token),
            key_id: self.token_key_id,
            consumer_id: self.consumer_id,
        };
        Ok((UserRef(self.id), key, stored))
    }
}

impl Store {
    /// Returns the row of a user, and inserts it if it does not exist.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn ensure_user(&self, key: &UserKey, now: DateTime<Utc>) -> Result<UserRef, Error> {
        self.run_batched(EnsureUser {
            key: key.clone(),
            now,
        })
        .await
    }

    /// Reads a user with their profile and latest conversation.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn user(&self, key: &UserKey) -> Result<Option<User>, Error> {
        let row: Option<UserRow> = run!(self, readers, |db| sqlx::query_as(
            "SELECT consumer_id, profile FROM users
             WHERE account_id = $1 AND namespace = $2 AND user_id = $3",
        )
        .bind(key.account_id.as_str())
        .bind(key.namespace.as_str())
        .bind(key.user_id.as_str())
        .fetch_optional(db)
        .await?);
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(User {
            consumer_id: row.consumer_id,
            profile: row.profile.0.0,
            conversation: self.latest_conversation(key).await?,
        }))
    }

    /// Stores a user's ConsumerJWS in place of the previous one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn set_token(&self, user: UserRef, token: &StoredToken) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE users SET token = $2, token_key_id = $3, consumer_id = $4 WHERE id = $1",
        )
        .bind(user.0)
        .bind(&token.sealed.0[..])
        .bind(&token.key_id)
        .bind(&token.consumer_id)
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Lists tokens that are sealed with another key than this one, at most `limit`, in the order
    /// of their rows. The list starts after the row `after`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn tokens_not_sealed_by(
        &self,
        key_id: &str,
        after: Option<UserRef>,
        limit: u32,
    ) -> Result<Vec<(UserRef, UserKey, StoredToken)>, Error> {
        let rows: Vec<SealedRow> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT id, account_id, namespace, user_id, token, token_key_id, consumer_id FROM users
             WHERE id > $1 AND token_key_id <> $2 AND consumer_id IS NOT NULL
             ORDER BY id LIMIT $3",
        )
        .bind(after.map_or(i64::MIN, |user| user.0))
        .bind(key_id)
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?
        });
        rows.into_iter().map(SealedRow::parts).collect()
    }

    /// Stores a re-encrypted token, unless the token was replaced since it was read. Returns true
    /// if it is stored, and then also writes `entry`, if given, to the audit log.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Nothing is changed then.
    pub async fn reseal_token(
        &self,
        user: UserRef,
        read: &Sealed,
        resealed: &StoredToken,
        entry: Option<&Entry>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let rows = on!(tx, |db| sqlx::query(RESEAL_TOKEN)
            .bind(user.0)
            .bind(&read.0[..])
            .bind(&resealed.sealed.0[..])
            .bind(&resealed.key_id)
            .execute(db)
            .await?
            .rows_affected());
        if let Some(entry) = entry.filter(|_| rows == 1) {
            record(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// Replaces a user's profile.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn set_profile(&self, user: UserRef, profile: &Profile) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE users SET profile = $2 WHERE id = $1"
        )
        .bind(user.0)
        .bind(Json(profile))
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }
}

/// A batched query for the row of a user, which is inserted if it does not exist.
#[derive(Debug)]
pub(super) struct EnsureUser {
    key: UserKey,
    now: DateTime<Utc>,
}

impl EnsureUser {
    fn row(&self) -> Value {
        let UserKey {
            account_id,
            namespace,
            user_id,
        } = &self.key;
        json!({
            "account": account_id,
            "namespace": namespace,
            "user": user_id,
            "created_at": self.now.timestamp_millis(),
        })
    }
}

impl BatchedQuery for EnsureUser {
    type Answer = UserRef;

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<UserRef>, Error> {
        let mut found = rows_of(store, queries).await?;
        if found.contains(&None) {
            let mut absent: Vec<_> = queries.iter().zip(&found).collect();
            absent.retain(|(_, row)| row.is_none());
            // Every replica inserts in the same order, so that two replicas do not deadlock.
            absent.sort_by_key(|(it, _)| {
                let UserKey {
                    account_id,
                    namespace,
                    user_id,
                } = &it.key;
                (account_id.as_str(), namespace.as_str(), user_id.as_str())
            });
            let rows = batch(absent.iter().map(|(it, _)| it.row()));
            run!(store, writer, |db| {
                sqlx::query(
                    "INSERT INTO users (account_id, namespace, user_id, created_at)
                     SELECT value ->> 'account', value ->> 'namespace', value ->> 'user',
                            CAST(value ->> 'created_at' AS BIGINT)
                     FROM json_each($1) WHERE true
                     ON CONFLICT (account_id, namespace, user_id) DO NOTHING",
                )
                .bind(rows)
                .execute(db)
                .await?
                .rows_affected()
            });
            found = rows_of(store, queries).await?;
        }
        // A user may have been erased between the insert and this read.
        let found = found.into_iter().map(|row| row.ok_or(Error::Contended));
        found.collect()
    }
}

/// Looks up the rows of users; `None` for a user without a row.
async fn rows_of(store: &Store, queries: &[&EnsureUser]) -> Result<Vec<Option<UserRef>>, Error> {
    let keys = batch(queries.iter().map(|it| it.row()));
    let rows: Vec<(Option<i64>,)> = run!(store, readers, |db| sqlx::query_as(
        // The subquery makes this one index lookup per key, in the order of the keys.
        "SELECT (SELECT id FROM users
                 WHERE account_id = k.value ->> 'account' AND namespace = k.value ->> 'namespace'
                   AND user_id = k.value ->> 'user')
         FROM json_each($1) AS k",
    )
    .bind(keys)
    .fetch_all(db)
    .await?);
    Ok(rows.into_iter().map(|(id,)| id.map(UserRef)).collect())
}
