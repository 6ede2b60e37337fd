//! A transaction that admits changes. It looks up a change, the caller translates it, and the
//! transaction applies the translation. This goes on until every change is applied.
//!
//! The caller translates from the state of the conversation at that moment. The transaction is open
//! meanwhile, so a translation must not wait for anything.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::adoption::{
    Adoption, AdoptionCandidate, AdoptionCandidates, Decision, PostponedChange, Unknown,
    read_postponed, unadopted,
};
use super::applying::{apply, ensure_file, reload};
use super::matching::{KnownSubjects, look_up, record_seen, take_unmatched};
use super::ordering::{Candidate, Content, opening_first, translation_order};
use super::unmatched::{Withheld, store_unmatched, store_withheld};
use super::withholding::{Dialogs, Visibility};
use super::{
    Admission, Arrival, ArrivalOutcome, Change, Input, KnownConversation, Subject, Translation,
    UnknownConversation,
};
use crate::store::engine::tx::Tx;
use crate::store::locks::lock_users;
use crate::store::log::append;
use crate::store::offers::{NewOffers, store_offers};
use crate::store::requests::store_echoes;
use crate::store::{Echo, Error, HostedFile, NewEvent, OfferChange, Store, UserRef};
use crate::types::file::FileId;
use crate::types::ids::{ChannelId, UserKey};

/// 8: the maximum number of attempts at a batch. It restarts if another replica has stored one of
/// its unknown conversations meanwhile, so fewer of them are unknown each time.
const MAX_BATCH_ATTEMPTS: u32 = 8;

/// 5: the maximum number of translations of one change, if other replicas keep changing its
/// conversation.
const MAX_TRANSLATIONS: u32 = 5;

/// A transaction that admits changes. If it is dropped without a commit, nothing is stored.
pub struct ChangesTx<'a>(Box<Work<'a>>);

struct Work<'a> {
    store: &'a Store,
    input: Input<'a>,
    now: DateTime<Utc>,
    /// The number of remaining attempts, including this one.
    attempts_left: u32,
    tx: Tx,
    /// The indexes of the arrivals that are not duplicates.
    fresh: Vec<usize>,
    postponed_rows: Vec<PostponedChange>,
    subjects: KnownSubjects,
    conversations: HashMap<String, KnownConversation>,
    /// Changes that may describe an unknown conversation.
    unknown: Vec<Unknown>,
    /// The kinds of unknown conversations, by the index of the arrival.
    unknown_kinds: HashMap<usize, UnknownConversation>,
    /// The changes in the order of their arrival, followed by the unmatched changes of adopted
    /// conversations.
    changes: Vec<Candidate<'a>>,
    /// The conversations that are still to be processed, with the indexes of their changes.
    groups: VecDeque<(String, Vec<usize>)>,
    current: Option<Current>,
    adoption_candidates: VecDeque<AdoptionCandidate>,
    /// The indexes of changes of unknown conversations.
    unmatched: Vec<usize>,
    postponed: HashSet<Subject>,
    dialogs: Dialogs,
    withheld: Vec<Withheld>,
    echoes: Vec<(UserRef, Echo)>,
    offers: NewOffers,
    /// The events of changes, by the index of the change.
    events: BTreeMap<usize, Vec<NewEvent>>,
    /// The events of adopted conversations. They come last.
    adoption_events: Vec<NewEvent>,
    admission: Admission,
    step: Step,
}

/// The conversation whose changes are being translated.
struct Current {
    known: KnownConversation,
    /// The indexes of its changes.
    indexes: Vec<usize>,
    /// The indexes of the changes still to be translated, in the order of translation.
    remaining: VecDeque<usize>,
    /// The events of the translated changes, in the order of `indexes`.
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
    UnknownConversations,
    /// The file of the current change.
    File,
    /// The current change, with the number of remaining attempts.
    Change {
        file: Option<FileId>,
        attempts: u32,
    },
    AdoptionCandidate(Box<Adoption>),
    /// Still to be determined.
    Next,
}

/// The result of a lookup, to be translated.
#[derive(Debug)]
pub enum ToTranslate<'a> {
    /// Changes of unknown conversations, with their accounts.
    UnknownConversations(Vec<(&'a str, Change<'a>)>),
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
    UnknownConversations(Vec<UnknownConversation>),
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
        input: Input<'a>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let work = Box::pin(Work::begin(store, input, now, MAX_BATCH_ATTEMPTS));
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
        input: Input<'a>,
        now: DateTime<Utc>,
        attempts_left: u32,
    ) -> Result<Box<Self>, Error> {
        let Input {
            arrivals, appeared, ..
        } = input;
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
        let postponed_rows = read_postponed(&mut tx, input.postponed).await?;
        let unknown = Unknown::among(&postponed_rows, fresh(), &subjects);
        let fresh: Vec<_> = fresh().map(|(index, _)| index).collect();
        Ok(Box::new(Self {
            store,
            input,
            now,
            attempts_left,
            tx,
            fresh,
            postponed_rows,
            subjects,
            conversations,
            unknown,
            unknown_kinds: HashMap::new(),
            changes: Vec::new(),
            groups: VecDeque::new(),
            current: None,
            adoption_candidates: VecDeque::new(),
            unmatched: Vec::new(),
            postponed: HashSet::new(),
            dialogs: Dialogs::default(),
            withheld: Vec::new(),
            echoes: Vec::new(),
            offers: NewOffers::new(),
            events: BTreeMap::new(),
            adoption_events: Vec::new(),
            admission: Admission {
                outcomes: vec![ArrivalOutcome::Duplicate; arrivals.len()],
                ..Admission::default()
            },
            step: Step::UnknownConversations,
        }))
    }

    async fn look_up(&mut self) -> Result<Option<ToTranslate<'_>>, Error> {
        if matches!(self.step, Step::Next) {
            self.next().await?;
        }
        Ok(match &self.step {
            Step::UnknownConversations => {
                let (rows, arrivals) = (&self.postponed_rows, self.input.arrivals);
                let unknown = self.unknown.iter();
                let changes = unknown.filter_map(|it| it.change(rows, arrivals));
                Some(ToTranslate::UnknownConversations(changes.collect()))
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
            Step::AdoptionCandidate(adoption) => Some(adoption.to_translate()),
            Step::Next => None,
        })
    }

    async fn apply(mut self: Box<Self>, translated: Translated) -> Result<Box<Self>, Error> {
        match (std::mem::replace(&mut self.step, Step::Next), translated) {
            (Step::UnknownConversations, Translated::UnknownConversations(unknown_kinds)) => {
                return self.match_changes(unknown_kinds).await;
            }
            (Step::File, Translated::File(file)) => self.store_file(file).await?,
            (Step::Change { file, attempts }, Translated::Change { translation, echo }) => {
                self.apply_translation(file, attempts, translation, echo)
                    .await?;
            }
            (
                Step::AdoptionCandidate(adoption),
                Translated::AdoptionCandidate {
                    channel_id,
                    replaced,
                },
            ) => self.adopt(*adoption, channel_id, replaced).await?,
            (
                Step::UnknownConversations
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
        let arrivals = self.input.arrivals;
        let events = self.events.into_values().flatten();
        let events: Vec<_> = events.chain(self.adoption_events).collect();
        if !self.offers.is_empty() {
            // The users' rows are locked first, as before any change of a conversation. Echoes lock
            // users too, and all must be locked in the same order.
            let of_offers = self.offers.values().map(|(user, _)| *user);
            let of_echoes = self.echoes.iter().map(|(user, _)| *user);
            lock_users(&mut tx, of_offers.chain(of_echoes)).await?;
        }
        store_echoes(&mut tx, &self.echoes, now).await?;
        store_offers(&mut tx, &self.offers).await?;
        append(&mut tx, &self.store.direct_claims, &events, now).await?;
        let changes = &self.changes;
        let unmatched = self.unmatched.iter();
        let unmatched = unmatched.filter_map(|index| changes.get(*index)?.arrived());
        let unmatched: Vec<_> = unmatched.collect();
        store_unmatched(
            &mut tx,
            arrivals,
            &unmatched,
            &self.postponed,
            &mut admission,
            now,
        )
        .await?;
        store_withheld(&mut tx, self.withheld, &mut admission, now).await?;
        admission.mark_other_connectors(arrivals, &self.unknown_kinds);
        tx.commit().await?;
        Ok(admission)
    }

    /// Matches changes with conversations. Restarts if another replica has meanwhile stored a
    /// conversation that was unknown.
    async fn match_changes(
        mut self: Box<Self>,
        unknown_kinds: Vec<UnknownConversation>,
    ) -> Result<Box<Self>, Error> {
        let tx = &mut self.tx;
        let arrivals = self.input.arrivals;
        let descriptions = || self.unknown.iter().zip(&unknown_kinds);
        let of_arrivals = descriptions().filter_map(|(unknown, kind)| match unknown {
            Unknown::Arrived(index) => Some((*index, *kind)),
            Unknown::Postponed(_) => None,
        });
        self.unknown_kinds = of_arrivals.collect();
        let unadopted = unadopted(
            descriptions(),
            &self.postponed_rows,
            arrivals,
            &self.subjects,
        );
        let mut adoption_candidates = AdoptionCandidates::find(tx, unadopted, self.now).await?;
        let changes_state = arrivals.iter().any(|arrival| arrival.open.is_some())
            || !self.subjects.with_unmatched.is_empty();
        if changes_state || !adoption_candidates.all.is_empty() {
            // Lock all users at once, before anything else of theirs. Echoes lock users too, but
            // later, and all locks must be taken in the same order.
            let users = self.conversations.values().map(|known| known.user);
            lock_users(tx, users.chain(adoption_candidates.users())).await?;
        }
        let unmatched = take_unmatched(tx, &self.subjects.with_unmatched).await?;

        // Unmatched changes came before the new arrivals.
        let fresh = self.fresh.iter();
        let fresh = fresh.filter_map(|index| Some(Candidate::fresh(*index, arrivals.get(*index)?)));
        self.changes = unmatched
            .into_iter()
            .map(Candidate::stored)
            .chain(fresh)
            .collect();
        if !adoption_candidates.all.is_empty() && !adoption_candidates.check(tx).await? {
            return self.restart().await;
        }
        self.dialogs = Dialogs::look_up(tx, &self.changes).await?;

        let mut of_conversation = BTreeMap::<&str, Vec<usize>>::new();
        for (index, candidate) in self.changes.iter().enumerate() {
            let id = self.subjects.get(&candidate.account_id, &candidate.subject);
            match (id, &candidate.content) {
                (Some(id), _) => of_conversation.entry(id).or_default().push(index),
                (None, Content::Arrived(_)) => self.unmatched.push(index),
                // A stored change of an account other than the conversation's is dropped.
                (None, Content::Stored { .. }) => {}
            }
        }
        // Conversations are processed in the same order everywhere, so that two transactions never
        // deadlock. Their events keep the order in which the changes arrived.
        let groups = of_conversation.into_iter();
        self.groups = groups
            .map(|(id, indexes)| (id.to_owned(), indexes))
            .collect();
        self.adoption_candidates = adoption_candidates.all.into();
        self.postponed = adoption_candidates.postponed;
        Ok(self)
    }

    async fn restart(self: Box<Self>) -> Result<Box<Self>, Error> {
        let Self {
            store,
            input,
            now,
            attempts_left,
            tx,
            ..
        } = *self;
        // The dropped transaction must not block the new one.
        drop(tx);
        match attempts_left - 1 {
            0 => Err(Error::Contended),
            attempts_left => Self::begin(store, input, now, attempts_left).await,
        }
    }

    /// Determines what is to be translated next.
    async fn next(&mut self) -> Result<(), Error> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(index) = current.remaining.front() {
                    let visibility = self.changes.get(*index).map(|candidate| {
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
                        None => self.record_events(Vec::new()),
                    }
                } else {
                    self.end_current();
                }
            } else if let Some((id, indexes)) = self.groups.pop_front() {
                if let Some(known) = self.conversations.remove(&id) {
                    self.current = Some(Current::new(known, indexes, &self.changes));
                }
            } else if let Some(adoption_candidate) = self.adoption_candidates.pop_front() {
                let subject = adoption_candidate.conversation.key();
                match adoption_candidate.decide(&mut self.tx, self.now).await? {
                    Decision::Adoption(adoption) => {
                        self.step = Step::AdoptionCandidate(adoption);
                        return Ok(());
                    }
                    Decision::Postponed => {
                        self.postponed.insert(subject);
                    }
                    Decision::NotAdopted => {}
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Returns the change that is being translated, and the state of its conversation.
    fn current_change(&self) -> Option<(&KnownConversation, &Candidate<'a>)> {
        let current = self.current.as_ref()?;
        let candidate = self.changes.get(*current.remaining.front()?)?;
        Some((&current.known, candidate))
    }

    /// Records the events of the change that is being translated.
    fn record_events(&mut self, events: Vec<NewEvent>) {
        if let Some(current) = &mut self.current {
            current.remaining.pop_front();
            current.events.push(events);
        }
    }

    /// Skips a change: its dialog is among agents, or not known yet.
    fn skip(&mut self, visibility: Visibility) {
        if let Some((known, candidate)) = self.current_change() {
            if visibility == Visibility::Unknown {
                let id = known.conversation_id.as_str();
                let withheld = Withheld::of(candidate, self.input.arrivals, id);
                let arrived = candidate.arrived();
                self.withheld.extend(withheld);
                self.admission
                    .record_outcome(arrived, ArrivalOutcome::Withheld);
            } else {
                let arrived = candidate.arrived();
                self.admission
                    .record_outcome(arrived, ArrivalOutcome::Matched(0));
            }
        }
        self.record_events(Vec::new());
    }

    async fn store_file(&mut self, file: Option<(FileId, HostedFile)>) -> Result<(), Error> {
        let user = self.current.as_ref().map(|current| current.known.user);
        let file = match (file, user) {
            (Some((id, file)), Some(user)) => {
                Some(ensure_file(&mut self.tx, user, id, &file, self.now).await?)
            }
            _ => None,
        };
        let attempts = MAX_TRANSLATIONS;
        self.step = Step::Change { file, attempts };
        Ok(())
    }

    async fn apply_translation(
        &mut self,
        file: Option<FileId>,
        attempts: u32,
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
            let attempts = attempts - 1;
            if attempts == 0 {
                return Err(Error::Contended);
            }
            self.step = Step::Change { file, attempts };
            return Ok(());
        }
        self.echoes.extend(echo.map(|echo| (known.user, echo)));
        let offer = match translation.offer {
            OfferChange::None => None,
            OfferChange::Withdrawn => known.has_offer.then_some(None),
            OfferChange::Made(offer) => Some(Some(offer)),
        };
        if let Some(offer) = offer {
            known.has_offer = offer.is_some();
            let id = known.conversation_id.as_str().to_owned();
            self.offers.insert(id, (known.user, offer));
        }
        if let Some(change) = translation.conversation {
            let id = known.conversation_id.as_str();
            let named = change.dialogs.iter().map(|dialog| (&dialog.id, false));
            let side = change.side_dialogs.iter();
            let named = named.chain(side.map(|dialog| (&dialog.id, dialog.is_private)));
            for (dialog, is_private) in named.filter(|(dialog, _)| dialog.as_str() != id) {
                self.dialogs.add(dialog.as_str(), is_private);
                self.admission.recheck.push(dialog.as_str().to_owned());
            }
        }
        let arrived = self
            .current_change()
            .and_then(|(_, change)| change.arrived());
        let outcome = ArrivalOutcome::Matched(translation.events.len());
        self.admission.record_outcome(arrived, outcome);
        self.record_events(translation.events);
        Ok(())
    }

    /// Adopts a conversation for its user, with its unmatched changes and its arrivals.
    async fn adopt(
        &mut self,
        adoption: Adoption,
        channel_id: Option<ChannelId>,
        replaced: Option<NewEvent>,
    ) -> Result<(), Error> {
        let subject = adoption.conversation.key();
        let Some(known) = adoption
            .carry_out(&mut self.tx, channel_id, self.now)
            .await?
        else {
            return Ok(());
        };
        self.adoption_events.extend(replaced);
        let unmatched = take_unmatched(&mut self.tx, std::slice::from_ref(&subject.1)).await?;
        let is_of_subject = |candidate: &Candidate<'_>| candidate.is_of(&subject);
        let first = self.changes.len();
        self.changes
            .extend(unmatched.into_iter().map(Candidate::stored));
        let indexes = (first..self.changes.len()).chain(self.unmatched.iter().copied());
        let changes = &self.changes;
        let indexes = indexes.filter(|index| changes.get(*index).is_some_and(is_of_subject));
        let indexes = opening_first(indexes.collect(), changes);
        let adopted = Adopted {
            cause: indexes.first().copied(),
            subject,
        };
        let mut current = Current::new(known, indexes, changes);
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
                .extend(current.indexes.into_iter().zip(current.events));
            return;
        };
        let changes = &self.changes;
        let cause = adopted
            .cause
            .and_then(|index| changes.get(index)?.arrived());
        self.admission.record_adoption(cause);
        self.adoption_events
            .extend(current.events.into_iter().flatten());
        self.unmatched.retain(|index| {
            !changes
                .get(*index)
                .is_some_and(|it| it.is_of(&adopted.subject))
        });
        // Another replica may have stored changes of it meanwhile.
        self.admission.recheck.push(adopted.subject.1);
    }
}

impl Current {
    fn new(known: KnownConversation, indexes: Vec<usize>, changes: &[Candidate<'_>]) -> Self {
        Self {
            known,
            remaining: translation_order(&indexes, changes).into(),
            events: Vec::with_capacity(indexes.len()),
            indexes,
            adopted: None,
        }
    }
}

impl Admission {
    /// Records the outcome of an arrival, or counts an unmatched change from earlier as matched.
    fn record_outcome(&mut self, arrived: Option<usize>, outcome: ArrivalOutcome) {
        match arrived {
            Some(index) => {
                if let Some(recorded) = self.outcomes.get_mut(index) {
                    *recorded = outcome;
                }
            }
            None if outcome == ArrivalOutcome::Withheld => {}
            None => self.matched += 1,
        }
    }

    /// Records that an arrival caused an adoption.
    fn record_adoption(&mut self, cause: Option<usize>) {
        if let Some(outcome) = cause.and_then(|index| self.outcomes.get_mut(index))
            && let ArrivalOutcome::Matched(events) = *outcome
        {
            *outcome = ArrivalOutcome::Adopted(events);
        }
    }

    /// Marks the arrivals of unknown conversations that belong to another connector.
    fn mark_other_connectors(
        &mut self,
        arrivals: &[Arrival],
        unknown_kinds: &HashMap<usize, UnknownConversation>,
    ) {
        for (index, (arrival, outcome)) in arrivals.iter().zip(&mut self.outcomes).enumerate() {
            if *outcome == ArrivalOutcome::Unmatched
                && arrival.open.is_some()
                && unknown_kinds.get(&index) == Some(&UnknownConversation::OfOtherConnector)
            {
                *outcome = ArrivalOutcome::OfOtherConnector;
            }
        }
    }
}
