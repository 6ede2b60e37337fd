//! A user's messages to the Cloud.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;

use super::files::Attachment;
use super::session::Session;
use super::split::{json_chars, split};
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::store::OpenConversation;
use crate::types::conversation::Opening;
use crate::types::file::{FileId, FileType};
use crate::types::ids::{ConversationId, UserId};
use crate::types::message::{MessageId, Metadata, Sequence, Text};
use crate::types::trace::Trace;

/// How many conversations in a row may turn out closed before a message is given up: an agent closes one now and then,
/// an account that closes every new one at once will not change its mind.
const REPLACEMENTS: u32 = 3;

/// 250 ms: a conversation may not be usable in its very first instant (an older edition of the vendor's API description
/// admits it), so a message refused right after the opening is sent once more after this.
const SETTLING: Duration = Duration::from_millis(250);

/// 36 characters: a UUID, as the ids of conversations and dialogs are in every sample.
const USUAL_ID: usize = 36;

/// 64 characters: what the Cloud's schema allows such an id.
const LONGEST_ID: usize = 64;

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// What the user wrote.
    pub text: Text,
    /// How to open a conversation if none is open; else the channel's defaults say so.
    pub open: Option<Opening>,
    /// The choice of structured content that the text stands for.
    pub reply_to: Option<Choice>,
    /// Whether a text that the Cloud does not take in one message is sent in several.
    pub split: bool,
}

/// An element of an agent's message that the user used.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The number of the agent's message.
    pub sequence: Sequence,
    /// What the Cloud tied to the element.
    pub metadata: Metadata,
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

/// A file that the Cloud has taken with a message.
#[derive(Debug, Clone)]
pub struct SentFile {
    /// The bridge's name for it.
    pub id: FileId,
    /// Its kind.
    pub file_type: FileType,
}

/// What a message says.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Text {
        text: &'a str,
        reply_to: Option<&'a Choice>,
    },
    File(&'a Attachment),
}

/// What became of what was written.
pub(super) struct Written {
    pub(super) sequence: Sequence,
    pub(super) file: Option<SentFile>,
}

impl Bridge {
    /// Sends a user's text into the open conversation; opens one where there is none or the Cloud has closed it.
    ///
    /// # Errors
    ///
    /// [`Error::TextTooLong`]; [`Error::PartlySent`]; [`Error::SurveyPending`]; when the Cloud refuses, is away, or does not say whether it took the
    /// message; when the storage is away.
    pub async fn send_text(
        &self,
        caller: &Caller,
        user_id: UserId,
        message: &NewMessage,
    ) -> Result<Message, Error> {
        let opening = message.open.as_ref().unwrap_or(&caller.channel.defaults);
        let pieces = self.pieces(caller, &user_id, message).await?;
        let mut reply_to = message.reply_to.as_ref();
        let mut whole: Option<Message> = None;
        for text in &pieces {
            let content = Content::Text {
                text,
                reply_to: reply_to.take(),
            };
            let sent = self
                .deliver(caller, user_id.clone(), opening, content)
                .await;
            match (&mut whole, sent) {
                (Some(whole), Ok(next)) => whole.further.push(next.sequence),
                (None, sent) => whole = Some(sent?),
                (Some(whole), Err(cause)) => {
                    return Err(Error::PartlySent {
                        sent: whole.sequences(),
                        of: pieces.len(),
                        cause: Box::new(cause),
                    });
                }
            }
        }
        // A text is not empty, so there was a piece of it.
        whole.ok_or(Error::Interrupted)
    }

    /// The texts that a message is sent as: one, unless it is longer than the Cloud takes and may be split.
    async fn pieces<'a>(
        &self,
        caller: &Caller,
        user_id: &UserId,
        message: &'a NewMessage,
    ) -> Result<Vec<&'a str>, Error> {
        let text = message.text.as_str();
        let limit = caller.channel.max_request_chars;
        let metadata = message.reply_to.as_ref().map(|choice| &choice.metadata);
        let around = |id_chars| cloud::chars_around_text(id_chars, metadata);
        let chars = json_chars(text);
        // Nearly every text fits whatever the conversation is called, and no look-up is needed to see it.
        if chars + around(2 * LONGEST_ID) <= limit {
            return Ok(vec![text]);
        }
        let key = caller.key(user_id.clone());
        let standing = self.parts.store.standing(&key).await?;
        let open = standing.and_then(|standing| standing.open);
        let ids = |open: OpenConversation| open.id.as_str().len() + open.dialog_id().len();
        let around = around(open.map_or(2 * USUAL_ID, ids));
        if chars + around <= limit {
            Ok(vec![text])
        } else if message.split && around < limit {
            Ok(split(text, limit - around))
        } else {
            Err(Error::TextTooLong {
                chars: chars + around,
                limit,
            })
        }
    }

    /// Brings a message into the open conversation; opens one where there is none or the Cloud has closed it.
    pub(super) async fn deliver(
        &self,
        caller: &Caller,
        user_id: UserId,
        opening: &Opening,
        content: Content<'_>,
    ) -> Result<Message, Error> {
        let created_at = self.parts.clock.now();
        let id = caller
            .message_id
            .unwrap_or_else(|| MessageId::new(self.parts.clock.uuid()));
        let key = caller.key(user_id);
        let session = self.session(&caller.trace, &key).await?;
        let mut session = session.filter(Session::takes_messages);
        let mut replacements = 0;
        let (session, written) = loop {
            let (mut open, settling) = if let Some(session) = session.take() {
                (session, false)
            } else {
                let joined = self.join_opening(caller, &key, opening).await?;
                (joined.session, joined.opened)
            };
            let mut outcome = self.write(&caller.trace, &mut open, content).await;
            if settling && matches!(outcome, Err(Error::Cloud(cloud::Error::Refused { .. }))) {
                sleep(SETTLING).await;
                outcome = self.write(&caller.trace, &mut open, content).await;
            }
            match outcome {
                Ok(written) => break (open, written),
                Err(Error::Cloud(cloud::Error::ConversationClosed))
                    if replacements < REPLACEMENTS =>
                {
                    replacements += 1;
                }
                Err(error) => return Err(error),
            }
        };
        if session.typing.is_some() {
            self.end_typing(session.user).await;
        }
        Ok(Message {
            id,
            user_id: session.key.user_id,
            conversation_id: session.conversation.id,
            sequence: written.sequence,
            further: Vec::new(),
            created_at,
            file: written.file,
        })
    }

    async fn write(
        &self,
        trace: &Trace,
        session: &mut Session,
        content: Content<'_>,
    ) -> Result<Written, Error> {
        match content {
            Content::Text { text, reply_to } => {
                self.write_text(trace, session, text, reply_to).await
            }
            Content::File(file) => self.write_file(trace, session, file).await,
        }
    }

    /// Writes a text; a choice goes before it, as the Cloud documents the pair, both with its metadata.
    async fn write_text(
        &self,
        trace: &Trace,
        session: &mut Session,
        text: &str,
        reply_to: Option<&Choice>,
    ) -> Result<Written, Error> {
        let metadata = if let Some(Choice { sequence, metadata }) = reply_to {
            let choice = Signal::Choice(*sequence, metadata);
            self.signal(trace, session, choice).await?;
            Some(metadata)
        } else {
            None
        };
        let content = cloud::Content::Text(text);
        Ok(Written {
            sequence: self.publish(trace, session, content, metadata).await?,
            file: None,
        })
    }
}
