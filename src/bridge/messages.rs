//! A user's messages to the Cloud.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::files::Attachment;
use super::openings::Joined;
use super::requests::{Attempt, Outcome, Patience, Work};
use super::session::Session;
use super::split::{json_chars, split};
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, Signal};
use crate::store::{OpenConversation, Standing};
use crate::types::conversation::Opening;
use crate::types::file::{FileId, FileType};
use crate::types::ids::{ConversationId, UserId, UserKey};
use crate::types::message::{Digest, MessageId, Metadata, Pieces, Sequence, Text};

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

/// 250 ms: what a request gets whose time has run out on the way to it, and what its own limit is given to speak first.
const LEAST: Duration = Duration::from_millis(250);

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

/// An element of an agent's message that the user used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
pub(super) enum Content<'a> {
    Text {
        text: &'a str,
        reply_to: Option<&'a Choice>,
        /// The work that it is a part of.
        work: &'a Work,
    },
    File(&'a mut Attachment),
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
    /// [`Error::TextTooLong`]; [`Error::PartlySent`]; when the Cloud refuses, or the storage is away.
    pub async fn send_text(
        &self,
        caller: &Caller,
        user_id: UserId,
        message: NewMessage,
        patience: Patience,
    ) -> Result<Outcome<Message>, Error> {
        let key = caller.key(user_id);
        let standing = self.parts.store.standing(&key).await;
        let standing = standing.inspect_err(|error| {
            if let Some(claim) = caller.claim.as_ref().filter(|_| error.is_outage()) {
                claim.give_up();
            }
        })?;
        let open = standing
            .as_ref()
            .and_then(|standing| standing.open.as_ref());
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
        self.submit_message(caller, key, standing, work, patience)
            .await
    }

    /// Does the work of a message now, or keeps it for later.
    pub(super) async fn submit_message(
        &self,
        caller: &Caller,
        key: UserKey,
        standing: Option<Standing>,
        work: Work,
        patience: Patience,
    ) -> Result<Outcome<Message>, Error> {
        let job = match self.submit(caller, &key, standing, work, patience).await? {
            Outcome::Done(job) => job,
            Outcome::Queued(queued) => return Ok(Outcome::Queued(queued)),
        };
        let (Some((sequence, further)), Some(conversation_id)) =
            (job.sent.split_first(), job.conversation_id)
        else {
            // Neither a text nor a file is empty, so something was sent.
            return Err(Error::Interrupted);
        };
        Ok(Outcome::Done(Message {
            id: job.id,
            user_id: key.user_id,
            conversation_id,
            sequence: *sequence,
            further: further.to_vec(),
            created_at: job.created_at,
            file: job.file,
        }))
    }

    /// Brings a message into the open conversation; opens one where there is none or the Cloud has closed it.
    pub(super) async fn deliver(
        &self,
        attempt: &mut Attempt<'_>,
        mut session: Option<Session>,
        opening: &Opening,
        mut content: Content<'_>,
    ) -> Result<(Session, Written), Error> {
        let mut replacements = 0;
        let mut is_looked_into = false;
        let (session, written) = loop {
            attempt.flight = None;
            let (mut open, settling) = if let Some(session) = session.take() {
                (session, false)
            } else {
                let joined = Box::pin(self.join(attempt, opening, None)).await?;
                (joined.session, joined.opened)
            };
            let mut outcome = self.write(attempt, &mut open, &mut content).await;
            if settling && matches!(outcome, Err(Error::Cloud(cloud::Error::Refused { .. }))) {
                sleep(SETTLING).await;
                outcome = self.write(attempt, &mut open, &mut content).await;
            }
            match outcome {
                Ok(written) => break (open, written),
                Err(Error::Cloud(cloud::Error::ConversationClosed))
                    if replacements < REPLACEMENTS =>
                {
                    replacements += 1;
                }
                Err(error) if !settling && !is_looked_into && self.is_doubtful(&error, &open) => {
                    is_looked_into = true;
                    let doubted = &open.conversation.id;
                    let Some(joined) = Box::pin(self.look_into(attempt, opening, doubted)).await
                    else {
                        return Err(error);
                    };
                    session = Some(joined.session);
                }
                Err(error) => return Err(error),
            }
        };
        if session.typing.is_some() {
            Box::pin(self.end_typing(session.user)).await;
        }
        if attempt.held.is_none() {
            let dialog_id = session.conversation.dialog_id();
            self.recent.add(session.user, dialog_id, written.sequence);
        }
        Ok((session, written))
    }

    /// The session of a user without an open conversation, within the time that there is.
    pub(super) async fn join(
        &self,
        attempt: &Attempt<'_>,
        opening: &Opening,
        instead_of: Option<&ConversationId>,
    ) -> Result<Joined, Error> {
        let Attempt { caller, key, .. } = attempt;
        if let Some(held) = attempt.held {
            return self
                .open_held(caller, key, held.user, opening, instead_of)
                .await;
        }
        // The opening goes on, and what is kept now is sent in it.
        let joined = self.join_opening(caller, key, opening, instead_of);
        let joined = self.in_time(attempt, attempt.until, joined).await;
        joined.unwrap_or(Err(Error::OutOfTime { is_sent: false }))
    }

    async fn write(
        &self,
        attempt: &mut Attempt<'_>,
        session: &mut Session,
        content: &mut Content<'_>,
    ) -> Result<Written, Error> {
        match content {
            Content::Text {
                text,
                reply_to,
                work,
            } => {
                self.write_text(attempt, session, text, *reply_to, work)
                    .await
            }
            Content::File(file) => Box::pin(self.write_file(attempt, session, file)).await,
        }
    }

    /// Writes a text; a choice goes before it, as the Cloud documents the pair, both with its metadata.
    async fn write_text(
        &self,
        attempt: &mut Attempt<'_>,
        session: &mut Session,
        text: &str,
        reply_to: Option<&Choice>,
        work: &Work,
    ) -> Result<Written, Error> {
        let metadata = if let Some(Choice { sequence, metadata }) = reply_to {
            let choice = Signal::Choice(*sequence, metadata);
            let told = self.signal(&attempt.caller.trace, session, choice);
            let told = self.in_time(attempt, attempt.until, Box::pin(told)).await;
            told.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?;
            Some(metadata)
        } else {
            None
        };
        let digest = Digest::of_text(text);
        let flight = self.flight(session, digest);
        self.take_off(attempt, session.user, flight, work).await?;
        let content = cloud::Content::Text(text);
        Ok(Written {
            sequence: self
                .publish_in_time(attempt, session, content, metadata)
                .await?,
            file: None,
        })
    }

    /// Publishes within the time that there is.
    pub(super) async fn publish_in_time(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        content: cloud::Content<'_>,
        metadata: Option<&Metadata>,
    ) -> Result<Sequence, Error> {
        let left = attempt.until.saturating_duration_since(Instant::now());
        // On a lane nobody waits, and a try takes as long as is usual.
        session.patience = attempt.held.is_none().then_some(left.max(LEAST));
        let trace = &attempt.caller.trace;
        let published = self.publish(trace, session, content, metadata);
        let published = self
            .in_time(attempt, attempt.until + LEAST, published)
            .await;
        published.unwrap_or(Err(Error::OutOfTime { is_sent: true }))
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
