//! What the Cloud tells: taken once, matched with the conversation that it is about, kept for a while where that is not known.
//!
//! All that came while the previous transaction was being written is admitted in one: it is a commit that limits the rate. What
//! a change means is not known here; [`Translate`] says it, between the statements of the transaction, from what is known of
//! the conversation at that very moment.
//!
//! A change can overtake the answer that names its conversation. It is then kept, and taken out again in the transaction that
//! next has to do with its place, before anything newer. Whoever keeps a change looks once more after the commit, and
//! whoever makes a mapping looks after its own: of the two, the later one finds the other's row.

mod announcement;
mod applying;
mod keeping;
mod matching;
mod observing;
mod withholding;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::log::append;
use super::requests::hear_echoes;
use super::users::hold;
use super::{Echo, Error, HostedFile, NewEvent, Store, UserRef, run};
use crate::types::conversation::{Announced, ConversationChange};
use crate::types::file::FileId;
use crate::types::ids::{AccountId, ChannelId, ConversationId, UserId};
use crate::types::trace::Parent;
use applying::settle;
pub(super) use keeping::forget_changes;
use keeping::{keep, keep_withheld};
use matching::{KeptRow, look_up, see, take_kept};
pub use observing::KeptChange;
use withholding::{Dialogs, Standing};

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

/// Says what changes mean; called within the transaction, so it must not wait for anything.
pub trait Translate: Sync {
    /// The file that a change tells of, with the id that it gets unless it has one.
    fn file(&self, change: Change<'_>) -> Option<(FileId, HostedFile)>;

    /// What a change comes to; `file` is the id of its file.
    fn translate(&self, change: Change<'_>, known: &Known, file: Option<FileId>) -> Translation;

    /// What the user said, where the change tells it back.
    fn echo(&self, _change: Change<'_>, _known: &Known) -> Option<Echo> {
        None
    }
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It had come before.
    Duplicate,
    /// It was matched, and came to so many events.
    Taken(usize),
    /// Its conversation is not known; it is kept.
    Early,
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
    /// Takes what has come, and what had been kept for the same places and for those that have `appeared`.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is taken then.
    pub async fn admit(
        &self,
        arrivals: &[Arrival],
        appeared: &[String],
        translate: &impl Translate,
        now: DateTime<Utc>,
    ) -> Result<Admission, Error> {
        let mut tx = self.begin().await?;
        let unseen = see(&mut tx, arrivals, now).await?;
        let fresh = arrivals.iter().enumerate();
        let places = fresh
            .filter(|(index, _)| unseen.contains(index))
            .map(|(_, arrival)| &arrival.place)
            .chain(appeared)
            .collect::<HashSet<_>>();
        let (known_places, mut conversations) = look_up(&mut tx, &places).await?;
        let kept = take_kept(&mut tx, &known_places.with_kept).await?;

        let changes = candidates(&kept, arrivals, &unseen);
        let changes_state = arrivals.iter().any(|arrival| arrival.open.is_some())
            || kept.iter().any(KeptRow::is_of_state);
        if changes_state {
            // All of them: echoes hold some of the others, in the same order.
            hold(&mut tx, conversations.values().map(|known| known.user)).await?;
        }
        let mut dialogs = Dialogs::look_up(&mut tx, &changes).await?;

        let mut admission = Admission {
            fates: vec![Fate::Duplicate; arrivals.len()],
            ..Admission::default()
        };
        let mut of_conversation = BTreeMap::<&str, Vec<usize>>::new();
        let mut unmatched = Vec::new();
        let mut withheld = Vec::new();
        for (order, candidate) in changes.iter().enumerate() {
            let id = known_places.get(candidate.account_id, candidate.place);
            match (id, &candidate.change) {
                (Some(id), _) => of_conversation.entry(id).or_default().push(order),
                (None, Change::Arrived(index)) => unmatched.push(*index),
                // One of another account than the conversation: nobody's.
                (None, Change::Kept { .. }) => {}
            }
        }
        // Conversations are taken in one order everywhere, so that two transactions never wait for each other; what comes of
        // them keeps the order in which it came.
        let mut events = BTreeMap::new();
        let mut echoes = Vec::new();
        for (id, orders) in of_conversation {
            let Some(known) = conversations.get_mut(id) else {
                continue;
            };
            let candidates: Vec<_> = orders
                .iter()
                .filter_map(|order| changes.get(*order))
                .collect();
            for (order, candidate) in orders.iter().zip(in_turn(&candidates)) {
                let change = candidate.change;
                let standing = if known_places.is_private(candidate.place) {
                    Standing::Private
                } else {
                    dialogs.standing(candidate, id)
                };
                match standing {
                    Standing::Open => {}
                    Standing::Private => {
                        admission.take(change, Fate::Taken(0));
                        continue;
                    }
                    Standing::Unknown => {
                        admission.take(change, Fate::Withheld);
                        withheld.push((candidate, id));
                        continue;
                    }
                }
                let translation = settle(&mut tx, translate, change, known, now).await?;
                let echo = translate.echo(change, known);
                echoes.extend(echo.map(|echo| (known.user, echo)));
                if let Some(change) = translation.conversation {
                    let named = change.dialogs.iter().map(|dialog| (&dialog.id, false));
                    let side = change.side_dialogs.iter();
                    let named = named.chain(side.map(|dialog| (&dialog.id, dialog.is_private)));
                    for (dialog, is_private) in named.filter(|(dialog, _)| dialog.as_str() != id) {
                        dialogs.note(dialog.as_str(), is_private);
                        admission.look_again.push(dialog.as_str().to_owned());
                    }
                }
                admission.take(change, Fate::Taken(translation.events.len()));
                events.insert(*order, translation.events);
            }
        }
        hear_echoes(&mut tx, &echoes, now).await?;
        let events: Vec<_> = events.into_values().flatten().collect();
        append(&mut tx, &events, now).await?;
        keep(&mut tx, arrivals, &unmatched, &mut admission, now).await?;
        keep_withheld(&mut tx, arrivals, &withheld, &mut admission, now).await?;
        tx.commit().await?;
        Ok(admission)
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

/// A change with what decides over its place in the order.
struct Candidate<'a> {
    account_id: &'a str,
    place: &'a str,
    /// The dialog that it names beside the conversation.
    side: Option<&'a str>,
    turn: Option<Turn>,
    change: Change<'a>,
}

impl Admission {
    /// Notes what became of a change.
    fn take(&mut self, change: Change<'_>, fate: Fate) {
        match change {
            Change::Arrived(index) => {
                if let Some(known) = self.fates.get_mut(index) {
                    *known = fate;
                }
            }
            Change::Kept { .. } if fate == Fate::Withheld => {}
            Change::Kept { .. } => self.matched += 1,
        }
    }
}

/// The changes to be told: what was kept came before what has just come.
fn candidates<'a>(
    kept: &'a [KeptRow],
    arrivals: &'a [Arrival],
    unseen: &HashSet<usize>,
) -> Vec<Candidate<'a>> {
    let kept = kept.iter().map(|row| Candidate {
        account_id: &row.account_id,
        place: &row.place,
        side: row.side(),
        turn: row.turn(),
        change: Change::Kept {
            kind: &row.kind,
            body: &row.body,
            parent: row.parent.0.as_ref(),
        },
    });
    let fresh = (0..)
        .zip(arrivals)
        .filter(|(index, _)| unseen.contains(index));
    let fresh = fresh.map(|(index, arrival)| Candidate {
        account_id: arrival.account_id.as_str(),
        place: &arrival.place,
        side: arrival.side.as_deref(),
        turn: arrival.turn.clone(),
        change: Change::Arrived(index),
    });
    kept.chain(fresh).collect()
}

/// The changes of one conversation as they are told: those that have overtaken others of their dialog on the way give
/// them their places back, all others stay where they are.
fn in_turn<'a>(arrived: &[&'a Candidate<'a>]) -> Vec<&'a Candidate<'a>> {
    let numbered = arrived.iter().filter(|candidate| candidate.turn.is_some());
    let mut sorted: Vec<_> = numbered.copied().collect();
    sorted.sort_by_key(|candidate| &candidate.turn);
    let mut by_dialog = HashMap::new();
    for of_dialog in sorted.chunk_by(|a, b| a.dialog() == b.dialog()) {
        if let Some(dialog) = of_dialog.first().and_then(|candidate| candidate.dialog()) {
            by_dialog.insert(dialog, of_dialog.iter().copied());
        }
    }
    let told = arrived.iter().map(|candidate| {
        let dialog = candidate.dialog();
        let next = dialog.and_then(|dialog| by_dialog.get_mut(dialog)?.next());
        next.unwrap_or(candidate)
    });
    told.collect()
}

impl Candidate<'_> {
    fn dialog(&self) -> Option<&str> {
        Some(&self.turn.as_ref()?.dialog_id)
    }
}
