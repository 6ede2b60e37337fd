//! Files of users and agents, fetched from the Cloud, and the places that files take up.

use std::sync::Arc;

use crate::bounds::{Hold, Shares};
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Download};
use crate::types::file::{FileId, FileType};
use crate::types::ids::UserId;

/// How many files this process takes at once. A file is in memory from its first byte until the Cloud has it, so this
/// times the largest file is what files take: 48 MB with the default, 160 MB with the largest limit that can be set.
const FILES_AT_ONCE: usize = 16;

/// 2: how many it takes with tokens for one user.
const FILES_OF_USER: usize = 2;

/// How many files may be on their way at once in a service with so many channels.
pub(super) fn shares(channels: usize) -> Shares {
    Shares::new(FILES_AT_ONCE, FILES_OF_USER, channels)
}

/// The right to bring one file through this process; given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] Arc<Hold>);

/// A file that is arriving from the Cloud.
#[derive(Debug)]
pub struct FetchedFile {
    /// Its kind.
    pub file_type: FileType,
    /// Its bytes.
    pub download: Download,
}

impl Bridge {
    /// A place for a file, to be taken before the first byte of it is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyFiles`] where none is free.
    pub fn place_for_file(&self, caller: &Caller) -> Result<Place, Error> {
        let place = self.places_for_files.take(caller.holder(), 1);
        place
            .map(|place| Place(Arc::new(place)))
            .map_err(Error::TooManyFiles)
    }

    /// Fetches a file that a user has sent or was sent; a conversation need not be open for that.
    ///
    /// # Errors
    ///
    /// [`Error::FileNotFound`]; [`Error::FileGone`]; when the Cloud refuses or is away.
    pub async fn fetch_file(
        &self,
        caller: &Caller,
        user_id: UserId,
        id: FileId,
    ) -> Result<FetchedFile, Error> {
        let key = caller.key(user_id);
        let store = &self.parts.store;
        let file = store.file(&key, id).await?.ok_or(Error::FileNotFound)?;
        let standing = store.standing(&key).await?.ok_or(Error::FileNotFound)?;
        let features = standing.open.map(|open| open.features).unwrap_or_default();
        let mut token = self
            .token(&caller.trace, &key, standing.user, standing.token)
            .await?;
        loop {
            let consumer = cloud::Consumer {
                account: &key.account_id,
                token: &token.token,
            };
            let outcome = self
                .parts
                .cloud
                .download(consumer, &features, &file.relative_path, &caller.trace)
                .await;
            match outcome {
                Ok(download) => {
                    return Ok(FetchedFile {
                        file_type: file.file_type,
                        download,
                    });
                }
                Err(error) if error.blames_consumer_token() && !token.fresh => {
                    token = self.make_token(&key, standing.user, &caller.trace).await?;
                }
                Err(
                    error @ cloud::Error::Refused {
                        status: 404 | 410, ..
                    },
                ) => return Err(Error::FileGone(error)),
                Err(error) => return Err(error.under_new_tokens().into()),
            }
        }
    }
}
