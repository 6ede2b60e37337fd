//! What the Cloud tells: taken once, matched with the conversation that it is about, kept for a while where that is not known.
//!
//! All that came while the previous transaction was being written is admitted in one: it is a commit that limits the rate. What
//! a change means is not known here; [`Translate`] says it, between the statements of the transaction, from what is known of
//! the conversation at that very moment.
//!
//! A change can overtake the answer that names its conversation. It is then kept, and taken out again in the transaction that
//! next has to do with its place, before anything newer. Whoever keeps a change looks once more after the commit, and
//! whoever makes a mapping looks after its own: of the two, the later one finds the other's row.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::dialogs::{CLOSE_DIALOGS, Dialog, KEEP_DIALOG};
use super::files::ENSURE_FILE;
use super::log::{append, batch};
use super::tx::{Tx, on};
use super::{Error, HostedFile, NewEvent, Store, UserRef, run};
use crate::types::conversation::CloseReason;
use crate::types::file::FileId;
use crate::types::ids::{AccountId, ChannelId, ConversationId, UserId};

/// How often a change of a conversation is translated anew because another replica has changed it meanwhile.
const TRIES: u32 = 5;

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
    /// Whether the conversation is open, where the change is one of its state.
    pub open: Option<bool>,
    /// The type of the notification that it came in.
    pub kind: &'static str,
    /// The change as it came.
    pub body: String,
    /// The request that it came with.
    pub traceparent: Option<String>,
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
        /// The request that it came with.
        traceparent: Option<&'a str>,
    },
}

/// What the channel was told of a conversation last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// That it is open.
    Opened,
    /// That it has ended.
    Closed,
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
    /// The Cloud's time of its newest state, in milliseconds since the epoch.
    pub updated_at: Option<i64>,
}

/// What a change comes to.
#[derive(Debug, Clone, Default)]
pub struct Translation {
    /// What the channel is told.
    pub events: Vec<NewEvent>,
    /// What it changes in the mapping.
    pub conversation: Option<ConversationChange>,
}

/// A newer state of a conversation.
#[derive(Debug, Clone, Default)]
pub struct ConversationChange {
    /// The Cloud's time of it, in milliseconds since the epoch.
    pub updated_at: Option<i64>,
    /// What the channel has been told with it.
    pub announced: Option<Announced>,
    /// When it ended, and why.
    pub closed: Option<(DateTime<Utc>, Option<CloseReason>)>,
    /// Its dialogs.
    pub dialogs: Vec<Dialog>,
}

/// Says what changes mean; called within the transaction, so it must not wait for anything.
pub trait Translate: Sync {
    /// The file that a change tells of, with the id that it gets unless it has one.
    fn file(&self, change: Change<'_>) -> Option<(FileId, HostedFile)>;

    /// What a change comes to; `file` is the id of its file.
    fn translate(&self, change: Change<'_>, known: &Known, file: Option<FileId>) -> Translation;
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

#[derive(sqlx::FromRow)]
struct KeptRow {
    id: i64,
    account_id: String,
    place: String,
    kind: String,
    body: String,
    traceparent: Option<String>,
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    account_id: String,
    place: String,
    id: String,
    channel_id: String,
    user_ref: i64,
    user_id: String,
    consumer_id: Option<String>,
    announced: Option<String>,
    updated_at: Option<i64>,
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
        let fresh = || {
            (0..)
                .zip(arrivals)
                .filter(|(index, _)| unseen.contains(index))
        };
        let places = fresh()
            .map(|(_, arrival)| &arrival.place)
            .chain(appeared)
            .collect::<HashSet<_>>();
        let kept = take_kept(&mut tx, &places).await?;

        // What was kept came before what has just come.
        let kept_changes = kept.iter().map(|row| {
            let change = Change::Kept {
                kind: &row.kind,
                body: &row.body,
                traceparent: row.traceparent.as_deref(),
            };
            (row.account_id.as_str(), row.place.as_str(), change)
        });
        let fresh_changes = fresh().map(|(index, arrival)| {
            let change = Change::Arrived(index);
            (arrival.account_id.as_str(), arrival.place.as_str(), change)
        });
        let changes: Vec<_> = kept_changes.chain(fresh_changes).collect();
        let (known, mut conversations) = look_up(&mut tx, &places).await?;

        let mut admission = Admission {
            fates: vec![Fate::Duplicate; arrivals.len()],
            ..Admission::default()
        };
        let mut of_conversation = BTreeMap::<&str, Vec<usize>>::new();
        let mut unmatched = Vec::new();
        for (order, (account, place, change)) in changes.iter().enumerate() {
            match (known.get(&(*account, *place)), change) {
                (Some(id), _) => of_conversation.entry(id).or_default().push(order),
                (None, Change::Arrived(index)) => unmatched.push(*index),
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
            for order in orders {
                let Some((_, _, change)) = changes.get(order) else {
                    continue;
                };
                let translation = settle(&mut tx, translate, *change, known, now).await?;
                if let Some(change) = translation.conversation {
                    let dialogs = change.dialogs.into_iter().map(|dialog| dialog.id);
                    admission
                        .look_again
                        .extend(dialogs.filter(|dialog| dialog != id));
                }
                match change {
                    Change::Arrived(index) => {
                        if let Some(fate) = admission.fates.get_mut(*index) {
                            *fate = Fate::Taken(translation.events.len());
                        }
                    }
                    Change::Kept { .. } => admission.matched += 1,
                }
                events.insert(order, translation.events);
            }
        }
        let events: Vec<_> = events.into_values().flatten().collect();
        append(&mut tx, &events, now).await?;
        keep(&mut tx, arrivals, &unmatched, &mut admission, now).await?;
        tx.commit().await?;
        Ok(admission)
    }

    /// The open conversation of a consumer that the Cloud has told of and that is not known here.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn early_conversation(
        &self,
        account_id: &AccountId,
        consumer_id: &str,
    ) -> Result<Option<ConversationId>, Error> {
        let row: Option<(String, String)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT place, state FROM early_changes
                 WHERE account_id = $1 AND consumer_id = $2 AND state IS NOT NULL ORDER BY id DESC LIMIT 1",
            )
            .bind(account_id.as_str())
            .bind(consumer_id)
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
                "SELECT DISTINCT e.place FROM early_changes e JOIN dialogs d ON d.id = e.place
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

/// The places of the arrivals that had not come before; from now on they have.
async fn see(
    tx: &mut Tx,
    arrivals: &[Arrival],
    now: DateTime<Utc>,
) -> Result<HashSet<usize>, Error> {
    let mut keys: Vec<_> = arrivals.iter().filter_map(|a| a.key.as_ref()).collect();
    // In one order everywhere, so that two transactions with the same keys never wait for each other.
    keys.sort_unstable();
    keys.dedup();
    let mut new = HashSet::new();
    if !keys.is_empty() {
        let rows: Vec<(String,)> = on!(tx, |db| {
            sqlx::query_as(
                "INSERT INTO seen_changes (key, seen_at) SELECT value ->> 'key', $2 FROM json_each($1)
                 ORDER BY value ->> 'key' ON CONFLICT DO NOTHING RETURNING key",
            )
            .bind(batch(keys.iter().map(|key| json!({"key": key}))))
            .bind(now.timestamp_millis())
            .fetch_all(db)
            .await?
        });
        new.extend(rows.into_iter().map(|(key,)| key));
    }
    let unseen = arrivals.iter().enumerate().filter(|(_, arrival)| {
        // Of two in one batch, the first is taken.
        arrival.key.as_ref().is_none_or(|key| new.remove(key))
    });
    Ok(unseen.map(|(index, _)| index).collect())
}

fn named(places: &HashSet<&String>) -> String {
    let mut places: Vec<_> = places.iter().collect();
    places.sort_unstable();
    batch(places.into_iter().map(|place| json!({"place": place})))
}

/// Takes out what was kept for places that are known by now, in the order in which it came.
async fn take_kept(tx: &mut Tx, places: &HashSet<&String>) -> Result<Vec<KeptRow>, Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<KeptRow> = on!(tx, |db| {
        sqlx::query_as(
            "DELETE FROM early_changes
             WHERE place IN (SELECT value ->> 'place' FROM json_each($1))
               AND EXISTS (SELECT 1 FROM dialogs d WHERE d.id = early_changes.place)
             RETURNING id, account_id, place, kind, body, traceparent",
        )
        .bind(named(places))
        .fetch_all(db)
        .await?
    });
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// By account and place, the conversation's id.
type Places = HashMap<(String, String), String>;

/// What is known of the conversations at these places.
async fn look_up(
    tx: &mut Tx,
    places: &HashSet<&String>,
) -> Result<(KnownPlaces, HashMap<String, Known>), Error> {
    let mut by_place = KnownPlaces::default();
    let mut conversations = HashMap::new();
    if places.is_empty() {
        return Ok((by_place, conversations));
    }
    let rows: Vec<KnownRow> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT u.account_id, d.id AS place, c.id, c.channel_id, c.user_ref, u.user_id, u.consumer_id,
                    c.announced, c.updated_at
             FROM json_each($1) n
             -- the main dialog bears the conversation's id
             JOIN dialogs d ON d.id = n.value ->> 'place'
             JOIN conversations c ON c.id = d.conversation_id
             JOIN users u ON u.id = c.user_ref",
        )
        .bind(named(places))
        .fetch_all(db)
        .await?
    });
    for row in rows {
        let place = (row.account_id.clone(), row.place.clone());
        by_place.0.insert(place, row.id.clone());
        conversations.insert(row.id.clone(), Known::try_from(row)?);
    }
    Ok((by_place, conversations))
}

#[derive(Default)]
struct KnownPlaces(Places);

impl KnownPlaces {
    fn get(&self, (account, place): &(&str, &str)) -> Option<&str> {
        let key = ((*account).to_owned(), (*place).to_owned());
        self.0.get(&key).map(String::as_str)
    }
}

/// Translates a change and applies what it changes, from what is known at that moment.
async fn settle(
    tx: &mut Tx,
    translate: &impl Translate,
    change: Change<'_>,
    known: &mut Known,
    now: DateTime<Utc>,
) -> Result<Translation, Error> {
    let file = match translate.file(change) {
        Some((id, file)) => {
            let (id,): (String,) = on!(tx, |db| {
                sqlx::query_as(ENSURE_FILE)
                    .bind(id.to_string())
                    .bind(known.user.0)
                    .bind(&file.relative_path)
                    .bind(file.file_type.as_str())
                    .bind(now.timestamp_millis())
                    .fetch_one(db)
                    .await?
            });
            Some(
                id.parse()
                    .map_err(|_| Error::Unreadable { what: "file id" })?,
            )
        }
        None => None,
    };
    for _ in 0..TRIES {
        let translation = translate.translate(change, known, file);
        let Some(change) = &translation.conversation else {
            return Ok(translation);
        };
        if apply(tx, known, change).await? {
            return Ok(translation);
        }
        reload(tx, known).await?;
    }
    Err(Error::Contended)
}

/// Keeps a newer state of a conversation, unless another replica has changed it since it was read.
async fn apply(tx: &mut Tx, known: &mut Known, change: &ConversationChange) -> Result<bool, Error> {
    let id = known.conversation_id.as_str();
    let updated_at = change.updated_at.or(known.updated_at);
    let announced = change.announced.or(known.announced);
    let closed_at = change.closed.as_ref().map(|(at, _)| at.timestamp_millis());
    let reason = change
        .closed
        .as_ref()
        .and_then(|(_, reason)| reason.as_ref());
    let rows = on!(tx, |db| {
        sqlx::query(
            "UPDATE conversations
             SET updated_at = $2, announced = $3, closed_at = COALESCE(closed_at, $4),
                 close_reason = COALESCE(close_reason, $5)
             WHERE id = $1 AND updated_at IS NOT DISTINCT FROM $6 AND announced IS NOT DISTINCT FROM $7",
        )
        .bind(id)
        .bind(updated_at)
        .bind(announced.map(Announced::as_str))
        .bind(closed_at)
        .bind(reason.map(|reason| &reason.0[..]))
        .bind(known.updated_at)
        .bind(known.announced.map(Announced::as_str))
        .execute(db)
        .await?
        .rows_affected()
    });
    if rows == 0 {
        return Ok(false);
    }
    known.updated_at = updated_at;
    known.announced = announced;
    for dialog in &change.dialogs {
        on!(tx, |db| {
            sqlx::query(KEEP_DIALOG)
                .bind(&dialog.id)
                .bind(id)
                .bind(dialog.kind.as_str())
                .bind(dialog.opened_at.timestamp_millis())
                .bind(dialog.closed_at.map(|at| at.timestamp_millis()))
                .execute(db)
                .await?
                .rows_affected()
        });
    }
    if let Some(closed_at) = closed_at {
        on!(tx, |db| {
            sqlx::query(CLOSE_DIALOGS)
                .bind(id)
                .bind(closed_at)
                .execute(db)
                .await?
                .rows_affected()
        });
    }
    Ok(true)
}

async fn reload(tx: &mut Tx, known: &mut Known) -> Result<(), Error> {
    let row: Option<(Option<String>, Option<i64>)> = on!(tx, |db| {
        sqlx::query_as("SELECT announced, updated_at FROM conversations WHERE id = $1")
            .bind(known.conversation_id.as_str())
            .fetch_optional(db)
            .await?
    });
    let (announced, updated_at) = row.ok_or(Error::Contended)?;
    known.announced = announced.as_deref().map(Announced::read).transpose()?;
    known.updated_at = updated_at;
    Ok(())
}

/// Keeps what nobody knows the conversation of, but for what is about an erased one.
async fn keep(
    tx: &mut Tx,
    arrivals: &[Arrival],
    unmatched: &[usize],
    admission: &mut Admission,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let unmatched: Vec<_> = unmatched
        .iter()
        .filter_map(|index| Some((*index, arrivals.get(*index)?)))
        .collect();
    if unmatched.is_empty() {
        return Ok(());
    }
    let keys = unmatched
        .iter()
        .map(|(_, arrival)| json!({"key": erased_key(&arrival.place)}));
    let erased: Vec<(String,)> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT key FROM erased_conversations WHERE key IN (SELECT value ->> 'key' FROM json_each($1))",
        )
        .bind(batch(keys))
        .fetch_all(db)
        .await?
    });
    let erased: HashSet<_> = erased.into_iter().map(|(key,)| key).collect();
    let mut rows = Vec::new();
    for (index, arrival) in unmatched {
        let gone = erased.contains(&erased_key(&arrival.place));
        if let Some(fate) = admission.fates.get_mut(index) {
            *fate = if gone { Fate::Erased } else { Fate::Early };
        }
        if gone {
            continue;
        }
        admission.look_again.push(arrival.place.clone());
        rows.push(json!({
            "account": arrival.account_id.as_str(),
            "place": arrival.place,
            "consumer": arrival.consumer_id,
            "state": arrival.open.map(|open| if open { "open" } else { "closed" }),
            "kind": arrival.kind,
            "body": arrival.body,
            "traceparent": arrival.traceparent,
        }));
    }
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO early_changes
                 (account_id, place, consumer_id, state, kind, body, traceparent, received_at)
             SELECT value ->> 'account', value ->> 'place', value ->> 'consumer', value ->> 'state',
                    value ->> 'kind', value ->> 'body', value ->> 'traceparent', $2
             FROM json_each($1) ORDER BY CAST(key AS BIGINT)",
        )
        .bind(batch(rows.into_iter()))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// Removes what was kept for a user's dialogs or consumer id, and remembers that nothing more is to be.
pub(super) async fn forget_changes(
    tx: &mut Tx,
    user: UserRef,
    dialogs: &[String],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "DELETE FROM early_changes
             WHERE place IN (SELECT value ->> 'place' FROM json_each($1))
                OR (account_id, consumer_id) = (SELECT account_id, consumer_id FROM users WHERE id = $2)",
        )
        .bind(batch(dialogs.iter().map(|id| json!({"place": id}))))
        .bind(user.0)
        .execute(db)
        .await?
        .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO erased_conversations (key, erased_at)
             SELECT value ->> 'key', $2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(batch(
            dialogs.iter().map(|id| json!({"key": erased_key(id)})),
        ))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// What a conversation or dialog of an erased user is remembered by: not its id.
fn erased_key(place: &str) -> String {
    let hash = Sha256::digest(place.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Announced {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
        }
    }

    fn read(text: &str) -> Result<Self, Error> {
        match text {
            "opened" => Ok(Self::Opened),
            "closed" => Ok(Self::Closed),
            _ => Err(Error::Unreadable {
                what: "announcement of a conversation",
            }),
        }
    }
}

impl TryFrom<KnownRow> for Known {
    type Error = Error;

    fn try_from(row: KnownRow) -> Result<Self, Error> {
        let unreadable = |what| move |_| Error::Unreadable { what };
        Ok(Self {
            conversation_id: row.id.parse().map_err(unreadable("conversation id"))?,
            channel_id: row.channel_id.parse().map_err(unreadable("channel id"))?,
            user: UserRef(row.user_ref),
            user_id: row.user_id.parse().map_err(unreadable("user id"))?,
            consumer_id: row.consumer_id,
            announced: row.announced.as_deref().map(Announced::read).transpose()?,
            updated_at: row.updated_at,
        })
    }
}
