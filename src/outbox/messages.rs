//! Messages of users.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use super::Outbox;
use super::accepted::{Accepted, WaitPreference};
use super::job::{Choice, Job, Match, SentFile, Work};
use super::split::{json_chars, split};
use crate::bridge::{Caller, Error};
use crate::cloud;
use crate::store::{OpenConversation, UserState};
use crate::types::conversation::{CurrentDialog, Opening};
use crate::types::ids::{ConversationId, UserId, UserKey};
use crate::types::message::{MessageId, Metadata, Pieces, Sequence, Text};
use crate::types::offer::{NamedChoice, Offer};

/// 36 characters: a UUID, the form of conversation and dialog ids in every sample.
const USUAL_ID_CHARS: usize = 36;

/// 64 characters: the longest such id that the Cloud's schema allows.
const MAX_ID_CHARS: usize = 64;

/// The number of characters in the JSON around a text without metadata, not counting ids. It is the
/// same for all texts.
static TEXT_OVERHEAD: LazyLock<usize> = LazyLock::new(|| cloud::envelope_chars(0, None));

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The text that the user wrote.
    pub text: Text,
    /// The parameters of an opening, if no conversation is open; `None` for the channel's defaults.
    pub open: Option<Box<Opening>>,
    /// The choice of structured content that the text stands for.
    pub reply_to: Option<Choice>,
    /// True if a text that is too long for one message of the Cloud is sent in several.
    pub split: bool,
    /// True if a text that names a choice which the user is offered is sent as that choice.
    pub match_choice: bool,
}

/// A message that the Cloud has accepted.
#[derive(Debug, Clone)]
pub struct Message {
    /// The bridge's id for it.
    pub id: MessageId,
    /// The user.
    pub user_id: UserId,
    /// The conversation that it was sent in.
    pub conversation_id: ConversationId,
    /// The sequence of its first message in the dialog.
    pub sequence: Sequence,
    /// The sequences of the further messages, which contain the remainder of a long text, in order.
    pub further: Vec<Sequence>,
    /// The time at which the bridge received it.
    pub created_at: DateTime<Utc>,
    /// The file in it, if there is one.
    pub file: Option<SentFile>,
    /// The choice as which a text was sent because the user named it.
    pub choice: Option<NamedChoice>,
}

/// A choice that the user named, as it is sent.
struct FoundChoice {
    named: NamedChoice,
    text: Text,
    reply_to: Option<Choice>,
}

impl FoundChoice {
    /// Finds the choice that a text names.
    fn among(offer: &Offer, text: &Text) -> Option<Self> {
        let (named, choice) = offer.find(text.as_str())?;
        let sent = Text::try_from(choice.text.clone());
        let reply_to = choice.metadata.clone().map(|metadata| Choice {
            sequence: offer.sequence,
            metadata,
            dialog_id: Some(offer.dialog_id.clone()),
        });
        Some(Self {
            // A text that shows nothing cannot be sent.
            text: sent.or_else(|_| named.title.clone().try_into()).ok()?,
            named,
            reply_to,
        })
    }
}

impl Message {
    /// Returns the sequences of all messages in which it was sent, in order.
    #[must_use]
    pub fn sequences(&self) -> Vec<Sequence> {
        std::iter::once(self.sequence)
            .chain(self.further.iter().copied())
            .collect()
    }
}

impl Outbox {
    /// Sends a user's text in the open conversation. Opens one if none is open or the Cloud has
    /// closed it.
    ///
    /// # Errors
    ///
    /// [`Error::TextTooLong`]; [`Error::PartlySent`]; if the Cloud refuses, or the storage is
    /// unavailable.
    pub async fn send_text(
        &self,
        caller: &Caller,
        user_id: UserId,
        message: NewMessage,
        preference: WaitPreference,
    ) -> Result<Accepted<Message>, Error> {
        let key = caller.key(user_id);
        let user_state = self.bridge.parts.store.user_state(&key).await;
        // After an unsettled error, the key is not claimed. With the storage unavailable, that
        // claim would only fail too, after the same time.
        let user_state = user_state.map_err(|error| Error::from(error).unsettled())?;
        let open = user_state.as_ref().and_then(|it| it.open.as_ref());
        let NewMessage {
            text,
            open: opening,
            reply_to,
            split,
            match_choice,
        } = message;
        let found = if match_choice {
            Box::pin(self.find_choice(open, &text)).await?
        } else {
            None
        };
        let metadata = reply_to.as_ref().map(|choice| &choice.metadata);
        let written = pieces(caller, open, text, metadata, split)?;
        // A choice that does not fit into a request is not sent as one.
        let found = found.and_then(
            |FoundChoice {
                 named,
                 text,
                 reply_to,
             }| {
                let metadata = reply_to.as_ref().map(|choice| &choice.metadata);
                let pieces = pieces(caller, open, text, metadata, split).ok()?;
                Some((named, pieces, reply_to))
            },
        );
        let work = match found {
            None => Work::Text {
                pieces: written,
                reply_to,
                open: opening,
                matched: None,
            },
            Some((choice, pieces, reply_to)) => Work::Text {
                pieces,
                reply_to,
                open: opening,
                matched: Some(Box::new(Match { choice, written })),
            },
        };
        self.submit_message(caller, key, user_state, work, preference)
            .await
    }

    /// Finds the choice that a text names, among those that the user is offered in the dialog that
    /// the text goes to.
    async fn find_choice(
        &self,
        open: Option<&OpenConversation>,
        text: &Text,
    ) -> Result<Option<FoundChoice>, Error> {
        let Some(open) = open.filter(|open| open.dialog != CurrentDialog::Ended) else {
            return Ok(None);
        };
        let offer = self.bridge.parts.store.offer(&open.id).await;
        let offer = offer.map_err(|error| Error::from(error).unsettled())?;
        let offer = offer.filter(|offer| offer.dialog_id == open.dialog_id());
        Ok(offer.and_then(|offer| FoundChoice::among(&offer, text)))
    }

    /// Sends the message of `work` at once, or queues it.
    pub(super) async fn submit_message(
        &self,
        caller: &Caller,
        key: UserKey,
        user_state: Option<UserState>,
        work: Work,
        preference: WaitPreference,
    ) -> Result<Accepted<Message>, Error> {
        let job = match self
            .submit(caller, &key, user_state, work, preference)
            .await?
        {
            Accepted::Done(job) => job,
            Accepted::Queued(queued) => return Ok(Accepted::Queued(queued)),
        };
        let Job { work, progress } = job;
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
            choice: work.choice().cloned(),
        }))
    }
}

/// Returns the texts in which a message is sent: one, unless it is too long for the Cloud and may
/// be split.
fn pieces(
    caller: &Caller,
    open: Option<&OpenConversation>,
    text: Text,
    metadata: Option<&Metadata>,
    may_split: bool,
) -> Result<Pieces, Error> {
    let limit = caller.channel.max_request_chars;
    let overhead_of = |id_chars| match metadata {
        None => *TEXT_OVERHEAD + id_chars,
        Some(_) => cloud::envelope_chars(id_chars, metadata),
    };
    let chars = json_chars(text.as_str());
    // Nearly every text fits, even with the longest ids.
    if chars + overhead_of(2 * MAX_ID_CHARS) <= limit {
        return Ok(Pieces::one(text.into()));
    }
    let ids = |open: &OpenConversation| open.id.as_str().len() + open.dialog_id().len();
    let overhead = overhead_of(open.map_or(2 * USUAL_ID_CHARS, ids));
    if chars + overhead <= limit {
        Ok(Pieces::one(text.into()))
    } else if may_split && overhead < limit {
        Ok(split(&text, limit - overhead))
    } else {
        Err(Error::TextTooLong {
            chars: chars + overhead,
            limit,
        })
    }
}
