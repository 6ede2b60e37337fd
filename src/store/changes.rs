//! What the Cloud tells: taken once, matched with the conversation that it is about, kept for a while where that is not known.
//!
//! All that came while the previous transaction was being written is admitted in one: it is a commit that limits the rate. What
//! a change means is not known here; [`Translate`] says it, between the statements of the transaction, from what is known of
//! the conversation at that very moment.
//!
//! A change can overtake the answer that names its conversation. It is then kept, and taken out again in the transaction that
//! next has to do with its place, before anything newer. Whoever keeps a change looks once more after the commit, and
//! whoever makes a mapping looks after its own: of the two, the later one finds the other's row.
//!
//! One that names a user who is known may tell of a conversation that an agent has opened ([`adoption`]).

mod adoption;
mod announcement;
mod applying;
mod keeping;
mod matching;
mod observing;
mod withholding;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::engine::tx::Tx;
use super::locks::hold;
use super::log::append;
use super::requests::hear_echoes;
use super::{Echo, Error, HostedFile, NewEvent, Store, UserRef, run};
use crate::types::conversation::{Announced, ConversationChange, OpenedBy};
use crate::types::file::FileId;
use crate::types::ids::{AccountId, ChannelId, ConversationId, UserId, UserKey};
use crate::types::trace::Parent;
use adoption::{Newcomers, Outcome, applicants, read_put_off};
use applying::settle;
use keeping::{Withheld, keep, keep_withheld};
pub(super) use keeping::{erased_key, forget_changes, forget_conversation};
use matching::{KeptRow, look_up, see, take_kept};
pub use observing::KeptChange;
use withholding::{Dialogs, Standing};

/// 8: how often a batch is begun at most. It begins anew where another has made one of its conversations known meanwhile, so that
/// fewer of them are unknown each time.
const TRIES: u32 = 8;

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

/// Says what changes mean; called within the transaction, so it must not wait for anything.
pub trait Translate: Sync {
    /// The file that a change tells of, with the id that it gets unless it has one.
    fn file(&self, change: Change<'_>) -> Option<(FileId, HostedFile)>;

    /// What a change comes to; `file` is the id of its file.
    fn translate(&self, change: Change<'_>, known: &Known, file: Option<FileId>) -> Translation;

    /// What a change of an account says of a conversation that is not known.
    fn stranger(&self, _account: &str, _change: Change<'_>) -> Stranger {
        Stranger::Ended
    }

    /// The channel that a conversation is of which an agent opened with a user; `latest` is that of the user's latest one.
    fn channel_of(&self, _user: &UserKey, _latest: Option<&ChannelId>) -> Option<ChannelId> {
        None
    }

    /// What the channel is told of a conversation that has ended because another took its place.
    fn replaced(&self, _known: &Known, _at: DateTime<Utc>) -> Option<NewEvent> {
        None
    }

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
        let news = News {
            arrivals,
            appeared,
            put_off: &[],
        };
        self.admit_news(news, translate, now).await
    }

    /// Looks again at what was put off for these places.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is taken then.
    pub async fn admit_put_off(
        &self,
        places: &[String],
        translate: &impl Translate,
        now: DateTime<Utc>,
    ) -> Result<Admission, Error> {
        let news = News {
            arrivals: &[],
            appeared: places,
            put_off: places,
        };
        self.admit_news(news, translate, now).await
    }

    async fn admit_news(
        &self,
        news: News<'_>,
        translate: &impl Translate,
        now: DateTime<Utc>,
    ) -> Result<Admission, Error> {
        for _ in 0..TRIES {
            if let Some(admission) = self.try_to_admit(news, translate, now).await? {
                return Ok(admission);
            }
        }
        Err(Error::Contended)
    }

    /// Admits what is new; nothing of it where another has made a conversation known that was not when this began.
    async fn try_to_admit(
        &self,
        news: News<'_>,
        translate: &impl Translate,
        now: DateTime<Utc>,
    ) -> Result<Option<Admission>, Error> {
        let News {
            arrivals, appeared, ..
        } = news;
        let mut tx = self.begin().await?;
        let unseen = see(&mut tx, arrivals, now).await?;
        let fresh = || {
            (0..)
                .zip(arrivals)
                .filter(|(index, _)| unseen.contains(index))
        };
        let places = fresh()
            .map(|(_, arrival)| &arrival.place)
            .chain(appeared)
            .collect::<HashSet<_>>();
        let (known_places, mut conversations) = look_up(&mut tx, &places).await?;
        let put_off = read_put_off(&mut tx, news.put_off).await?;
        let applicants = applicants(&put_off, fresh(), &known_places, translate);
        let mut newcomers = Newcomers::find(&mut tx, applicants, now).await?;
        let kept = take_kept(&mut tx, &known_places.with_kept).await?;

        // What was kept came before what has just come.
        let kept_changes = kept.iter().map(Candidate::kept);
        let fresh_changes = fresh().map(|(index, arrival)| Candidate::fresh(index, arrival));
        let changes: Vec<_> = kept_changes.chain(fresh_changes).collect();
        let changes_state = arrivals.iter().any(|arrival| arrival.open.is_some())
            || kept.iter().any(KeptRow::is_of_state);
        if changes_state || !newcomers.all.is_empty() {
            // All of them: echoes hold some of the others, in the same order.
            let users = conversations.values().map(|known| known.user);
            hold(&mut tx, users.chain(newcomers.users())).await?;
        }
        if !newcomers.all.is_empty() && !newcomers.check(&mut tx).await? {
            return Ok(None);
        }

        let dialogs = Dialogs::look_up(&mut tx, &changes).await?;

        let mut told = Told::new(arrivals, known_places.private(), dialogs);
        let mut of_conversation = BTreeMap::<&str, Vec<usize>>::new();
        let mut unmatched = Vec::new();
        for (order, candidate) in changes.iter().enumerate() {
            let id = known_places.get(candidate.account_id, candidate.place);
            match (id, &candidate.change) {
                (Some(id), _) => of_conversation.entry(id).or_default().push(order),
                (None, Change::Arrived(index)) => unmatched.push((*index, candidate)),
                // One of another account than the conversation: nobody's.
                (None, Change::Kept { .. }) => {}
            }
        }
        // Conversations are taken in one order everywhere, so that two transactions never wait for each other; what comes of
        // them keeps the order in which it came.
        let mut events = BTreeMap::new();
        for (id, orders) in of_conversation {
            let Some(known) = conversations.get_mut(id) else {
                continue;
            };
            let candidates: Vec<_> = orders
                .iter()
                .filter_map(|order| changes.get(*order))
                .collect();
            let by_place = told
                .tell(&mut tx, translate, known, &candidates, now)
                .await?;
            events.extend(orders.into_iter().zip(by_place));
        }
        let mut events: Vec<_> = events.into_values().flatten().collect();
        let mut put_off = std::mem::take(&mut newcomers.put_off);
        for newcomer in &newcomers.all {
            let place = newcomer.applicant.key();
            let adopted = match newcomer.adopt(&mut tx, translate, now).await? {
                Outcome::Adopted(adopted) => adopted,
                Outcome::PutOff => {
                    put_off.insert(place);
                    continue;
                }
                Outcome::Left => continue,
            };
            let mut known = adopted.known;
            events.extend(adopted.replaced);
            let id = newcomer.applicant.place.to_owned();
            let kept = take_kept(&mut tx, std::slice::from_ref(&id)).await?;
            let is_its =
                |candidate: &Candidate<'_>| (candidate.account_id, candidate.place) == place;
            let kept: Vec<_> = kept.iter().map(Candidate::kept).collect();
            let fresh = unmatched.iter().map(|(_, candidate)| *candidate);
            let candidates: Vec<_> = kept.iter().chain(fresh).filter(|it| is_its(it)).collect();
            let candidates = opening_first(candidates);
            let by_place = told
                .tell(&mut tx, translate, &mut known, &candidates, now)
                .await?;
            told.note_adoption(candidates.first().copied());
            events.extend(by_place.into_iter().flatten());
            unmatched.retain(|(_, candidate)| !is_its(candidate));
            // What another has kept for it meanwhile.
            told.admission.look_again.push(id);
        }
        hear_echoes(&mut tx, &told.echoes, now).await?;
        append(&mut tx, &events, now).await?;
        let mut admission = told.admission;
        let unmatched: Vec<_> = unmatched.into_iter().map(|(index, _)| index).collect();
        keep(&mut tx, arrivals, &unmatched, &put_off, &mut admission, now).await?;
        keep_withheld(&mut tx, told.withheld, &mut admission, now).await?;
        admission.tell_other_connectors_apart(arrivals, translate);
        tx.commit().await?;
        Ok(Some(admission))
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

/// What has come of a batch so far.
struct Told<'a> {
    arrivals: &'a [Arrival],
    admission: Admission,
    echoes: Vec<(UserRef, Echo)>,
    /// Places that are dialogs among agents.
    private: &'a HashSet<String>,
    dialogs: Dialogs,
    withheld: Vec<Withheld>,
}

impl<'a> Told<'a> {
    fn new(arrivals: &'a [Arrival], private: &'a HashSet<String>, dialogs: Dialogs) -> Self {
        Self {
            arrivals,
            admission: Admission {
                fates: vec![Fate::Duplicate; arrivals.len()],
                ..Admission::default()
            },
            echoes: Vec::new(),
            private,
            dialogs,
            withheld: Vec::new(),
        }
    }

    /// Has the changes of a conversation translated, in turn; the events that come of them, place by place.
    async fn tell(
        &mut self,
        tx: &mut Tx,
        translate: &impl Translate,
        known: &mut Known,
        candidates: &[&Candidate<'_>],
        now: DateTime<Utc>,
    ) -> Result<Vec<Vec<NewEvent>>, Error> {
        let id = known.conversation_id.clone();
        let id = id.as_str();
        let mut events = Vec::with_capacity(candidates.len());
        for candidate in in_turn(candidates) {
            let change = candidate.change;
            let standing = if self.private.contains(candidate.place) {
                Standing::Private
            } else {
                self.dialogs.standing(candidate, id)
            };
            match standing {
                Standing::Open => {}
                Standing::Private => {
                    self.admission.take(change, Fate::Taken(0));
                    events.push(Vec::new());
                    continue;
                }
                Standing::Unknown => {
                    self.admission.take(change, Fate::Withheld);
                    let withheld = Withheld::of(candidate, self.arrivals, id);
                    self.withheld.extend(withheld);
                    events.push(Vec::new());
                    continue;
                }
            }
            let translation = settle(tx, translate, change, known, now).await?;
            let echo = translate.echo(change, known);
            self.echoes.extend(echo.map(|echo| (known.user, echo)));
            if let Some(change) = translation.conversation {
                let named = change.dialogs.iter().map(|dialog| (&dialog.id, false));
                let side = change.side_dialogs.iter();
                let named = named.chain(side.map(|dialog| (&dialog.id, dialog.is_private)));
                for (dialog, is_private) in named.filter(|(dialog, _)| dialog.as_str() != id) {
                    self.dialogs.note(dialog.as_str(), is_private);
                    self.admission.look_again.push(dialog.as_str().to_owned());
                }
            }
            let fate = Fate::Taken(translation.events.len());
            self.admission.take(change, fate);
            events.push(translation.events);
        }
        Ok(events)
    }

    /// Notes that a conversation was taken over because of a change.
    fn note_adoption(&mut self, cause: Option<&Candidate<'_>>) {
        if let Some(Change::Arrived(index)) = cause.map(|cause| cause.change)
            && let Some(fate) = self.admission.fates.get_mut(index)
            && let Fate::Taken(events) = *fate
        {
            *fate = Fate::Adopted(events);
        }
    }
}

impl Admission {
    /// Says of those whose conversation is not known which of them are another connector's.
    fn tell_other_connectors_apart(&mut self, arrivals: &[Arrival], translate: &impl Translate) {
        for (index, (arrival, fate)) in arrivals.iter().zip(&mut self.fates).enumerate() {
            if *fate == Fate::Early && arrival.open.is_some() {
                let account = arrival.account_id.as_str();
                let stranger = translate.stranger(account, Change::Arrived(index));
                if stranger == Stranger::OfOtherConnector {
                    *fate = Fate::OfOtherConnector;
                }
            }
        }
    }
}

/// A change with what decides over its place in the order.
struct Candidate<'a> {
    account_id: &'a str,
    place: &'a str,
    /// The dialog that it names beside the conversation.
    side: Option<&'a str>,
    turn: Option<Turn>,
    /// Whether it says that the conversation is open.
    opens: bool,
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

/// The changes of a conversation that was not known, with the one that opens it before all that overtook it.
fn opening_first<'a>(mut candidates: Vec<&'a Candidate<'a>>) -> Vec<&'a Candidate<'a>> {
    if let Some(place) = candidates.iter().position(|candidate| candidate.opens) {
        let opening = candidates.remove(place);
        candidates.insert(0, opening);
    }
    candidates
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

impl<'a> Candidate<'a> {
    fn kept(row: &'a KeptRow) -> Self {
        Self {
            account_id: &row.account_id,
            place: &row.place,
            side: row.side(),
            turn: row.turn(),
            opens: row.opens(),
            change: Change::Kept {
                kind: &row.kind,
                body: &row.body,
                parent: row.parent.0.as_ref(),
            },
        }
    }

    fn fresh(index: usize, arrival: &'a Arrival) -> Self {
        Self {
            account_id: arrival.account_id.as_str(),
            place: &arrival.place,
            side: arrival.side.as_deref(),
            turn: arrival.turn.clone(),
            opens: arrival.open == Some(true),
            change: Change::Arrived(index),
        }
    }

    fn dialog(&self) -> Option<&str> {
        Some(&self.turn.as_ref()?.dialog_id)
    }
}
