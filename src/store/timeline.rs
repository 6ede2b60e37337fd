//! The recent requests and events of a user, for operators.
//!
//! Both queries find their rows by the index of the user, and read only the rows of that user. They
//! sort by time, which no index serves, so that no engine walks through a whole log in its order to
//! find a user's few events.

use chrono::{DateTime, Utc};

use super::{Error, Store, run};
use crate::types::delivery::DeliveryState;
use crate::types::ids::UserKey;
use crate::types::request::RequestState;
use crate::types::timeline::{RecentEvent, RecentRequest, UserTimeline};

#[derive(sqlx::FromRow)]
struct RequestRow {
    id: String,
    channel_id: String,
    kind: String,
    state: String,
    attempts: i64,
    created_at: i64,
}

#[derive(sqlx::FromRow)]
struct EventRow {
    id: String,
    channel_id: String,
    kind: String,
    delivery: Option<String>,
    attempts: i64,
    created_at: i64,
}

impl Store {
    /// Lists the queued requests and the events of a user that were created at `since` or later,
    /// newest first, at most `limit` of each. Returns `None` for an unknown user.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn user_timeline(
        &self,
        key: &UserKey,
        since: DateTime<Utc>,
        limit: u32,
    ) -> Result<Option<UserTimeline>, Error> {
        let Some(user_state) = self.user_state(key).await? else {
            return Ok(None);
        };
        let user = user_state.user.0;
        let requests: Vec<RequestRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT id, channel_id, kind, state, attempts, created_at FROM requests
                 WHERE user_ref = $1 AND created_at >= $2
                 ORDER BY created_at DESC, ordinal DESC LIMIT $3",
            )
            .bind(user)
            .bind(since.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        let events: Vec<EventRow> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT id, channel_id, kind, delivery, attempts, created_at FROM events
                 WHERE user_ref = $1 AND created_at >= $2
                 ORDER BY created_at DESC, position DESC LIMIT $3",
            )
            .bind(user)
            .bind(since.timestamp_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        });
        let requests = requests.into_iter().map(RecentRequest::try_from);
        let events = events.into_iter().map(RecentEvent::try_from);
        Ok(Some(UserTimeline {
            requests: requests.collect::<Result<_, _>>()?,
            events: events.collect::<Result<_, _>>()?,
        }))
    }
}

impl TryFrom<RequestRow> for RecentRequest {
    type Error = Error;

    fn try_from(row: RequestRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.parse().map_err(|_| unreadable())?,
            channel_id: row.channel_id.parse().map_err(|_| unreadable())?,
            kind: row.kind,
            state: RequestState::read(&row.state)?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            created_at: time(row.created_at)?,
        })
    }
}

impl TryFrom<EventRow> for RecentEvent {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self, Error> {
        let delivery = row.delivery.as_deref().map(DeliveryState::read);
        Ok(Self {
            id: row.id.parse().map_err(|_| unreadable())?,
            channel_id: row.channel_id.parse().map_err(|_| unreadable())?,
            kind: row.kind,
            delivery: delivery.transpose()?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            created_at: time(row.created_at)?,
        })
    }
}

fn time(ms: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(ms).ok_or_else(unreadable)
}

fn unreadable() -> Error {
    Error::Unreadable {
        what: "request or event of a user",
    }
}
