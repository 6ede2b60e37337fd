//! Downloads of users' and agents' files from the Cloud, and the permits for files in this process.

use std::sync::Arc;

use crate::bounds::{BoundPermit, Shares};
use crate::bridge::{Bridge, Caller, Channel, Error};
use crate::cloud::{self, Download};
use crate::store::HostedFile;
use crate::types::file::{FileId, FileType};
use crate::types::ids::{UserId, UserKey};
use crate::types::trace::Trace;

/// 16: the number of files that this process handles at once. A file is in memory from its first
/// byte until the Cloud has it. So files take at most this number times the largest size: 48 MB by
/// default, 160 MB with the largest limit that can be set.
const FILES_AT_ONCE: usize = 16;

/// 2: the same with tokens for one user.
const FILES_OF_USER: usize = 2;

/// Returns the shares of files in a service with this number of channels.
pub(super) fn shares(channels: usize) -> Shares {
    Shares::new(FILES_AT_ONCE, FILES_OF_USER, channels)
}

/// The permit to handle one file in this process. It is released when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct FilePermit(#[expect(dead_code, reason = "held for its drop")] Arc<BoundPermit>);

/// A file that is being downloaded from the Cloud.
#[derive(Debug)]
pub struct FetchedFile {
    /// The file type.
    pub file_type: FileType,
    /// The content.
    pub download: Download,
}

impl Bridge {
    /// Takes a permit for a file, before the file's first byte is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyFiles`] if none is free.
    pub fn file_permit(&self, caller: &Caller) -> Result<FilePermit, Error> {
        let permit = self.file_permits.acquire(caller.holder(), 1);
        permit
            .map(|permit| FilePermit(Arc::new(permit)))
            .map_err(Error::TooManyFiles)
    }

    /// Downloads a file that a user has sent or received. It needs no open conversation.
    ///
    /// # Errors
    ///
    /// [`Error::FileNotFound`]; [`Error::FileGone`]; if the Cloud refuses, or the Cloud or the
    /// storage is unavailable.
    pub async fn fetch_file(
        &self,
        caller: &Caller,
        user_id: UserId,
        id: FileId,
    ) -> Result<FetchedFile, Error> {
        let key = caller.key(user_id);
        let file = self.parts.store.file(&key, id).await?;
        let file = file.ok_or(Error::FileNotFound)?;
        self.download(&key, file, &caller.trace).await
    }

    /// Downloads the file to which a signed link of a channel leads.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_file`](Self::fetch_file).
    pub async fn fetch_linked_file(
        &self,
        channel: &Channel,
        id: FileId,
        trace: &Trace,
    ) -> Result<FetchedFile, Error> {
        let Channel {
            account_id,
            namespace,
            ..
        } = channel;
        let store = &self.parts.store;
        let found = store.file_in_namespace(account_id, namespace, id).await?;
        let (user_id, file) = found.ok_or(Error::FileNotFound)?;
        let key = UserKey {
            account_id: account_id.clone(),
            namespace: namespace.clone(),
            user_id,
        };
        self.download(&key, file, trace).await
    }

    async fn download(
        &self,
        key: &UserKey,
        file: HostedFile,
        trace: &Trace,
    ) -> Result<FetchedFile, Error> {
        let user_state = self.parts.store.user_state(key).await?;
        let user_state = user_state.ok_or(Error::FileNotFound)?;
        let features = user_state
            .open
            .map(|open| open.features)
            .unwrap_or_default();
        let mut token = self
            .token(trace, key, user_state.user, user_state.token)
            .await?;
        loop {
            let consumer = cloud::Consumer {
                account: &key.account_id,
                token: &token.token,
            };
            let outcome = self
                .parts
                .cloud
                .download(consumer, &features, &file.relative_path, trace)
                .await;
            match outcome {
                Ok(download) => {
                    return Ok(FetchedFile {
                        file_type: file.file_type,
                        download,
                    });
                }
                Err(error) if error.may_be_consumer_token() && !token.fresh => {
                    token = self.request_token(key, user_state.user, trace).await?;
                }
                Err(
                    error @ cloud::Error::Refused {
                        status: 404 | 410, ..
                    },
                ) => return Err(Error::FileGone(error)),
                Err(error) => return Err(error.after_token_renewal().into()),
            }
        }
    }
}
