//! Adoption of conversations that an agent, and not the bridge, has opened or resumed with a known
//! user.
//!
//! The Cloud names the user in the conversation's state, and lets a user have one conversation at a
//! time. So an unknown conversation becomes the user's open one, unless a newer one is known. While
//! the bridge itself may be opening a conversation for the user, the change is postponed: it may be
//! about that conversation, for which the answer is in flight.
//!
//! Users are looked up without a lock. The users that were found are then locked, together with all
//! others of the batch, and looked up again. So a concurrent writer that adopts the conversation,
//! or begins to open one, either waits for the lock, or its change is visible by then.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, SqliteConnection};

use super::announcement::{announced, time};
use super::matching::{KnownSubjects, look_up};
use super::unmatched::erased_among;
use super::{Arrival, Change, KnownConversation, Subject, ToTranslate, UnknownConversation};
use crate::store::conversations::{END_OPENING, NewConversation, close, insert};
use crate::store::engine::tx::{EngineTx, Tx, on, statement_limit};
use crate::store::openings::pending;
use crate::store::rows::batch;
use crate::store::rows::key;
use crate::store::{Error, PendingOpening, UserRef};
use crate::types::conversation::{Announced, Features, OpenedBy};
use crate::types::ids::{ChannelId, ConversationId, UserKey};

/// 10 s: the time by which a new conversation may begin before the last change of the user's latest
/// one. Both times are by the Cloud's clock, and the Cloud may begin the new conversation before it
/// ends the latest one.
const SAME_CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(10);

/// 1 minute: the time by which a new conversation may begin before the latest one was opened. It
/// applies if only the bridge's clock tells the time of that opening.
const OTHER_CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// Each consumer is looked up separately (`OFFSET 0`), so PostgreSQL uses the index, whatever size
/// it expects the table to have.
const FIND_USERS_IN_POSTGRES: &str = "SELECT a.ordinal - 1, u.*
     FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) WITH ORDINALITY AS a (account_id, consumer_id, ordinal)
     CROSS JOIN LATERAL (SELECT id, opening_until, lease_until FROM users
                         WHERE account_id = a.account_id AND consumer_id = a.consumer_id OFFSET 0) AS u";

/// `CROSS` keeps SQLite from starting with the users.
const FIND_USERS_IN_SQLITE: &str = "SELECT a.key, u.id, u.opening_until, u.lease_until
     FROM json_each($1) AS a CROSS JOIN users AS u
     WHERE u.account_id = a.value ->> 0 AND u.consumer_id = a.value ->> 1";

/// An unknown conversation, as its first change describes it.
#[derive(Debug)]
pub(super) struct Unadopted {
    account_id: String,
    /// The id of the conversation.
    subject: String,
    consumer_id: String,
    began_at: Option<DateTime<Utc>>,
}

/// The row of a postponed change.
#[derive(sqlx::FromRow)]
pub(super) struct PostponedChange {
    account_id: String,
    subject: String,
    consumer_id: String,
    kind: String,
    body: String,
}

/// An unknown conversation with the users that it may belong to.
#[derive(Debug)]
pub(super) struct AdoptionCandidate {
    pub(super) conversation: Unadopted,
    users: Vec<UserRef>,
}

/// The unknown conversations of a batch.
#[derive(Debug, Default)]
pub(super) struct AdoptionCandidates {
    /// Those of known users, in the order in which they began.
    pub(super) all: Vec<AdoptionCandidate>,
    /// Those that the bridge may be opening right now.
    pub(super) postponed: HashSet<Subject>,
}

/// A change that may describe an unknown conversation.
pub(super) enum Unknown {
    /// The postponed change with this index.
    Postponed(usize),
    /// The arrival with this index.
    Arrived(usize),
}

impl Unknown {
    /// Finds the changes of unknown conversations, among the postponed changes and the arrivals.
    pub(super) fn among<'a>(
        postponed: &[PostponedChange],
        arrivals: impl Iterator<Item = (usize, &'a Arrival)>,
        subjects: &KnownSubjects,
    ) -> Vec<Self> {
        let rows = (0..)
            .zip(postponed)
            .filter(|(_, row)| !subjects.has(&row.subject));
        let arrivals = arrivals.filter(|(_, arrival)| {
            let account = arrival.account_id.as_str();
            arrival.open.is_some() && subjects.get(account, &arrival.subject).is_none()
        });
        let rows = rows.map(|(index, _)| Self::Postponed(index));
        rows.chain(arrivals.map(|(index, _)| Self::Arrived(index)))
            .collect()
    }

    /// Returns the change with its account.
    pub(super) fn change<'a>(
        &self,
        postponed: &'a [PostponedChange],
        arrivals: &'a [Arrival],
    ) -> Option<(&'a str, Change<'a>)> {
        match self {
            Self::Postponed(index) => {
                let row = postponed.get(*index)?;
                let change = Change::Stored {
                    kind: &row.kind,
                    body: &row.body,
                    parent: None,
                };
                Some((&row.account_id, change))
            }
            Self::Arrived(index) => {
                let account = arrivals.get(*index)?.account_id.as_str();
                Some((account, Change::Arrived(*index)))
            }
        }
    }

    /// Returns the account, the conversation and the consumer that it names.
    fn ids<'a>(
        &self,
        postponed: &'a [PostponedChange],
        arrivals: &'a [Arrival],
    ) -> Option<(&'a str, &'a str, &'a str)> {
        match self {
            Self::Postponed(index) => {
                let row = postponed.get(*index)?;
                Some((&row.account_id, &row.subject, &row.consumer_id))
            }
            Self::Arrived(index) => {
                let arrival = arrivals.get(*index)?;
                let consumer_id = arrival.consumer_id.as_deref().unwrap_or_default();
                Some((arrival.account_id.as_str(), &arrival.subject, consumer_id))
            }
        }
    }
}

/// A conversation that can become a user's open one, once its channel is known.
pub(super) struct Adoption {
    pub(super) conversation: Unadopted,
    user: User,
    /// The previous conversation and the time of its end, if its channel is still to be notified of
    /// that end.
    replaced: Option<(KnownConversation, DateTime<Utc>)>,
}

/// The decision about an unknown conversation.
pub(super) enum Decision {
    /// It may be adopted for its user.
    Adoption(Box<Adoption>),
    /// The bridge may be opening it; the decision is postponed.
    Postponed,
    /// It is older than the user's latest one, or has no user. It is not adopted.
    NotAdopted,
}

/// The row of a user with the latest conversation.
#[derive(sqlx::FromRow)]
struct UserRow {
    user_ref: i64,
    account_id: String,
    namespace: String,
    user_id: String,
    consumer_id: Option<String>,
    opening: Option<String>,
    opening_until: Option<i64>,
    lease_until: Option<i64>,
    id: Option<String>,
    channel_id: Option<String>,
    features: Option<Json<Features>>,
    opened_at: Option<i64>,
    closed_at: Option<i64>,
    announced: Option<String>,
    updated_at: Option<i64>,
}

struct User {
    row: UserRef,
    key: UserKey,
    consumer_id: Option<String>,
    opening: Option<PendingOpening>,
    /// True if a replica may be opening a conversation.
    is_busy: bool,
    latest: Option<Latest>,
}

/// The latest conversation of a user.
struct Latest {
    id: ConversationId,
    channel_id: ChannelId,
    features: Features,
    opened_at: DateTime<Utc>,
    /// `None` while it is open.
    closed_at: Option<DateTime<Utc>>,
    announced: Option<Announced>,
    updated_at: Option<DateTime<Utc>>,
}

/// Reads the postponed changes of these conversations.
pub(super) async fn read_postponed(
    tx: &mut Tx,
    subjects: &[String],
) -> Result<Vec<PostponedChange>, Error> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |db| {
        sqlx::query_as(
            "SELECT account_id, subject, consumer_id, kind, body FROM unmatched_changes
             WHERE subject IN (SELECT value ->> 'subject' FROM json_each($1)) AND postponed_at IS NOT NULL
               AND consumer_id IS NOT NULL
             ORDER BY id",
        )
        .bind(batch(subjects.iter().map(|subject| json!({"subject": subject}))))
        .fetch_all(db)
        .await?
    }))
}

/// Returns the unknown conversations that were open according to their first change.
pub(super) fn unadopted<'a>(
    descriptions: impl Iterator<Item = (&'a Unknown, &'a UnknownConversation)>,
    postponed: &[PostponedChange],
    arrivals: &[Arrival],
    subjects: &KnownSubjects,
) -> Vec<Unadopted> {
    let mut seen = HashSet::new();
    let unadopted = descriptions.filter_map(|(unknown, kind)| {
        let (account_id, subject, consumer_id) = unknown.ids(postponed, arrivals)?;
        // Only the first change counts, so that the end of a conversation is not taken for its
        // beginning.
        let is_first = !subjects.has(subject) && seen.insert((account_id, subject));
        if !is_first || consumer_id.is_empty() {
            return None;
        }
        match *kind {
            UnknownConversation::Open { began_at } => Some(Unadopted {
                account_id: account_id.to_owned(),
                subject: subject.to_owned(),
                consumer_id: consumer_id.to_owned(),
                began_at,
            }),
            UnknownConversation::OfOtherConnector | UnknownConversation::Ended => None,
        }
    });
    unadopted.collect()
}

impl AdoptionCandidates {
    /// Finds the users of unknown conversations, with one statement for all.
    pub(super) async fn find(
        tx: &mut Tx,
        unadopted: Vec<Unadopted>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        if unadopted.is_empty() {
            return Ok(Self::default());
        }
        let accounts: Vec<_> = unadopted.iter().map(|it| it.account_id.as_str()).collect();
        let consumers: Vec<_> = unadopted.iter().map(|it| it.consumer_id.as_str()).collect();
        let rows: Vec<(i64, i64, Option<i64>, Option<i64>)> = match &mut tx.engine {
            EngineTx::Postgres(pooled) => {
                let rows = sqlx::query_as(FIND_USERS_IN_POSTGRES)
                    .bind(accounts)
                    .bind(consumers);
                let rows = async |db: &mut PgConnection| rows.fetch_all(db).await;
                pooled.run_in_tx(statement_limit(tx.deadline), rows).await?
            }
            EngineTx::Sqlite(write_tx) => {
                let pairs: Vec<_> = accounts.into_iter().zip(consumers).collect();
                let rows = sqlx::query_as(FIND_USERS_IN_SQLITE).bind(Json(pairs));
                let rows = async |db: &mut SqliteConnection| rows.fetch_all(db).await;
                write_tx.run(rows).await?
            }
        };
        let mut users = HashMap::<usize, (Vec<UserRef>, bool)>::new();
        for (ordinal, user, opening_until, lease_until) in rows {
            let index = usize::try_from(ordinal).unwrap_or(usize::MAX);
            let (users, is_busy) = users.entry(index).or_default();
            users.push(UserRef(user));
            *is_busy |= is_busy_until(opening_until, now) || is_busy_until(lease_until, now);
        }
        let mut found = Self::default();
        for (index, conversation) in unadopted.into_iter().enumerate() {
            match users.remove(&index) {
                None => {}
                // A busy user needs no lock: it is already clear that the decision must wait.
                Some((_, true)) => {
                    found.postponed.insert(conversation.key());
                }
                Some((users, false)) => found.all.push(AdoptionCandidate {
                    conversation,
                    users,
                }),
            }
        }
        found.all.sort_by_key(|it| it.conversation.began_at);
        Ok(found)
    }

    /// Returns all users to whom these conversations may belong.
    pub(super) fn users(&self) -> impl Iterator<Item = UserRef> {
        self.all.iter().flat_map(|it| it.users.iter().copied())
    }

    /// Drops the conversations of erased users; to be called once the users are locked. Returns
    /// false if one of the conversations has become known meanwhile.
    pub(super) async fn check(&mut self, tx: &mut Tx) -> Result<bool, Error> {
        let ids: Vec<_> = self
            .all
            .iter()
            .map(|it| it.conversation.subject.clone())
            .collect();
        let (known, _) = look_up(tx, &ids.iter().collect()).await?;
        if ids.iter().any(|id| known.has(id)) {
            return Ok(false);
        }
        let erased = erased_among(tx, ids.iter().map(String::as_str)).await?;
        self.all
            .retain(|it| !erased.contains(it.conversation.subject.as_str()));
        Ok(true)
    }
}

impl Unadopted {
    pub(super) fn key(&self) -> Subject {
        (self.account_id.clone(), self.subject.clone())
    }

    /// True if the first state that was stored of this conversation is its end.
    async fn had_ended(&self, tx: &mut Tx) -> Result<bool, Error> {
        let states: Vec<(i64, String)> = on!(tx, |db| {
            sqlx::query_as(
                "SELECT id, state FROM unmatched_changes WHERE account_id = $1 AND subject = $2 AND state IS NOT NULL",
            )
            .bind(&self.account_id)
            .bind(&self.subject)
            .fetch_all(db)
            .await?
        });
        let first = states.into_iter().min();
        Ok(first.is_some_and(|(_, state)| state == "closed"))
    }

    /// Returns the time at which it began; `now` if that is unknown.
    fn began_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.began_at.unwrap_or(now)
    }
}

impl AdoptionCandidate {
    /// Chooses the user among the possible ones, and decides about the adoption. The caller has
    /// locked these users.
    pub(super) async fn decide(self, tx: &mut Tx, now: DateTime<Utc>) -> Result<Decision, Error> {
        if self.conversation.had_ended(tx).await? {
            return Ok(Decision::NotAdopted);
        }
        let mut users = Vec::with_capacity(self.users.len());
        for user in &self.users {
            users.extend(read_user(tx, *user, now).await?);
        }
        if users.iter().any(|user| user.is_busy) {
            return Ok(Decision::Postponed);
        }
        let Some(chosen) = choose(&users, &self.conversation, now) else {
            return Ok(Decision::NotAdopted);
        };
        let user = users.swap_remove(chosen);
        let began_at = self.conversation.began_at(now);
        let is_newer = user
            .latest
            .as_ref()
            .is_none_or(|latest| latest.may_precede(began_at));
        if !is_newer {
            return Ok(Decision::NotAdopted);
        }
        let replaced = user
            .previous()
            .and_then(|previous| previous.unannounced_end(&user, began_at.min(now)));
        Ok(Decision::Adoption(Box::new(Adoption {
            conversation: self.conversation,
            replaced,
            user,
        })))
    }
}

impl Adoption {
    pub(super) fn to_translate(&self) -> ToTranslate<'_> {
        let replaced = self.replaced.as_ref();
        ToTranslate::AdoptionCandidate {
            user: &self.user.key,
            latest: self.user.latest.as_ref().map(|latest| &latest.channel_id),
            replaced: replaced.map(|(known, at)| (known, *at)),
        }
    }

    /// Makes the conversation the open one of its user, and closes the previous one. The caller has
    /// locked the user. The channel of the conversation is that of the bridge's own pending
    /// opening, or else `channel_id`. Without a channel, nothing happens.
    pub(super) async fn carry_out(
        self,
        tx: &mut Tx,
        channel_id: Option<ChannelId>,
        now: DateTime<Utc>,
    ) -> Result<Option<KnownConversation>, Error> {
        let user = &self.user;
        let own = user.own_opening(&self.conversation, now);
        let channel_id = own.map(|own| own.channel_id.clone()).or(channel_id);
        let Some(channel_id) = channel_id else {
            return Ok(None);
        };
        let began_at = self.conversation.began_at(now).min(now);
        let id = self.conversation.subject.as_str();
        if let Some(previous) = user.previous() {
            previous.end(tx, began_at).await?;
        }
        let opened_by = own.map_or(OpenedBy::Agent, |_| OpenedBy::User);
        let new = NewConversation {
            id,
            user: user.row,
            channel_id: &channel_id,
            features: &user.features(own, &channel_id),
            opened_at: began_at.timestamp_millis(),
            opened_by,
        };
        if !insert(tx, &new).await? {
            return Err(Error::Contended);
        }
        if user.opening.is_some() {
            let profile = own.and_then(|opening| opening.profile.as_ref());
            on!(tx, |db| {
                sqlx::query(END_OPENING)
                    .bind(user.row.0)
                    .bind(profile.map(Json))
                    .bind(None::<&str>)
                    .execute(db)
                    .await?
                    .rows_affected()
            });
        }
        tracing::info!(
            account.id = %user.key.account_id,
            channel.id = %channel_id,
            conversation.id = id,
            ?opened_by,
            "an unknown conversation was assigned to its user"
        );
        Ok(Some(KnownConversation {
            conversation_id: id.parse().map_err(|_| Error::Unreadable {
                what: "conversation id",
            })?,
            channel_id,
            user: user.row,
            user_id: user.key.user_id.clone(),
            consumer_id: user.consumer_id.clone(),
            opened_by,
            announced: None,
            updated_at: None,
            fingerprint: None,
            has_offer: false,
        }))
    }
}

/// Chooses the user of a conversation: the one for whom the bridge may have opened it, or else the
/// one with the newest conversation.
fn choose(users: &[User], conversation: &Unadopted, now: DateTime<Utc>) -> Option<usize> {
    let ranked = users.iter().enumerate().max_by_key(|(_, user)| {
        let is_own = user.own_opening(conversation, now).is_some();
        let opened_at = user.latest.as_ref().map(|latest| latest.opened_at);
        (is_own, opened_at, user.row.0)
    });
    ranked.map(|(index, _)| index)
}

impl User {
    /// Returns the latest conversation if it is open.
    fn previous(&self) -> Option<&Latest> {
        self.latest
            .as_ref()
            .filter(|latest| latest.closed_at.is_none())
    }

    /// Returns the bridge's own opening that may have created the conversation.
    fn own_opening(&self, conversation: &Unadopted, now: DateTime<Utc>) -> Option<&PendingOpening> {
        let opening = self.opening.as_ref()?;
        let is_own =
            opening.outcome_matters(now) && opening.may_have_created(conversation.began_at);
        is_own.then_some(opening)
    }

    /// Returns the features of the bridge's own opening. For a conversation that an agent opened,
    /// no features are known. They describe the channel's client, so those of the latest
    /// conversation in that channel apply.
    fn features(&self, own: Option<&PendingOpening>, channel_id: &ChannelId) -> Features {
        let latest = self.latest.as_ref();
        let latest = latest.filter(|latest| latest.channel_id == *channel_id);
        let features = own
            .map(|opening| &opening.features)
            .or_else(|| latest.map(|latest| &latest.features));
        features.cloned().unwrap_or_default()
    }
}

impl Latest {
    /// True if a conversation that began at `began_at` can follow this one. The changes of a
    /// conversation up to its end come before the beginning of the next one. A later change, such
    /// as a rating, does not count.
    fn may_precede(&self, began_at: DateTime<Utc>) -> bool {
        match self.updated_at {
            Some(updated_at) => {
                let last = self.closed_at.map_or(updated_at, |end| end.min(updated_at));
                began_at + SAME_CLOCK_TOLERANCE >= last
            }
            None => began_at + OTHER_CLOCK_TOLERANCE >= self.opened_at,
        }
    }

    /// Returns the time at which it ends because another one began at `began_at`.
    fn end_before(&self, began_at: DateTime<Utc>) -> DateTime<Utc> {
        began_at.max(self.opened_at)
    }

    /// Closes it because another one has begun.
    async fn end(&self, tx: &mut Tx, began_at: DateTime<Utc>) -> Result<(), Error> {
        let at = self.end_before(began_at);
        close(tx, &self.id, at.timestamp_millis(), None).await?;
        if self.announced != Some(Announced::Closed) {
            on!(tx, |db| {
                sqlx::query("UPDATE conversations SET announced = 'closed' WHERE id = $1")
                    .bind(self.id.as_str())
                    .execute(db)
                    .await?
                    .rows_affected()
            });
        }
        Ok(())
    }

    /// Returns the conversation and the time of its end, unless its channel was already notified of
    /// the end.
    fn unannounced_end(
        &self,
        user: &User,
        began_at: DateTime<Utc>,
    ) -> Option<(KnownConversation, DateTime<Utc>)> {
        if self.announced == Some(Announced::Closed) {
            return None;
        }
        let known = KnownConversation {
            conversation_id: self.id.clone(),
            channel_id: self.channel_id.clone(),
            user: user.row,
            user_id: user.key.user_id.clone(),
            consumer_id: user.consumer_id.clone(),
            opened_by: OpenedBy::default(),
            announced: self.announced,
            updated_at: self.updated_at,
            fingerprint: None,
            has_offer: false,
        };
        Some((known, self.end_before(began_at)))
    }
}

/// Reads a user; `None` if the user was erased.
async fn read_user(tx: &mut Tx, user: UserRef, now: DateTime<Utc>) -> Result<Option<User>, Error> {
    let row: Option<UserRow> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT u.id AS user_ref, u.account_id, u.namespace, u.user_id, u.consumer_id, u.opening, u.opening_until,
                    u.lease_until, c.id, c.channel_id, c.features, c.opened_at, c.closed_at, c.announced, c.updated_at
             FROM users u
             LEFT JOIN conversations c
               ON c.user_ref = u.id AND c.ordinal = (SELECT MAX(ordinal) FROM conversations WHERE user_ref = u.id)
             WHERE u.id = $1",
        )
        .bind(user.0)
        .fetch_optional(db)
        .await?
    });
    row.map(|row| row.read(now)).transpose()
}

impl UserRow {
    fn read(self, now: DateTime<Utc>) -> Result<User, Error> {
        let latest = match (self.id, self.channel_id, self.features, self.opened_at) {
            (Some(id), Some(channel_id), Some(features), Some(opened_at)) => Some(Latest {
                id: id.parse().map_err(|_| Error::Unreadable {
                    what: "conversation id",
                })?,
                channel_id: channel_id
                    .parse()
                    .map_err(|_| Error::Unreadable { what: "channel id" })?,
                features: features.0,
                opened_at: time(opened_at)?,
                closed_at: self.closed_at.map(time).transpose()?,
                announced: self.announced.as_deref().map(announced).transpose()?,
                updated_at: self.updated_at.map(time).transpose()?,
            }),
            _ => None,
        };
        Ok(User {
            row: UserRef(self.user_ref),
            key: key(self.account_id, self.namespace, self.user_id)?,
            consumer_id: self.consumer_id,
            opening: self.opening.as_deref().and_then(pending),
            is_busy: is_busy_until(self.opening_until, now) || is_busy_until(self.lease_until, now),
            latest,
        })
    }
}

fn is_busy_until(until: Option<i64>, now: DateTime<Utc>) -> bool {
    until.is_some_and(|until| until > now.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn latest(opened: i64, updated: Option<i64>) -> Latest {
        Latest {
            id: "c1".parse().unwrap(),
            channel_id: "sms".parse().unwrap(),
            features: Features::try_from(vec!["MULTI_DIALOG".to_owned()]).unwrap(),
            opened_at: at(opened),
            closed_at: None,
            announced: None,
            updated_at: updated.map(at),
        }
    }

    fn user(number: i64, latest: Option<Latest>, opening: Option<PendingOpening>) -> User {
        User {
            row: UserRef(number),
            key: UserKey {
                account_id: "1".parse().unwrap(),
                namespace: "sms".parse().unwrap(),
                user_id: "ada".parse().unwrap(),
            },
            consumer_id: Some("consumer-1".to_owned()),
            opening,
            is_busy: false,
            latest,
        }
    }

    fn opening(attempted: i64) -> PendingOpening {
        PendingOpening {
            channel_id: "sms".parse().unwrap(),
            features: Features::default(),
            profile: None,
            since: at(attempted),
            attempted_at: at(attempted),
        }
    }

    fn unadopted(began: i64) -> Unadopted {
        Unadopted {
            account_id: "1".to_owned(),
            subject: "c2".to_owned(),
            consumer_id: "consumer-1".to_owned(),
            began_at: Some(at(began)),
        }
    }

    #[test]
    fn an_older_conversation_does_not_replace_a_newer_one() {
        // Once the Cloud has reported the latest conversation, the Cloud's clock counts.
        assert!(latest(0, Some(100)).may_precede(at(100)));
        assert!(latest(0, Some(100)).may_precede(at(90)));
        assert!(!latest(0, Some(100)).may_precede(at(89)));
        // Then it does not matter that the bridge's clock is ahead.
        assert!(latest(5000, Some(100)).may_precede(at(100)));
        // A rating comes after the end.
        let rated = Latest {
            closed_at: Some(at(50)),
            ..latest(0, Some(100))
        };
        assert!(rated.may_precede(at(60)) && !rated.may_precede(at(39)));
        // Before that, the bridge's clock counts, with a larger tolerance.
        assert!(latest(100, None).may_precede(at(40)));
        assert!(!latest(100, None).may_precede(at(39)));
    }

    #[test]
    fn the_user_with_the_newest_conversation_is_chosen() {
        let users = [
            user(1, Some(latest(10, None)), None),
            user(2, Some(latest(20, None)), None),
            user(3, None, None),
        ];
        assert_eq!(choose(&users, &unadopted(30), at(30)), Some(1));

        // A pending opening of the bridge takes precedence.
        let users = [
            user(1, Some(latest(10, None)), Some(opening(29))),
            user(2, Some(latest(20, None)), Some(opening(30 - 3600))),
        ];
        assert_eq!(choose(&users, &unadopted(30), at(30)), Some(0));
        assert_eq!(choose(&[], &unadopted(30), at(30)), None);
    }

    #[test]
    fn features_come_from_the_opening_or_the_channels_latest_conversation() {
        let (sms, app) = ("sms".parse().unwrap(), "app".parse().unwrap());
        let user = user(1, Some(latest(10, None)), None);

        assert!(user.features(None, &sms).allows_survey());
        assert!(user.features(None, &app).is_empty());
        assert!(user.features(Some(&opening(1)), &sms).is_empty());
    }
}
