//! Files: a user's to the Cloud, and either side's from there.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;

use super::messages::{Message, SentFile, Written};
use super::requests::{Attempt, Hosted, Outcome, Patience, Work};
use super::session::Session;
use crate::bounds::{Hold, Shares};
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Download};
use crate::store::HostedFile;
use crate::types::file::{FileId, FileType, ImageType};
use crate::types::ids::UserId;
use crate::types::message::{Digest, Text};

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

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its bytes.
    pub content: Bytes,
    /// What the user says about it.
    pub caption: Option<Text>,
    /// Its place.
    pub place: Place,
}

/// A file that is arriving from the Cloud.
#[derive(Debug)]
pub struct FetchedFile {
    /// Its kind.
    pub file_type: FileType,
    /// Its bytes.
    pub download: Download,
}

/// A file as it goes out.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// Kept beside the rest.
    #[serde(skip)]
    pub(super) content: Bytes,
    caption: Option<String>,
    preview: Option<String>,
    /// Where the Cloud has it, once it does.
    hosted: Option<Hosted>,
}

impl Attachment {
    fn kind(&self) -> Result<ImageType, Error> {
        // It was looked at when it came.
        ImageType::of(&self.content).ok_or(Error::Interrupted)
    }

    /// The file that the Cloud has.
    pub(super) fn sent(&self) -> Option<SentFile> {
        Some(SentFile {
            id: self.hosted.as_ref()?.id,
            file_type: self.kind().ok()?.into(),
        })
    }
}

impl fmt::Debug for Attachment {
    /// Leaves out what the file shows and what was said of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("size_bytes", &self.content.len())
            .finish_non_exhaustive()
    }
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

    /// Sends a user's file into the open conversation; opens one where there is none or the Cloud has closed it.
    ///
    /// # Errors
    ///
    /// [`Error::FileTypeRefused`]; when the Cloud refuses, or the storage is away.
    pub async fn send_file(
        &self,
        caller: &Caller,
        user_id: UserId,
        file: NewFile,
        patience: Patience,
    ) -> Result<Outcome<Message>, Error> {
        let NewFile {
            content,
            caption,
            place,
        } = file;
        let allowed = &caller.channel.file_types;
        let kind = ImageType::of(&content)
            .filter(|kind| allowed.contains(kind))
            .ok_or_else(|| Error::FileTypeRefused {
                allowed: allowed.clone(),
            })?;
        let channel = &caller.channel.id;
        let preview = self.previews.make(channel, kind, content.clone(), place);
        let preview = preview.await;
        let attachment = Attachment {
            content,
            caption: caption.map(|caption| caption.as_str().to_owned()),
            preview,
            hosted: None,
        };
        let key = caller.key(user_id);
        let standing = self.parts.store.standing(&key).await?;
        let work = Work::File(attachment);
        self.submit_message(caller, key, standing, work, patience)
            .await
    }

    /// Stores a file at the Cloud, unless it has it already, and writes it into the session's conversation.
    pub(super) async fn write_file(
        &self,
        attempt: &mut Attempt<'_>,
        session: &mut Session,
        file: &mut Attachment,
    ) -> Result<Written, Error> {
        let kind = file.kind()?;
        let hosted = if let Some(hosted) = &file.hosted {
            hosted.clone()
        } else {
            let upload = self.host(attempt, session, kind, &file.content);
            let hosted = self.in_time(attempt, attempt.until, upload).await;
            hosted.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?
        };
        file.hosted = Some(hosted.clone());
        let flight = self.flight(session, Digest::of_file(&hosted.relative_path));
        let work = Work::File(file.clone());
        self.take_off(attempt, session.user, flight, &work).await?;
        let content = cloud::Content::File(cloud::File {
            relative_path: &hosted.relative_path,
            kind,
            caption: file.caption.as_deref(),
            preview: file.preview.as_deref(),
        });
        Ok(Written {
            sequence: self
                .publish_in_time(attempt, session, content, None)
                .await?,
            file: file.sent(),
        })
    }

    /// Stores a file at the Cloud, and keeps what it is called there.
    async fn host(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        kind: ImageType,
        content: &Bytes,
    ) -> Result<Hosted, Error> {
        let trace = &attempt.caller.trace;
        let relative_path = self.upload(trace, session, kind, content).await?;
        let hosted = HostedFile {
            relative_path,
            file_type: kind.into(),
        };
        let clock = &self.parts.clock;
        // Before it is published: what is published has been sent, and a failure would ask for it to be sent again.
        let store = &self.parts.store;
        let id = FileId::new(clock.uuid());
        let id = store
            .ensure_file(session.user, id, &hosted, clock.now())
            .await?;
        Ok(Hosted {
            relative_path: hosted.relative_path,
            id,
        })
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
