//! Users' messages.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use super::Outbox;
use super::accepted::{Accepted, Patience};
use super::job::{Choice, SentFile, Work};
use super::split::{json_chars, split};
use crate::bridge::{Caller, Error};
use crate::cloud;
use crate::store::{OpenConversation, Standing};
use crate::types::conversation::Opening;
use crate::types::ids::{ConversationId, UserId, UserKey};
use crate::types::message::{MessageId, Metadata, Pieces, Sequence, Text};

/// 36 characters: a UUID, as the ids of conversations and dialogs are in every sample.
const USUAL_ID: usize = 36;

/// 64 characters: what the Cloud's schema allows such an id.
const LONGEST_ID: usize = 64;

/// Characters of JSON around a text without metadata, but for the ids: they are the same for all.
static AROUND_TEXT: LazyLock<usize> = LazyLock::new(|| cloud::chars_around_text(0, None));

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// What the user wrote.
    pub text: Text,
    /// How to open a conversation if none is open; else the channel's defaults say so.
    pub open: Option<Box<Opening>>,
    /// The choice of structured content that the text stands for.
    pub reply_to: Option<Choice>,
    /// Whether a text that the Cloud does not take in one message is sent in several.
    pub split: bool,
}

/// A message that the Cloud has taken.
#[derive(Debug, Clone)]
pub struct Message {
    /// The bridge's name for it.
    pub id: MessageId,
    /// Whose it is.
    pub user_id: UserId,
    /// Where it went.
    pub conversation_id: ConversationId,
    /// Its number in the dialog.
    pub sequence: Sequence,
    /// The numbers of the messages that carry what did not fit into the first one, in order.
    pub further: Vec<Sequence>,
    /// When the bridge received it.
    pub created_at: DateTime<Utc>,
    /// The file in it.
    pub file: Option<SentFile>,
}

impl Message {
    /// The numbers of all messages that it was sent in, in order.
    #[must_use]
    pub fn sequences(&self) -> Vec<Sequence> {
        std::iter::once(self.sequence)
            .chain(self.further.iter().copied())
            .collect()
    }
}

impl Outbox {
    /// Sends a user's text into the open conversation; opens one where there is none or the Cloud has closed it.
    ///
    /// # Errors
    ///
    /// [`Error::TextTooLong`]; [`Error::PartlySent`]; when the Cloud refuses, or the storage is away.
    pub async fn send_text(
        &self,
        caller: &Caller,
        user_id: UserId,
        message: NewMessage,
        patience: Patience,
    ) -> Result<Accepted<Message>, Error> {
        let key = caller.key(user_id);
        let looked_up = self.bridge.parts.store.standing(&key).await;
        // A storage that is away is not asked about the key as well, to be told the same after the same time.
        let looked_up = looked_up.map_err(|error| Error::from(error).unsettled())?;
        let open = looked_up.as_ref().and_then(|it| it.open.as_ref());
        let NewMessage {
            text,
            open: opening,
            reply_to,
            split,
        } = message;
        let metadata = reply_to.as_ref().map(|choice| &choice.metadata);
        let work = Work::Text {
            pieces: pieces(caller, open, text, metadata, split)?,
            reply_to,
            open: opening,
        };
        self.submit_message(caller, key, looked_up, work, patience)
            .await
    }

    /// Does the work of a message now, or queues it.
    pub(super) async fn submit_message(
        &self,
        caller: &Caller,
        key: UserKey,
        looked_up: Option<Standing>,
        work: Work,
        patience: Patience,
    ) -> Result<Accepted<Message>, Error> {
        let job = match self.submit(caller, &key, looked_up, work, patience).await? {
            Accepted::Done(job) => job,
            Accepted::Queued(queued) => return Ok(Accepted::Queued(queued)),
        };
        let progress = job.progress;
        let (Some((sequence, further)), Some(conversation_id)) =
            (progress.sequences(), progress.conversation_id)
        else {
            // Neither a text nor a file is empty, so something was sent.
            return Err(Error::Interrupted);
        };
        Ok(Accepted::Done(Message {
            id: progress.id,
            user_id: key.user_id,
            conversation_id,
            sequence,
            further,
            created_at: progress.created_at,
            file: progress.file,
        }))
    }
}

/// The texts that a message is sent as: one, unless it is longer than the Cloud takes and may be split.
fn pieces(
    caller: &Caller,
    open: Option<&OpenConversation>,
    text: Text,
    metadata: Option<&Metadata>,
    may_split: bool,
) -> Result<Pieces, Error> {
    let limit = caller.channel.max_request_chars;
    let around = |id_chars| match metadata {
        None => *AROUND_TEXT + id_chars,
        Some(_) => cloud::chars_around_text(id_chars, metadata),
    };
    let chars = json_chars(text.as_str());
    // Nearly every text fits whatever the conversation is called.
    if chars + around(2 * LONGEST_ID) <= limit {
        return Ok(Pieces::one(text.into()));
    }
    let ids = |open: &OpenConversation| open.id.as_str().len() + open.dialog_id().len();
    let around = around(open.map_or(2 * USUAL_ID, ids));
    if chars + around <= limit {
        Ok(Pieces::one(text.into()))
    } else if may_split && around < limit {
        Ok(split(&text, limit - around))
    } else {
        Err(Error::TextTooLong {
            chars: chars + around,
            limit,
        })
    }
}
