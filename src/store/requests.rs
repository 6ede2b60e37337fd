//! Requests that were accepted before the Cloud had them: kept in the order of their user, worked on by whoever holds the
//! user's lane.
//!
//! A user's row counts what waits (`waiting`), so that the way of a message sees with its one look-up whether it may go
//! ahead, and says when the lane is due (`send_at`). Whoever adds holds that row until the commit: order of arrival is order
//! of commit. Everything else happens under the lane's lease; who has lost it changes nothing.
//!
//! Those who keep, begin or settle requests at the same time share a transaction, which takes the users' rows first, in the order
//! of their ids, then echoes, then the channels' logs.

mod echoes;
mod keeping;
mod lane;
mod settling;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::engine::tx::{Tx, on};
use super::parent::ParentRow;
use super::rows::batch;
use super::rows::{UserRef, key};
use super::{Error, Store, run};
use crate::types::ids::{ChannelId, ConversationId, UserKey};
use crate::types::message::{MessageId, Sequence};
use crate::types::trace::Parent;

use crate::types::request::{Report, RequestState, Step};
pub(super) use echoes::hear_echoes;
pub use echoes::{Echo, Hearing};
pub(super) use keeping::Keep;
pub use keeping::{Keeping, NewRequest};
pub(super) use lane::TakeOff;
pub(super) use settling::Settle;
pub use settling::{Conclusion, Hold, Settled};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A text.
    Text,
    /// A file.
    File,
    /// Receipts.
    Receipts,
    /// The close of a conversation.
    Close,
    /// A rating.
    Rating,
}

impl RequestKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::File => "file",
            Self::Receipts => "receipts",
            Self::Close => "close",
            Self::Rating => "rating",
        }
    }
}

/// A try to send something, as its echo can be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The conversation that it went to.
    pub conversation_id: ConversationId,
    /// The dialog that it went to.
    pub dialog_id: String,
    /// The digest of what was said.
    pub digest: String,
    /// When it began.
    pub begun_at: DateTime<Utc>,
}

/// A request that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its id.
    pub id: MessageId,
    /// The channel that it came from.
    pub channel_id: ChannelId,
    /// What is to be done, as JSON.
    pub body: String,
    /// A file's bytes.
    pub content: Option<Vec<u8>>,
    /// How far it has come.
    pub state: RequestState,
    /// When it came.
    pub created_at: DateTime<Utc>,
    /// Until when it is tried.
    pub expires_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// The conversation that it went or is to go to.
    pub conversation_id: Option<ConversationId>,
    /// The Cloud's numbers of what was sent of it.
    pub sequences: Vec<Sequence>,
    /// The last try, where it is one that an echo can be known of.
    pub flight: Option<Flight>,
    /// The request that it came with.
    pub parent: Option<Parent>,
}

#[derive(sqlx::FromRow)]
struct RequestRow {
    id: String,
    channel_id: String,
    body: String,
    content: Option<Vec<u8>>,
    state: String,
    created_at: i64,
    expires_at: i64,
    attempts: i64,
    conversation_id: Option<String>,
    sequences: String,
    dialog_id: Option<String>,
    digest: Option<String>,
    tried_at: Option<i64>,
    #[sqlx(flatten)]
    parent: ParentRow,
}

#[derive(sqlx::FromRow)]
struct ReportRow {
    id: String,
    user_id: String,
    conversation_id: Option<String>,
    sequences: String,
    state: String,
    failure: Option<String>,
    created_at: i64,
    file_id: Option<String>,
    file_type: Option<String>,
}

impl Store {
    /// How many requests of a channel wait; counted up to `limit`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn waiting_requests(&self, channel_id: &ChannelId, limit: u32) -> Result<u32, Error> {
        let (count,): (i64,) = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT COUNT(*) FROM
                     (SELECT 1 FROM requests WHERE channel_id = $1 AND settled_at IS NULL LIMIT $2) AS waiting",
            )
            .bind(channel_id.as_str())
            .bind(i64::from(limit))
            .fetch_one(db)
            .await?
        });
        Ok(u32::try_from(count).unwrap_or(limit))
    }

    /// A request of a channel, as the channel sees it.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn request(
        &self,
        channel_id: &ChannelId,
        id: MessageId,
    ) -> Result<Option<Report>, Error> {
        let row: Option<ReportRow> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT r.id, u.user_id, r.conversation_id, r.sequences, r.state, r.failure, r.created_at, r.file_id,
                    r.file_type
             FROM requests r JOIN users u ON u.id = r.user_ref WHERE r.id = $1 AND r.channel_id = $2",
        )
        .bind(id.to_string())
        .bind(channel_id.as_str())
        .fetch_optional(db)
        .await?
        });
        let Some(row) = row else {
            return Ok(None);
        };
        let steps: Vec<(i64, String, Option<String>)> = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT at, what, why FROM request_steps WHERE request_id = $1 ORDER BY number LIMIT 1000",
        )
        .bind(id.to_string())
        .fetch_all(db)
        .await?
        });
        row.report(steps).map(Some)
    }

    /// The reason that the latest step of a request gives.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn last_reason(&self, id: MessageId) -> Result<Option<String>, Error> {
        let row: Option<(Option<String>,)> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT why FROM request_steps WHERE request_id = $1 ORDER BY number DESC LIMIT 1",
            )
            .bind(id.to_string())
            .fetch_optional(db)
            .await?
        });
        Ok(row.and_then(|(why,)| why))
    }

    /// The number of steps of a request that give this reason.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_reason(&self, id: MessageId, why: &str) -> Result<u32, Error> {
        let (count,): (i64,) = run!(self, readers, |db| {
            sqlx::query_as("SELECT COUNT(*) FROM request_steps WHERE request_id = $1 AND why = $2")
                .bind(id.to_string())
                .bind(why)
                .fetch_one(db)
                .await?
        });
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Removes requests that were settled before a moment, `limit` at most; says how many.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_settled_requests(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        Ok(run!(self, writer, |db| sqlx::query(
            "DELETE FROM requests WHERE id IN
                 (SELECT id FROM requests WHERE settled_at < $1 ORDER BY settled_at LIMIT $2)",
        )
        .bind(before.timestamp_millis())
        .bind(i64::from(limit))
        .execute(db)
        .await?
        .rows_affected()))
    }
}

/// A step of a request's way, for [`steps`].
fn step(id: MessageId, at: DateTime<Utc>, what: &str, why: Option<&str>) -> Value {
    json!({"id": id.to_string(), "at": at.timestamp_millis(), "what": what, "why": why})
}

/// Writes down steps, in their order.
async fn steps(tx: &mut Tx, steps: impl Iterator<Item = &Value>) -> Result<(), Error> {
    let rows = batch(steps);
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO request_steps (request_id, at, what, why)
             SELECT value ->> 'id', CAST(value ->> 'at' AS BIGINT), value ->> 'what', value ->> 'why'
             FROM json_each($1)",
        )
        .bind(rows)
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

fn sequences_text(sequences: &[Sequence]) -> String {
    serde_json::Value::from(sequences.to_vec()).to_string()
}

fn sequences(text: &str) -> Result<Vec<Sequence>, Error> {
    serde_json::from_str(text).map_err(|_| unreadable("request's sequences"))
}

fn time(ms: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(ms).ok_or(unreadable("request's time"))
}

fn unreadable(what: &'static str) -> Error {
    Error::Unreadable { what }
}

impl RequestState {
    fn read(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "waiting" => Self::Waiting,
            "sending" => Self::Sending,
            "unknown" => Self::Unknown,
            "sent" => Self::Sent,
            "failed" => Self::Failed,
            _ => return Err(unreadable("request's state")),
        })
    }
}

fn conversation_id(text: Option<String>) -> Result<Option<ConversationId>, Error> {
    let parse = |text: String| text.parse().map_err(|_| unreadable("conversation id"));
    text.map(parse).transpose()
}

impl TryFrom<RequestRow> for Request {
    type Error = Error;

    fn try_from(row: RequestRow) -> Result<Self, Error> {
        let conversation_id = conversation_id(row.conversation_id)?;
        let flight = match (row.dialog_id, row.digest, row.tried_at, &conversation_id) {
            (Some(dialog_id), Some(digest), Some(at), Some(conversation_id)) => Some(Flight {
                conversation_id: conversation_id.clone(),
                dialog_id,
                digest,
                begun_at: time(at)?,
            }),
            _ => None,
        };
        Ok(Self {
            id: row.id.parse().map_err(|_| unreadable("request's id"))?,
            channel_id: row
                .channel_id
                .parse()
                .map_err(|_| unreadable("channel id"))?,
            body: row.body,
            content: row.content,
            state: RequestState::read(&row.state)?,
            created_at: time(row.created_at)?,
            expires_at: time(row.expires_at)?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            conversation_id,
            sequences: sequences(&row.sequences)?,
            flight,
            parent: row.parent.0,
        })
    }
}

impl ReportRow {
    fn report(self, steps: Vec<(i64, String, Option<String>)>) -> Result<Report, Error> {
        let failure = self.failure.as_deref().map(serde_json::from_str);
        let file = match (self.file_id, self.file_type) {
            (Some(id), Some(kind)) => {
                let id = id.parse().map_err(|_| unreadable("file id"))?;
                Some((id, kind.into()))
            }
            _ => None,
        };
        let steps = steps.into_iter().map(|(at, what, why)| {
            Ok(Step {
                at: time(at)?,
                what,
                why,
            })
        });
        Ok(Report {
            id: self.id.parse().map_err(|_| unreadable("request's id"))?,
            user_id: self.user_id.parse().map_err(|_| unreadable("user id"))?,
            conversation_id: conversation_id(self.conversation_id)?,
            sequences: sequences(&self.sequences)?,
            state: RequestState::read(&self.state)?,
            failure: failure
                .transpose()
                .map_err(|_| unreadable("request's failure"))?,
            created_at: time(self.created_at)?,
            file,
            timeline: steps.collect::<Result<_, Error>>()?,
        })
    }
}

/// A user whose requests are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLane {
    /// The user's row.
    pub user: UserRef,
    /// The user.
    pub key: UserKey,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    id: i64,
    account_id: String,
    namespace: String,
    user_id: String,
}

impl TryFrom<DueRow> for DueLane {
    type Error = Error;

    fn try_from(row: DueRow) -> Result<Self, Error> {
        Ok(Self {
            user: UserRef(row.id),
            key: key(row.account_id, row.namespace, row.user_id)?,
        })
    }
}
