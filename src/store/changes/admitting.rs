//! A transaction that admits changes. It looks up a change, the caller translates it, and the
//! transaction applies the translation. This goes on until every change is applied.
//!
//! The caller translates from the state of the conversation at that moment. The transaction is open
//! meanwhile, so a translation must not wait for anything.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::adoption::{
    Adoption, AdoptionCandidate, Newcomers, Outcome, PostponedChange, Unknown, applicants,
    read_postponed,
};
use super::applying::{apply, ensure_file, reload};
use super::matching::{KeptRow, KnownSubjects, look_up, record_seen, take_kept};
use super::ordering::{Candidate, Content, in_turn, opening_first};
use super::unmatched::{Withheld, keep, keep_withheld};
use super::withholding::{Dialogs, Visibility};
use super::{
    Admission, Arrival, Change, Fate, Input, KnownConversation, Subject, Translation,
    UnknownConversation,
};
use crate::store::engine::tx::Tx;
use crate::store::locks::hold;
use crate::store::log::append;
use crate::store::requests::store_echoes;
use crate::store::{Echo, Error, HostedFile, NewEvent, Store, UserRef};
use crate::types::file::FileId;
use crate::types::ids::{ChannelId, UserKey};

/// 8: the maximum number of times that a batch is begun. It begins again if another replica has
/// made one of its conversations known meanwhile, so each time fewer of them are unknown.
const BEGINNINGS: u32 = 8;

/// 5: the maximum number of translations of one change, if other replicas keep changing its
/// conversation.
const TRANSLATIONS: u32 = 5;

/// A transaction that admits changes. If it is dropped without a commit, nothing is stored.
pub struct ChangesTx<'a>(Box<Work<'a>>);

struct Work<'a> {
    store: &'a Store,
    news: Input<'a>,
    now: DateTime<Utc>,
    /// The number of times that it may begin, including this one.
    beginnings: u32,
    tx: Tx,
    /// The indexes of the arrivals that are not duplicates.
    fresh: Vec<usize>,
    postponed_rows: Vec<PostponedChange>,
    subjects: KnownSubjects,
    conversations: HashMap<String, KnownConversation>,
    /// Changes that may describe an unknown conversation.
    unknown: Vec<Unknown>,
    /// The kinds of unknown conversations, by the index of the arrival.
    strangers: HashMap<usize, UnknownConversation>,
    /// The changes in the order of their arrival, followed by the unmatched changes of adopted
    /// conversations.
    changes: Vec<Candidate<'a>>,
    /// The conversations that are still to be processed, with the indexes of their changes.
    groups: VecDeque<(String, Vec<usize>)>,
    current: Option<Current>,
    newcomers: VecDeque<AdoptionCandidate>,
    /// The indexes of changes of unknown conversations.
    unmatched: Vec<usize>,
    postponed: HashSet<Subject>,
    dialogs: Dialogs,
    withheld: Vec<Withheld>,
    echoes: Vec<(UserRef, Echo)>,
    /// The events of changes, by the index of the change.
    events: BTreeMap<usize, Vec<NewEvent>>,
    /// The events of adopted conversations. They come last.
    later: Vec<NewEvent>,
    admission: Admission,
    step: Step,
}

/// The conversation whose changes are being translated.
struct Current {
    known: KnownConversation,
    /// The indexes of its changes.
    orders: Vec<usize>,
    /// The indexes of the changes still to be translated, in the order of translation.
    turn: VecDeque<usize>,
    /// The events of the translated changes, in the order of `orders`.
    events: Vec<Vec<NewEvent>>,
    /// Present if the conversation was unknown.
    adopted: Option<Adopted>,
}

/// A conversation that was adopted for its user.
struct Adopted {
    subject: Subject,
    /// The change that caused it.
    cause: Option<usize>,
}

/// The next translation.
enum Step {
    Strangers,
    /// The file of the current change.
    File,
    /// The current change, with the number of attempts left.
    Change {
        file: Option<FileId>,
        times: u32,
    },
    AdoptionCandidate(Box<Adoption>),
    /// Still to be determined.
    Next,
}

/// The result of a lookup, to be translated.
#[derive(Debug)]
pub enum ToTranslate<'a> {
    /// Changes of unknown conversations, with their accounts.
    Strangers(Vec<(&'a str, Change<'a>)>),
    /// A change that may contain a file.
    File(Change<'a>),
    /// A change of a conversation.
    Change {
        /// The change.
        change: Change<'a>,
        /// The state of its conversation.
        known: &'a KnownConversation,
        /// The id of its file.
        file: Option<FileId>,
    },
    /// A conversation that an agent may have opened with a user.
    AdoptionCandidate {
        /// The user.
        user: &'a UserKey,
        /// The channel of the user's latest conversation.
        latest: Option<&'a ChannelId>,
        /// The conversation that ends because this one replaces it, and the time of its end.
        replaced: Option<(&'a KnownConversation, DateTime<Utc>)>,
    },
}

/// The translation of what a lookup returned.
#[derive(Debug)]
pub enum Translated {
    /// The kind of each change's conversation.
    Strangers(Vec<UnknownConversation>),
    /// The file in the change, with the id that it gets if it is not stored yet.
    File(Option<(FileId, HostedFile)>),
    /// The result of a change.
    Change {
        /// The events and the new state of the conversation.
        translation: Translation,
        /// The user's message, if the change echoes one.
        echo: Option<Echo>,
    },
    /// The decision about a conversation.
    AdoptionCandidate {
        /// Its channel.
        channel_id: Option<ChannelId>,
        /// The event for the channel of the replaced conversation.
        replaced: Option<NewEvent>,
    },
}

impl<'a> ChangesTx<'a> {
    pub(super) async fn begin(
        store: &'a Store,
        news: Input<'a>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let work = Box::pin(Work::begin(store, news, now, BEGINNINGS));
        work.await.map(Self)
    }

    /// Looks up what is to be translated next; `None` once everything is applied.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is stored then.
    pub async fn look_up(&mut self) -> Result<Option<ToTranslate<'_>>, Error> {
        Box::pin(self.0.look_up()).await
    }

    /// Applies a translation.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or others change the same rows again and again; nothing
    /// is stored then.
    pub async fn apply(self, translated: Translated) -> Result<Self, Error> {
        Box::pin(self.0.apply(translated)).await.map(Self)
    }

    /// Stores the remaining changes as unmatched, and commits.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is stored then.
    pub async fn commit(self) -> Result<Admission, Error> {
        Box::pin(self.0.commit()).await
    }
}

impl<'a> Work<'a> {
    async fn begin(
        store: &'a Store,
        news: Input<'a>,
        now: DateTime<Utc>,
        beginnings: u32,
    ) -> Result<Box<Self>, Error> {
        let Input {
            arrivals, appeared, ..
        } = news;
        let mut tx = store.begin().await?;
        let unseen = record_seen(&mut tx, arrivals, now).await?;
        let fresh = || {
            (0..)
                .zip(arrivals)
                .filter(|(index, _)| unseen.contains(index))
        };
        let wanted = fresh()
            .map(|(_, arrival)| &arrival.subject)
            .chain(appeared)
            .collect::<HashSet<_>>();
        let (subjects, conversations) = look_up(&mut tx, &wanted).await?;
        let postponed_rows = read_postponed(&mut tx, news.postponed).await?;
        let unknown = Unknown::among(&postponed_rows, fresh(), &subjects);
        let fresh: Vec<_> = fresh().map(|(index, _)| index).collect();
        Ok(Box::new(Self {
            store,
            news,
            now,
            beginnings,
            tx,
            fresh,
            postponed_rows,
            subjects,
            conversations,
            unknown,
            strangers: HashMap::new(),
            changes: Vec::new(),
            groups: VecDeque::new(),
            current: None,
            newcomers: VecDeque::new(),
            unmatched: Vec::new(),
            postponed: HashSet::new(),
            dialogs: Dialogs::default(),
            withheld: Vec::new(),
            echoes: Vec::new(),
            events: BTreeMap::new(),
            later: Vec::new(),
            admission: Admission {
                fates: vec![Fate::Duplicate; arrivals.len()],
                ..Admission::default()
            },
            step: Step::Strangers,
        }))
    }

    async fn look_up(&mut self) -> Result<Option<ToTranslate<'_>>, Error> {
        if matches!(self.step, Step::Next) {
            self.next().await?;
        }
        Ok(match &self.step {
            Step::Strangers => {
                let (rows, arrivals) = (&self.postponed_rows, self.news.arrivals);
                let unknown = self.unknown.iter();
                let changes = unknown.filter_map(|it| it.change(rows, arrivals));
                Some(ToTranslate::Strangers(changes.collect()))
            }
            Step::File => self
                .current_change()
                .map(|(_, change)| ToTranslate::File(change.change())),
            Step::Change { file, .. } => {
                self.current_change()
                    .map(|(known, change)| ToTranslate::Change {
                        change: change.change(),
                        known,
                        file: *file,
                    })
            }
            Step::AdoptionCandidate(takeover) => Some(takeover.to_translate()),
            Step::Next => None,
        })
    }

    async fn apply(mut self: Box<Self>, translated: Translated) -> Result<Box<Self>, Error> {
        match (std::mem::replace(&mut self.step, Step::Next), translated) {
            (Step::Strangers, Translated::Strangers(strangers)) => {
                return self.match_changes(strangers).await;
            }
            (Step::File, Translated::File(file)) => self.keep_file(file).await?,
            (Step::Change { file, times }, Translated::Change { translation, echo }) => {
                self.change(file, times, translation, echo).await?;
            }
            (
                Step::AdoptionCandidate(takeover),
                Translated::AdoptionCandidate {
                    channel_id,
                    replaced,
                },
            ) => self.adopt(*takeover, channel_id, replaced).await?,
            (
                Step::Strangers
                | Step::File
                | Step::Change { .. }
                | Step::AdoptionCandidate(_)
                | Step::Next,
                _,
            ) => {
                let text = "the translation does not match the lookup";
                return Err(sqlx::Error::InvalidArgument(text.to_owned()).into());
            }
        }
        Ok(self)
    }

    async fn commit(self) -> Result<Admission, Error> {
        let Self {
            mut tx,
            mut admission,
            now,
            ..
        } = self;
        let arrivals = self.news.arrivals;
        let events = self.events.into_values().flatten();
        let events: Vec<_> = events.chain(self.later).collect();
        store_echoes(&mut tx, &self.echoes, now).await?;
        append(&mut tx, &events, now).await?;
        let changes = &self.changes;
        let unmatched = self.unmatched.iter();
        let unmatched = unmatched.filter_map(|order| changes.get(*order)?.arrived());
        let unmatched: Vec<_> = unmatched.collect();
        keep(
            &mut tx,
            arrivals,
            &unmatched,
            &self.postponed,
            &mut admission,
            now,
        )
        .await?;
        keep_withheld(&mut tx, self.withheld, &mut admission, now).await?;
        admission.mark_other_connectors(arrivals, &self.strangers);
        tx.commit().await?;
        Ok(admission)
    }

    /// Matches changes with conversations. Begins again if another replica has meanwhile stored a
    /// conversation that was unknown.
    async fn match_changes(
        mut self: Box<Self>,
        strangers: Vec<UnknownConversation>,
    ) -> Result<Box<Self>, Error> {
        let tx = &mut self.tx;
        let arrivals = self.news.arrivals;
        let told = || self.unknown.iter().zip(&strangers);
        let of_arrivals = told().filter_map(|(unknown, stranger)| match unknown {
            Unknown::Arrived(index) => Some((*index, *stranger)),
            Unknown::Postponed(_) => None,
        });
        self.strangers = of_arrivals.collect();
        let applicants = applicants(told(), &self.postponed_rows, arrivals, &self.subjects);
        let mut newcomers = Newcomers::find(tx, applicants, self.now).await?;
        let kept = take_kept(tx, &self.subjects.with_kept).await?;
        let changes_state = arrivals.iter().any(|arrival| arrival.open.is_some())
            || kept.iter().any(KeptRow::is_of_state);

        // Unmatched changes came before the new arrivals.
        let fresh = self.fresh.iter();
        let fresh = fresh.filter_map(|index| Some(Candidate::fresh(*index, arrivals.get(*index)?)));
        self.changes = kept.into_iter().map(Candidate::kept).chain(fresh).collect();
        if changes_state || !newcomers.all.is_empty() {
            // Lock all users at once. Echoes lock users too, but later, and all locks must be taken
            // in the same order.
            let users = self.conversations.values().map(|known| known.user);
            hold(tx, users.chain(newcomers.users())).await?;
        }
        if !newcomers.all.is_empty() && !newcomers.check(tx).await? {
            return self.begin_anew().await;
        }
        self.dialogs = Dialogs::look_up(tx, &self.changes).await?;

        let mut of_conversation = BTreeMap::<&str, Vec<usize>>::new();
        for (order, candidate) in self.changes.iter().enumerate() {
            let id = self.subjects.get(&candidate.account_id, &candidate.subject);
            match (id, &candidate.matter) {
                (Some(id), _) => of_conversation.entry(id).or_default().push(order),
                (None, Content::Arrived(_)) => self.unmatched.push(order),
                // A change of another account than the conversation's has no owner.
                (None, Content::Kept { .. }) => {}
            }
        }
        // Conversations are processed in the same order everywhere, so that two transactions never
        // deadlock. Their events keep the order in which the changes arrived.
        let groups = of_conversation.into_iter();
        self.groups = groups.map(|(id, orders)| (id.to_owned(), orders)).collect();
        self.newcomers = newcomers.all.into();
        self.postponed = newcomers.postponed;
        Ok(self)
    }

    async fn begin_anew(self: Box<Self>) -> Result<Box<Self>, Error> {
        let Self {
            store,
            news,
            now,
            beginnings,
            tx,
            ..
        } = *self;
        // The dropped transaction must not block the new one.
        drop(tx);
        match beginnings - 1 {
            0 => Err(Error::Contended),
            beginnings => Self::begin(store, news, now, beginnings).await,
        }
    }

    /// Determines what is to be translated next.
    async fn next(&mut self) -> Result<(), Error> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(order) = current.turn.front() {
                    let visibility = self.changes.get(*order).map(|candidate| {
                        if self.subjects.private().contains(&*candidate.subject) {
                            Visibility::Private
                        } else {
                            let id = current.known.conversation_id.as_str();
                            self.dialogs.visibility(candidate, id)
                        }
                    });
                    match visibility {
                        Some(Visibility::Open) => {
                            self.step = Step::File;
                            return Ok(());
                        }
                        Some(visibility) => self.skip(visibility),
                        None => self.told(Vec::new()),
                    }
                } else {
                    self.end_current();
                }
            } else if let Some((id, orders)) = self.groups.pop_front() {
                if let Some(known) = self.conversations.remove(&id) {
                    self.current = Some(Current::new(known, orders, &self.changes));
                }
            } else if let Some(newcomer) = self.newcomers.pop_front() {
                let subject = newcomer.applicant.key();
                match newcomer.find_user(&mut self.tx, self.now).await? {
                    Outcome::Adoption(takeover) => {
                        self.step = Step::AdoptionCandidate(takeover);
                        return Ok(());
                    }
                    Outcome::Postponed => {
                        self.postponed.insert(subject);
                    }
                    Outcome::Left => {}
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Returns the change that is being translated, and the state of its conversation.
    fn current_change(&self) -> Option<(&KnownConversation, &Candidate<'a>)> {
        let current = self.current.as_ref()?;
        let candidate = self.changes.get(*current.turn.front()?)?;
        Some((&current.known, candidate))
    }

    /// Records the events of the change that is being translated.
    fn told(&mut self, events: Vec<NewEvent>) {
        if let Some(current) = &mut self.current {
            current.turn.pop_front();
            current.events.push(events);
        }
    }

    /// Skips a change: its dialog is among agents, or not known yet.
    fn skip(&mut self, visibility: Visibility) {
        if let Some((known, candidate)) = self.current_change() {
            if visibility == Visibility::Unknown {
                let id = known.conversation_id.as_str();
                let withheld = Withheld::of(candidate, self.news.arrivals, id);
                let arrived = candidate.arrived();
                self.withheld.extend(withheld);
                self.admission.take(arrived, Fate::Withheld);
            } else {
                let arrived = candidate.arrived();
                self.admission.take(arrived, Fate::Taken(0));
            }
        }
        self.told(Vec::new());
    }

    async fn keep_file(&mut self, file: Option<(FileId, HostedFile)>) -> Result<(), Error> {
        let user = self.current.as_ref().map(|current| current.known.user);
        let file = match (file, user) {
            (Some((id, file)), Some(user)) => {
                Some(ensure_file(&mut self.tx, user, id, &file, self.now).await?)
            }
            _ => None,
        };
        let times = TRANSLATIONS;
        self.step = Step::Change { file, times };
        Ok(())
    }

    async fn change(
        &mut self,
        file: Option<FileId>,
        times: u32,
        translation: Translation,
        echo: Option<Echo>,
    ) -> Result<(), Error> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let known = &mut current.known;
        if let Some(change) = &translation.conversation
            && !apply(&mut self.tx, known, change).await?
        {
            reload(&mut self.tx, known).await?;
            let times = times - 1;
            if times == 0 {
                return Err(Error::Contended);
            }
            self.step = Step::Change { file, times };
            return Ok(());
        }
        self.echoes.extend(echo.map(|echo| (known.user, echo)));
        if let Some(change) = translation.conversation {
            let id = known.conversation_id.as_str();
            let named = change.dialogs.iter().map(|dialog| (&dialog.id, false));
            let side = change.side_dialogs.iter();
            let named = named.chain(side.map(|dialog| (&dialog.id, dialog.is_private)));
            for (dialog, is_private) in named.filter(|(dialog, _)| dialog.as_str() != id) {
                self.dialogs.note(dialog.as_str(), is_private);
                self.admission.look_again.push(dialog.as_str().to_owned());
            }
        }
        let arrived = self
            .current_change()
            .and_then(|(_, change)| change.arrived());
        let fate = Fate::Taken(translation.events.len());
        self.admission.take(arrived, fate);
        self.told(translation.events);
        Ok(())
    }

    /// Adopts a conversation for its user, with its unmatched changes and its arrivals.
    async fn adopt(
        &mut self,
        takeover: Adoption,
        channel_id: Option<ChannelId>,
        replaced: Option<NewEvent>,
    ) -> Result<(), Error> {
        let subject = takeover.applicant.key();
        let Some(known) = takeover
            .take_over(&mut self.tx, channel_id, self.now)
            .await?
        else {
            return Ok(());
        };
        self.later.extend(replaced);
        let kept = take_kept(&mut self.tx, std::slice::from_ref(&subject.1)).await?;
        let is_its = |candidate: &Candidate<'_>| candidate.is_of(&subject);
        let first = self.changes.len();
        self.changes.extend(kept.into_iter().map(Candidate::kept));
        let orders = (first..self.changes.len()).chain(self.unmatched.iter().copied());
        let changes = &self.changes;
        let orders = orders.filter(|order| changes.get(*order).is_some_and(is_its));
        let orders = opening_first(orders.collect(), changes);
        let adopted = Adopted {
            cause: orders.first().copied(),
            subject,
        };
        let mut current = Current::new(known, orders, changes);
        current.adopted = Some(adopted);
        self.current = Some(current);
        Ok(())
    }

    /// Collects the events of the conversation once all its changes are translated.
    fn end_current(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        let Some(adopted) = current.adopted else {
            self.events
                .extend(current.orders.into_iter().zip(current.events));
            return;
        };
        let changes = &self.changes;
        let cause = adopted
            .cause
            .and_then(|order| changes.get(order)?.arrived());
        self.admission.note_adoption(cause);
        self.later.extend(current.events.into_iter().flatten());
        self.unmatched.retain(|order| {
            !changes
                .get(*order)
                .is_some_and(|it| it.is_of(&adopted.subject))
        });
        // Another replica may have stored changes of it meanwhile.
        self.admission.look_again.push(adopted.subject.1);
    }
}

impl Current {
    fn new(known: KnownConversation, orders: Vec<usize>, changes: &[Candidate<'_>]) -> Self {
        Self {
            known,
            turn: in_turn(&orders, changes).into(),
            events: Vec::with_capacity(orders.len()),
            orders,
            adopted: None,
        }
    }
}

impl Admission {
    /// Records the fate of an arrival, or counts an unmatched change from earlier as matched.
    fn take(&mut self, arrived: Option<usize>, fate: Fate) {
        match arrived {
            Some(index) => {
                if let Some(known) = self.fates.get_mut(index) {
                    *known = fate;
                }
            }
            None if fate == Fate::Withheld => {}
            None => self.matched += 1,
        }
    }

    /// Records that an arrival caused an adoption.
    fn note_adoption(&mut self, cause: Option<usize>) {
        if let Some(fate) = cause.and_then(|index| self.fates.get_mut(index))
            && let Fate::Taken(events) = *fate
        {
            *fate = Fate::Adopted(events);
        }
    }

    /// Marks the arrivals of unknown conversations that belong to another connector.
    fn mark_other_connectors(
        &mut self,
        arrivals: &[Arrival],
        strangers: &HashMap<usize, UnknownConversation>,
    ) {
        for (index, (arrival, fate)) in arrivals.iter().zip(&mut self.fates).enumerate() {
            if *fate == Fate::Early
                && arrival.open.is_some()
                && strangers.get(&index) == Some(&UnknownConversation::OfOtherConnector)
            {
                *fate = Fate::OfOtherConnector;
            }
        }
    }
}
