//! Files: a user's to the Cloud, and either side's from there.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::bytes::Bytes;

use super::messages::{Content, Message, SentFile, Written};
use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Download};
use crate::store::HostedFile;
use crate::types::file::{FileId, FileType, ImageType};
use crate::types::ids::UserId;
use crate::types::message::Text;
use crate::types::trace::Trace;

/// How many files this process takes at once. A file is in memory from its first byte until the Cloud has it, so this
/// times the largest file is what files take: 48 MB with the default, 160 MB with the largest limit that can be set.
pub(super) const FILES_AT_ONCE: usize = 16;

/// The right to bring one file through this process; given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its bytes.
    pub content: Bytes,
    /// What the user says about it.
    pub caption: Option<Text>,
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
pub(super) struct Attachment {
    kind: ImageType,
    content: Bytes,
    caption: Option<Text>,
    preview: Option<String>,
}

impl Bridge {
    /// A place for a file, to be taken before the first byte of it is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyFiles`] where none is free.
    pub fn place_for_file(&self) -> Result<Place, Error> {
        let place = Arc::clone(&self.places_for_files).try_acquire_owned();
        place.map(Place).map_err(|_| Error::TooManyFiles)
    }

    /// Sends a user's file into the open conversation; opens one where there is none or the Cloud has closed it.
    ///
    /// # Errors
    ///
    /// [`Error::FileTypeRefused`]; [`Error::SurveyPending`]; when the Cloud refuses, is away, or does not say whether it took the message; when the
    /// storage is away.
    pub async fn send_file(
        &self,
        caller: &Caller,
        user_id: UserId,
        file: NewFile,
    ) -> Result<Message, Error> {
        let NewFile { content, caption } = file;
        let allowed = &caller.channel.file_types;
        let kind = ImageType::of(&content)
            .filter(|kind| allowed.contains(kind))
            .ok_or_else(|| Error::FileTypeRefused {
                allowed: allowed.clone(),
            })?;
        let preview = self.previews.make(kind, content.clone()).await;
        let attachment = Attachment {
            kind,
            content,
            caption,
            preview,
        };
        let opening = &caller.channel.defaults;
        self.deliver(caller, user_id, opening, Content::File(&attachment))
            .await
    }

    /// Stores a file at the Cloud and writes it into the session's conversation.
    pub(super) async fn write_file(
        &self,
        trace: &Trace,
        session: &mut Session,
        file: &Attachment,
    ) -> Result<Written, Error> {
        let relative_path = self
            .upload(trace, session, file.kind, &file.content)
            .await?;
        let hosted = HostedFile {
            relative_path,
            file_type: file.kind.into(),
        };
        let clock = &self.parts.clock;
        // Before it is published: what is published has been sent, and a failure would ask for it to be sent again.
        let id = self
            .parts
            .store
            .ensure_file(
                session.user,
                FileId::new(clock.uuid()),
                &hosted,
                clock.now(),
            )
            .await?;
        let content = cloud::Content::File(cloud::File {
            relative_path: &hosted.relative_path,
            kind: file.kind,
            caption: file.caption.as_ref().map(Text::as_str),
            preview: file.preview.as_deref(),
        });
        Ok(Written {
            sequence: self.publish(trace, session, content, None).await?,
            file: Some(SentFile {
                id,
                file_type: hosted.file_type,
            }),
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
                Err(cloud::Error::ConsumerTokenRefused) if !token.fresh => {
                    token = self.make_token(&key, standing.user, &caller.trace).await?;
                }
                Err(
                    error @ cloud::Error::Refused {
                        status: 404 | 410, ..
                    },
                ) => return Err(Error::FileGone(error)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
