//! Queued requests: stored in the order of their arrival, and sent by the holder of the user's
//! lane.
//!
//! A user's row has the number of queued requests (`waiting`), so that the one lookup of a message
//! also shows if other requests come before it. The row also says when the lane is due (`send_at`).
//! A transaction that adds a request locks the row until its commit, so requests are committed in
//! the order of arrival. All other changes are made under the lane's lease. A holder that has lost
//! the lease changes nothing.
//!
//! Requests that are queued, begun or settled at the same time share a transaction. It locks the
//! users' rows first, in the order of their ids, then echoes, then the channels' logs.

mod echoes;
mod enqueue;
mod lane;
mod settling;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::engine::tx::{Tx, on};
use super::rows::batch;
use super::rows::{UserRef, key};
use super::trace_context::ParentRow;
use super::{Error, Store, run};
use crate::types::ids::{ChannelId, ConversationId, UserKey};
use crate::types::message::{MessageId, Sequence};
use crate::types::trace::TraceContext;

use crate::types::request::{Report, RequestState, Step};
pub(super) use echoes::store_echoes;
pub use echoes::{Echo, NotificationLag};
pub(super) use enqueue::Enqueue;
pub use enqueue::{EnqueueOutcome, NewRequest};
pub(super) use lane::BeginAttempt;
pub(super) use settling::SettleAttempt;
pub use settling::{AttemptOutcome, LaneHolder, SettledAttempt};

/// The kind of a request.
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

/// An attempt to send something, with the facts that identify its echo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The conversation that it went to.
    pub conversation_id: ConversationId,
    /// The dialog that it went to.
    pub dialog_id: String,
    /// The digest of the text or file.
    pub digest: String,
    /// The start of the attempt.
    pub begun_at: DateTime<Utc>,
}

/// A queued request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its id.
    pub id: MessageId,
    /// The channel that it came from.
    pub channel_id: ChannelId,
    /// The request itself, as JSON.
    pub body: String,
    /// The bytes of a file.
    pub content: Option<Vec<u8>>,
    /// The state of the request.
    pub state: RequestState,
    /// The time of arrival.
    pub created_at: DateTime<Utc>,
    /// The time after which it is not sent any more.
    pub expires_at: DateTime<Utc>,
    /// The number of attempts.
    pub attempts: u32,
    /// The conversation that it was sent to or is meant for.
    pub conversation_id: Option<ConversationId>,
    /// The sequences of the messages that were sent for it.
    pub sequences: Vec<Sequence>,
    /// The last attempt, if an echo can identify it.
    pub in_flight: Option<InFlight>,
    /// The trace context that the request came with.
    pub parent: Option<TraceContext>,
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
    attempted_at: Option<i64>,
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
    /// Counts the queued requests of a channel, up to `limit`.
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

    /// Reads a request of a channel in the form that the channel sees.
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

    /// Reads the reason of a request's latest step.
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

    /// Counts the steps of a request that have this reason.
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

    /// Removes requests that were settled before a time, at most `limit`. Returns their number.
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

/// Builds a step in the life of a request, for [`steps`].
fn step(id: MessageId, at: DateTime<Utc>, what: &str, why: Option<&str>) -> Value {
    json!({"id": id.to_string(), "at": at.timestamp_millis(), "what": what, "why": why})
}

/// Stores steps, in their order.
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
    pub(super) fn read(text: &str) -> Result<Self, Error> {
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
        let in_flight = match (
            row.dialog_id,
            row.digest,
            row.attempted_at,
            &conversation_id,
        ) {
            (Some(dialog_id), Some(digest), Some(at), Some(conversation_id)) => Some(InFlight {
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
            in_flight,
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

/// A user with requests that are due.
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
