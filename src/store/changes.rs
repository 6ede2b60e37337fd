//! Changes from the Cloud's notifications: stored once, and matched with their conversations.
//! Changes of unknown conversations are kept for a while.
//!
//! Changes that a notification has just brought are called arrivals. All changes that arrive while
//! one transaction is written are admitted together in the next, because the number of commits
//! limits the rate. This module does not know the meaning of a change. It looks up the conversation
//! of a change, the caller translates the change into events ([`ChangesTx`]), and this module
//! applies the result. The caller translates from the state of the conversation at that moment.
//!
//! A change can arrive before the answer that names its conversation. It is then stored as an
//! unmatched change. The next transaction that concerns the same conversation or dialog admits it,
//! ahead of newer changes. After its commit, a writer that stored an unmatched change
//! looks for the conversation again, and a writer that stored a conversation looks for unmatched
//! changes. The later of the two finds the other's row.
//!
//! A change that names a known user may report a conversation that an agent has opened
//! ([`adoption`]).

mod admitting;
mod adoption;
mod announcement;
mod applying;
mod matching;
mod observing;
mod ordering;
mod unmatched;
mod withholding;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Error, NewEvent, OfferChange, Store, UserRef, run};
use crate::types::conversation::{Announced, ConversationChange, OpenedBy};
use crate::types::ids::{AccountId, ChannelId, ConversationId, UserId};
use crate::types::trace::TraceContext;
pub use admitting::{ChangesTx, ToTranslate, Translated};
pub use observing::UnmatchedChange;
pub(super) use unmatched::{erase_changes, erase_conversation, erased_key};

/// An account, and the id of a conversation or dialog in it.
type Subject = (String, String);

/// One change from a notification.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The account that it came for.
    pub account_id: AccountId,
    /// The key that identifies a duplicate; `None` for a change that may repeat.
    pub key: Option<String>,
    /// The conversation that the change names, or the dialog if it names no conversation.
    pub subject: String,
    /// The Cloud's id of the user, if the change names it.
    pub consumer_id: Option<String>,
    /// The dialog that the change names in addition to the conversation. `None` if the user wrote
    /// the change.
    pub named_dialog: Option<String>,
    /// The dialog and the sequence of the change, if it has a sequence.
    pub position: Option<DialogPosition>,
    /// True if the conversation is open; `None` unless the change is a state of the conversation.
    pub open: Option<bool>,
    /// The type of its notification.
    pub kind: &'static str,
    /// The change as it was received.
    pub body: String,
    /// The trace context of the webhook request.
    pub parent: Option<TraceContext>,
    /// The form of the notification's signature, such as `sha256 base64`; `None` if unknown.
    pub signed: Option<&'static str>,
}

impl Arrival {
    /// Returns the dialog of the change, if it names one.
    fn dialog(&self) -> Option<&str> {
        let numbered = self.position.as_ref().map(|position| &*position.dialog_id);
        numbered.or(self.named_dialog.as_deref())
    }
}

/// The sequence of a change within its dialog. It counts the changes of all participants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialogPosition {
    /// The dialog.
    pub dialog_id: String,
    /// The sequence.
    pub sequence: u64,
}

/// A change to be translated.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// The arrival with this index.
    Arrived(usize),
    /// An unmatched change that was stored earlier.
    Stored {
        /// The type of its notification.
        kind: &'a str,
        /// The change as it was received.
        body: &'a str,
        /// The trace context of the webhook request.
        parent: Option<&'a TraceContext>,
    },
}

/// The stored state of the conversation of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownConversation {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The channel that opened it.
    pub channel_id: ChannelId,
    /// The user's row.
    pub user: UserRef,
    /// The user.
    pub user_id: UserId,
    /// The Cloud's id of the user.
    pub consumer_id: Option<String>,
    /// The side that opened the conversation.
    pub opened_by: OpenedBy,
    /// The state that was last announced to the channel.
    pub announced: Option<Announced>,
    /// The time of the newest state of the conversation that was received, by the Cloud's clock.
    pub updated_at: Option<DateTime<Utc>>,
    /// The fingerprint of that state.
    pub fingerprint: Option<String>,
    /// True if the latest message to the user offers choices.
    pub has_offer: bool,
}

/// The result of translating a change.
#[derive(Debug, Clone, Default)]
pub struct Translation {
    /// The events for the channel.
    pub events: Vec<NewEvent>,
    /// The new state of the conversation.
    pub conversation: Option<ConversationChange>,
    /// The effect on the choices that the user is offered.
    pub offer: OfferChange,
}

/// The kind of an unknown conversation, according to a change of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownConversation {
    /// It is open, and not another connector's.
    Open {
        /// The time at which it began, by the Cloud's clock; `None` if the change does not say.
        began_at: Option<DateTime<Utc>>,
    },
    /// It came through another connector, which serves its own users.
    OfOtherConnector,
    /// It has ended, or the change does not say.
    Ended,
}

/// The outcome of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalOutcome {
    /// A duplicate of an earlier change.
    Duplicate,
    /// It was matched, and led to this number of events.
    Matched(usize),
    /// Its conversation was unknown and was adopted for its user; it led to this number of events.
    Adopted(usize),
    /// Its conversation is unknown; the change is stored as unmatched.
    Unmatched,
    /// Its conversation is unknown and another connector's; the change is stored as unmatched.
    OfOtherConnector,
    /// Its dialog is unknown and may be among agents; the change is stored as unmatched.
    Withheld,
    /// Its conversation belonged to an erased user; nothing is stored.
    Erased,
}

/// The result of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// The outcome of each arrival.
    pub outcomes: Vec<ArrivalOutcome>,
    /// The number of unmatched changes from earlier that were matched.
    pub matched: usize,
    /// Conversations and dialogs that may have unmatched changes that can be matched now.
    pub recheck: Vec<String>,
}

impl Store {
    /// Begins a transaction that admits arrivals. It also admits the unmatched changes of the same
    /// conversations and dialogs, and of those in `appeared`.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is stored then.
    pub async fn begin_changes<'a>(
        &'a self,
        arrivals: &'a [Arrival],
        appeared: &'a [String],
        now: DateTime<Utc>,
    ) -> Result<ChangesTx<'a>, Error> {
        let input = Input {
            arrivals,
            appeared,
            postponed: &[],
        };
        ChangesTx::begin(self, input, now).await
    }

    /// Begins a transaction that examines the postponed changes of these conversations again.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is stored then.
    pub async fn begin_postponed<'a>(
        &'a self,
        subjects: &'a [String],
        now: DateTime<Utc>,
    ) -> Result<ChangesTx<'a>, Error> {
        let input = Input {
            arrivals: &[],
            appeared: subjects,
            postponed: subjects,
        };
        ChangesTx::begin(self, input, now).await
    }

    /// Returns the conversations of the `limit` changes that have been postponed for the longest
    /// time.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn postponed_subjects(&self, limit: u32) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT subject FROM unmatched_changes WHERE postponed_at IS NOT NULL ORDER BY postponed_at LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        let subjects: BTreeSet<_> = rows.into_iter().map(|(subject,)| subject).collect();
        Ok(subjects.into_iter().collect())
    }

    /// Returns a user's open conversation that only unmatched changes have reported so far.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn unmatched_conversation(
        &self,
        user: UserRef,
    ) -> Result<Option<ConversationId>, Error> {
        let row: Option<(String, String)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT subject, state FROM unmatched_changes
                 WHERE (account_id, consumer_id) = (SELECT account_id, consumer_id FROM users WHERE id = $1)
                   AND state IS NOT NULL
                 ORDER BY id DESC LIMIT 1",
            )
            .bind(user.0)
            .fetch_optional(db)
            .await?
        });
        Ok(row
            .filter(|(_, state)| state == "open")
            .and_then(|(subject, _)| subject.parse().ok()))
    }

    /// Returns at most `limit` conversations and dialogs that are known by now and have unmatched
    /// changes. Only changes that were received at `from` or later, and before `to`, count.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn matchable_subjects(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT e.subject FROM unmatched_changes e JOIN dialogs d ON d.id = e.subject
                 WHERE e.received_at >= $1 AND e.received_at < $2
                 UNION
                 SELECT e.subject FROM unmatched_changes e JOIN side_dialogs s ON s.id = e.subject
                 WHERE e.received_at >= $1 AND e.received_at < $2 LIMIT $3",
            )
            .bind(from.timestamp_millis())
            .bind(to.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        Ok(rows.into_iter().map(|(subject,)| subject).collect())
    }
}

/// The input of a transaction.
#[derive(Clone, Copy)]
struct Input<'a> {
    arrivals: &'a [Arrival],
    /// Conversations and dialogs that may be known by now.
    appeared: &'a [String],
    /// Conversations with postponed changes.
    postponed: &'a [String],
}
