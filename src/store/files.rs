//! Files: their ids here, their paths at the Cloud, and their users. The bytes are never stored.

use chrono::{DateTime, Utc};

use super::{Error, Store, UserRef, run};
use crate::types::file::{FileId, FileType};
use crate::types::ids::{AccountId, Namespace, UserId, UserKey};

/// Stores a file under id $1, unless user $2 has that file already. Returns the id under which it
/// is stored.
pub(super) const ENSURE_FILE: &str =
    "INSERT INTO files (id, user_ref, relative_path, file_type, created_at)
     VALUES ($1, $2, $3, $4, $5)
     -- an update that changes nothing, because DO NOTHING would return no row
     ON CONFLICT (user_ref, relative_path) DO UPDATE SET relative_path = excluded.relative_path
     RETURNING id";

/// The location of a file at the Cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedFile {
    /// The path at the Cloud.
    pub relative_path: String,
    /// The type of the file.
    pub file_type: FileType,
}

impl Store {
    /// Stores a file of a user under `id`, unless the user has that file already. Returns the id
    /// under which it is stored.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn ensure_file(
        &self,
        user: UserRef,
        id: FileId,
        file: &HostedFile,
        now: DateTime<Utc>,
    ) -> Result<FileId, Error> {
        let (id,): (String,) = run!(self, writer, |db| {
            sqlx::query_as(ENSURE_FILE)
                .bind(id.to_string())
                .bind(user.0)
                .bind(&file.relative_path)
                .bind(file.file_type.as_str())
                .bind(now.timestamp_millis())
                .fetch_one(db)
                .await?
        });
        id.parse()
            .map_err(|_| Error::Unreadable { what: "file's id" })
    }

    /// Reads a file of a user.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn file(&self, key: &UserKey, id: FileId) -> Result<Option<HostedFile>, Error> {
        let row: Option<(String, String)> = run!(self, readers, |db| sqlx::query_as(
            "SELECT f.relative_path, f.file_type
             FROM files f JOIN users u ON u.id = f.user_ref
             WHERE f.id = $1 AND u.account_id = $2 AND u.namespace = $3 AND u.user_id = $4",
        )
        .bind(id.to_string())
        .bind(key.account_id.as_str())
        .bind(key.namespace.as_str())
        .bind(key.user_id.as_str())
        .fetch_optional(db)
        .await?);
        Ok(row.map(|(relative_path, file_type)| HostedFile {
            relative_path,
            file_type: file_type.into(),
        }))
    }

    /// Reads a file of any user of a namespace, with its user.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn file_in_namespace(
        &self,
        account_id: &AccountId,
        namespace: &Namespace,
        id: FileId,
    ) -> Result<Option<(UserId, HostedFile)>, Error> {
        let row: Option<(String, String, String)> = run!(self, readers, |db| sqlx::query_as(
            "SELECT u.user_id, f.relative_path, f.file_type
             FROM files f JOIN users u ON u.id = f.user_ref
             WHERE f.id = $1 AND u.account_id = $2 AND u.namespace = $3",
        )
        .bind(id.to_string())
        .bind(account_id.as_str())
        .bind(namespace.as_str())
        .fetch_optional(db)
        .await?);
        let Some((user_id, relative_path, file_type)) = row else {
            return Ok(None);
        };
        let user_id =
            UserId::try_from(user_id).map_err(|_| Error::Unreadable { what: "user's id" })?;
        let file = HostedFile {
            relative_path,
            file_type: file_type.into(),
        };
        Ok(Some((user_id, file)))
    }
}
