//! What the Cloud tells: taken once, matched with the conversation that it is about, kept for a while where that is not known.
//!
//! All that came while the previous transaction was being written is admitted in one: it is a commit that limits the rate. What
//! a change means is not known here: whoever holds the transaction ([`ChangesTx`]) translates it between a look-up and its
//! application, from what is known of the conversation at that very moment.
//!
//! A change can overtake the answer that names its conversation. It is then kept, and taken out again in the transaction that
//! next has to do with its place, before anything newer. Whoever keeps a change looks once more after the commit, and
//! whoever makes a mapping looks after its own: of the two, the later one finds the other's row.
//!
//! One that names a user who is known may tell of a conversation that an agent has opened ([`adoption`]).

mod admitting;
mod adoption;
mod announcement;
mod applying;
mod keeping;
mod matching;
mod observing;
mod ordering;
mod withholding;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Error, NewEvent, Store, UserRef, run};
use crate::types::conversation::{Announced, ConversationChange, OpenedBy};
use crate::types::ids::{AccountId, ChannelId, ConversationId, UserId};
use crate::types::trace::Parent;
pub use admitting::{ChangesTx, ToTranslate, Translated};
pub(super) use keeping::{erased_key, forget_changes, forget_conversation};
pub use observing::KeptChange;

/// An account, and a conversation of it.
type Place = (String, String);

/// A change that a notification tells of.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The account that it came for.
    pub account_id: AccountId,
    /// What makes it the one that it is; none for what may come any number of times.
    pub key: Option<String>,
    /// The conversation that it names, or else the dialog.
    pub place: String,
    /// Whose conversation it is, in the Cloud's own words.
    pub consumer_id: Option<String>,
    /// The dialog that it names beside the conversation, where it comes from somebody else than the user.
    pub side: Option<String>,
    /// Its number in a dialog, where it has one.
    pub turn: Option<Turn>,
    /// Whether the conversation is open, where the change is one of its state.
    pub open: Option<bool>,
    /// The type of the notification that it came in.
    pub kind: &'static str,
    /// The change as it came.
    pub body: String,
    /// The trace of the request that it came with.
    pub parent: Option<Parent>,
    /// The form of the notification's signature, such as `sha256 base64`; `None` where it is not known.
    pub signed: Option<&'static str>,
}

impl Arrival {
    /// The dialog that it is of, where that is named.
    fn dialog(&self) -> Option<&str> {
        let numbered = self.turn.as_ref().map(|turn| &*turn.dialog_id);
        numbered.or(self.side.as_deref())
    }
}

/// The number of a change within a dialog, which counts on whoever speaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The dialog.
    pub dialog_id: String,
    /// The number.
    pub sequence: u64,
}

/// A change to be translated.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// The one at this place of the arrivals.
    Arrived(usize),
    /// One that had been kept.
    Kept {
        /// The type of the notification that it came in.
        kind: &'a str,
        /// The change as it came.
        body: &'a str,
        /// The trace of the request that it came with.
        parent: Option<&'a Parent>,
    },
}

/// What is known of the conversation that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The channel that opened it.
    pub channel_id: ChannelId,
    /// The user's row.
    pub user: UserRef,
    /// The user.
    pub user_id: UserId,
    /// The user in the Cloud's words.
    pub consumer_id: Option<String>,
    /// The side that opened it.
    pub opened_by: OpenedBy,
    /// What the channel was told last.
    pub announced: Option<Announced>,
    /// When the newest state that was seen of it was made.
    pub updated_at: Option<DateTime<Utc>>,
    /// The fingerprint of that state.
    pub fingerprint: Option<String>,
}

/// What a change comes to.
#[derive(Debug, Clone, Default)]
pub struct Translation {
    /// What the channel is told.
    pub events: Vec<NewEvent>,
    /// What it changes in the mapping.
    pub conversation: Option<ConversationChange>,
}

/// What a change of a conversation's state says where the conversation is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It is open, and of no other connector.
    Open {
        /// When it began, by the Cloud's clock, as far as that says.
        began_at: Option<DateTime<Utc>>,
    },
    /// It came by another connector, which tells its own users of it.
    OfOtherConnector,
    /// It has ended, or nobody can tell.
    Ended,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It had come before.
    Duplicate,
    /// It was matched, and came to so many events.
    Taken(usize),
    /// Its conversation was not known and became its user's; it came to so many events.
    Adopted(usize),
    /// Its conversation is not known; it is kept.
    Early,
    /// Its conversation is not known, and another connector's; it is kept.
    OfOtherConnector,
    /// Its dialog is not known, and may be one among agents; it is kept.
    Withheld,
    /// Its conversation was one of a user who was erased; nothing of it is kept.
    Erased,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// What became of each arrival.
    pub fates: Vec<Fate>,
    /// How many that had been kept were matched.
    pub matched: usize,
    /// Places that may have kept changes to be matched now.
    pub look_again: Vec<String>,
}

impl Store {
    /// Begins to take what has come, and what had been kept for the same places and for those that have `appeared`.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is taken then.
    pub async fn begin_changes<'a>(
        &'a self,
        arrivals: &'a [Arrival],
        appeared: &'a [String],
        now: DateTime<Utc>,
    ) -> Result<ChangesTx<'a>, Error> {
        let news = News {
            arrivals,
            appeared,
            put_off: &[],
        };
        ChangesTx::begin(self, news, now).await
    }

    /// Begins to look again at what was put off for these places.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is taken then.
    pub async fn begin_put_off<'a>(
        &'a self,
        places: &'a [String],
        now: DateTime<Utc>,
    ) -> Result<ChangesTx<'a>, Error> {
        let news = News {
            arrivals: &[],
            appeared: places,
            put_off: places,
        };
        ChangesTx::begin(self, news, now).await
    }

    /// Places of changes that were put off, of those `limit` at most that have waited longest.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn put_off_places(&self, limit: u32) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT place FROM early_changes WHERE put_off_at IS NOT NULL ORDER BY put_off_at LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        let places: BTreeSet<_> = rows.into_iter().map(|(place,)| place).collect();
        Ok(places.into_iter().collect())
    }

    /// The open conversation of a user that the Cloud has told of and that is not known here.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn early_conversation(&self, user: UserRef) -> Result<Option<ConversationId>, Error> {
        let row: Option<(String, String)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT place, state FROM early_changes
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
            .and_then(|(place, _)| place.parse().ok()))
    }

    /// Places of kept changes that could be matched by now, of those that came between two moments; `limit` at most.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn matchable_places(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT e.place FROM early_changes e JOIN dialogs d ON d.id = e.place
                 WHERE e.received_at >= $1 AND e.received_at < $2
                 UNION
                 SELECT e.place FROM early_changes e JOIN side_dialogs s ON s.id = e.place
                 WHERE e.received_at >= $1 AND e.received_at < $2 LIMIT $3",
            )
            .bind(from.timestamp_millis())
            .bind(to.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        Ok(rows.into_iter().map(|(place,)| place).collect())
    }
}

/// What is to be admitted.
#[derive(Clone, Copy)]
struct News<'a> {
    arrivals: &'a [Arrival],
    /// Places that may be known by now.
    appeared: &'a [String],
    /// Places for which changes were put off.
    put_off: &'a [String],
}
