//! Files that users send.

use tokio_util::bytes::Bytes;

use super::Outbox;
use super::accepted::{Accepted, WaitPreference};
use super::job::{Attachment, UploadedFile, Work};
use super::messages::Message;
use crate::bridge::{Caller, Error, FilePermit, Session};
use crate::store::HostedFile;
use crate::types::file::{FileId, ImageType};
use crate::types::ids::UserId;
use crate::types::message::Text;

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// The content.
    pub content: Bytes,
    /// The caption that the user wrote.
    pub caption: Option<Text>,
    /// The permit to handle it in this process.
    pub permit: FilePermit,
}

impl Outbox {
    /// Sends a user's file in the open conversation. Opens one if none is open or the Cloud has
    /// closed it.
    ///
    /// # Errors
    ///
    /// [`Error::FileTypeRefused`]; if the Cloud refuses, or the storage is unavailable.
    pub async fn send_file(
        &self,
        caller: &Caller,
        user_id: UserId,
        file: NewFile,
        preference: WaitPreference,
    ) -> Result<Accepted<Message>, Error> {
        let NewFile {
            content,
            caption,
            permit,
        } = file;
        let allowed = &caller.channel.file_types;
        let kind = ImageType::of(&content)
            .filter(|kind| allowed.contains(kind))
            .ok_or_else(|| Error::FileTypeRefused {
                allowed: allowed.clone(),
            })?;
        let channel = &caller.channel.id;
        let preview = self.previews.create(channel, kind, content.clone(), permit);
        let preview = preview.await;
        let work = Work::File(Attachment {
            content,
            caption: caption.map(|caption| caption.as_str().to_owned()),
            preview,
            hosted: None,
        });
        let key = caller.key(user_id);
        let user_state = self.bridge.parts.store.user_state(&key).await?;
        self.submit_message(caller, key, user_state, work, preference)
            .await
    }

    /// Uploads a file to the Cloud, and stores the path that it has at the Cloud.
    pub(super) async fn host(
        &self,
        caller: &Caller,
        session: &mut Session,
        kind: ImageType,
        content: &Bytes,
    ) -> Result<UploadedFile, Error> {
        let uploaded = self.bridge.upload(&caller.trace, session, kind, content);
        let hosted = HostedFile {
            relative_path: uploaded.await?,
            file_type: kind.into(),
        };
        let parts = &self.bridge.parts;
        let (id, now) = (FileId::new(parts.clock.uuid()), parts.clock.now());
        // The path is stored before the file is published. If that failed after the publication,
        // the caller would send the file twice.
        let stored = parts.store.ensure_file(session.user, id, &hosted, now);
        Ok(UploadedFile {
            id: stored.await?,
            relative_path: hosted.relative_path,
        })
    }
}
